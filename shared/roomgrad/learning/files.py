"""Tensors and JSON as the bytes of a safetensors file, and back.

The file is written into a buffer that is allocated once: a state may be a gigabyte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import torch
from torch import Tensor

from roomgrad import tensor_files
from roomgrad.learning.tensors import DTYPES, bytes_of
from roomgrad.tensor_files import OPTIMIZER

METADATA = "roomgrad"  # the name under which a file holds JSON
OLDER_STEPS = "older_steps"  # in the JSON: the steps of an older release

_BY_NAME = {name: dtype for dtype, name in DTYPES.items()}


class TensorFile:
    """Writes files into one buffer."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def write(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> memoryview:
        """Return the file of these tensors and this JSON; it is valid until the next call."""
        # Larger items come first, so that each tensor begins at a multiple of its item's size.
        ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
        header = tensor_files.header(
            [(name, DTYPES[each.dtype], each.shape, each.nbytes) for name, each in ordered],
            {METADATA: orjson.dumps(about).decode()},
        )
        at = len(header)
        size = at + sum(tensor.nbytes for _, tensor in ordered)
        if size > len(self._buffer):
            self._buffer = bytearray(size)
        self._buffer[:at] = header
        for _, tensor in ordered:
            if tensor.nbytes:
                target = torch.frombuffer(
                    self._buffer, dtype=torch.uint8, offset=at, count=tensor.nbytes
                )
                target.copy_(bytes_of(tensor))
            at += tensor.nbytes
        return memoryview(self._buffer)[:size]


def read(stored: bytes | bytearray | memoryview) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file, and the JSON beside them. They share its memory.

    Raises ValueError for anything else.
    """
    buffer = stored if isinstance(stored, bytearray) else bytearray(stored)  # torch wants to write
    entries, data = tensor_files.entries(buffer)
    metadata = entries.pop(tensor_files.METADATA, None) or {}
    return (
        {name: _tensor(buffer, data, entry) for name, entry in entries.items()},
        orjson.loads(metadata.get(METADATA, "{}")),
    )


def _tensor(buffer: bytearray, data: int, entry: Mapping[str, Any]) -> Tensor:
    dtype, shape = _BY_NAME[entry["dtype"]], entry["shape"]
    start, end = entry["data_offsets"]
    if start == end:
        return torch.empty(shape, dtype=dtype)
    raw = torch.frombuffer(buffer, dtype=torch.uint8, offset=data + start, count=end - start)
    if (data + start) % dtype.itemsize:  # of another writer
        raw = raw.clone()
    return raw.view(dtype).reshape(shape)


def merged(weights: bytes, optimizer: bytes, steps: int) -> memoryview:
    """Return the state of two files of an older release: weights, and the optimizer's tensors.

    steps: how many steps the model has taken; the older release stored no scheduler.
    """
    state = read(optimizer)[0] if optimizer else {}
    renamed = {OPTIMIZER + "/".join(name.rsplit(".", 1)): each for name, each in state.items()}
    return TensorFile().write(read(weights)[0] | renamed, {OLDER_STEPS: steps})
