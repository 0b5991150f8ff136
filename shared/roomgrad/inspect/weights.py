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

from roomgrad.errors import DecodeError, format_value

LARGEST_HEADER = 16 * 1024 * 1024
LARGEST_FILE = 480 * 1024 * 1024  # a value in Redis has 512 MiB at most
MOST_DIMENSIONS = 16
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
    if len(stored) > LARGEST_FILE:
        raise DecodeError(f"expected a file of at most {LARGEST_FILE} bytes, got {len(stored)}")
    start = 8 + int.from_bytes(stored[:8], "little")
    if not 8 < start <= min(len(stored), LARGEST_HEADER):
        raise DecodeError(
            f"this is no safetensors file: it begins with {format_value(stored[:16])}"
        )
    try:
        header = orjson.loads(stored[8:start])
        _check_metadata(header.pop("__metadata__", None))
        found = {name: _place(name, header[name]) for name in header}
        _check_order(list(found.values()), len(stored) - start)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"the header of this safetensors file is broken: {error}") from error
    return tuple(
        Tensor(name, dtype, shape, stored[start + first : start + end])
        for name, (first, end, dtype, shape) in sorted(found.items())
    )


# first and last byte, dtype, shape
Place = tuple[int, int, str, tuple[int, ...]]


def _place(name: str, found: dict[str, Any]) -> Place:
    shape, dtype = _whole(name, found["shape"]), found["dtype"]
    first, end = _whole(name, found["data_offsets"])
    size = BYTES[dtype] * prod(shape)
    if end - first != size:
        raise ValueError(f"{name} of shape {shape} has {end - first} bytes, expected {size}")
    return first, end, dtype, shape


def _whole(name: str, numbers: Any) -> tuple[int, ...]:
    """A short list of whole numbers from 0; their product can be worked out."""
    if not isinstance(numbers, list) or len(numbers) > MOST_DIMENSIONS:
        raise ValueError(
            f"{name}: expected at most {MOST_DIMENSIONS} numbers in a list, "
            f"got {format_value(numbers)}"
        )
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f"{name}: expected whole numbers from 0, got {format_value(numbers)}")
    return tuple(numbers)


def _check_order(places: list[Place], length: int) -> None:
    """The tensors fill the file, one after the other, so that they are no larger than it is."""
    at = 0
    for first, end, _, _ in sorted(places, key=lambda place: place[:2]):
        if first != at:
            raise ValueError(f"a tensor begins at byte {first}, expected {at}")
        at = end
    if at != length:
        raise ValueError(f"the tensors have {at} bytes, the file {length}")


def _check_metadata(found: Any) -> None:
    if found is None:
        return
    if not isinstance(found, dict) or any(not isinstance(each, str) for each in found.values()):
        raise ValueError(f"__metadata__: expected texts by name, got {format_value(found)}")


def written(tensors: Sequence[Tensor]) -> bytes:
    """A file of these tensors, in a form that every reader of such files takes."""
    entries: dict[str, Any] = {}
    at = 0
    for each in tensors:
        end = at + len(each.data)
        entries[each.name] = {
            "dtype": each.dtype,
            "shape": each.shape,
            "data_offsets": [at, end],
        }
        at = end
    header = orjson.dumps(entries)
    header += b" " * (-len(header) % 8)  # the tensors begin at a multiple of 8 bytes
    return b"".join((len(header).to_bytes(8, "little"), header, *[each.data for each in tensors]))


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
