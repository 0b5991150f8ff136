"""What stands in a safetensors file, read without torch.

The file is the length of its header (8 bytes, little-endian), the header as JSON, and the bytes of
the tensors (https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import orjson

from roomgrad.errors import DecodeError, shown

LARGEST_HEADER = 16 * 1024 * 1024
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
BYTES |= {"U8": 1, "BOOL": 1}
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}  # of which numpy knows what is finite


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def describe(self) -> str:
        """`F32 (16, 2)`."""
        return f"{self.dtype} {self.shape}"

    @property
    def is_finite(self) -> bool:
        kind = NUMPY.get(self.dtype)
        return kind is None or bool(np.isfinite(np.frombuffer(self.data, kind)).all())


def read(stored: bytes) -> tuple[Tensor, ...]:
    """The tensors of a file, by name. Raises DecodeError: this is none, or a broken one."""
    start = 8 + int.from_bytes(stored[:8], "little")
    if not 8 < start <= min(len(stored), LARGEST_HEADER):
        raise DecodeError(f"this is no safetensors file: it begins with {shown(stored[:16])}")
    try:
        header = orjson.loads(stored[8:start])
        names = sorted(header.keys() - {"__metadata__"})
        return tuple(_tensor(name, header[name], stored[start:]) for name in names)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"the header of this safetensors file is broken: {error}") from error


def _tensor(name: str, found: dict[str, Any], data: bytes) -> Tensor:
    shape = tuple(int(length) for length in found["shape"])
    first, end = (int(at) for at in found["data_offsets"])
    size = BYTES[found["dtype"]] * prod(shape)
    if not 0 <= first <= end <= len(data) or end - first != size or min(shape, default=0) < 0:
        raise ValueError(f"{name} of shape {shape} has {end - first} bytes, expected {size}")
    return Tensor(name, found["dtype"], shape, data[first:end])


def sha256(tensors: Sequence[Tensor]) -> str:
    """Of the bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.data)
    return digest.hexdigest()


def difference(mine: Sequence[Tensor], other: Sequence[Tensor]) -> str:
    """Why one set of weights cannot stand for the other, or nothing."""
    expected = {each.name: each.describe() for each in mine}
    got = {each.name: each.describe() for each in other}
    for name in sorted(expected.keys() | got.keys()):
        if expected.get(name) != got.get(name):
            return (
                f"{name}: expected {expected.get(name, 'no such tensor')}, "
                f"got {got.get(name, 'none')}"
            )
    infinite = [each.name for each in other if not each.is_finite]
    return f"{infinite[0]}: expected finite numbers, got NaN or infinity" if infinite else ""
