"""How a root is given up: each component gets a notice in its inbox, and forgets the root."""

from __future__ import annotations

from collections.abc import Iterable

from roomgrad import codec
from roomgrad.commit import Commit
from roomgrad.guests import Guest
from roomgrad.messages import Message, new_id
from roomgrad.names import ERRORS, Names
from roomgrad.rooms import MessageType, Room, Stream

_ERROR = MessageType.LOG_ERROR.value


def give_up(
    commit: Commit, names: Names, members: Iterable[str], root_id: str, by: str, text: str
) -> None:
    """Stage the end of a root, without a dead letter: a notice for each of its components."""
    notice = Message(ERRORS, _ERROR, new_id(), root_id, sent_by=by, fields={"TEXT": text})
    for member in members:
        notify(commit, names, member, notice)


def require_open(commit: Commit, names: Names, guest: Guest, message: Message) -> None:
    """Require that a guest is there and waits for a message: else `end_of_guest` replaces it.

    A component may handle a message after the notice that its root is given up, and would remember
    it for ever. What comes home then does not find the root among those that are open. Of one
    without a gradient nothing is remembered.
    """
    commit.stored(names.guest(guest.name))  # until its lease is over
    if message.wants_gradient:
        commit.same(names.guest_roots(guest.name), message.root_id.encode(), guest.enter.encode())


def end_of_guest(
    commit: Commit, names: Names, members: Iterable[str], by: str, root_id: str
) -> None:
    """Stage the end of a root whose guest is gone, or has given it up."""
    text = f"root {root_id} is given up: the guest that opened it does not wait for it"
    give_up(commit, names, members, root_id, by, text)


def notify(commit: Commit, names: Names, member: str, notice: Message) -> None:
    """Stage the notice that a root is given up, for the inbox of a component."""
    inbox = inbox_stream(names, member)
    message = _copy(notice, inbox.room.name)
    message.to = member
    commit.send(
        names.stream(*inbox.key),
        names.channel(inbox.room.name),
        codec.header(message),
        codec.encode(message, inbox),
    )


def notify_guest(commit: Commit, names: Names, guest: Guest, notice: Message) -> None:
    """Stage the same notice for a guest."""
    key = names.guest(guest.name)
    message = _copy(notice, f"@guest~{guest.name}")
    fields = codec.encode(message, Stream(Room(message.room), _ERROR, {}))
    commit.send(key, key, codec.header(message), fields)  # its channel has the stream's name


def _copy(notice: Message, room: str) -> Message:
    return Message(
        room,
        notice.type,
        notice.id,
        notice.root_id,
        sent_by=notice.sent_by,
        fields={"TEXT": notice.fields["TEXT"]},
    )


def inbox_stream(names: Names, component: str) -> Stream:
    """Return the stream in which a component learns that a root was given up."""
    return Stream(Room(names.inbox(component)), MessageType.LOG_ERROR, {}, (component,))
