"""Rooms in a torch training loop: a module whose forward and backward pass go through a run.

through = roomgrad.torch.Through("trebuchet", enter="input", leave="output")
loss = (through(x) - y).square().mean()
loss.backward()  # x.grad, and the components on the way have learned
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from roomgrad.errors import ModelError, SchemaError
from roomgrad.learning.tensors import tensor_of, to_array
from roomgrad.redis.round_trips import Pass, RoundTrips
from roomgrad.redis.server_address import AnyAddress
from roomgrad.rooms import ModelStatus, Room, System

Tensors = dict[str, Tensor]


class Through(nn.Module):
    """A module without parameters that passes tensors through the rooms of a run.

    `forward` sends its inputs into room `enter` and returns what comes out at room `leave`;
    `backward` sends the gradient into `leave` and returns what comes home at `enter`. Components on
    the way learn as from any other gradient.

    Without gradients (`torch.no_grad`, `torch.inference_mode`) they answer in evaluation mode.
    A pass that teaches has one gradient: a second backward (`retain_graph`) raises ModelError, and
    with `learn=False` passes the inputs through the rooms again.
    """

    def __init__(
        self,
        system: System | str,
        enter: Room | str,
        leave: Room | str,
        *,
        learn: bool = True,
        run: str = "",
        redis_url: AnyAddress = "",
        name: str = "",
        timeout_s: float = 60.0,
    ) -> None:
        """Take the contract; the first pass joins the run as a guest.

        system: a contract, or the name of a system: that of the run, or else one installed.
        learn: whether the components learn. If not, they return gradients in evaluation mode.
        run: the name of the run; that of the system if empty.
        redis_url: as `REDIS_URL`, which counts if it is empty.
        name: that of the guest; one of its own if empty.
        timeout_s: how long a pass waits for an answer, and for a gradient.

        Raises ContractError for rooms that the system does not have or that no path connects, and
        NoServer.
        """
        super().__init__()
        self.learn = learn
        self._trips = RoundTrips(
            system,
            enter,
            leave,
            run=run,
            redis_url=redis_url,
            name=name,
            timeout_s=timeout_s,
        )
        # An output needs a graph also if no input does: the components learn from its gradient.
        self._anchor = torch.empty(0, requires_grad=True)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor | Tensors:
        """Return the output of one batch: DATA, or tensors by name if the contract has several.

        One input without a name is DATA. Floats may have any precision and device: they travel in
        the contract's, and the outputs have those of the first input.

        Raises SchemaError for what does not fit, and NoAnswer if nothing comes in time; `backward`
        raises the same.
        """
        if len(inputs) > 1 or (inputs and named):
            raise SchemaError("expected one tensor, or tensors by name")
        given = {"DATA": inputs[0]} if inputs else named
        if not given:
            raise SchemaError("expected a tensor, got none")
        outputs: list[str] = []
        leaves, status = self._leaves(given), self._status(given)
        apply: Any = _Pass.apply
        found = apply(self, list(given), outputs, status, *leaves)
        by_name = dict(zip(outputs, found, strict=True))
        return by_name["DATA"] if self._trips.has_one_output else by_name

    def _leaves(self, given: Tensors) -> list[Tensor]:
        return [self._anchor if self.learn else self._anchor.detach(), *given.values()]

    def _status(self, given: Tensors) -> ModelStatus:
        if not torch.is_grad_enabled():
            return ModelStatus.VALIDATE
        if self.learn:
            return ModelStatus.TRAIN
        needed = any(each.requires_grad for each in given.values())
        return ModelStatus.DIFFERENTIATE if needed else ModelStatus.VALIDATE

    def close(self) -> None:
        """Give up what awaits a gradient, and leave the run; the next pass joins it again."""
        self._trips.close()

    def flush(self) -> None:
        """Give up now, and not within some seconds, the passes whose outputs are used no more."""
        self._trips.guest.flush()

    def extra_repr(self) -> str:
        """Return the rooms for the module's text."""
        return f"{self._trips.enter} -> {self._trips.leave}, learn={self.learn}"


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        through: Through,
        names: list[str],
        outputs: list[str],
        status: ModelStatus,
        _: Tensor,
        *given: Tensor,
    ) -> tuple[Tensor, ...]:
        trips = through._trips
        arrays = {
            name: trips.as_input(name, to_array(tensor))
            for name, tensor in zip(names, given, strict=True)
        }
        one = Pass(trips, arrays, status)
        answer = one.answer.arrays()
        like = next((each for each in given if each.is_floating_point()), given[0])
        kind = like.dtype if like.is_floating_point() else None
        found = {name: _tensor(name, array, kind, like.device) for name, array in answer.items()}
        outputs.extend(found)
        ctx.one, ctx.enter, ctx.names, ctx.outputs = one, trips.enter, names, outputs
        ctx.like = [(each.dtype, each.device) for each in given]
        wanted = {n: a.dtype for n, a in answer.items() if trips.has_gradient(n, a)}
        ctx.wanted = wanted
        if len(wanted) < len(found):
            ctx.mark_non_differentiable(*(x for name, x in found.items() if name not in wanted))
        return tuple(found.values())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise ModelError(
                "a gradient that came through rooms cannot be differentiated again: call backward "
                "without create_graph"
            )
        one: Pass = ctx.one
        given = dict(zip(ctx.outputs, gradients, strict=True))
        upstream = {name: to_array(given[name]).astype(t) for name, t in ctx.wanted.items()}
        home = one.backward(upstream)
        found = []
        needed = ctx.needs_input_grad[-len(ctx.names) :]
        for name, (dtype, device), needs in zip(ctx.names, ctx.like, needed, strict=True):
            if name not in home and needs:
                raise SchemaError(
                    f"no gradient of {name} came home to room {ctx.enter}: its component "
                    f"answers without one"
                )
            found.append(_tensor(name, home[name], dtype, device) if needs else None)
        return (None, None, None, None, None, *found)


def _tensor(
    name: str, array: NDArray[Any], dtype: torch.dtype | None, device: torch.device
) -> Tensor:
    """Return an array as a tensor; floats in `dtype` if one is given."""
    tensor = tensor_of(name, array, device)
    if dtype is None or tensor.dtype == dtype or not tensor.is_floating_point():
        return tensor
    return tensor.to(dtype)
