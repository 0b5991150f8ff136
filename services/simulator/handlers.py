"""The simulator: shoots, and answers a gradient with its vector-Jacobian product."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import Component, Context, Message, on
from roomgrad.errors import SchemaError
from roomgrad_trebuchet.contract import FORWARD, GRADIENT, MODEL, OUTPUT, SIMULATOR, TREBUCHET

from . import head, physics
from .settings import SimulatorSettings

PICTURE_FRAMES = 60
PICTURE_EVERY_S = 1.0
_pictured_at = 0.0  # of this process; the table has the time of all replicas


@on(MODEL, FORWARD, replies=[(OUTPUT, FORWARD)])
def shoot(message: Message, context: Context) -> Message:
    """Shoot: `(batch, 3)` wind, angle logit, weight logit in, `(batch,)` distance in m out.

    The reply to a VALIDATE message also has ANGLE in degrees, WEIGHT in kg and STATUS, and
    TRAJECTORIES if the message has FRAMES.
    """
    controls = head.controls(message.array, context.settings.weight_head)
    shots = physics.shoot(controls.wind, controls.angle_rad, controls.weight_kg)
    reply = message.reply(OUTPUT, shots.distance_m.astype("<f4"))
    if message.wants_gradient:
        jacobian = head.jacobian(shots.d_wind, shots.d_angle, shots.d_weight, controls)
        context.memory.put(reply.id, answers=message.id, jacobian=jacobian)
        store_picture(message, controls, context)
    else:
        reply.fields = validation(controls, shots, message.fields.get("FRAMES"))
    return reply


@on(OUTPUT, GRADIENT, replies=[(MODEL, GRADIENT)])
def gradient(message: Message, context: Context) -> Message:
    """Differentiate: d loss / d distance `(batch,)` in, d loss / d inputs `(batch, 3)` out."""
    asked = context.memory.pop(message.id)
    if message.data is None:  # an empty gradient
        return message.reply(MODEL, id=asked["answers"])
    jacobian = asked["jacobian"]
    if len(message.array) != len(jacobian):
        raise SchemaError(f"DATA: expected ({len(jacobian)},) numbers, got {message.array.shape}")
    product = head.vector_jacobian(message.array, jacobian)
    return message.reply(MODEL, product.astype("<f4"), id=asked["answers"])


def validation(
    controls: head.Controls, shots: physics.Shots, frames: NDArray[Any] | None
) -> dict[str, NDArray[Any]]:
    """Return the fields of a VALIDATE reply beside the distance."""
    fields: dict[str, NDArray[Any]] = {
        "ANGLE": np.degrees(controls.angle_rad).astype("<f4"),
        "WEIGHT": controls.weight_kg.astype("<f4"),
        "STATUS": shots.status,
    }
    if frames is not None:
        fields["TRAJECTORIES"] = trajectories(controls, len(shots.status), int(frames))
    return fields


def trajectories(controls: head.Controls, rows: int, frames: int) -> NDArray[np.float32]:
    """Return the trajectories of the first rows: float32 `(rows, frames, 2)`, x and y in m."""
    return film(controls, rows, frames).projectile.astype("<f4")


def film(controls: head.Controls, rows: int, frames: int) -> physics.Trajectory:
    """Simulate the first rows in `frames` frames. Raises SchemaError unless these are 2 to 1000."""
    if not 2 <= frames <= 1000:
        raise SchemaError(f"FRAMES: expected 2 to 1000, got {frames}")
    return physics.trajectory(
        controls.wind[:rows], controls.angle_rad[:rows], controls.weight_kg[:rows], frames
    )


def store_picture(message: Message, controls: head.Controls, context: Context) -> None:
    """Store a few trajectories of this batch in the table `trajectories`, at most once a second.

    Of the first shot, arm and counterweight are stored too. `entry` leads to the targets.
    """
    global _pictured_at
    rows = context.settings.pictures
    if not rows or context.now() - _pictured_at < PICTURE_EVERY_S:
        return
    _pictured_at = context.now()
    table = context.table("trajectories")
    before = table.get("last")
    if before is not None and 0 <= context.time() - before["at"] < PICTURE_EVERY_S:
        return
    filmed = film(controls, rows, PICTURE_FRAMES)
    table.put(
        "last",
        at=context.time(),
        root=message.root_id,
        entry=message.entry,
        way=filmed.projectile.round(2).tolist(),
        arm=filmed.arm_tip[0].round(2).tolist(),
        counterweight=filmed.counterweight[0].round(2).tolist(),
    )


component = Component(
    SIMULATOR,
    TREBUCHET,
    SimulatorSettings,
    handlers=[shoot, gradient],
    tables=["trajectories"],
)
