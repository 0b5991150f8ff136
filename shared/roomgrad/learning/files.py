"""Tensors and JSON as the bytes of a safetensors file, and back.

https://huggingface.co/docs/safetensors, section Format. The library writes a header per call and
takes 0.4 ms for a small network with Adam; here the header of the last call serves while names,
dtypes and shapes stay, which leaves 0.03 ms. The library reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import torch
from safetensors.torch import load as load_tensors
from torch import Tensor

from roomgrad.learning.tensors import DTYPES, raw_bytes

METADATA = "roomgrad"  # the name under which a file holds JSON

Layout = list[tuple[str, torch.dtype, torch.Size]]


class TensorFile:
    """Writes files of mostly the same tensors."""

    def __init__(self) -> None:
        self._layout: Layout = []
        self._entries: dict[str, Any] = {}

    def bytes_of(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any] = {}) -> bytes:
        """Return the file of these tensors, with JSON beside them."""
        layout = [(name, tensor.dtype, tensor.shape) for name, tensor in tensors.items()]
        if layout != self._layout:
            self._layout, self._entries = layout, _entries(layout)
        entries = self._entries
        if about:
            text = orjson.dumps(about).decode()
            entries = {"__metadata__": {METADATA: text}} | entries
        header = orjson.dumps(entries)
        header += b" " * (-len(header) % 8)  # the tensors begin at a multiple of 8 bytes
        parts = [raw_bytes(tensor).data for tensor in tensors.values()]
        return b"".join((len(header).to_bytes(8, "little"), header, *parts))


def _entries(layout: Layout) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    at = 0
    for name, dtype, shape in layout:
        end = at + dtype.itemsize * shape.numel()
        entries[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    return entries


def read(stored: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file in its order, and the JSON beside them."""
    if not stored:
        return {}, {}
    size = int.from_bytes(stored[:8], "little")
    header = orjson.loads(stored[8 : 8 + size])
    about = orjson.loads(header.pop("__metadata__", {}).get(METADATA, "{}"))
    tensors = load_tensors(stored)  # in any order
    return {name: tensors[name] for name in header}, about
