"""`python -m roomgrad_trebuchet.inference --wind 3 --target 60`: one question to the trebuchet."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import numpy as np

from roomgrad import exact_json
from roomgrad.errors import RoomgradError, RunMismatch, SettingsError
from roomgrad.flags import load
from roomgrad.redis.client import Client
from roomgrad.redis.server import address
from roomgrad_trebuchet import shoot, table
from roomgrad_trebuchet.contract import TREBUCHET
from roomgrad_trebuchet.inference.settings import InferenceSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Ask, print the answer, and return the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # its encoding may lack a character of the table
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        answer(argv)
        return 0
    except RoomgradError as error:
        print(f"inference: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError | RunMismatch) else 1


def answer(argv: Sequence[str] | None = None) -> None:
    """Ask and print the answer. Raises RoomgradError."""
    settings = load(InferenceSettings, argv)
    with _client(settings) as client:
        if settings.csv:
            _csv(client, settings)
        else:
            _one(client, settings)


def _client(settings: InferenceSettings) -> Client:
    return Client(
        TREBUCHET,
        run=settings.run or TREBUCHET.name,
        redis_url=address(settings.redis_url, settings.redis_ca_file),
        password_file=settings.redis_password_file,
    )


def _one(client: Client, settings: InferenceSettings) -> None:
    pairs = np.array([[settings.wind, settings.target]], dtype=np.float32)
    shots = shoot.ask(client, pairs, timeout_s=settings.timeout_s)
    shot = {"wind": settings.wind, "target": settings.target, **shots.row(0)}
    remark = shoot.outside(*pairs[0].tolist())
    if settings.json:
        print(_json({**shot, "remark": remark} if remark else shot))
    else:
        print("\n  ".join(filter(None, (_sentence(shot), remark))))


def _csv(client: Client, settings: InferenceSettings) -> None:
    given = table.read(settings.csv)
    shots = shoot.ask_many(client, given.pairs, timeout_s=settings.timeout_s)
    remarks = list(filter(None, (shoot.outside(*pair) for pair in given.pairs.tolist())))
    if remarks:
        count = f"{len(remarks)} of {len(given.rows)} rows"
        print(f"inference: {count}: {remarks[0]}", file=sys.stderr)
    if settings.json:
        results = [each.row(index) for each in shots for index in range(len(each.wind))]
        both = zip(given.pairs.tolist(), results, strict=True)
        print(_json([{"wind": wind, "target": target, **row} for (wind, target), row in both]))
    else:
        table.write(given, shots, sys.stdout)


def _json(found: object) -> str:
    return exact_json.dumps(found, nulls=True).decode()


def _sentence(answer: dict[str, float | int | None]) -> str:
    lines = [
        f"wind {answer['wind']:g} m/s, target {answer['target']:g} m",
        f"  angle     {answer['angle_deg']:8.2f} degrees",
        f"  weight    {answer['weight_kg']:8.2f} kg",
        f"  distance  {answer['distance_m']:8.2f} m",
        f"  miss      {answer['miss_m']:8.2f} m",
    ]
    if answer["status"]:
        lines.append(f"  the trebuchet did not shoot (status {answer['status']})")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
