"""Who may connect: this machine, or who shows a token, or comes from a network that is named."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from roomgrad.errors import SettingsError
from roomgrad.flags import load
from roomgrad_swergio.gateway.registry import read_token
from roomgrad_swergio.gateway.settings import GatewaySettings
from tests.integration.gateway.conftest import MakeGateway
from tests.integration.gateway.gateway_process import Peer, busy
from tests.run_contents import holders

TOKEN = "a-token-of-24-characters"


def test_it_listens_to_this_machine_only(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((_address(), gateway.port), 2)


def _address() -> str:
    """An address of this machine that others may reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_elsewhere_it_wants_a_token_or_networks(host: str) -> None:
    with pytest.raises(SettingsError, match=r"--token-file.*--allow"):
        load(GatewaySettings, [f"--host={host}"], {})
    load(GatewaySettings, [f"--host={host}", "--allow=10.0.0.0/8"], {})
    load(GatewaySettings, [f"--host={host}", "--token-file=token"], {})


def test_networks_that_are_named_may_connect(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(host="0.0.0.0", allow=f"192.0.2.0/24, {_address()}")
    peer = Peer(socket.create_connection(("127.0.0.1", gateway.port)))
    assert "127.0.0.1 is not in the networks that may connect (--allow)" in peer.error()
    assert peer.is_closed()
    peer.close()
    named = Peer(socket.create_connection((_address(), gateway.port)))
    named.register("ann")
    named.here()
    named.close()


def test_a_token_is_shown_with_register_or_behind_the_name(
    make_gateway: MakeGateway, tmp_path: Path
) -> None:
    """The original's client has no other field to put it; nobody else gets to see it."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    gateway = make_gateway(token_file=file)
    for name, more in (("eve", {}), ("eve:wrong", {}), ("eve", {"TOKEN": "wrong"})):
        eve = gateway.peer()
        eve.register(name, **more)
        assert "the token is missing or wrong" in eve.error()
        assert eve.is_closed()
    watcher = gateway.peer()
    watcher.register("watcher", TOKEN=TOKEN)
    watcher.join("_command")
    watcher.here()
    ann = gateway.peer()
    ann.register(f"ann:{TOKEN}")
    told = watcher.receive()
    assert (told["NAME"], told["SENT_BY"]) == ("ann", "ann")
    assert TOKEN not in str(told)
    bob = gateway.peer()
    bob.register("bob", TOKEN=TOKEN)
    for peer in (ann, bob):
        peer.join("cave")
        peer.here()
    ann.say("cave", 1, SENT_BY=f"ann:{TOKEN}")
    assert bob.receive()["SENT_BY"] == "ann"
    busy([ann, bob], "cave", 3)
    assert not any(TOKEN in line for line in gateway.lines)
    assert holders(gateway.client, gateway.names, TOKEN) == []


@pytest.mark.parametrize("text", ["short", "", "with a space in the middle of it"])
def test_a_token_has_to_be_one(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(SettingsError, match="expected at least 16 letters"):
        read_token(str(file))
    with pytest.raises(SettingsError, match="cannot be read"):
        read_token(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--format=utf-16"], "expected an encoding that writes digits as in ASCII"),
        (["--format=klingon"], "expected an encoding that writes digits"),
        (["--header-length=3"], "raise --header-length"),
        (["--allow=10.0.0.300"], "a network looks like 10.0.0.0/8"),
        (["--port=99999"], "--port"),
    ],
)
def test_settings_that_cannot_be(flags: list[str], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        load(GatewaySettings, flags, {})
