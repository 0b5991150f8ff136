"""Tensors and JSON as the bytes of a safetensors file, and back.

https://huggingface.co/docs/safetensors, section Format. The file is written here, into a buffer
that is allocated once: the library makes two copies more, of a state that may be a gigabyte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import torch
from torch import Tensor

from roomgrad.learning.tensors import DTYPES, bytes_of

METADATA = "roomgrad"  # the name under which a file holds JSON
PREFIX = "optimizer/"  # of the names of an optimizer's tensors
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
        header = _header(ordered, about)
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


def _header(tensors: list[tuple[str, Tensor]], about: Mapping[str, Any]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {METADATA: orjson.dumps(about).decode()}}
    at = 0
    for name, tensor in tensors:
        end = at + tensor.nbytes
        entries[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = orjson.dumps(entries)
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def read(stored: bytes | bytearray | memoryview) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file, and the JSON beside them. They share its memory.

    Raises ValueError for anything else.
    """
    buffer = stored if isinstance(stored, bytearray) else bytearray(stored)  # torch wants to write
    data = 8 + int.from_bytes(buffer[:8], "little")
    entries = orjson.loads(buffer[8:data])
    if not isinstance(entries, dict):
        raise ValueError("the header is no JSON object")
    metadata = entries.pop("__metadata__", None) or {}
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
    renamed = {PREFIX + "/".join(name.rsplit(".", 1)): each for name, each in state.items()}
    return TensorFile().write(read(weights)[0] | renamed, {OLDER_STEPS: steps})
