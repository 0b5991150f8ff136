"""Which streams of a run are rooms."""

from __future__ import annotations

from roomgrad.inspect.keys import holds_messages
from roomgrad.names import Names


def test_streams_of_messages_are_told_from_others() -> None:
    """A log, the steps of a model and the dead letters are no rooms; a room may be called model."""
    names = Names("a:b")
    for room in ("model", "input", "a:b", "@echo"):
        assert holds_messages(names, names.stream(room, "DATA/FORWARD"))
    for other in (names.steps("echo"), names.log("labels"), names.dead()):
        assert not holds_messages(names, other)
