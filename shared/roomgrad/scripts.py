"""The Lua scripts that run on the server, in `lua/`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def load(name: str) -> str:
    """Return the text of `lua/NAME.lua`, behind the functions of `lua/prelude.lua`.

    A client in another language loads the same text: both files, one after the other.
    """
    folder = files("roomgrad").joinpath("lua")
    return "".join(folder.joinpath(f"{each}.lua").read_text() for each in ("prelude", name))
