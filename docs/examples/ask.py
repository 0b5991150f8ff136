"""How to hit a target at 60 m with 3 m/s of wind."""

import json
import os
import time
import uuid

import redis

server = redis.Redis.from_url(os.environ["REDIS_URL"], protocol=2)
questions, answers = "{trebuchet}:input:DATA/FORWARD", "{trebuchet}:output:DATA/FORWARD"

newest = server.xrevrange(answers, count=1)
position = newest[0][0] if newest else "0-0"  # any later entry may be the answer

me = uuid.uuid4().hex
question = {
    "v": 1,
    "ID": me,
    "ROOT_ID": me,
    "TYPE": "DATA/FORWARD",
    "TO_ROOM": "input",
    "SENT_BY": "ask.py",
    "MODEL_STATUS": 2,
    "DATA": [[3, 60]],
}
server.xadd(questions, {"ID": me, "ROOT_ID": me, "m": json.dumps(question)})

deadline = time.monotonic() + 10
while time.monotonic() < deadline:
    for _, entries in server.xread({answers: position}, block=1000) or ():
        for entry, fields in entries:
            position = entry
            if fields[b"ROOT_ID"] == me.encode():
                answer = json.loads(fields[b"m"])
                print(f"angle  {answer['ANGLE'][0]:.2f} degrees")
                print(f"weight {answer['WEIGHT'][0]:.2f} kg")
                print(f"lands at {answer['DATA'][0]:.2f} m")
                raise SystemExit
raise SystemExit("no answer: are the components running?")
