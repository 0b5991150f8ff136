"""The trebuchet: rooms, payloads and consumers, on one page.

trainer -FORWARD->  input  - controlmodel -FORWARD->  model - simulator    -FORWARD->  output
trainer -GRADIENT-> output - simulator    -GRADIENT-> model - controlmodel -GRADIENT-> input
"""

from __future__ import annotations

from roomgrad.rooms import Array, MessageType, Room, Stream, System
from roomgrad.systems import Access, Gauge

INPUT = Room("input")
MODEL = Room("model")
OUTPUT = Room("output")

FORWARD = MessageType.FORWARD
GRADIENT = MessageType.GRADIENT

TRAINER = "trainer"
CONTROLMODEL = "controlmodel"
SIMULATOR = "simulator"

TREBUCHET = System(
    name="trebuchet",
    components=(TRAINER, CONTROLMODEL, SIMULATOR),
    streams=(
        Stream(
            INPUT,
            FORWARD,
            {
                "DATA": Array("<f4", ("batch", 2)),
                "FRAMES": Array("<i8", (), optional=True),
            },
            (CONTROLMODEL,),
            "wind m/s, target m; FRAMES asks for trajectories of so many points (VALIDATE only)",
        ),
        Stream(
            MODEL,
            FORWARD,
            {
                "DATA": Array("<f4", ("batch", 3)),
                "FRAMES": Array("<i8", (), optional=True),
            },
            (SIMULATOR,),
            "wind m/s, angle logit, weight logit; FRAMES as in input",
        ),
        Stream(
            OUTPUT,
            FORWARD,
            {
                "DATA": Array("<f4", ("batch",)),
                "ANGLE": Array("<f4", ("batch",), optional=True),
                "WEIGHT": Array("<f4", ("batch",), optional=True),
                "STATUS": Array("|i1", ("batch",), optional=True),
                "TRAJECTORIES": Array("<f4", ("batch", "frames", 2), optional=True),
            },
            (TRAINER,),
            "distance m; VALIDATE replies add angle degrees, weight kg, status and trajectories m",
        ),
        Stream(
            OUTPUT,
            GRADIENT,
            {"DATA": Array("<f4", ("batch",))},
            (SIMULATOR,),
            "d loss / d distance",
        ),
        Stream(
            MODEL,
            GRADIENT,
            {"DATA": Array("<f4", ("batch", 3))},
            (CONTROLMODEL,),
            "d loss / d (wind, angle logit, weight logit)",
        ),
        Stream(
            INPUT,
            GRADIENT,
            {"DATA": Array("<f4", ("batch", 2))},
            (TRAINER,),
            "d loss / d (wind, target)",
        ),
    ),
)

METRICS = (
    Gauge(
        "roomgrad_miss_metres",
        "Mean distance of its shots from their targets, in m.",
        TRAINER,
        "losses",
        "miss_m",
    ),
)

CLIENTS = {
    "inference": Access(sends=((INPUT.name, FORWARD.value),), reads=((OUTPUT.name, FORWARD.value),))
}
