"""Log lines: what a terminal and a container show."""

from __future__ import annotations

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


def test_a_stream_that_fails_stops_no_component() -> None:
    """A full disk (Linux), and a stream that was closed."""
    for stream in (open("/dev/full", "w", buffering=1), io.StringIO()):
        before = structlog.get_config()
        try:
            log.setup(stream=stream)
            if isinstance(stream, io.StringIO):
                stream.close()
            structlog.get_logger("test").error("lost", size=1)
        finally:
            structlog.configure(**before)
