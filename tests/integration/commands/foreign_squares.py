"""The squarer of `squares.py` as a program that knows Redis alone; and ways to get it wrong.

python foreign_squares.py COMMIT_LUA BEHAVIOUR --run=NAME, with the server in REDIS_URL.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import redis

ME, WEIGHTS = "squarer", (1.0, 2.0, 3.0)


class Wrong(Exception):
    """A message that nobody can handle."""


class Squarer:
    """One replica."""

    def __init__(self, scripts: Path, behaviour: str, run: str) -> None:
        self.run, self.behaviour = f"{{{run}}}", behaviour
        self.server: Any = redis.Redis.from_url(os.environ["REDIS_URL"], protocol=2)
        texts = [(scripts / f"{name}.lua").read_text() for name in ("prelude", "commit")]
        self.commit: Any = self.server.register_script("".join(texts))
        self.consumer = f"{ME}~foreign~{os.getpid()}~{uuid.uuid4().hex[:8]}"
        self.memory = f"{self.run}:memory:{ME}"
        sides, area = f"{self.run}:sides:DATA/FORWARD", f"{self.run}:area:DATA/GRADIENT"
        self.handlers = {sides: self.square, area: self.gradient}

    def serve(self) -> None:
        """For ever."""
        for stream in self.handlers:
            with contextlib.suppress(redis.ResponseError):  # the group is there already
                self.server.xgroup_create(stream, ME, "0", mkstream=True)
        while True:
            alive = {"component": ME, "host": "foreign", "pid": os.getpid(), "turn": time.time()}
            self.server.set(f"{self.run}:alive:{self.consumer}", json.dumps(alive), px=5000)
            streams = dict.fromkeys(self.handlers, ">")
            found = self.server.xreadgroup(ME, self.consumer, streams, count=1, block=1000)
            for key, entries in found or ():
                for entry, fields in entries:
                    self.handle(key.decode(), entry, fields)

    def handle(self, stream: str, entry: bytes, fields: dict[bytes, bytes]) -> None:
        """One message, one commit; what cannot be handled is given up."""
        body = json.loads(fields[b"m"])
        try:
            into, writes = self.handlers[stream](fields, body)
        except Wrong as error:
            if self.behaviour == "gives nothing up":
                raise
            history = json.dumps({"reason": str(error), "stream": stream, "group": ME})
            pairs = ["history", history, *(part for pair in fields.items() for part in pair)]
            into, writes = f"{self.run}:dead", [["XADD", 3, 1 + len(pairs), "*", *pairs]]
        done = stream.replace(self.run, f"{self.run}:done:{ME}")
        guard = [1, "PENDING", 1, 2, ME, entry]
        words = [word for write in writes for word in write]
        keys = [stream, done, into, self.memory, f"{self.run}:model:{ME}"]
        answer = self.commit(keys=keys, args=["PUBLISH", *guard, len(writes), *words])
        assert answer[0] == b"ok", answer

    def square(self, fields: Any, body: Any) -> tuple[str, list[list[Any]]]:
        """Sums of weighted squares out."""
        x = rows(fields, body)
        area = [sum(w * side**2 for w, side in zip(WEIGHTS, row, strict=True)) for row in x]
        message_id, training = uuid.uuid4().hex, body.get("MODEL_STATUS", 1) == 1
        data: Any = [[each] for each in area] if self.behaviour == "wrong shape" else area
        into, send = self.reply(body, "area", "DATA/FORWARD", message_id, data)
        writes = [send]
        if training or self.behaviour == "remembers VALIDATE":
            memory = {"ROOT_ID": body["ROOT_ID"], "answers": body["ID"], "x": x}
            writes.append(["HSET", 4, 2, message_id, json.dumps(memory)])
        if not training and self.behaviour == "steps on VALIDATE":
            writes.append(["HSET", 5, 4, "version", uuid.uuid4().hex, "step", "1"])
        return into, writes

    def gradient(self, fields: Any, body: Any) -> tuple[str, list[list[Any]]]:
        """The vector-Jacobian product, under the ID of the message that was answered."""
        kept = self.server.hget(self.memory, body["ID"])
        if kept is None:
            raise Wrong(f"no memory of {body['ID']}")
        asked = json.loads(kept)
        pairs = zip(asked["x"], numbers(fields, body), strict=True)
        product = [
            [2 * w * side * up for w, side in zip(WEIGHTS, row, strict=True)] for row, up in pairs
        ]
        if self.behaviour == "transposed":
            flat = [product[i % len(product)][i // len(product)] for i in range(3 * len(product))]
            product = [flat[at : at + 3] for at in range(0, len(flat), 3)]
        if self.behaviour == "short":
            product = product[:-1]
        into, send = self.reply(body, "sides", "DATA/GRADIENT", asked["answers"], product)
        forget = [] if self.behaviour == "leaves memory" else [["HDEL", 4, 1, body["ID"]]]
        if self.behaviour == "leaves memory":  # under another name, so that none is answered twice
            forget = [["HDEL", 4, 1, body["ID"]], ["HSET", 4, 2, uuid.uuid4().hex, kept]]
        return into, [send, *forget]

    def reply(
        self, body: Any, room: str, type_: str, message_id: str, data: Any
    ) -> tuple[str, list[Any]]:
        """The stream of a reply, and the script's words for sending it."""
        root = body["ROOT_ID"]
        head = {"ID": message_id, "ROOT_ID": root, "TYPE": type_, "SENT_BY": ME}
        more = {"v": 1, "TO_ROOM": room, "MODEL_STATUS": body.get("MODEL_STATUS", 1), "DATA": data}
        ring = json.dumps({"ring": 1, **head, "shape": [len(data)]}, separators=(",", ":"))
        fields = ["ID", message_id, "ROOT_ID", root, "m", json.dumps({**head, **more})]
        words = ["SEND", 3, f"{self.run}:{room}", ring[:-1] + ',"entry":"', "", len(fields)]
        return f"{self.run}:{room}:{type_}", [*words, *fields]


def numbers(fields: Any, body: Any) -> list[Any]:
    """DATA, from the lists in `m` or from bytes of their own."""
    data = body["DATA"]
    if isinstance(data, list):
        return data
    raw = fields[data["$array"]["field"].encode()]
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def rows(fields: Any, body: Any) -> list[list[float]]:
    """DATA as rows of three."""
    found = numbers(fields, body)
    if not isinstance(body["DATA"], list):
        found = [found[at : at + 3] for at in range(0, len(found), 3)]
    if not all(len(row) == 3 and all(isinstance(n, int | float) for n in row) for row in found):
        raise Wrong(f"expected rows of three numbers, got {body['DATA']}")
    return found


if __name__ == "__main__":
    scripts, behaviour, run = sys.argv[1:]
    Squarer(Path(scripts), behaviour, run.removeprefix("--run=")).serve()
