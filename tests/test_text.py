"""Names as text: what people read, what files hold."""

import os

import pytest

from likewise.text import in_words, quoted, readable, utf8


@pytest.mark.parametrize(
    ("name", "file", "shown"),
    [
        ("猫 é $x$ _a <b>", "猫 é $x$ _a <b>", "猫 é $x$ _a <b>"),
        ("a\x1b[31m\n\x7f", "a\x1b[31m\n\x7f", r"a\x1b[31m\n\x7f"),
        ("caf\udce9", r"caf\xe9", r"caf\xe9"),  # a name of a file in Latin-1
        ("caf\udcc3\udca9", "café", "café"),  # a name in UTF-8, read where the encoding is ASCII
        ("\ud800", r"\ud800", r"\ud800"),
        ("\u202egpj\u2069\x85", "\u202egpj\u2069\x85", r"\u202egpj\u2069\x85"),
    ],
)
def test_names(name: str, file: str, shown: str) -> None:
    assert utf8(name).decode() == file
    assert readable(name) == shown
    assert readable(shown) == shown


def test_every_byte_of_a_name_is_told_from_the_others() -> None:
    names = [os.fsdecode(bytes([byte])) for byte in range(256)]
    assert len({readable(name) for name in names}) == 256
    assert all(readable(name).isprintable() for name in names)


def test_sizes_in_words() -> None:
    assert [in_words(size) for size in (12, 3_400_000, 1_500_000_000, 25 * 10**12, 4 * 10**15)] == [
        *("12 bytes", "3.4 MB", "1.5 GB", "25 TB", "4.0 PB")
    ]


def test_a_long_name_is_cut_in_the_middle() -> None:
    assert quoted("a" * 118) == repr("a" * 118)
    assert quoted("a" * 10**6 + "b") == f"'{'a' * 59}…{'a' * 58}b'"
