"""The bar on a terminal's standard error, and nothing elsewhere."""

import io
import sys

import pytest

from likewise.console import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("enabled", [True, False])
def test_a_bar_names_what_is_done_as_it_is_written(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with track("decoding [old] {1}", 30, enabled=enabled) as tick:
        tick(20)
    assert ("decoding [old] {1}" in terminal.getvalue()) is enabled
    assert ("20/30" in terminal.getvalue()) is enabled


def test_there_is_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with track("decoding", 30) as tick:
        tick(30)
    assert capsys.readouterr() == ("", "")
