"""A component that joins the parts of three others."""

from __future__ import annotations

from typing import Any

from roomgrad import Component, Context, Message, Parts, RuntimeSettings, Stream, System, join
from tests.integration.graphs.joins import EMBEDDED, FORWARD, NUMBERS, OUT

SENDERS = ("a", "b", "c")
THREE = System(
    "three",
    (Stream(EMBEDDED, FORWARD, NUMBERS, ("head",)), Stream(OUT, FORWARD, NUMBERS)),
    (*SENDERS, "head"),
)


def three(**options: Any) -> Component:
    @join(EMBEDDED, FORWARD, replies=[(OUT, FORWARD)], parts=SENDERS, **options)
    def forward(parts: Parts, context: Context) -> Message:
        context.append("joined", names=list(parts))
        return parts.reply(OUT, sum(each.array for each in parts.values()))

    return Component("head", THREE, RuntimeSettings, [forward], logs=["joined"])
