"""TLS to a server: what of it an address may say, and connections that trust nobody else.

`rediss://host:6379/0?ssl_ca_certs=FILE` trusts who shows a certificate for that host, signed by a
CA in that file and by no other; without a file, by a CA that this machine trusts. Nothing turns
this off. The file is read with each new connection, so that a new CA needs no restart.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
import redis.asyncio
from redis.sentinel import SentinelManagedConnection

from roomgrad.errors import ServerError, SettingsError, TLSError
from roomgrad.redis import certificates

CA, CERT, KEY = "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"
# What redis-py knows beside these and what is meant anyway.
MEANT_ANYWAY = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}


def wanted(url: str) -> bool:
    """Whether an address asks for TLS."""
    return url.startswith("rediss")


def check(url: str) -> None:
    """Raises ServerError where an address asks for less than a full check, or for the unknown."""
    for name, value in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if not name.startswith("ssl"):
            continue
        if not wanted(url):
            raise ServerError(f"{name} is of no use in an address without TLS: write rediss://")
        if name in MEANT_ANYWAY and value.lower() != MEANT_ANYWAY[name]:
            raise ServerError(
                f"the address says {name}={value}, but the certificate of a server is always "
                f"checked: leave it out, and name the server's CA in REDIS_CA_FILE"
            )
        if name not in (CA, CERT, KEY, *MEANT_ANYWAY):
            raise ServerError(
                f"the address says {name}, which is not known: there are {CA}, {CERT} and {KEY}"
            )


def with_ca(url: str, file: str) -> str:
    """An address with the file of its CA, unless it names one or needs none.

    Raises SettingsError for one that leaves this machine without TLS: whoever names a CA means TLS.
    """
    if not file:
        return url
    parts = urlsplit(url)
    if wanted(url):
        if CA in dict(parse_qsl(parts.query)):
            return url
        query = "&".join(filter(None, [parts.query, urlencode({CA: file}, safe="/")]))
        return urlunsplit(parts._replace(query=query))
    if parts.scheme.startswith("redis") and not _local(parts.netloc.rpartition("@")[2]):
        meant = parts.scheme.replace("redis", "rediss", 1)
        raise SettingsError(
            f"REDIS_CA_FILE is {file}, but the address of the server begins with "
            f"{parts.scheme}://, which is without TLS: write {meant}://"
        )
    return url


def _local(host: str) -> bool:
    name = str(urlsplit(f"//{host}").hostname or "localhost")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def split(url: str) -> tuple[str, str]:
    """An address without what it says of TLS, and the file of its CA."""
    parts = urlsplit(url)
    said = parse_qsl(parts.query)
    query = urlencode([(name, value) for name, value in said if not name.startswith("ssl")])
    return urlunsplit(parts._replace(query=query)), dict(said).get(CA, "")


def context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """What checks a server, and shows who connects where the address names a certificate.

    options: of the address. Raises Untrusted where a file cannot be used.
    """
    file = options.get(CA)
    try:
        made = ssl.create_default_context(cafile=file)
    except OSError as error:
        raise TLSError(_unusable(f"the file of the CA {file}", error)) from error
    if own := options.get(CERT):
        try:
            made.load_cert_chain(own, options.get(KEY))
        except OSError as error:
            files = f"the files of the own certificate {own} and {options.get(KEY, own)}"
            raise TLSError(_unusable(files, error)) from error
    return made


def _unusable(what: str, error: OSError) -> str:
    reason = "no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
    return f"{what} cannot be used ({reason}): name another one, or let this user read it"


def objection(
    error: BaseException,
    place: certificates.Address | None,
    options: Mapping[str, Any],
    *,
    wanted: bool,
) -> TLSError | None:
    """Why a connection failed, if TLS is the reason, in a sentence.

    place: which server it is, as far as that is known; it may be looked at again.
    wanted: whether it was to be TLS.
    """
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, TLSError):
            return TLSError(str(each))  # a new one, which may be raised from this error
    for each in chain:
        if isinstance(each, ssl.SSLError) and not isinstance(each, ssl.SSLEOFError | TimeoutError):
            return TLSError(_refusal(each, place, options))
    if place is None:
        return None
    where = f"{place[0]}:{place[1]}"
    if wanted and certificates.answers_plainly(place):
        return TLSError(
            f"the server at {where} does not speak TLS: name the port at which it does, or write "
            f"redis:// where nobody else can listen"
        )
    refused = any(isinstance(each, TimeoutError | ConnectionRefusedError) for each in chain)
    if not wanted and not refused and certificates.shows_one(place):
        return TLSError(
            f"the server at {where} speaks TLS: write rediss:// in its address, and name its CA in "
            f"REDIS_CA_FILE"
        )
    return None


def _refusal(
    error: ssl.SSLError, place: certificates.Address | None, options: Mapping[str, Any]
) -> str:
    where = f"the server at {place[0]}:{place[1]}" if place else "the server"
    if isinstance(error, ssl.SSLCertVerificationError) and place:
        return certificates.objection(error, place, str(options.get(CA) or ""))
    reason = str(getattr(error, "reason", "") or error)
    if "WRONG_VERSION_NUMBER" in reason or "PACKET_LENGTH" in reason:
        return f"{where} answers something that is not TLS: name the port at which it speaks TLS"
    if "CERTIFICATE_REQUIRED" in reason:
        return (
            f"{where} wants a certificate of who connects: name one in the address by "
            f"{CERT}=FILE&{KEY}=FILE, or set tls-auth-clients no there"
        )
    words = reason.replace("_", " ").lower()
    return f"{where} and this process find no TLS that both speak ({words}): look into its log"


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


# connections of redis-py, which by itself trusts every CA of this machine beside the one named


class Verified(redis.connection.SSLConnection):
    """A connection that trusts as `context` says; why it does not, is a sentence."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._files = {name: options.get(name) for name in (CA, CERT, KEY)}

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        sock.settimeout(self.socket_connect_timeout)  # an answer may take longer than a greeting
        try:
            secure = context(self._files).wrap_socket(sock, server_hostname=self.host)
        except (OSError, TLSError) as error:
            sock.close()
            reason = objection(error, (self.host, int(self.port)), self._files, wanted=True)
            if reason is None:
                raise
            raise redis.ConnectionError(str(reason)) from reason
        secure.settimeout(self.socket_timeout)
        return secure


class VerifiedMaster(SentinelManagedConnection, Verified):
    """The same to the master that sentinels name; its certificate has to say what they call it."""


class VerifiedLater(redis.asyncio.SSLConnection):
    """The same for asyncio."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = context(options)
