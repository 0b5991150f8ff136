"""A thousand questions at once by `AsyncClient`, beside the flow of `tests.benchmarks.flood`.

    python -m tests.benchmarks.ask [--rounds 5] [--questions 1000] [--json]

Arrays of 100 pairs, in turns: the flood's component that sends many, its `Client.send`, and one
asyncio program that asks a component for the same array. A question is two messages: what is asked,
and its answer. Timed is from the first `ask` to the last answer, after as many to warm up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from roomgrad import (
    AsyncClient,
    Component,
    Context,
    Message,
    MessageType,
    Room,
    RuntimeSettings,
    Stream,
    System,
    main,
    on,
)
from tests.benchmarks import flood
from tests.benchmarks.transport.flow.ends import array
from tests.benchmarks.transport.flow.rooms import PAIRS
from tests.benchmarks.transport.stage import fresh_server, ratio, start, told

ASK = "ask"
FORWARD = MessageType.FORWARD
QUESTIONS, ANSWERS = Room("questions"), Room("answers")
SYSTEM = System(
    "asked",
    (
        Stream(QUESTIONS, FORWARD, PAIRS, ("repeat",)),
        Stream(ANSWERS, FORWARD, PAIRS),
    ),
    ("repeat",),
)
SHOWN = {
    "rooms": "flood: a handler that sends many",
    "client": "flood: Client.send",
    ASK: "AsyncClient.ask, all at once; two messages each",
}


@on(QUESTIONS, FORWARD, replies=[(ANSWERS, FORWARD)])
def repeat(message: Message, _context: Context) -> Message:
    """Answer with the same array."""
    return message.reply(ANSWERS, message.array)


async def asked(url: str, count: int) -> dict[str, float]:
    """Ask so many questions at once, twice; return how long the second time took."""
    arrays = [array(number) for number in range(count)]
    async with AsyncClient(SYSTEM, redis_url=url) as rooms:
        for _ in range(2):
            began = time.monotonic()
            found = await asyncio.gather(
                *(rooms.ask(QUESTIONS, each, answer=ANSWERS, timeout_s=60.0) for each in arrays)
            )
            seconds = time.monotonic() - began
    right = sum(int(each.array[0, 0]) == number for number, each in enumerate(found))
    return {"messages_s": 2 * count / seconds, "lost": count - right}


def measured(questions: int) -> dict[str, float]:
    """Ask a component in a process of its own, from a process of its own."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fresh_server(False))
        start(stack, "tests.benchmarks.ask", "repeat", server.url)
        _, lines = start(stack, "tests.benchmarks.ask", ASK, server.url, str(questions), heard=True)
        return told(lines)


def report(rounds: int, questions: int) -> list[dict[str, Any]]:
    """Measure all in turns; return medians, and what they are of the flood."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SHOWN}
    for _ in range(rounds):
        for name, turns in found.items():
            turns.append(
                measured(questions) if name == ASK else flood.measured(name, 2 * questions)
            )
    speeds = {name: [turn["messages_s"] for turn in turns] for name, turns in found.items()}
    return [
        {
            "name": name,
            "messages_s": statistics.median(values),
            "of_flood": ratio(values, speeds["rooms"]),
            "lost": sum(turn["lost"] for turn in found[name]),
        }
        for name, values in speeds.items()
    ]


def measure() -> None:
    """Print medians, and the load of the machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = report(arguments.rounds, arguments.questions)
    if arguments.json:
        print(json.dumps(rows))
        return
    title = f"load {os.getloadavg()[0]:.1f}"
    table = Table("", "messages/s", "of the flood", "lost", title=title)
    for row in rows:
        numbers = (f"{row['messages_s']:,.0f}", f"{row['of_flood']:.2f}", f"{row['lost']:,}")
        table.add_row(SHOWN[row["name"]], *numbers)
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["repeat"]:
        sys.argv = ["repeat", f"--redis-url={sys.argv[2]}", "--log-level=error"]
        main(Component("repeat", SYSTEM, RuntimeSettings, handlers=[repeat]))
    elif sys.argv[1:2] == [ASK]:
        print(json.dumps(asyncio.run(asked(sys.argv[2], int(sys.argv[3])))), flush=True)
    else:
        measure()
