"""Settings of every page."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import Field

from roomgrad.settings import RuntimeSettings, settings


@settings
class WebSettings(RuntimeSettings):
    """Where a page is served."""

    host: str = "127.0.0.1"
    """Address to listen at. A page at any address but this machine's own asks for a token."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port to listen at. If empty, 8321 (labelling) or 8322 (dashboard), or the next free one."""

    hosts: str = ""
    """Names by which browsers reach the page, separated by commas, beside this machine's own. If
    the page listens at all addresses, the first name is part of the address that is logged."""

    token_file: str = ""
    """File with the token that visitors need. If empty, a token is made and logged when needed."""

    proxies: str = ""
    """Addresses or networks of proxies, separated by commas, whose X-Forwarded-For and -Proto name
    the visitor's address and scheme; others may not."""

    def __post_init__(self) -> None:
        for each in filter(None, map(str.strip, self.proxies.split(","))):
            try:
                ipaddress.ip_network(each)
            except ValueError as error:
                raise ValueError(
                    f"proxies: expected addresses or networks, got {each!r}"
                ) from error

    @property
    def named_hosts(self) -> tuple[str, ...]:
        """The names in `hosts`."""
        return tuple(name.strip() for name in self.hosts.split(",") if name.strip())
