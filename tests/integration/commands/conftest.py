"""Commands are tried on Redis 8 by the slow tests alone: each call starts a Python of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("redis8", marks=[pytest.mark.docker, pytest.mark.slow]),
    ]
)
def url(request: pytest.FixtureRequest) -> str:
    """The address of a server that tests share."""
    return str(request.getfixturevalue(f"{request.param}_url"))
