"""A model's state as a safetensors file: the names and the header.

https://huggingface.co/docs/safetensors, section Format. The library writes files too, but makes
copies of tensors, which may be a gigabyte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

METADATA = "__metadata__"
OPTIMIZER, ACCUMULATED = "optimizer/", "accumulated/"  # how names begin that are no weights


def is_training_state(name: str) -> bool:
    """Return whether a tensor of a state is none of the network's."""
    return name.startswith((OPTIMIZER, ACCUMULATED))


def header(
    tensors: Iterable[tuple[str, str, Sequence[int], int]],
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return the header of a file; the bytes of its tensors follow it in their order.

    tensors: name, dtype as safetensors names it, shape, and number of bytes of each.
    """
    entries: dict[str, Any] = {METADATA: metadata} if metadata else {}
    at = 0
    for name, dtype, shape, size in tensors:
        offsets = [at, at + size]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        at += size
    text = orjson.dumps(entries)
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def entries(stored: bytes | bytearray) -> tuple[dict[str, Any], int]:
    """Return the entries of a header by name, and where the bytes of the tensors begin.

    Raises ValueError for a header that is none.
    """
    data = 8 + int.from_bytes(stored[:8], "little")
    found = orjson.loads(stored[8:data])
    if not isinstance(found, dict):
        raise ValueError("the header is no JSON object")
    return found, data
