"""A simulator that knows Redis and nothing else."""

import contextlib
import json
import os
import struct
import uuid
from pathlib import Path

import redis

RUN, ME = "{trebuchet}", "simulator"
CONSUMER = f"{ME}~foreign~{os.getpid()}~{uuid.uuid4().hex[:8]}"
SHOTS, GRADIENTS = f"{RUN}:model:DATA/FORWARD", f"{RUN}:output:DATA/GRADIENT"
MEMORY = f"{RUN}:memory:{ME}"

server = redis.Redis.from_url(os.environ["REDIS_URL"], protocol=2)
LUA = Path("shared/roomgrad/lua")
commit = server.register_script(
    (LUA / "prelude.lua").read_text() + (LUA / "commit.lua").read_text()
)


def rows(fields, body, width):
    """DATA as rows of so many numbers, from the lists in `m` or from bytes of their own."""
    data = body["DATA"]
    if isinstance(data, list):
        return data if width > 1 else [[number] for number in data]
    raw = fields[data["$array"]["field"].encode()]
    flat = struct.unpack(f"<{len(raw) // 4}f", raw)
    return [flat[at : at + width] for at in range(0, len(flat), width)]


def reply(asked, body, room, type_, message_id, data):
    """The stream of a reply, and the script's arguments for sending it.

    What a guest waits for goes to the guest. If it is gone by then, its root has no reader.
    """
    head = {"ID": message_id, "ROOT_ID": body["ROOT_ID"], "TYPE": type_, "SENT_BY": ME}
    more = {"v": 1, "TO_ROOM": room, "MODEL_STATUS": body.get("MODEL_STATUS", 1), "DATA": data}
    note = json.dumps({"ring": 1, **head, "shape": [len(data)]}, separators=(",", ":"))
    fields = ["ID", message_id, "ROOT_ID", body["ROOT_ID"], "m", json.dumps({**head, **more})]
    for name in (b"SEED", b"GUEST"):
        if name in asked:
            fields += [name, asked[name]]
    guest, *ends = asked.get(b"GUEST", b" - - -").decode().split(" ")
    enter, leave, answer = ends
    to_guest = (room, type_) in ((leave, answer), (enter, "DATA/GRADIENT"))
    words = ["SEND", 3, f"{RUN}:{room}", note[:-1] + ',"entry":"', "", len(fields), *fields]
    return f"{RUN}:@guest~{guest}" if to_guest else f"{RUN}:{room}:{type_}", words


def shoot(fields, body):
    """Return distances; remember which message they answer until their gradient comes."""
    distances = [60 + wind + 10 * angle for wind, angle, _ in rows(fields, body, 3)]
    message_id = uuid.uuid4().hex
    stream, send = reply(fields, body, "output", "DATA/FORWARD", message_id, distances)
    if body.get("MODEL_STATUS", 1) == 2:  # no gradient follows
        return stream, 1, send
    memory = json.dumps({"ROOT_ID": body["ROOT_ID"], "answers": body["ID"]})
    return stream, 2, [*send, "HSET", 4, 2, message_id, memory]


def gradient(fields, body):
    """Multiply the gradient by the derivatives; reply under the ID of the answered message."""
    asked = json.loads(server.hget(MEMORY, body["ID"]))
    product = [[up, 10 * up, 0] for (up,) in rows(fields, body, 1)]
    stream, send = reply(fields, body, "model", "DATA/GRADIENT", asked["answers"], product)
    return stream, 2, [*send, "HDEL", 4, 1, body["ID"]]


HANDLERS = {SHOTS: shoot, GRADIENTS: gradient}

for stream in HANDLERS:
    with contextlib.suppress(redis.ResponseError):  # the group exists already
        server.xgroup_create(stream, ME, "0", mkstream=True)

while True:
    alive = {"component": ME, "host": "foreign", "pid": os.getpid(), "turn": server.time()[0]}
    server.set(f"{RUN}:alive:{CONSUMER}", json.dumps(alive), px=5000)
    found = server.xreadgroup(ME, CONSUMER, dict.fromkeys(HANDLERS, ">"), count=1, block=1000)
    for key, entries in found or ():
        stream = key.decode()
        for entry, fields in entries:
            into, count, writes = HANDLERS[stream](fields, json.loads(fields[b"m"]))
            done = stream.replace(RUN, f"{RUN}:done:{ME}")
            guard = [1, "PENDING", 1, 2, ME, entry]
            commit(keys=[stream, done, into, MEMORY], args=["PUBLISH", *guard, count, *writes])
