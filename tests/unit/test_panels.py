"""Panels of systems on the dashboard."""

from __future__ import annotations

import pytest

from roomgrad.rooms import System
from roomgrad.systems import Plugin, installed
from roomgrad.web.dashboard import panels


@pytest.mark.parametrize("name", ["trebuchet", "melody"])
def test_the_systems_have_a_panel_with_its_files(name: str) -> None:
    panel = panels.panel_of(name)
    assert panel is not None
    assert (panel.static / "panel.js").is_file()
    assert f"/panels/{name}" in [mount.path for mount in panels.files()]


@pytest.mark.parametrize("panel", ["", "no_such_module:Panel", "roomgrad.codec:Panel"])
def test_a_system_without_a_panel_gets_the_generic_cards(
    panel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a system whose panel cannot be loaded here: the dashboard works all the same."""
    third = Plugin(System("third", (), ()), {}, panel=panel)
    monkeypatch.setattr(panels, "installed", lambda: {**installed(), "third": third})
    assert panels.panel_of("third") is None
    assert panels.panel_of("unknown") is None
    assert "/panels/third" not in [mount.path for mount in panels.files()]
