"""Scripts that only read, called in a way that makes the server enforce it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

import redis

from roomgrad import scripts


class ReadScript:
    """A script of `roomgrad/lua` for users with read access (EVALSHA_RO)."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self._client: Any = client
        self._text = scripts.load(name)
        self._digest = sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run the script and return its answer."""
        try:
            return self._client.evalsha_ro(self._digest, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:  # the first call, or a server that was restarted
            return self._client.eval_ro(self._text, len(keys), *keys, *args)
