"""Who may ask: pure checks of the headers of a request."""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    address = as_address(host)
    return address is not None and address.is_loopback


def as_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a host is, with or without brackets; None for a name."""
    try:
        return ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        return None


def host_of(header: str) -> str:
    """The host of a header Host, in lower case and without its port; empty if it is none."""
    host, colon, port = header.strip().lower().rpartition(":")
    if not colon or header.strip().endswith("]"):  # an IPv6 address without a port
        host, port = header.strip().lower(), ""
    return host if not port or port.isdecimal() else ""


def host_is_known(header: str | None, names: Collection[str]) -> bool:
    """Whether Host is an IP address, localhost, or one of ``names``.

    A page of somebody else can have its own name point here (DNS rebinding), but then the header has that name. With an
    address it can't be done.
    """
    host = host_of(header or "")
    return bool(host) and (host == "localhost" or as_address(host) is not None or host in names)


def origin_is_own(origin: str | None, host: str | None) -> bool:
    """Whether a request comes from the server's own pages, or from no page at all.

    ``origin`` and ``host`` are the headers. A proxy may speak https, so that the scheme may be another.
    """
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
        default = {"http": 80, "https": 443}.get(parts.scheme)
        asked = urlsplit(f"//{host or ''}")
        return (
            default is not None
            and bool(parts.hostname)
            and parts.hostname == asked.hostname
            and (parts.port or default) == (asked.port or default)
        )
    except ValueError:  # a port that is none
        return False


def token_in(authorization: str | None) -> str:
    """The token of a header Authorization: ``Bearer TOKEN``, or the password of ``Basic``, which browsers ask for."""
    kind, _, rest = (authorization or "").partition(" ")
    if kind.lower() == "bearer":
        return rest.strip()
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(rest, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


def same_token(given: str, wanted: str) -> bool:
    """Whether two tokens are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode("utf-8", "surrogateescape"))
