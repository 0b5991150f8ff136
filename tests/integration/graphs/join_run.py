"""A run of the system that joins."""

from __future__ import annotations

from roomgrad import Message, codec
from roomgrad.codec import unpack
from roomgrad.rooms import MessageType
from tests.integration.graphs.branch import Vector
from tests.integration.graphs.graph_run import GraphRun
from tests.integration.graphs.joins import EMBEDDED, FORWARD, GRADIENT, JOINED, OUT, OWNERS, owner
from tests.waiting import until

ERROR = MessageType.LOG_ERROR


class JoinRun(GraphRun):
    """A run of the system that joins."""

    def owners(self) -> None:
        self.start(*map(owner, OWNERS))

    def part(self, name: str, data: Vector, root: Message | None = None) -> Message:
        """Send a part as its owner does, of a new root unless it is given."""
        part = Message.open(EMBEDDED, data)
        if root is not None:
            part.root_id, part.status = root.root_id, root.status
        return self.send(part, name)

    def out(self, root: Message) -> Message:
        return self.wait(OUT, FORWARD, root)

    def answers(self, part: Message) -> list[Message]:
        """Return the gradients under the ID of a part."""
        stream = JOINED.stream(EMBEDDED, GRADIENT)
        key = self.echo.names.stream(*stream.key)
        fields = [pairs for _, pairs in self.echo.client.xrange(key)]
        own = [each for each in fields if each[b"ID"] == part.id.encode()]
        return [_decoded(each) for each in own]

    def joined(self) -> list[list[str]]:
        """Return the names of the parts that the handler got, call by call."""
        found = self.echo.client.xrange(self.echo.names.log("joined"))
        return [unpack(fields[b"m"])["names"] for _, fields in found]

    def reports(self) -> list[str]:
        """Return what room `errors` says."""
        found = self.echo.client.xrange(self.echo.names.stream("errors", ERROR))
        return [str(unpack(fields[b"m"])["TEXT"]) for _, fields in found]

    def check(self, steps: int) -> None:
        """Require that each batch was joined once and taught each owner once."""
        for name in OWNERS:
            until(lambda name=name: self.echo.counter("home", name) >= steps)
            counted = [self.echo.counter(each, name) for each in ("home", "applied", "distinct")]
            assert counted == [steps] * 3
        assert self.echo.counter("joined", "head") == steps == len(self.joined())
        assert self.length(OUT, FORWARD) == steps
        assert self.echo.dead_letters() == []
        assert self.left_over() == {}


def _decoded(fields: dict[bytes, bytes]) -> Message:
    flat = [part for pair in fields.items() for part in pair]
    return codec.decode("", flat, JOINED.stream(EMBEDDED, GRADIENT))
