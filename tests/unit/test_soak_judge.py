"""The judge of a soak: what rises is found, what is noisy, flat or still filling up is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.soak.judge import MIB, judged, line, report
from tests.soak.samples import Sample

SHARE = 0.03
HOUR = 360  # samples of ten seconds
GLIBC = 1.25  # resident bytes for each that is used


def course(name: str, values: np.ndarray) -> list[Sample]:
    """Samples every ten seconds, of this figure alone."""
    return [{"time": 10.0 * number, name: float(each)} for number, each in enumerate(values)]


def grown(name: str, values: np.ndarray) -> list[str]:
    """What is judged to grow."""
    return [each.name for each in judged(course(name, values), SHARE) if each.grows]


def test_a_leak_under_noise_is_found() -> None:
    """20 MiB an hour under the ups and downs of an allocator."""
    noise = np.random.default_rng(0).normal(0, MIB / 2, HOUR)
    leak = 60 * MIB + np.linspace(0, 20 * MIB, HOUR)
    assert grown("rss trainer-0", leak + noise) == ["rss trainer-0"]


def test_noise_alone_is_flat() -> None:
    """Also where it is large."""
    noise = np.random.default_rng(1).normal(0, 10 * MIB, HOUR)
    assert not grown("rss trainer-0", 60 * MIB + noise)


def test_what_has_grown_and_stopped_is_flat() -> None:
    """A start is no leak: only the second half counts."""
    values = np.minimum(np.linspace(0, 200 * MIB, HOUR), 90 * MIB)
    assert not grown("rss trainer-0", values)


def test_a_key_that_only_grows_is_found() -> None:
    """Entry by entry, an hour long."""
    name = "length {run}:memory:trainer"
    assert grown(name, np.arange(HOUR) * 2.0) == [name]


@pytest.mark.parametrize(("most", "grows"), [(90_000, False), (200_000, True)])
def test_what_fills_up_may_do_so_to_its_limit(most: int, grows: bool) -> None:
    """The ledger keeps 100,000 roots: more than that is a fault."""
    name = "length {run}:ledger:controlmodel"
    assert grown(name, np.linspace(0, most, HOUR)) == ([name] if grows else [])


def test_what_fills_up_is_no_growth_of_the_server() -> None:
    """Its bytes are taken away from those of the server, which has nothing else that grows."""
    ledger = np.linspace(0, 9 * MIB, HOUR)
    samples = course("bytes {run}:ledger:controlmodel", ledger)
    for sample, more in zip(samples, ledger, strict=True):
        sample["length {run}:ledger:controlmodel"] = 50_000
        sample["used memory"] = 30 * MIB + more
    assert not [each.name for each in judged(samples, SHARE) if each.grows]


@pytest.mark.parametrize(("seconds", "grows"), [(60, False), (200, True)])
def test_a_log_of_steps_is_as_long_as_the_pace_makes_it(seconds: float, grows: bool) -> None:
    """And no growth of the server, which gets faster here; the seconds that it holds are judged."""
    name = "{run}:model:controlmodel:steps"
    held = np.linspace(0, 90 * MIB, HOUR)
    samples = course(f"bytes {name}", held)
    for sample, more, age in zip(samples, held, np.linspace(0, seconds, HOUR), strict=True):
        sample |= {f"length {name}": more / 9000, f"seconds {name}": age}
        used = 30 * MIB + more
        sample |= {"used memory": used, "peak memory": used, "rss server": GLIBC * used}
    found = [each.name for each in judged(samples, SHARE) if each.grows]
    assert found == ([f"seconds {name}"] if grows else [])


@pytest.mark.parametrize(("leak", "grows"), [(0, False), (20 * MIB, True)])
@pytest.mark.parametrize("log", ["comes and goes", "gets longer", "gets shorter"])
def test_a_leak_of_what_is_resident_is_found_under_a_log(log: str, leak: int, grows: bool) -> None:
    """20 MiB an hour; what the allocator takes for the log itself is none, nor that it keeps it."""
    lengths = {
        "comes and goes": np.random.default_rng(2).uniform(40, 90, HOUR) * MIB,
        "gets longer": np.linspace(40, 90, HOUR) * MIB,
        "gets shorter": np.linspace(90, 40, HOUR) * MIB,
    }
    held = lengths[log]
    peak = np.maximum.accumulate(60 * MIB + held)
    samples = course("rss server", GLIBC * peak + np.linspace(0, leak, HOUR))
    for sample, length, most in zip(samples, held, peak, strict=True):
        sample |= {"bytes {run}:model:controlmodel:steps": length}
        sample |= {"used memory": 60 * MIB + length, "peak memory": most}
    assert [each.name for each in judged(samples, SHARE) if each.grows] == ["rss server"] * grows


@pytest.mark.parametrize(("line_bytes", "grows"), [(200, False), (300, True)])
def test_a_log_may_have_a_line_every_five_seconds(line_bytes: int, grows: bool) -> None:
    """Two of them in ten seconds; the file is begun anew at its limit."""
    name = "log trainer-0.log"
    assert grown(name, np.arange(HOUR) * 2.0 * line_bytes) == [name] * grows


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(3, 50))
def test_a_straight_line_is_found_as_it_is(slope: float, start: float, count: int) -> None:
    """With an error of nothing."""
    hours = np.arange(count) / HOUR
    found, error = line(hours, start + slope * hours)
    assert found == pytest.approx(slope, abs=1e-3)
    assert error == pytest.approx(0, abs=1e-3)


def test_the_report_names_what_grows() -> None:
    """In words that a script can read."""
    samples = course("log trainer-0.log", np.arange(HOUR) * 1e5)
    others = ("steps", "commands", "restarts", "keys", "used memory", "peak memory", "rss server")
    for sample in samples:
        sample.update(dict.fromkeys((*others, "append-only file", "append-only base"), 1.0))
    assert report(samples, SHARE)["grows"] == ["log trainer-0.log"]
