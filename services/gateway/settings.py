"""Settings of the gateway."""

from __future__ import annotations

import codecs
import ipaddress
from typing import Annotated

from pydantic import Field

from roomgrad.settings import RuntimeSettings, settings

PORT = 8080

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@settings
class GatewaySettings(RuntimeSettings):
    """Where clients of swergio connect, what they may do, and how long messages wait for them."""

    system: str = ""
    """Installed system whose contract applies to its rooms, like trebuchet; if empty, the contract
    that is stored in the run, and if there is none, any message may be sent in any room."""

    host: str = "127.0.0.1"
    """Address to listen at. Any other than this machine's own requires a token or a list of
    networks that may connect."""

    port: Annotated[int, Field(ge=0, le=65535)] = PORT
    """Port to listen at; 0 takes a free one, which the log names."""

    format: str = "utf-8"
    """Encoding of headers and messages, as in the clients."""

    header_length: Annotated[int, Field(ge=1, le=64)] = 10
    """Bytes of the header with the length of a message, as in the clients."""

    share: bool = False
    """Whether clients of one name share the messages; otherwise each of them gets every message."""

    resend: bool = True
    """Whether a client that connects again gets the messages again that its name did not answer."""

    wait_count: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """How many messages wait for a client that is away or slow; older ones become dead letters."""

    wait_s: Annotated[float, Field(gt=0, le=30 * 86400)] = 3600.0
    """Seconds that they wait, and after which messages stop waiting for a client that is away."""

    token_file: str = ""
    """File with the token that each client must send, as TOKEN of its REGISTER or behind its name,
    like trainer:TOKEN."""

    allow: str = ""
    """Networks that may connect, with commas, like 10.0.0.0/8,192.168.1.7; all if empty."""

    max_message_mib: Annotated[float, Field(gt=0, le=64)] = 8.0
    """How many MiB a message may have; a client that announces more is disconnected."""

    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 256
    """How many clients may be connected at a time."""

    max_per_s: Annotated[float, Field(gt=0, le=1_000_000)] = 2000.0
    """How many messages per second are read from one client; faster ones wait."""

    handshake_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Seconds within which a connection must REGISTER."""

    frame_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Seconds within which a message must arrive once its header has begun."""

    frozen_s: Annotated[float, Field(gt=0, le=86400)] = 600.0
    """Seconds without taking anything after which a client is disconnected."""

    def __post_init__(self) -> None:
        try:
            found = codecs.lookup(self.format)
            plain = "0123456789 {".encode(found.name) == b"0123456789 {"
        except (LookupError, UnicodeError):
            plain = False
        if not plain:
            raise ValueError(
                f"format {self.format!r}: expected an encoding that writes digits as in ASCII, "
                "like utf-8 or latin-1"
            )
        if len(str(self.max_bytes)) > self.header_length:
            raise ValueError(
                f"a header of {self.header_length} bytes cannot announce {self.max_bytes} bytes: "
                "raise --header-length or lower --max-message-mib"
            )
        if not (self.is_local or self.token_file or self.allow):
            raise ValueError(
                f"host {self.host}: other machines may connect there, so require a token "
                "(--token-file) or name their networks (--allow)"
            )
        _ = self.networks

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks in `allow`. Raises ValueError."""
        words = (word.strip() for word in self.allow.split(","))
        try:
            return tuple(ipaddress.ip_network(word, strict=False) for word in words if word)
        except ValueError as error:
            raise ValueError(f"allow: {error}; a network looks like 10.0.0.0/8") from error

    @property
    def max_bytes(self) -> int:
        """The size limit of a message in bytes."""
        return round(self.max_message_mib * 1024 * 1024)

    @property
    def run_name(self) -> str:
        """The run whose rooms it serves."""
        return self.run or self.system or "trebuchet"
