"""How the benchmark of model sizes counts the bytes of a step."""

from __future__ import annotations

from pathlib import Path

import pytest

from roomgrad.names import Names
from tests.benchmarks.model_size import written
from tests.benchmarks.model_size.task import WIDENINGS, parameters

RUN = Names("r")
HOME = RUN.stream("input", "DATA/GRADIENT")


def resp(*words: str) -> bytes:
    """A command as it is in the append-only file."""
    parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
    return f"*{len(words)}\r\n{''.join(parts)}".encode()


def transaction(*commands: bytes) -> bytes:
    return b"".join((resp("MULTI"), *commands, resp("EXEC")))


STATE = resp("HSET", RUN.model("learner"), "weights", "w" * 1000)
PIECE = resp("SET", RUN.model("learner") + ":snapshot:3:0", "p" * 5000)
STEP = transaction(
    resp("XACK", RUN.stream("output", "DATA/GRADIENT"), "learner", "1-0"),
    STATE,
    resp("XADD", HOME, "1-0", "DATA", "d" * 800),
)
OPEN = transaction(
    resp("XACK", HOME, "trainer", "1-0"),
    resp("XADD", RUN.stream("input", "DATA/FORWARD"), "1-0", "DATA", "d" * 800),
)


def test_bytes_are_counted_from_the_end_of_a_step_to_that_of_another(tmp_path: Path) -> None:
    """Two whole steps: what precedes the first end and follows the last one is not counted."""
    other = resp("HSET", "{r}:alive:trainer~1", "at", "1")
    content = other + STEP + OPEN + STEP + OPEN + PIECE + STEP + OPEN + other
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    (folder / "appendonly.aof.1.incr.aof").write_bytes(other + content)
    found = written.per_step(tmp_path, RUN, "learner", len(other), len(other) + len(content))
    assert found == {
        "written_b": len(STEP) + len(OPEN) + len(PIECE) / 2,
        "learner_b": len(STEP) + len(PIECE) / 2,
        "model_b": len(STATE),
        "snapshot_b": len(PIECE) / 2,
    }


@pytest.mark.parametrize(
    ("size", "expected"), [("2210", 2210), ("1m", 994_754), ("9m", 8_931_650), ("81m", 81_134_690)]
)
def test_sizes(size: str, expected: int) -> None:
    """The first is the trebuchet's network."""
    assert parameters(WIDENINGS[size]) == expected
