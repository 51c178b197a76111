"""``likewise serve`` as a user starts it: mistakes in a sentence."""

import builtins
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from serving.small_server import make_run, pictures, small_run

from likewise.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served")
    small_run(place)
    return place / "run"


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that is said, without the stages."""
    assert main(["serve", *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.endswith(" ...")]
    assert len(lines) == 1, lines
    return lines[0]


def test_a_run_without_an_index_or_a_model(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(run / "model.safetensors", bare)
    assert "make one with: likewise index" in refusal(capsys, str(bare), "--port", "0")
    assert "there is no run" in refusal(capsys, str(tmp_path / "none"), "--port", "0")
    other = tmp_path / "other"
    pictures(tmp_path / "data", seed=1)
    make_run(other, tmp_path / "data", seed=1)
    said = refusal(capsys, str(run), "--index", str(other / "index"), "--port", "0")
    assert "was made with another model" in said


def test_a_port_in_use_and_an_address_of_another_machine(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "is in use; choose another with --port" in refusal(capsys, str(run), "--port", port)
    token = run / "token"
    token.write_text("a-token-that-is-long-enough\n")
    words = (str(run), "--host", "203.0.113.7", "--port", "0", "--token_file", str(token))
    assert "203.0.113.7" in refusal(capsys, *words)


def test_others_need_a_token(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "so it needs a token" in refusal(capsys, str(run), "--host", "0.0.0.0")
    assert "can't be read" in refusal(capsys, str(run), "--token_file", str(tmp_path / "none"))
    monkeypatch.setenv("LIKEWISE_TOKEN", "short")
    assert "16 characters" in refusal(capsys, str(run), "--host", "0.0.0.0")


def test_without_the_extra(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "fastapi":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert "pip install 'likewise[serve]'" in refusal(capsys, str(run))
