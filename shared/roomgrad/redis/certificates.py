"""The certificate that a server shows, and words for what is wrong with it.

Where a check has failed, Python tells that and not what it has seen. So the server is looked at
once more: for its certificate alone, and nothing is said to it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import Any

from roomgrad.errors import format_value

Address = tuple[str, int]  # host and port
LOOK_S = 0.5

# Numbers of OpenSSL for what a check has found: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
NOT_YET, ENDED = 9, 10
OTHER_NAME = (62, 64)
NOT_SIGNED = (2, 7, 18, 19, 20, 21)
# X509_V_FLAG_NO_CHECK_TIME of the same library, which Python has no name for.
WHATEVER_THE_TIME = 0x200000


def objection(error: ssl.SSLCertVerificationError, place: Address, ca_file: str) -> str:
    """A sentence about a certificate that was not accepted: what it is, and what it should be.

    ca_file: with the only CAs that are trusted; empty for those of this machine.
    """
    where, code = f"{place[0]}:{place[1]}", error.verify_code
    found = _looked_at(place)
    trusted = _trusted(ca_file)
    if code in OTHER_NAME:
        return (
            f"the certificate of the server at {where} is for {_names(found)}, and not for "
            f"{place[0]}: write a name that it has into the address, or make one that has this name"
        )
    if code in (NOT_YET, ENDED):
        return _out_of_date(code, where, found, ca_file)
    if code in NOT_SIGNED:
        return (
            f"the server at {where} shows a certificate for {_names(found)}, signed by "
            f"{_issuer(found)}, and not by {trusted}: if it is your server, name the CA that has "
            f"signed it in REDIS_CA_FILE"
        )
    return (
        f"the certificate of the server at {where} is not accepted ({error.verify_message}): make "
        f"another one, signed by {trusted}"
    )


def _out_of_date(code: int, where: str, found: dict[str, Any], ca_file: str) -> str:
    now = f"it is {_date(time.time())} here"
    if code == NOT_YET:
        begins = _date(_time(found, "notBefore"))
        return (
            f"the certificate of the server at {where} begins {begins} and {now}: set the clocks "
            f"of both machines"
        )
    ended = _time(found, "notAfter")
    if ended > time.time():  # it is its CA's that has ended
        return (
            f"the CA that has signed the certificate of the server at {where} has ended and {now}: "
            f"make a new one, and name it in REDIS_CA_FILE ({ca_file or 'empty'})"
        )
    return (
        f"the certificate of the server at {where} ended {_date(ended)} and {now}: make a new one "
        f"for {_names(found)}"
    )


def answers_plainly(place: Address) -> bool:
    """Whether a server answers without TLS. It is asked nothing but whether it is there."""
    with contextlib.suppress(OSError), socket.create_connection(place, LOOK_S) as connection:
        connection.settimeout(LOOK_S)
        connection.sendall(b"PING\r\n")
        return connection.recv(1) in (b"+", b"-")
    return False


def shows_one(place: Address) -> bool:
    """Whether a server speaks TLS."""
    return bool(_bytes(place))


def _looked_at(place: Address) -> dict[str, Any]:
    """What the certificate of a server says, unchecked; empty where it cannot be seen.

    Python reads certificates only for those whom it trusts. So this one is trusted as its own CA,
    at any time and under any name, by a connection that ends when it has been read.
    """
    looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    looking.check_hostname = False
    try:
        looking.load_verify_locations(cadata=_bytes(place))
        looking.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | WHATEVER_THE_TIME
        with _connected(place, looking) as connection:
            return dict(connection.getpeercert() or {})
    except (OSError, ValueError):
        return {}


def _bytes(place: Address) -> bytes:
    """The certificate of a server, unchecked; empty where it shows none."""
    looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    looking.check_hostname = False
    looking.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(OSError), _connected(place, looking) as connection:
        return connection.getpeercert(binary_form=True) or b""
    return b""


def _connected(place: Address, looking: ssl.SSLContext) -> ssl.SSLSocket:
    connection = socket.create_connection(place, LOOK_S)
    connection.settimeout(LOOK_S)
    return looking.wrap_socket(connection, server_hostname=place[0])


def _trusted(ca_file: str) -> str:
    if not ca_file:
        return "a CA that this machine trusts"
    looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with contextlib.suppress(OSError):
        looking.load_verify_locations(ca_file)
    found = [_name(each.get("subject", ())) for each in looking.get_ca_certs()]
    return f"the CA in {ca_file} ({', '.join(found[:3])})"


def _issuer(found: dict[str, Any]) -> str:
    return _name(found.get("issuer", ()))


def _name(parts: Any) -> str:
    """The common name of a subject, or else all of it. Anybody may have written it."""
    pairs = [pair for part in parts for pair in part]
    common = dict(pairs).get("commonName") or ", ".join(value for _, value in pairs)
    return format_value(common) if common else "somebody unnamed"


def _names(found: dict[str, Any]) -> str:
    """The hosts that a certificate is for."""
    names = [format_value(value) for _, value in found.get("subjectAltName", ())]
    return ", ".join(names[:6]) or "no host"


def _time(found: dict[str, Any], name: str) -> float:
    return float(ssl.cert_time_to_seconds(found[name])) if name in found else 0.0


def _date(seconds: float) -> str:
    if not seconds:
        return "at another time"
    return time.strftime("on %Y-%m-%d at %H:%M UTC", time.gmtime(seconds))
