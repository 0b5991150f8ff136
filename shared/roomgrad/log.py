"""Log lines: pretty on a terminal, JSON in a container, always on stderr."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import TextIO, cast

import structlog

from roomgrad.display import printable

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MAX_BYTES = 10 * 2**20  # of a log file


class _Stream:
    """A stream whose failures stop no component: a full disk, a closed pipe.

    The lines that it does not take are lost.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def setup(level: str = "info", format: str = "auto", stream: TextIO | None = None) -> None:
    """Configure structlog once per process; `format` is auto, pretty or json."""
    stream = stream or sys.stderr
    pretty = format == "pretty" or (format == "auto" and stream.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(
                fmt="%H:%M:%S.%f" if pretty else "iso", utc=not pretty
            ),
            *_renderers(pretty, colors=stream.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Stream(stream))),
        cache_logger_on_first_use=True,
    )
    # Libraries use the standard library's logging; only their warnings are of interest.
    logging.basicConfig(
        level=logging.WARNING, stream=stream, format="%(name)s: %(message)s", force=True
    )


def bind(**values: object) -> None:
    """Add `values` (component, replica) to every later line of this thread and its handlers."""
    structlog.contextvars.bind_contextvars(**values)


def shorten(path: Path) -> None:
    """Start a log file anew that has become too long; its content is kept in `NAME.log.1`.

    The file itself stays, since a process appends to it. What the process writes meanwhile is lost.
    """
    if path.exists() and path.stat().st_size > MAX_BYTES:
        shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)


def _renderers(pretty: bool, colors: bool) -> list[structlog.typing.Processor]:
    if pretty:
        plain = structlog.dev.ConsoleRenderer(
            colors=colors, pad_event_to=28, exception_formatter=_traceback
        )
        return [_escaped, plain]
    return [
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        structlog.processors.JSONRenderer(),
    ]


def _escaped(
    logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escape what would control the terminal; JSON escapes it anyway."""
    return {
        name: printable(value) if isinstance(value, str) else value for name, value in event.items()
    }


def _traceback(stream: TextIO, error: structlog.typing.ExcInfo) -> None:
    """Write a traceback without controls.

    structlog's own choice, if rich is installed, prints local variables: passwords, too.
    """
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    stream.write("\n".join(map(printable, text.getvalue().split("\n"))))
