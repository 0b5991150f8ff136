"""A program that throws: JSON lines on stdin and stdout, and no import of roomgrad."""

import json
import math
import os
import sys

mode = sys.argv[1] if sys.argv[1:] else ""
for number, line in enumerate(sys.stdin):
    rows = json.loads(line)
    if mode == "dies" and number == 3:
        os._exit(3)
    if mode == "chats" and rows[0][0] == 7:
        print("solving...")
    if mode == "loses" and rows[0][0] == 7:
        rows = rows[1:]
    out = [(25 + 5 * speed) ** 2 / 9.81 * math.sin(angle) + wind for wind, angle, speed in rows]
    print(json.dumps(out), flush=True)
