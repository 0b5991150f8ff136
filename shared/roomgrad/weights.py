"""The tensors of a safetensors file, read without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError, deserialize

from roomgrad import dtypes, tensor_files
from roomgrad.errors import DecodeError
from roomgrad.tensor_files import is_training_state

MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_FILE_BYTES = 64 * 1024**3  # that a file of weights may have to be read whole
MAX_DIMENSIONS = 16
MOST_LISTED = 10  # tensors that do not fit
# Those that can be checked to be finite, by their names in a file.
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": dtypes.BFLOAT16}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file: its dtype as safetensors names it, its shape and its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def describe(self) -> str:
        """Return dtype and shape, like `F32 (16, 2)`."""
        return f"{self.dtype} {self.shape}"

    @property
    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite; True for dtypes that do not travel."""
        name = DTYPES.get(self.dtype)
        if name is None:
            return True
        return bool(np.isfinite(np.frombuffer(self.data, dtypes.from_name(name))).all())


def read(stored: bytes | bytearray) -> tuple[Tensor, ...]:
    """Return the tensors of a safetensors file, sorted by name.

    Raises DecodeError if the file is damaged, too large, or of another format.
    """
    header_bytes = int.from_bytes(stored[:8], "little")
    if not 0 < header_bytes <= min(len(stored) - 8, MAX_HEADER_BYTES):
        raise DecodeError(f"this is not a safetensors file: it begins with {stored[:16]!r}")
    try:
        found = deserialize(bytes(stored))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise DecodeError(f"the header of this safetensors file is broken: {error}") from error
    tensors = [
        Tensor(name, each["dtype"], tuple(each["shape"]), bytes(each["data"]))
        for name, each in found
    ]
    for tensor in tensors:
        if len(tensor.shape) > MAX_DIMENSIONS:
            raise DecodeError(
                f"{tensor.name[:40]!r}: expected at most {MAX_DIMENSIONS} dimensions, "
                f"got {len(tensor.shape)}"
            )
    return tuple(sorted(tensors, key=lambda tensor: tensor.name))


def only(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return parameters and buffers of a model's state."""
    return tuple(each for each in tensors if not is_training_state(each.name))


def file_of(tensors: Sequence[Tensor]) -> bytes:
    """Return a safetensors file of some tensors."""
    header = tensor_files.header((t.name, t.dtype, t.shape, len(t.data)) for t in tensors)
    return b"".join((header, *(each.data for each in tensors)))


def replaced(stored: bytes | bytearray, tensors: Sequence[Tensor]) -> bytearray:
    """Return a copy of a file with other values for tensors of the same dtype and shape."""
    found = bytearray(stored)
    entries, data = tensor_files.entries(found)
    for each in tensors:
        start, end = entries[each.name]["data_offsets"]
        found[data + start : data + end] = each.data
    return found


def sha256(tensors: Sequence[Tensor]) -> str:
    """Return the SHA-256 of the bytes of all tensors, concatenated in the given order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.data)
    return digest.hexdigest()


def difference(expected: Sequence[Tensor], given: Sequence[Tensor]) -> str:
    """Return why the given weights cannot replace the expected ones, or an empty text.

    It lists names, dtypes and shapes of at most ten tensors.
    """
    wanted = {each.name: each.describe() for each in expected}
    got = {each.name: each.describe() for each in given}
    found = [
        f"{name}: expected {wanted.get(name, 'no such tensor')}, got {got.get(name, 'none')}"
        for name in sorted(wanted.keys() | got.keys())
        if wanted.get(name) != got.get(name)
    ]
    if found:
        return "; ".join([*found[:MOST_LISTED], *(["..."] if found[MOST_LISTED:] else [])])
    infinite = [each.name for each in given if not each.is_finite]
    return f"{infinite[0]}: expected finite numbers, got NaN or infinity" if infinite else ""
