"""A torch network as a model that several replicas train as one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from roomgrad import tensor_files
from roomgrad.errors import MessageError, ModelError, SchemaError
from roomgrad.learning import updates
from roomgrad.learning.files import OLDER_STEPS, TensorFile, read
from roomgrad.learning.graphs import Graph, Graphs
from roomgrad.learning.optimizers import Updater
from roomgrad.learning.tensors import drawing, fingerprint_of, tensor_of, to_array, to_tensor
from roomgrad.learning.updates import Gradient, Update
from roomgrad.learning.weights import Weights
from roomgrad.models import Arrays, ForwardPass
from roomgrad.tensor_files import ACCUMULATED

GRAPHS_BYTES = 2**30  # of graphs that wait for their gradient, unless the runtime says otherwise


class TorchModel:
    """A network, its optimizer and its scheduler as `Trainable`: any `nn.Module`, on any device.

    network: gets DATA of a message as a tensor, or several arrays as tensors by name
        (`network(IDS=..., MASK=...)`), of the dtypes on the wire; returns a tensor, which is DATA
        of the reply, or a dict of tensors.
    optimizer: makes the optimizer of the trainable parameters, which it is called with. It may
        also take them from the network, in groups of their own rates.
    scheduler: makes the scheduler of that optimizer; it counts updates of the weights.
    max_grad_norm: the norm to which the gradient of the parameters is clipped.
    accumulate: so many gradients make one update of the weights, by their mean.
    autocast: torch.bfloat16 for forward passes under `torch.autocast`; not torch.float16, which
        needs a loss scaler.
    device: where the network computes.
    example: inputs like those of a message, for lazy modules, whose shapes they decide.

    Raises ModelError for a network or an optimizer that rooms cannot train.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[list[nn.Parameter]], Optimizer],
        *,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        max_grad_norm: float | None = None,
        accumulate: int = 1,
        autocast: torch.dtype | None = None,
        device: str | torch.device = "cpu",
        example: NDArray[Any] | Arrays | None = None,
    ) -> None:
        if accumulate < 1:
            raise ValueError(f"accumulate: expected at least 1, got {accumulate}")
        if autocast not in (None, torch.bfloat16):
            raise ModelError(
                f"autocast={autocast}: expected torch.bfloat16; small gradients become 0 in "
                f"float16 without a loss scaler, and the loss is at the other end of the rooms"
            )
        self.network = network
        self.graphs_bytes = GRAPHS_BYTES
        self.accumulate = accumulate
        self._device = torch.device(device)
        self._autocast = autocast
        self._max_grad_norm = max_grad_norm
        _move(network, self._device)
        if example is not None:
            self._see(example if isinstance(example, Mapping) else {"DATA": example})
        network.train()  # all of its modules have one mode from now on, which `_set_mode` relies on
        self._weights = Weights(network)
        trainable = self._weights.trainable
        self._updater = Updater(trainable, optimizer, scheduler) if trainable else None
        self._weights.share()
        self._accumulated: dict[str, Tensor] = {}
        self._count = 0  # gradients in it
        self._graphs = Graphs()
        self._file = TensorFile()

    def _see(self, example: Arrays) -> None:
        """Run the network once, which gives the parameters of lazy modules their shapes."""
        self.network.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            self._call({name: to_tensor(name, x, self._device) for name, x in example.items()})

    # state

    def dump(self) -> memoryview:
        """Return a copy of the whole state; see `Trainable`."""
        about: dict[str, Any] = {"count": self._count}
        state = self._weights.tensors()
        state |= {ACCUMULATED + name: tensor for name, tensor in self._accumulated.items()}
        if self._updater is not None:
            about["optimizer"] = self._updater.scalars()
            state |= self._updater.tensors()
        return self._file.write(state, about)

    def load(self, content: bytes | bytearray | memoryview) -> None:
        """Continue from such a copy. Raises ModelError if it is of another network."""
        tensors, about = read(content)
        self._keep_graphs()
        weights = {n: t for n, t in tensors.items() if not tensor_files.is_training_state(n)}
        if OLDER_STEPS in about:
            weights = self._weights.untrained() | weights
        self._weights.load(weights)
        if self._updater is not None:
            self._updater.load(tensors, about.get("optimizer", {}))
            self._updater.skip(about.get(OLDER_STEPS, 0))
        self._count = about.get("count", 0)
        self._accumulated = {
            name.removeprefix(ACCUMULATED): tensor.to(self._device, copy=True)
            for name, tensor in tensors.items()
            if name.startswith(ACCUMULATED)
        }

    def fingerprint(self) -> str:
        """Return a text that differs between weights of which a bit differs, almost surely."""
        return fingerprint_of(self._weights.tensors().values())

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of parameters and buffers, for gradients of their forward passes."""
        return {name: tensor.clone() for name, tensor in self._weights.tensors().items()}

    # forward

    def forward(self, made: ForwardPass, key: str | None) -> Arrays:
        """Return the outputs; with a key the graph is kept for `backward`.

        Raises SchemaError for inputs that are no batches.
        """
        if key is None:
            self._set_mode(training=False)
            with torch.no_grad(), self._weights.buffers_unchanged():
                outputs = self._draw(made, self._tensors(made.inputs))
            return {name: to_array(tensor) for name, tensor in outputs.items()}
        graph = self._graph(made, self._weights.leaves)
        self._graphs.put(key, graph, self.graphs_bytes)
        return {name: to_array(tensor) for name, tensor in graph.outputs.items()}

    def _graph(self, made: ForwardPass, leaves: list[nn.Parameter]) -> Graph:
        self._set_mode(training=made.trains)
        inputs = self._tensors(made.inputs)
        for tensor in inputs.values():
            tensor.requires_grad_(tensor.is_floating_point())
        own = {name: x.clone() for name, x in inputs.items()}  # a network may change them in place
        with (
            self._weights.buffers_unchanged() as buffers,
            self._graphs.measured(own, leaves) as size,
        ):
            outputs = self._draw(made, own)
        return Graph(made.version, leaves, inputs, outputs, buffers, size())

    def _set_mode(self, *, training: bool) -> None:
        if self.network.training != training:  # a visit of all modules takes a tenth of a step
            self.network.train(training)

    def _tensors(self, inputs: Arrays) -> dict[str, Tensor]:
        return {name: to_tensor(name, array, self._device) for name, array in inputs.items()}

    def _draw(self, made: ForwardPass, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        with drawing(made.seed, self._device):
            return self._call(inputs)

    def _call(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        with self._casting():
            one = len(inputs) == 1 and "DATA" in inputs
            found = self.network(inputs["DATA"]) if one else self.network(**inputs)
        outputs = {"DATA": found} if isinstance(found, Tensor) else found
        if not isinstance(outputs, dict) or not outputs:
            raise SchemaError(
                f"the network returned {found!r:.60}, expected a tensor or tensors by name"
            )
        for name, each in outputs.items():
            if not isinstance(name, str) or not isinstance(each, Tensor):
                raise SchemaError(
                    f"the network returned {each!r:.60} as {name!r}, expected tensors by name"
                )
        return outputs

    def _casting(self) -> contextlib.AbstractContextManager[Any]:
        if self._autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, self._autocast)

    # backward

    def backward(
        self, key: str, made: ForwardPass, upstream: Arrays, weights: Callable[[], Any]
    ) -> tuple[Gradient, Arrays]:
        """Return the gradients of parameters and inputs at the weights of the forward pass.

        The graph that `forward` has kept is used, if this process made it.

        upstream: gradients of the outputs by name; a missing one counts as zero.
        weights: returns those of the forward pass, or None if they are the loaded ones.

        Raises SchemaError for gradients that do not fit the outputs, and MessageError if that of a
        parameter is not finite, after which the model could never learn.
        """
        graph = self._graphs.take(key, made.version)
        if graph is None:
            graph = self._compute_again(made, weights())
        of_outputs = self._upstream(graph, upstream)
        wanted = {name: x for name, x in graph.inputs.items() if x.requires_grad}
        sought = [*wanted.values(), *graph.leaves]
        found: Sequence[Tensor | None] = [None] * len(sought)
        if of_outputs and sought:
            outputs = [graph.outputs[name] for name in of_outputs]
            found = torch.autograd.grad(
                outputs, sought, list(of_outputs.values()), allow_unused=True
            )
        of_inputs = {
            name: to_array(torch.zeros_like(x) if each is None else each)
            for (name, x), each in zip(wanted.items(), found[: len(wanted)], strict=True)
        }
        of_parameters = list(found[len(wanted) :])
        return Gradient(of_parameters, self._norm(of_parameters), graph.buffers), of_inputs

    def drop(self, key: str) -> None:
        """Forget the graph of a forward pass, and with it the weights that it holds."""
        self._graphs.take(key)

    def _compute_again(self, made: ForwardPass, weights: Mapping[str, Tensor] | None) -> Graph:
        if weights is None:
            return self._graph(made, self._weights.leaves)
        with self._weights.at(weights) as leaves:
            return self._graph(made, leaves)

    def _upstream(self, graph: Graph, upstream: Arrays) -> dict[str, Tensor]:
        """Return the gradients of the outputs that have one."""
        if unknown := upstream.keys() - graph.outputs.keys():
            raise SchemaError(
                f"gradients of {', '.join(sorted(unknown))}, expected those of the outputs "
                f"{', '.join(graph.outputs)}"
            )
        found = {}
        for name, array in upstream.items():
            output = graph.outputs[name]
            gradient = tensor_of(name, array, self._device)
            if (gradient.shape, gradient.dtype) != (output.shape, output.dtype):
                raise SchemaError(
                    f"{name}: expected {tuple(output.shape)} {output.dtype} like the output, got "
                    f"{array.shape} {gradient.dtype}"
                )
            if output.requires_grad:
                found[name] = gradient
        return found

    # step

    def prepare(
        self, gradient: Gradient, made: ForwardPass, *, moved_on: bool, staleness: int
    ) -> Update:
        """Return what a gradient changes in the loaded state; change nothing yet.

        moved_on: whether the model is no longer the one that made the forward pass.
        staleness: so many updates of the weights came between; the learning rates are divided by
            the root of 1 + staleness. (Zhang, Gupta, Lian, Liu: Staleness-aware Async-SGD for
            Distributed Deep Learning, IJCAI 2016, divide by the staleness; the trebuchet learns
            more with the root.)

        Raises MessageError if the mean of several gradients is not finite.
        """
        sums = dict(zip(self._weights.trainable, gradient.parameters, strict=True))
        given = {name: each for name, each in sums.items() if each is not None}
        norm = gradient.norm
        buffers = gradient.buffers
        if moved_on and buffers:  # they have changed since, too
            buffers = self._graph(made, self._weights.leaves).buffers
        completes = self._count + 1 >= self.accumulate
        if self.accumulate > 1:
            given = self._added(given)
            if completes:
                given = {name: each / (self._count + 1) for name, each in given.items()}
                norm = self._norm([given.get(name) for name in self._weights.trainable])
        if completes and self._max_grad_norm is not None:
            given = updates.clipped(given, self._max_grad_norm, norm)
        return Update(given, buffers, completes, staleness)

    def _added(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sum of gradients with these, in the order of the parameters."""
        both = (self._accumulated, gradients)
        found = {n: [each[n] for each in both if n in each] for n in self._weights.trainable}
        return {n: each[0] + each[1] if each[1:] else each[0] for n, each in found.items() if each}

    def _norm(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Return the norm of the parameters' gradients. Raises MessageError if it is not finite."""
        pairs = zip(self._weights.trainable, gradients, strict=True)
        given = {name: each for name, each in pairs if each is not None}
        for name, gradient in given.items():
            if gradient.is_sparse:
                raise MessageError(
                    f"the gradient of {name} is sparse, which cannot be stored: make the layer "
                    f"with sparse=False"
                )
        norm = nn.utils.get_total_norm(given.values())
        if not math.isfinite(norm):
            names = [name for name, each in given.items() if not torch.isfinite(each).all()]
            raise MessageError(
                f"the parameter gradient has the norm {float(norm)}, of "
                f"{', '.join(names) or 'all parameters'}: not learned"
            )
        return norm

    def apply(self, update: Update) -> None:
        """Change the loaded state."""
        self._weights.set_buffers(update.buffers)
        if not update.completes:
            self._accumulated, self._count = update.gradients, self._count + 1
            return
        self._accumulated, self._count = {}, 0
        self._keep_graphs()
        if self._updater is not None:
            gradients = [update.gradients.get(name) for name in self._weights.trainable]
            self._updater.update(gradients, update.staleness)

    def encode(self, update: Update) -> dict[str, Any]:
        """Return an update as a record."""
        return updates.encode(update, self._weights.trainable)

    def decode(self, record: Mapping[str, Any]) -> Update:
        """Return the update of a record."""
        return updates.decode(
            record, self._weights.trainable, self._weights.tensors(), self._device
        )

    def _keep_graphs(self) -> None:
        """Let graphs that wait for their gradient keep the present values."""
        if self._graphs.need(self._weights.leaves):
            self._weights.unshare()


def _move(network: nn.Module, device: torch.device) -> None:
    try:
        network.to(device)
    except (AssertionError, RuntimeError) as error:
        raise ModelError(f"device={str(device)!r} cannot be used: {error}") from error
