"""Graphs of forward passes that wait for their gradient in this process."""

from __future__ import annotations

import contextlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Graph:
    """A forward pass that was computed, up to its outputs."""

    version: str
    leaves: list[nn.Parameter]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    buffers: dict[str, Tensor]
    """The buffers that the forward pass has changed, as it left them."""

    nbytes: int
    """About how much memory it holds beside the parameters."""


class Graphs:
    """The newest graphs by the ID of the coming gradient; others are computed again."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[str, Graph] = OrderedDict()
        self._nbytes = 0  # of them, and of each version of the parameters that they hold
        self._uses: Counter[int] = Counter()  # by the identity of their leaves
        self._sizes: dict[tuple[tuple[str, torch.Size], ...], int] = {}

    def put(self, key: str, graph: Graph, most: int) -> None:
        """Keep a graph, and the ones before it while all hold at most so many bytes."""
        self._graphs[key] = graph
        self._count(graph, 1)
        while self._nbytes > most and len(self._graphs) > 1:
            self._count(self._graphs.popitem(last=False)[1], -1)

    def take(self, key: str, version: str = "") -> Graph | None:
        """Return a graph of this version, and forget it; None if it is not here."""
        graph = self._graphs.pop(key, None)
        if graph is None:
            return None
        self._count(graph, -1)
        return graph if graph.version == version else None

    def need(self, leaves: list[nn.Parameter]) -> bool:
        """Return whether a graph was computed with these parameters."""
        return id(leaves) in self._uses

    def _count(self, graph: Graph, by: int) -> None:
        uses = self._uses[id(graph.leaves)] = self._uses[id(graph.leaves)] + by
        self._nbytes += by * graph.nbytes
        if uses == max(by, 0):  # the first of its version, or the last
            self._nbytes += by * sum(leaf.nbytes for leaf in graph.leaves)
        if not uses:
            del self._uses[id(graph.leaves)]

    @contextlib.contextmanager
    def measured(
        self, inputs: Mapping[str, Tensor], leaves: list[nn.Parameter]
    ) -> Iterator[Callable[[], int]]:
        """Yield a function that returns the size of the graph that the block computes.

        It is measured once for inputs of the same shapes.
        """
        shapes = tuple((name, tensor.shape) for name, tensor in inputs.items())
        if shapes in self._sizes:
            yield lambda: self._sizes[shapes]
            return
        own = {leaf.untyped_storage().data_ptr() for leaf in leaves}
        saved: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()  # the tensor itself would hold on to its own graph

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield lambda: self._sizes.setdefault(shapes, sum(saved.values()))
