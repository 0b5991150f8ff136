"""The head: has the labels, joins what the owners make of their columns, and opens the batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from roomgrad import Component, Context, Message, ModelStatus, Parts, join, on
from roomgrad.errors import MessageError
from roomgrad.learning import TorchModel
from roomgrad_split.contract import EMBEDDED, FORWARD, GRADIENT, HEAD, OWNERS, ROWS, SPLIT, WIDTH
from roomgrad_split.owner import adam
from roomgrad_split.table import HELD_OUT, batch, batches, labels

from .settings import LabelHeadSettings

LABELS = labels()


class HeadNetwork(nn.Module):
    """A network of 16-1 units: embeddings of both owners in, logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Tanh(), nn.Linear(len(OWNERS) * WIDTH, 1))

    def forward(self, **embeddings: Tensor) -> Tensor:
        """Return `(batch,)` logits of embeddings by owner."""
        logits: Tensor = self.layers(torch.cat([embeddings[name] for name in OWNERS], 1))[:, 0]
        return logits


def open_batch(number: int, context: Context) -> Iterator[Message]:
    """Open the root of a batch, and that of an evaluation when an epoch is over."""
    settings = context.settings
    epoch, at = divmod(number, batches(settings.batch_size))
    if epoch and not at:
        yield Message.open(ROWS, HELD_OUT, status=ModelStatus.VALIDATE, seed=epoch)
    if epoch < settings.epochs:
        message = Message.open(ROWS, batch(settings.seed, number, settings.batch_size))
        context.memory.put(message.root_id, ROOT_ID=message.root_id, batch=number)
        yield message


def start(context: Context) -> Iterator[Message]:
    """Open the first batch."""
    return open_batch(0, context)


@join(EMBEDDED, FORWARD, replies=[(EMBEDDED, GRADIENT)], parts=OWNERS)
def learn(parts: Parts, context: Context) -> list[Message]:
    """Learn from the embeddings of a batch; answer each owner by the gradient of its own."""
    first = parts[OWNERS[0]]
    inputs = {name: part.array for name, part in parts.items()}
    if not first.wants_gradient:
        return evaluate(first, context.model.forward(inputs)["DATA"], context)
    asked = context.memory.get(first.root_id)
    if asked is None:
        raise MessageError(f"root {first.root_id} is no batch of the head: it has no labels for it")
    rows = batch(context.settings.seed, asked["batch"], context.settings.batch_size)
    logits = torch.from_numpy(context.model.forward(inputs, key=first.root_id)["DATA"])
    loss = binary_cross_entropy_with_logits(logits.requires_grad_(), LABELS[rows])
    loss.backward()  # type: ignore[no-untyped-call]
    context.table("losses").put(str(asked["batch"]), step=asked["batch"], loss=loss.item())
    upstream = {"DATA": logits.grad.numpy()}  # type: ignore[union-attr]
    made = context.model.forward_pass
    return parts.gradients(context.model.learn(first.root_id, made, upstream))


def evaluate(message: Message, logits: Any, context: Context) -> list[Message]:
    """Store the accuracy on the held-out rows after an epoch."""
    if message.seed is None or logits.shape != HELD_OUT.shape:
        raise MessageError(f"expected an evaluation by the head, of {len(HELD_OUT)} held-out rows")
    right = (logits > 0) == LABELS[HELD_OUT].bool().numpy()
    accuracy = float(right.mean())
    context.table("accuracy").put(str(message.seed), epoch=message.seed, accuracy=accuracy)
    context.log.info("epoch done", epoch=message.seed, accuracy=round(accuracy, 4))
    return []


@on(ROWS, GRADIENT, replies=[(ROWS, FORWARD)])
def next_batch(message: Message, context: Context) -> Iterator[Message]:
    """Open the next batch when both owners have learned."""
    asked = context.memory.pop(message.root_id)
    context.counters.add("finished")
    return open_batch(asked["batch"] + 1, context)


def given_up(records: list[dict[str, Any]], context: Context) -> Iterator[Message]:
    """Open the next batch when one has become a dead letter."""
    for record in records:
        if "batch" in record:
            context.counters.add("dead")
            yield from open_batch(record["batch"] + 1, context)


component = Component(
    HEAD,
    SPLIT,
    LabelHeadSettings,
    handlers=[learn, next_batch],
    model=lambda _: TorchModel(HeadNetwork(), adam),
    on_start=start,
    on_dead=given_up,
    tables=["losses", "accuracy"],
)
