"""Settings of whatever serves a page."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roomgrad.settings import RuntimeSettings, settings


@settings
class WebSettings(RuntimeSettings):
    """Where a page is found."""

    host: str = "127.0.0.1"
    """Address to listen at. Any other than this machine's own wants a token from each visitor."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port to listen at; when empty 8321 (labelling), 8322 (dashboard), or the next one free."""

    hosts: str = ""
    """Names under which browsers reach the page, with commas; this machine's own are known. The
    first one stands in the address that is shown, where the page listens at all addresses."""

    token_file: str = ""
    """File with the token that visitors need; when empty one is made and logged, where needed."""

    @property
    def named_hosts(self) -> tuple[str, ...]:
        """What `hosts` names."""
        return tuple(each.strip() for each in self.hosts.split(",") if each.strip())
