"""Write all generated pages.

python -m tests.docs
"""

from __future__ import annotations

from roomgrad.inspect import asyncapi
from roomgrad.names import Names
from roomgrad.schema import Declaration
from roomgrad_trebuchet.contract import TREBUCHET
from roomgrad_trebuchet.controlmodel.handlers import component as controlmodel
from roomgrad_trebuchet.simulator.handlers import component as simulator
from roomgrad_trebuchet.trainer.handlers import component as trainer
from tests.docs import api_page, commands_page, guards_page, keys_page, settings_page
from tests.docs.pages import ROOT


def asyncapi_page() -> str:
    """Return the AsyncAPI document of the trebuchet, as its components declare it."""
    declared = {each.name: Declaration.of(each) for each in (trainer, controlmodel, simulator)}
    return asyncapi.as_yaml(asyncapi.document(TREBUCHET, Names(TREBUCHET.name), declared))


PAGES = {
    "api.md": api_page.page,
    "asyncapi.yaml": asyncapi_page,
    "commands.md": commands_page.page,
    "guards.md": guards_page.page,
    "keys.md": keys_page.page,
    "settings.md": settings_page.page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (ROOT / "docs" / name).write_text(page(), encoding="utf-8")
