"""Arrays in files of numpy's format, for `pub --file`, `request --file` and `check --probes`."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad.codec import MAX_MESSAGE_BYTES
from roomgrad.errors import SettingsError


def read(path: Path, flag: str) -> NDArray[Any]:
    """Return the array in the file that a flag names. Raises SettingsError."""
    try:
        with path.open("rb") as file:
            stored = file.read(MAX_MESSAGE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{flag} {path}: it cannot be read: {error.strerror}") from error
    return parse(stored, f"{flag} {path}")


def parse(stored: bytes, where: str) -> NDArray[Any]:
    """Return the array in the bytes of a file. Raises SettingsError."""
    if len(stored) > MAX_MESSAGE_BYTES:
        raise SettingsError(
            f"{where}: expected at most {MAX_MESSAGE_BYTES} bytes, as a message may have: send less"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that Python 2 wrote
            found = np.load(io.BytesIO(stored), allow_pickle=False)
    except Exception as error:  # of any kind: numpy does not check the header
        raise SettingsError(f"{where}: this is no array in numpy's format ({error})") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise SettingsError(f"{where}: expected one array of numbers, as numpy.save writes it")
    return found
