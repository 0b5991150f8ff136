"""The component of ours: a cannon, in a system of its own."""

import numpy as np

from roomgrad import (
    Array,
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

AIM, SHOT = Room("aim"), Room("shot")
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
CONTROLS, DISTANCE = Array("<f4", ("batch", 3)), Array("<f4", ("batch",))
CANNON = System(
    "cannon",
    (
        Stream(AIM, FORWARD, {"DATA": CONTROLS}, ("cannon",)),
        Stream(SHOT, FORWARD, {"DATA": DISTANCE}),
        Stream(SHOT, GRADIENT, {"DATA": DISTANCE}, ("cannon",)),
        Stream(AIM, GRADIENT, {"DATA": CONTROLS}),
    ),
    ("cannon",),
)


@on(AIM, FORWARD, replies=[(SHOT, FORWARD)])
def shoot(message: Message, context: Context) -> Message:
    wind, _, logit = message.array.T
    speed = 25 + 5 * logit
    reply = message.reply(SHOT, speed**2 / 9.81 + wind)
    context.memory.put(reply.id, answers=message.id, slope=10 * speed / 9.81)
    return reply


@on(SHOT, GRADIENT, replies=[(AIM, GRADIENT)])
def gradient(message: Message, context: Context) -> Message:
    asked, up = context.memory.pop(message.id), message.array
    product = np.stack([up, 0 * up, asked["slope"] * up], axis=1)
    return message.reply(AIM, product, id=asked["answers"])


component = Component("cannon", CANNON, RuntimeSettings, handlers=[shoot, gradient])
if __name__ == "__main__":
    main(component)
