"""Log lines: what a terminal and a container show."""

from __future__ import annotations

import errno
import io

import pytest
import structlog

from roomgrad import log


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_a_traceback_shows_no_local_variables(stream: io.StringIO) -> None:
    """They may hold a password; the error and the place where it was raised are enough."""
    before = structlog.get_config()
    try:
        log.setup(stream=stream)
        secret = "Qj@Zx/9"
        try:
            raise ValueError("not this way")
        except ValueError:
            structlog.get_logger("test").exception("it failed", length=len(secret))
    finally:
        structlog.configure(**before)
    said = stream.getvalue()
    assert "not this way" in said
    assert "test_log.py" in said
    assert "Traceback" in said
    assert 'secret = "' not in said.replace("│", "")
    assert "Qj@Zx/9" not in said


class FullDisk(io.StringIO):
    """What Python's streams do on a full disk."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stream", [FullDisk(), io.StringIO()])
def test_a_stream_that_fails_stops_no_component(stream: io.StringIO) -> None:
    """On a full disk, and when it was closed."""
    before = structlog.get_config()
    try:
        log.setup(stream=stream)
        if type(stream) is io.StringIO:
            stream.close()
        structlog.get_logger("test").error("lost", size=1)
    finally:
        structlog.configure(**before)
