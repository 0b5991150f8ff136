"""Commands as they go over the wire."""

from __future__ import annotations

import hiredis
import pytest

from roomgrad.redis.connection import _LARGE, Command, _pieces, packed

LARGE = bytes(_LARGE)


@pytest.mark.parametrize(
    "commands",
    [
        [[b"PING"]],
        [[b"SET", b"a", b""], packed(b"GET", b"a"), [b"DEL", b"a"]],
        [[b"SET", b"a", LARGE]],
        [
            [b"SET", LARGE, LARGE],
            packed(b"GET", LARGE),
            [b"XADD", b"s", b"*", b"f", LARGE, b"g", b""],
        ],
    ],
)
def test_pieces_are_the_commands_as_redis_wants_them(commands: list[Command]) -> None:
    """Byte for byte, whatever is sent apart."""
    whole = [c if isinstance(c, bytes) else hiredis.pack_command(tuple(c)) for c in commands]
    assert b"".join(_pieces(commands)) == b"".join(whole)


def test_a_large_word_is_not_copied() -> None:
    """It is sent from where it stands."""
    assert any(piece is LARGE for piece in _pieces([[b"SET", b"a", LARGE]]))
