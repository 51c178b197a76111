"""Pictures from a URL: public addresses only, one look-up, no redirect, no more than is allowed."""

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Iterator

import pytest

from likewise.serving import fetching
from likewise.serving.fetching import fetch, is_public
from likewise.serving.refused import Refused

# fmt: off
PRIVATE = (
    "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "0.0.0.0",
    "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1",
    "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::",
    "2001:db8::1", "::127.0.0.1", "64:ff9b:1::a00:1", "fec0::1", "3fff::1", "::ffff:0:127.0.0.1", "::ffff:0:7f00:1",
)
# fmt: on


def test_which_addresses_are_public() -> None:
    assert [one for one in PRIVATE if is_public(ipaddress.ip_address(one))] == []
    assert all(is_public(ipaddress.ip_address(one)) for one in ("8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"))


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/a.png",
        "http:///a.png",
        "http://u:p@example.com/",
        "http://example.com:22/",
        "http://example.com:x/",
        "http://[::1/",
        "http://example.com/a b",
        "http://example.com/\r\nX: y",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://localhost/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://" + "a" * 300 + "/",
        "gopher://x",
        "",
    ],
)
def test_what_is_never_fetched(url: str) -> None:
    with pytest.raises(Refused) as refused:
        fetch(url, 1000)
    assert refused.value.status == 422


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*addresses: str) -> None:
        each = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **named: each)

    found("8.8.8.8", "1.1.1.1")
    assert fetching.public_address("photos.example", 80) == "8.8.8.8"
    for private in (("8.8.8.8", "127.0.0.1"), ("10.0.0.1", "8.8.8.8")):
        found(*private)
        with pytest.raises(Refused, match="not in the public Internet"):
            fetch("http://photos.example/a.png", 1000)


@contextlib.contextmanager
def site(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> Iterator[list[bytes]]:
    """A web server that counts as public; what it is asked."""
    asked = list[bytes]()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(10_000))
                with contextlib.suppress(OSError):
                    connection.sendall(answer)

        monkeypatch.setattr(fetching, "public_address", lambda host, port: "127.0.0.1")
        monkeypatch.setattr(fetching, "_PORTS", {"http": listener.getsockname()[1]})
        thread = threading.Thread(target=once)
        thread.start()
        yield asked
        thread.join(10)


def test_a_picture_is_fetched_from_the_address_that_was_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with site(monkeypatch, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") as asked:
        assert fetch("http://photos.example/a/b.png?c=d", 1000) == b"hello"
    assert asked[0].startswith(b"GET /a/b.png?c=d HTTP/1.1\r\nHost: photos.example\r\n")


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", 422, "redirects are not followed"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", 422, "answers 404"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000, 413, "more than 1,000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 2000, 413, "more than 1,000 bytes"),
        (b"nonsense", 422, "no answer"),
        (b"", 422, "no answer"),
    ],
)
def test_other_answers_are_refused(monkeypatch: pytest.MonkeyPatch, answer: bytes, status: int, said: str) -> None:
    with site(monkeypatch, answer), pytest.raises(Refused, match=said) as refused:
        fetch("http://photos.example/a.png", 1000)
    assert refused.value.status == status


def test_a_slow_site_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(fetching, "public_address", lambda host, port: "127.0.0.1")
        monkeypatch.setattr(fetching, "_PORTS", {"http": listener.getsockname()[1]})
        with pytest.raises(Refused, match="no answer"):
            fetch("http://photos.example/a.png", 1000)
