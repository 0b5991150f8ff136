"""TLS to a server: what an address may say of it, and connections that verify the server.

`rediss://host:6379/0?ssl_ca_certs=FILE` trusts a certificate for that host which is signed by a CA
in that file; without a file, by a CA that this machine trusts. Verification cannot be turned off.
The file is read for each new connection, so that a new CA needs no restart.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any

import redis
import redis.asyncio
from redis.sentinel import SentinelManagedConnection

from roomgrad.errors import ServerError, TLSError

FILES = CA, CERT, KEY = "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"
# Options of redis-py that only say what always holds here.
IMPLIED = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}

PROBE_S = 0.5  # for a connection that finds out what a server speaks

# Numbers that OpenSSL gives to failed verifications:
# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
NOT_YET_VALID, EXPIRED = 9, 10
WRONG_NAME = (62, 64)
UNKNOWN_ISSUER = (2, 7, 18, 19, 20, 21)

Address = tuple[str, int]  # host and port


def check(options: Sequence[tuple[str, str]], *, secure: bool) -> None:
    """Raise ServerError if the options of an address ask for less than full verification.

    secure: whether the address asks for TLS.
    """
    for name, value in options:
        if not name.startswith("ssl"):
            continue
        if not secure:
            raise ServerError(f"{name} has no effect in an address without TLS: write rediss://")
        if name in IMPLIED and value.lower() != IMPLIED[name]:
            raise ServerError(
                f"the address says {name}={value}, but the certificate of a server is always "
                f"verified: leave it out, and name the server's CA in REDIS_CA_FILE"
            )


class _Socket(ssl.SSLSocket):
    """A socket that is closed where the server resets the connection before the handshake.

    `wrap_socket` leaves it open there up to Python 3.11.7 and 3.12.1:
    https://github.com/python/cpython/issues/113280
    """

    def getpeername(self) -> Any:  # by which `wrap_socket` learns whether it is connected
        try:
            return super().getpeername()
        except OSError as error:
            self.close()
            raise ConnectionResetError(
                errno.ECONNRESET, "the server reset the connection before the handshake"
            ) from error


def context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Return the context that verifies a server, with the client certificate of an address.

    options: those of the address. Raises TLSError if a file cannot be used.
    """
    file = options.get(CA)
    try:
        made = ssl.create_default_context(cafile=file)
    except OSError as error:
        raise TLSError(_unusable(f"the file of the CA {file}", error)) from error
    made.sslsocket_class = _Socket
    if own := options.get(CERT):
        try:
            made.load_cert_chain(own, options.get(KEY))
        except OSError as error:
            files = f"the files of the client certificate {own} and {options.get(KEY, own)}"
            raise TLSError(_unusable(files, error)) from error
    return made


def _unusable(what: str, error: OSError) -> str:
    reason = "no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
    return f"{what} cannot be used ({reason}): name another one, or let this user read it"


# why a connection failed


def explain(
    error: BaseException, address: Address | None, options: Mapping[str, Any], *, tls: bool
) -> TLSError | None:
    """Return why a connection failed, if TLS is the reason, and None otherwise.

    address: the server, if it is known; then one more connection may find out what it speaks.
    options: those of its address. tls: whether the address asks for TLS.
    """
    chain = _chain(error)
    for each in chain:
        if isinstance(each, TLSError):
            return TLSError(str(each))  # a new one, which may be raised from this error
    for each in chain:
        if isinstance(each, ssl.SSLError) and not isinstance(each, ssl.SSLEOFError | TimeoutError):
            return TLSError(_reason(each, address, str(options.get(CA) or "")))
    if address is None:
        return None
    server = f"the server at {address[0]}:{address[1]}"
    if tls and _answers_without_tls(address):
        return TLSError(
            f"{server} does not speak TLS: name the port at which it does, or write redis:// if "
            f"the network is trusted"
        )
    silent = any(isinstance(each, TimeoutError | ConnectionRefusedError) for each in chain)
    if not tls and not silent and _answers_tls(address):
        return TLSError(
            f"{server} speaks TLS: write rediss:// in its address, and name its CA in REDIS_CA_FILE"
        )
    return None


def _reason(error: ssl.SSLError, address: Address | None, ca_file: str) -> str:
    server = f"the server at {address[0]}:{address[1]}" if address else "the server"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verification(error, server, address[0] if address else "its address", ca_file)
    reason = str(getattr(error, "reason", "") or error)
    if "WRONG_VERSION_NUMBER" in reason or "PACKET_LENGTH" in reason:
        return f"{server} answers something that is not TLS: name the port at which it speaks TLS"
    if "CERTIFICATE_REQUIRED" in reason:
        return (
            f"{server} wants a client certificate: name one in the address by "
            f"{CERT}=FILE&{KEY}=FILE, or set tls-auth-clients no on the server"
        )
    words = reason.replace("_", " ").lower()
    return f"{server} and this process share no version of TLS ({words}): look into its log"


def _verification(error: ssl.SSLCertVerificationError, server: str, host: str, ca_file: str) -> str:
    """Return a sentence about a certificate that was not accepted, and what to do."""
    now = time.strftime("it is %Y-%m-%d %H:%M UTC here", time.gmtime())
    trusted = f"the CA in {ca_file}" if ca_file else "a CA that this machine trusts"
    if error.verify_code in WRONG_NAME:
        return (
            f"the certificate of {server} is not valid for {host}: write a name that it holds into "
            f"the address, or make one that holds this name"
        )
    if error.verify_code == EXPIRED:
        return (
            f"the certificate of {server} or of its CA has expired, and {now}: make a new one, or "
            f"set the clock"
        )
    if error.verify_code == NOT_YET_VALID:
        return (
            f"the certificate of {server} is not valid yet, and {now}: set the clocks of both "
            f"machines"
        )
    if error.verify_code in UNKNOWN_ISSUER:
        return (
            f"the certificate of {server} is not signed by {trusted}: if it is your server, name "
            f"the CA that signed it in REDIS_CA_FILE"
        )
    return (
        f"the certificate of {server} is not accepted ({error.verify_message}): make another one, "
        f"signed by {trusted}"
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _answers_without_tls(address: Address) -> bool:
    """Return whether a server answers a PING without TLS. It is sent nothing else."""
    with contextlib.suppress(OSError), socket.create_connection(address, PROBE_S) as connection:
        connection.settimeout(PROBE_S)
        connection.sendall(b"PING\r\n")
        return connection.recv(1) in (b"+", b"-")
    return False


def _answers_tls(address: Address) -> bool:
    """Return whether a server shows a certificate, trusted or not. It is sent nothing else."""
    probe = context({})
    try:
        with socket.create_connection(address, PROBE_S) as connection:
            connection.settimeout(PROBE_S)
            probe.wrap_socket(connection, server_hostname=address[0]).close()
    except ssl.SSLCertVerificationError:
        return True
    except OSError:
        return False
    return True


# connections of redis-py, which by itself trusts every CA of this machine beside the one named


class VerifiedConnection(redis.connection.SSLConnection):
    """A connection that verifies the server by `context`, and explains why it refuses one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._files = {name: options.get(name) for name in (CA, CERT, KEY)}

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        sock.settimeout(self.socket_connect_timeout)  # a reply may take longer than a handshake
        try:
            secure = context(self._files).wrap_socket(sock, server_hostname=self.host)
        except (OSError, TLSError) as error:
            sock.close()
            reason = explain(error, (self.host, int(self.port)), self._files, tls=True)
            if reason is None:
                raise
            raise redis.ConnectionError(str(reason)) from reason
        secure.settimeout(self.socket_timeout)
        return secure


class VerifiedMasterConnection(SentinelManagedConnection, VerifiedConnection):
    """The same to a master, whose certificate must hold the name that the sentinels give it."""


class VerifiedAsyncConnection(redis.asyncio.SSLConnection):
    """The same for asyncio."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = context(options)
