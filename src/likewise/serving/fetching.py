"""Fetches a picture from a URL, where that is allowed: from public addresses only, once, and not for long."""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from urllib.parse import urlsplit

from likewise.serving.refused import Refused
from likewise.text import quoted

SECONDS = 10.0  # in all
_CHUNK = 1 << 16
_PORTS = {"http": 80, "https": 443}
_GIVEN_OUT = ipaddress.ip_network("2000::/3")  # IPv6 outside of it is for other uses, such as holding an IPv4 address
_EXAMPLES = ipaddress.ip_network("3fff::/20")  # for documents; not every Python knows it

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: Address) -> bool:
    """Whether an address is of the public Internet: not of this machine, its network, or its cloud."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner is not None:
            return is_public(inner)
        if address not in _GIVEN_OUT or address in _EXAMPLES:
            return False
    return address.is_global and not address.is_multicast


def public_address(host: str, port: int) -> str:
    """An address of a host. Raises Refused unless all of its addresses are public.

    The connection is made to this address, so that a name that changes meanwhile changes nothing.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refused(422, f"the host {quoted(host)} has no address.") from None
    addresses = [str(each[4][0]).partition("%")[0] for each in found]
    if not all(is_public(ipaddress.ip_address(address)) for address in addresses):
        raise Refused(422, f"the host {quoted(host)} is not in the public Internet.")
    return addresses[0]


def fetch(url: str, most: int) -> bytes:
    """The content of a URL. It blocks for at most 10 seconds or so.

    Raises Refused: another scheme than http and https, another port than theirs, a user or password in it, an address
    that is not public, another answer than 200 (redirects are not followed), more than ``most`` bytes, no answer.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused(422, "this is no URL.") from None
    host = parts.hostname
    if parts.scheme not in _PORTS or not host or parts.username is not None or parts.password is not None:
        raise Refused(422, "a URL must be http:// or https:// with a host, and without a user.")
    if port not in (None, _PORTS[parts.scheme]):
        raise Refused(422, f"a URL may have no port but {_PORTS[parts.scheme]}.")
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    if not (path.isascii() and path.isprintable()) or " " in path:
        raise Refused(422, "a URL must be ASCII; write other characters as %XX.")
    end = time.monotonic() + SECONDS
    address = public_address(host, _PORTS[parts.scheme])
    try:
        with _connected(address, host, parts.scheme, end) as connection:
            cut = threading.Timer(_left(end), connection.shutdown, (socket.SHUT_RDWR,))  # of a header that drips too
            cut.start()
            try:
                return _got(connection, host, path, most, end)
            finally:
                cut.cancel()
    except (OSError, http.client.HTTPException):  # a time limit is an OSError
        raise Refused(422, f"{quoted(host)} gave no answer that could be read, within {SECONDS:g} seconds.") from None


def _connected(address: str, host: str, scheme: str, end: float) -> socket.socket:
    connection = socket.create_connection((address, _PORTS[scheme]), timeout=_left(end))
    if scheme == "http":
        return connection
    try:
        return ssl.create_default_context().wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def _got(connection: socket.socket, host: str, path: str, most: int, end: float) -> bytes:
    client = http.client.HTTPConnection(host)
    client.sock = connection
    client.request("GET", path, headers={"Accept": "image/*", "User-Agent": "likewise", "Connection": "close"})
    connection.settimeout(_left(end))
    answer = client.getresponse()
    if answer.status != 200:
        raise Refused(422, f"{quoted(host)} answers {answer.status}; redirects are not followed.")
    parts, size = list[bytes](), 0
    while True:
        connection.settimeout(_left(end))
        part = answer.read1(_CHUNK)
        if not part:
            return b"".join(parts)
        size += len(part)
        if size > most:
            raise Refused(413, f"the URL holds more than {most:,} bytes.")
        parts.append(part)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
