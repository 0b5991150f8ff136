"""What the plays have shown, as tables for people and as JSON for programs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import orjson

from tests.chaos.account import Account
from tests.chaos.environment import Seen, Times

Pick = Callable[[Seen], list[float]]


def exact(account: Account) -> bool:
    """Nothing lost, doubled or left over, and every fault ended as it should."""
    counts = (account.lost, account.doubled, account.dead, account.open, account.memory_bytes)
    return not any(counts) and not account.wrong


def line(account: Account) -> str:
    """One play in one line."""
    wrong = "; ".join(account.wrong)
    return (
        f"{account.contestant} seed {account.seed}: {account.messages} messages in "
        f"{account.seconds:.0f} s, lost {account.lost}, doubled {account.doubled}, "
        f"dead {account.dead}, open {account.open}{' - ' + wrong if wrong else ''}"
    )


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile; NaN of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def tables(accounts: list[Account], times: Times) -> str:
    """Both tables in Markdown: the accounts together, and what each fault cost."""
    mine = [account for account in accounts if account.contestant.startswith("roomgrad")]
    return "\n".join([*_accounts(accounts), "", *_faults(mine, times)])


def _accounts(accounts: list[Account]) -> list[str]:
    rows = [
        "| | plays | messages | effects | lost | doubled | restarted | dead letters "
        "| open at the end | bytes in memory hashes | bytes in streams, largest |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(account.contestant for account in accounts):
        mine = [account for account in accounts if account.contestant == name]
        expected = sum(a.effects + a.lost for a in mine)
        cells = [
            name,
            str(len(mine)),
            f"{sum(a.messages for a in mine):,}",
            f"{expected:,}",
            *(_share(sum(getattr(a, f) for a in mine), expected) for f in ("lost", "doubled")),
            str(sum(len(each.wrong) for a in mine for each in a.seen)),
        ]
        if name.startswith("roomgrad"):
            cells += [str(sum(getattr(a, f) for a in mine)) for f in ("dead", "open")]
            cells += [str(sum(a.memory_bytes for a in mine))]
            cells += [f"{max(a.stream_bytes for a in mine):,}"]
        else:
            cells += [""] * 4
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _share(count: int, whole: int) -> str:
    return f"{count:,} ({count / whole:.1%})" if count else "0"


def _faults(accounts: list[Account], times: Times) -> list[str]:
    rows = [
        "| fault | times | taken over after, s: median, longest | delivery after the server "
        "answers, s: median, p99 | ended after SIGTERM, s: longest | heard again, s: longest |",
        "|---|---|---|---|---|---|",
    ]
    seen = [each for account in accounts for each in account.seen]
    for name in sorted({each.fault for each in seen}):
        mine = [each for each in seen if each.fault == name]
        cells = [
            _two(mine, lambda each: each.takeover_s, 1.0),
            _two(mine, lambda each: each.recovery_s, 0.99),
            _one(mine, lambda each: each.stop_s),
            _one(mine, lambda each: each.heard_s),
        ]
        rows.append(f"| {name} | {len(mine)} | {' | '.join(cells)} |")
    everything = [_two(seen, lambda e: e.takeover_s, 1.0), _two(seen, lambda e: e.recovery_s, 0.99)]
    rows.append(f"| all | {len(seen)} | {' | '.join(everything)} | | |")
    rows += ["", f"lease {times.lease_s:g} s, outage {times.outage_s:g} s"]
    return rows


def _values(seen: list[Seen], pick: Pick) -> list[float]:
    return [value for each in seen for value in pick(each)]


def _two(seen: list[Seen], pick: Pick, share: float) -> str:
    values = _values(seen, pick)
    return f"{percentile(values, 0.5):.2f}, {percentile(values, share):.2f}" if values else ""


def _one(seen: list[Seen], pick: Pick) -> str:
    values = _values(seen, pick)
    return f"{max(values):.2f}" if values else ""


def write(path: Path, accounts: list[Account], times: Times) -> None:
    """Everything as JSON, with the date and the times that were in force."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {
        "date": time.strftime("%Y-%m-%d"),
        "times": asdict(times),
        "accounts": [asdict(account) for account in accounts],
    }
    path.write_bytes(orjson.dumps(body, option=orjson.OPT_INDENT_2))


def read(paths: Iterable[Path]) -> tuple[list[Account], Times]:
    """The accounts of several files, and the times of the last one."""
    accounts: list[Account] = []
    times = Times()
    for path in paths:
        body = orjson.loads(path.read_bytes())
        times = Times(**body["times"])
        for each in body["accounts"]:
            each["seen"] = [Seen(**seen) for seen in each["seen"]]
            accounts.append(Account(**each))
    return accounts, times
