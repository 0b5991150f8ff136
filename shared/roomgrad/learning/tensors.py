"""numpy arrays of messages to torch tensors and back, and how torch computes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roomgrad import dtypes
from roomgrad.errors import SchemaError

_torch_draws = threading.RLock()  # torch's generator is one for all members of an ensemble


def fix_threads(threads: int) -> None:
    """Let torch use so many CPU threads; 0 leaves it alone.

    One thread makes results repeat bit for bit on one machine type. MKL chooses its code path by
    the alignment of the data unless MKL_CBWR is set, which must happen before its first use.
    """
    if threads:
        os.environ.setdefault("MKL_CBWR", "AUTO")
        torch.set_num_threads(threads)


@contextlib.contextmanager
def initialized(seed: int, threads: int) -> Iterator[None]:
    """Let a model that is made in the block be the same wherever it is made.

    Torch draws initial weights from the seed, and computes on so many threads from now on.
    """
    fix_threads(threads)
    with _torch_draws, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def to_tensor(name: str, array: NDArray[Any], device: torch.device) -> Tensor:
    """Copy a batch `(batch, ...)` of any dtype into a tensor of the same dtype and shape.

    The copy is in torch's own memory: its alignment, and so the bits of a result, are the same
    wherever the array came from.

    Raises SchemaError for an array that is no batch, or whose dtype torch cannot read.
    """
    if array.ndim == 0 or array.shape[0] == 0:
        raise SchemaError(
            f"{name}: expected a batch of at least one row, (batch, ...), got shape {array.shape}"
        )
    return tensor_of(name, array, device)


def tensor_of(name: str, array: NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array into a tensor of the same dtype and shape. Raises SchemaError as above."""
    if dtypes.is_bfloat16(array.dtype):  # numpy's own dtypes do not have it, and torch reads those
        return tensor_of(name, array.view("<i2"), device).view(torch.bfloat16)
    try:
        tensor = torch.empty(array.shape, dtype=_dtype_of(array.dtype))
    except (TypeError, ValueError) as error:  # big-endian, texts, objects
        raise SchemaError(
            f"{name}: expected little-endian numbers of a dtype that torch has, got {array.dtype}"
        ) from error
    tensor.numpy()[...] = array  # a third of the time of torch.tensor, which matters for a batch
    return tensor if device.type == "cpu" else tensor.to(device)


@cache
def _dtype_of(dtype: np.dtype[Any]) -> torch.dtype:
    """Return torch's dtype for one of numpy. Raises TypeError or ValueError if it has none."""
    return torch.from_numpy(np.empty(0, dtype)).dtype


def to_array(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor's values as an array of the same dtype and shape."""
    tensor = tensor.detach().cpu()
    if tensor.dtype != torch.bfloat16:
        return tensor.contiguous().numpy()
    import ml_dtypes

    return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)


@contextlib.contextmanager
def drawing(seed: int, device: torch.device) -> Iterator[None]:
    """Let torch's generators begin at a seed within the block, and go on as before after it.

    `torch.manual_seed` would seed those of all devices, which takes longer than a small network.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    with _torch_draws:
        states = [each.get_state() for each in generators]
        try:
            for each in generators:
                each.manual_seed(seed)
            yield
        finally:
            for each, state in zip(generators, states, strict=True):
                each.set_state(state)


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors hold the same values; NaN differs from itself."""
    return one is other or (
        one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
    )


DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}
"""The dtypes of a state, as safetensors names them."""


INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by their size in bytes


def fingerprint_of(tensors: Iterable[Tensor]) -> str:
    """Return a text that differs if a bit of them differs, almost surely."""
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        words = bytes_of(tensor)
        if tensor.element_size() > 1:
            words = words.view(INTEGERS[tensor.element_size()])
        digest.update(b"%d/" % int(words.sum(dtype=torch.int64)))
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, flat, on the CPU; no copy for a contiguous one there."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
