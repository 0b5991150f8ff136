"""What roomgrad needs: its licenses and known vulnerabilities. `python -m tests.audit [PIP_AUDIT]`.

Licenses are those of every package that an installed roomgrad may need, with all extras but those
of developers, as the packages name them. Advisories are those of PyPI, asked by pip-audit.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import distribution, distributions
from pathlib import Path
from typing import Any

from boolean import Expression
from license_expression import ExpressionError, get_spdx_licensing
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
OF_DEVELOPERS = {"dev", "rivals"}  # extras that no user installs

# These ask for their text only; MPL-2.0 also for the changes of its own files.
ALLOWED = (
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "HPND",
    "ISC",
    "MIT",
    "MIT-0",
    "MIT-CMU",
    "MPL-2.0",
    "PSF-2.0",
    "Python-2.0",
    "Zlib",
)

# What packages write that have no SPDX expression yet.
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


def product() -> list[str]:
    """Return the names of all packages that an installed roomgrad may need."""
    seen: dict[str, set[str]] = {}
    for each in distributions():
        if each.name.startswith("roomgrad"):
            extras = each.metadata.get_all("Provides-Extra") or ()
            _add(each.name, {*extras} - OF_DEVELOPERS, seen)
    return sorted(name for name in seen if not name.startswith("roomgrad"))


def _add(name: str, extras: set[str], seen: dict[str, set[str]]) -> None:
    name = canonicalize_name(name)
    if name in seen and extras <= seen[name]:
        return
    seen[name] = extras | seen.get(name, set())
    for text in distribution(name).requires or ():
        needed = Requirement(text)
        marker = needed.marker
        if marker is None or any(marker.evaluate({"extra": each}) for each in {"", *extras}):
            _add(needed.name, needed.extras, seen)


def licenses(packages: Iterable[str]) -> dict[str, str]:
    """Return the license of each package as pip-licenses finds it."""
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--with-system", "--packages"]
    done = subprocess.run([*command, *packages], capture_output=True, text=True, check=True)
    return {canonicalize_name(each["Name"]): each["License"] for each in json.loads(done.stdout)}


def is_allowed(license: str) -> bool:
    """Return whether a license, or one of those to choose from, asks for no more than allowed."""
    spdx = get_spdx_licensing()
    known = {spdx.parse(each) for each in ALLOWED}
    texts = [each.strip() for each in license.split(";")]
    try:
        parts = [spdx.parse(SPDX.get(each, each), validate=True) for each in texts]
    except ExpressionError:
        return False
    return all(each is not None and _holds(each, known) for each in parts)


def _holds(part: Expression, known: set[Expression]) -> bool:
    if part in known:
        return True
    some = any if part.__class__.__name__ == "OR" else all
    return bool(part.args) and some(_holds(each, known) for each in part.args)


def advisories(report: Mapping[str, Any]) -> tuple[list[str], int]:
    """Return a sentence for each vulnerability in pip-audit's report, and how many were asked."""
    asked = [each for each in report["dependencies"] if "skip_reason" not in each]
    found = [
        f"{each['name']} {each['version']}: {vulnerability['id']}, mended in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for each in asked
        for vulnerability in each["vulns"]
    ]
    return found, len(asked)


def audit(pip_audit: str, packages: list[str]) -> bool:
    """Print what PyPI knows of the pinned packages; return whether it knows of no vulnerability.

    If its service cannot be reached, nothing is known, which is said and is no failure.
    """
    pins = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if canonicalize_name(line.partition("==")[0]) in packages
    ]
    command = [pip_audit, "--requirement=/dev/stdin", "--no-deps", "--disable-pip", "--format=json"]
    try:
        done = subprocess.run(command, input="\n".join(pins), capture_output=True, text=True)
    except FileNotFoundError:
        print(f"Advisories were not checked: there is no {pip_audit}; is PyPI reachable?")
        return True
    if not done.stdout:
        print(f"Advisories were not checked: {done.stderr.strip().splitlines()[-1]}")
        return True
    found, asked = advisories(json.loads(done.stdout))
    print(*found, sep="\n", end="\n" if found else "")
    if asked < len(pins):
        print(
            f"Advisories of {len(pins) - asked} of {len(pins)} packages were not checked: the "
            "service of PyPI did not answer for them. Try again where it can be reached."
        )
    print(f"Advisories: {len(found)} for {asked} packages.")
    return not found


def main() -> int:
    """Print a summary of the licenses and what is wrong; return the exit code."""
    packages = product()
    found = licenses(packages)
    for license, count in Counter(found.values()).most_common():
        print(f"{count:>4}  {license}")
    refused = [name for name, license in found.items() if not is_allowed(license)]
    for name in refused:
        print(f"{name}: {found[name]!r} is not among the allowed licenses: {', '.join(ALLOWED)}")
    print(f"Licenses: {len(found)} packages, {len(refused)} refused.")
    is_safe = audit(sys.argv[1], packages) if sys.argv[1:] else True
    return 0 if is_safe and not refused else 1


if __name__ == "__main__":
    sys.exit(main())
