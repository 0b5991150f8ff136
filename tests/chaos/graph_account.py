"""The account of a graph: which parts were joined, which came late, and what was added up."""

from __future__ import annotations

from typing import Any

import orjson

from tests.chaos.account import Account, entries
from tests.chaos.environment import Environment
from tests.chaos.graph import GRAPH, JOINER, MODELS, PARTS, TAGGER, share

ANSWERED = "was answered before"


def settle_graph(environment: Environment, account: Account) -> None:
    """Compare gradients, sums and counts with the parts that the joins have got."""
    names = {each["number"]: each["names"] for each in entries(environment, "joins")}
    empty = {
        name: {each["number"] for each in entries(environment, name) if each["empty"]}
        for name in PARTS
    }
    trained = GRAPH.numbers("sums", account.numbers)
    for name in MODELS.names:
        missed = {number for number in trained if name not in names.get(number, ())}
        if empty[name] != missed:
            wrong = f"{name}: empty gradients of {empty[name]}, joined without it {missed}"
            account.wrong.append(wrong)
    if empty[TAGGER] != {*trained}:
        account.wrong.append(f"{TAGGER}: gradients of integers { ({*trained} - empty[TAGGER]) }")
    for each in entries(environment, "sums"):
        number = each["number"]
        expected = sum(share(number, n) for n in names.get(number, ()) if n != TAGGER)
        if each["share"] != expected:
            account.wrong.append(f"number {number}: sum {each['share']}, expected {expected}")
    missing = [len(PARTS) - len(each) for each in names.values()]
    account.late = sum(missing)
    _settle_counts(environment, account, sum(map(bool, missing)))
    _settle_dead(environment, account)


def _settle_counts(environment: Environment, account: Account, incomplete: int) -> None:
    client, counters = environment.client, environment.names.counters(JOINER)
    counted: Any = client.hmget(counters, "late_parts", "incomplete_joins")
    found = [int(each or 0) for each in counted]
    expected = [account.late + environment.copies, incomplete]
    if found != expected:
        account.wrong.append(f"late parts, incomplete joins {found}, expected {expected}")


def _settle_dead(environment: Environment, account: Account) -> None:
    """Expect a dead letter for each part that came twice: its second gradient."""
    dead: Any = environment.client.xrange(environment.names.dead())
    reasons = [orjson.loads(fields[b"history"])["reason"] for _, fields in dead]
    twice = [each for each in reasons if ANSWERED in each]
    account.dead -= environment.copies
    account.wrong += [each for each in reasons if each not in twice][:5]
