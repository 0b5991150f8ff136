"""Passwords in files, which are read for each connection, so that they can be changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis.credentials import CredentialProvider

from roomgrad.errors import ServerError


def read_password(path: str) -> str:
    """Return the password in a file, without its line end. Raises ServerError."""
    try:
        return Path(path).read_text().rstrip("\r\n")
    except OSError as error:
        raise ServerError(f"the password file {path} cannot be read: {error.strerror}") from error


class PasswordFile(CredentialProvider):
    """The credentials that redis-py sends: a user, and the password in a file."""

    def __init__(self, path: str, user: str = "") -> None:
        self._path = path
        self._user = user

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return the credentials for one more connection."""
        password = read_password(self._path)
        return (self._user, password) if self._user else (password,)


def with_password_file(options: dict[str, Any], path: str) -> dict[str, Any]:
    """Return options for redis-py with the password of a file, not any other."""
    if not path:
        return options
    read_password(path)  # fails now if it cannot be read
    rest = {name: options[name] for name in options if name not in ("username", "password")}
    return {**rest, "credential_provider": PasswordFile(path, options.get("username", ""))}
