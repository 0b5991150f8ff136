"""Every error of roomgrad, in one tree.

    RoomgradError
    ├── SettingsError       a setting is unknown or out of range        (exit code 2)
    ├── RunMismatch         a run exists with other settings            (exit code 2)
    ├── ServerError         the Redis server cannot be used
    │   ├── Unavailable     a page cannot ask its server now
    │   ├── Overloaded      the readers of a room are too far behind for a new root
    │   ├── Stale           what a commit of a client requires does not hold any more
    │   └── NoServer        no server answered, or none could be started
    │       └── TLSError    the server could not be verified by TLS
    ├── ConnectionLost      the connection to the server broke (an OSError, too)
    ├── SnapshotError       a snapshot of a model cannot be written or read
    ├── EmptiedServer       the run no longer exists on its server
    ├── ContractError       a component does not fit its system's contract
    ├── ModelError          a network, its optimizer or a stored model cannot be used
    │   └── StepError       a step of the log cannot be applied
    ├── MessageError        a message cannot be accepted
    │   ├── SchemaError     a field has the wrong dtype, shape or value
    │   ├── DecodeError     bytes that are not a message; the bytes are kept
    │   ├── StrayMessage    a reply to a message that is unknown or was answered before
    │   └── Rejected        an answer that is wrong; its question stays open
    ├── NotRequeued         a dead letter cannot be put back
    ├── CheckFailed         a component under check does not do what its contract says
    ├── FormatError         a file as a whole cannot be read
    └── NoAnswer            a question was not answered in time

If a handler raises a `MessageError`, its message goes to the dead letters at once. After any other
exception the message is delivered again, up to the delivery limit.
"""

from __future__ import annotations

import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 3, 4, 4
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def format_value(value: object) -> str:
    """Return a short text of a value for an error message, however large or deep the value is."""
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


class Overloaded(ServerError):
    """Raised when the readers of a room are so far behind that no new root may be opened."""


class Stale(ServerError):
    """Raised when what a commit requires does not hold: something has changed, or has ended."""


class TLSError(NoServer):
    """Raised when a server cannot be verified by TLS, or only one side speaks TLS.

    Nothing was sent to it. A starting process ends with this error; a running one tries again, as
    after any lost connection, because a new certificate may be on its way.
    """


class ConnectionLost(RoomgradError, ConnectionError):
    """Raised when a connection broke or a reply is overdue; what was sent may have been applied."""


class SnapshotError(RoomgradError):
    """Raised when a snapshot of a model cannot be written or read, or is not what was written."""


class EmptiedServer(RoomgradError):
    """Raised when the groups or the model of a run no longer exist; the replica starts it again."""


class ContractError(RoomgradError):
    """Raised when a component declares what its system's contract does not allow."""


class ModelError(RoomgradError):
    """Raised when a network or its optimizer cannot be trained in rooms, or a stored model is of
    another one; the text names the parameter.
    """


class StepError(ModelError):
    """Raised when a step that was committed cannot be applied to the model."""


class MessageError(RoomgradError):
    """Raised when a message cannot be accepted, however often it is delivered."""

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
    """Raised when a reply is not expected: its root is unknown, or was answered before."""

    ends_root = False


class Rejected(MessageError):
    """Raised when an answer is wrong; another answer of the same root may follow."""

    ends_root = False


class NotRequeued(RoomgradError):
    """Raised when a dead letter cannot be put back into its stream; it stays a dead letter."""


class CheckFailed(RoomgradError):
    """Raised when a component under check fails; the text says what was expected and what came."""


class FormatError(RoomgradError):
    """Raised when a file as a whole cannot be read: unknown format, too large, damaged."""


class NoAnswer(RoomgradError):
    """Raised when a question sent into a system was not answered in time."""
