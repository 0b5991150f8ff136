"""Every error of roomgrad, in one tree.

    RoomgradError
    ├── SettingsError       a setting is unknown or out of range        (exit code 2)
    ├── RunMismatch         a run exists with other settings            (exit code 2)
    ├── ServerError         the Redis server cannot serve
    │   ├── Unavailable     a page cannot ask its server now
    │   └── NoServer        nothing answered, or nothing could be started
    │       └── TLSError    what answered does not prove by TLS that it is the server
    ├── ConnectionLost      the connection to the server broke; an OSError, too
    ├── EmptiedServer       the run is not on its server any more
    ├── ContractError       a component does not fit its system's contract
    ├── MessageError        a message cannot be accepted
    │   ├── SchemaError     a field has the wrong dtype, shape or value
    │   ├── DecodeError     bytes that are no message; the bytes are kept
    │   ├── StrayMessage    a reply to something that nobody (any more) waits for
    │   └── Rejected        a person's message that is wrong; the question stays open
    ├── FormatError         a file as a whole cannot be read
    └── NoAnswer            a question was not answered in time

A handler that raises a `MessageError` condemns the message at once: it goes to the dead letters.
Anything else that a handler raises is tried again, up to the delivery limit.
"""

from __future__ import annotations

import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 3, 4, 4
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def format_value(value: object) -> str:
    """A value in the text of an error, however large, deep or unwilling it is."""
    return _SHORT.repr(value)


class RoomgradError(Exception):
    """The base of every error that roomgrad raises on purpose."""


class SettingsError(RoomgradError):
    """Raised when a setting is unknown or its value is not allowed; the text names what is."""


class RunMismatch(RoomgradError):
    """Raised when a run is continued with settings other than those that it was started with."""


class ServerError(RoomgradError):
    """Raised when a server answers but cannot be used (too old, no permission, wrong type)."""


class NoServer(ServerError):
    """Raised when no server answers; the text names the addresses that were tried."""


class Unavailable(ServerError):
    """Raised when a page cannot ask its server now; the page shows the text to its user."""


class TLSError(NoServer):
    """Raised when a server does not show the certificate it should, or one side speaks no TLS.

    Nothing was said to it. A process that begins ends with this; one that serves tries again, as
    for any server that is away: a certificate may be on its way.
    """


class ConnectionLost(RoomgradError, ConnectionError):
    """Raised when a connection broke or a reply is overdue; what was sent may have happened."""


class EmptiedServer(RoomgradError):
    """Raised when the groups or the model of a run no longer exist; the replica starts it again."""


class ContractError(RoomgradError):
    """Raised when a component declares what its system's contract does not allow."""


class MessageError(RoomgradError):
    """Raised when a message cannot be accepted, however often it were delivered."""

    ends_root = True
    """Whether the message's root is given up with it."""


class SchemaError(MessageError):
    """Raised when a field does not have the dtype, shape or values that its schema names."""


class DecodeError(MessageError):
    """Raised when bytes are not a message. `raw` keeps them."""

    def __init__(self, reason: str, raw: bytes = b"") -> None:
        super().__init__(reason)
        self.raw = raw


class StrayMessage(MessageError):
    """Raised for a reply that nobody waits for: its root is unknown, or already answered."""

    ends_root = False


class Rejected(MessageError):
    """Raised for an answer that cannot be taken as it is; another one of its root may follow."""

    ends_root = False


class FormatError(RoomgradError):
    """Raised when a file as a whole cannot be read: unknown format, too large, damaged."""


class NoAnswer(RoomgradError):
    """Raised when a question sent into a system was not answered in time."""
