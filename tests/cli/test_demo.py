"""The demo, made small: it trains on the digits, measures, and leaves a report."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from likewise.cli import demo as module
from likewise.cli.main import main
from likewise.config.overrides import settings_from
from likewise.data import Items
from likewise.errors import Interrupted
from likewise.model import load


@pytest.fixture(scope="module")
def digits() -> tuple[Items, Items]:
    """Train and test, read once."""
    return module.digits()


@pytest.fixture
def small(digits: tuple[Items, Items], monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch on 200 of the digits, 84 for measuring."""

    def few() -> tuple[Items, Items]:
        return digits[0].select(range(0, 4000, 20)), digits[1].select(range(0, 1000, 12))

    short = {"epochs": 1, "batch_size": 50, "encoder.dim": 16, "knn_epochs": 1, "knn_items": 100}
    monkeypatch.setattr(module, "SETTINGS", settings_from(short, module.SETTINGS))
    monkeypatch.setattr(module, "digits", few)


@pytest.mark.usefixtures("small")
def test_the_demo_measures_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs/demo"
    assert main(["demo", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    header = next(line for line in said.splitlines() if "accuracy" in line)
    assert [name in header for name in ("raw", "untrained encoder", "learned")] == [True] * 3
    rows = ("weighted kNN, all labels", *(f"weighted kNN, {few} per class" for few in (1, 5, 10)))
    for row in rows:
        line = next(line for line in said.splitlines() if row in line)
        assert line.count(".") >= 3, line  # three numbers
    assert f"Look: {out / 'report.html'}" in said
    assert "likewise fit PHOTOS" in said

    report = (out / "report.html").read_text()
    for text in (*rows, "untrained encoder", "data:image/png;base64,", "200 images"):
        assert text in report
    assert "://" not in report
    scores = {score["name"]: score["value"] for score in json.loads((out / "evaluation.json").read_text())}
    for few in ("", "/1-per-class", "/5-per-class", "/10-per-class"):
        assert {f"{name}/knn{few}" for name in ("raw", "untrained", "learned")} <= set(scores)
    assert 0.3 < scores["raw/knn"] <= 1  # digits: far above the 0.1 of chance
    assert load(out).epoch == 1
    # the commands that it names find its items and its index
    assert main(["report", str(out)]) == 0
    assert main(["outliers", str(out), str(out / module.DIGITS)]) == 0
    assert main(["search", str(out), load(out).load_index().ids[0], "-k", "2"]) == 0


def test_the_file_of_the_demo_holds_the_same_digits(tmp_path: Path, digits: tuple[Items, Items]) -> None:
    some = digits[0].select(range(0, 4000, 40))
    again = module.kept(some, tmp_path / module.DIGITS)
    assert again.label_names == some.label_names
    assert np.array_equal(np.asarray(again.values), np.asarray(some.values))
    assert np.array_equal(np.asarray(again.labels), np.asarray(some.labels))


@pytest.mark.usefixtures("small")
def test_the_demo_replaces_its_own_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise Interrupted("Stopped.", signal.SIGTERM)

    monkeypatch.setattr(module, "fit", stop)
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
        (folder / "precious").touch()
    (mine / "demo.txt").touch()
    assert main(["demo", "--out", str(mine)]) == 143  # SIGTERM while it trains: a sentence, no traceback
    assert capsys.readouterr().err.endswith("likewise: Stopped.\n")
    assert {path.name for path in mine.iterdir() if path.name[0] != "."} == {"demo.txt", module.DIGITS}  # and the lock
    assert main(["demo", "--out", str(other)]) == 2
    assert "was not made by the demo" in capsys.readouterr().err
    assert (other / "precious").exists()


def test_the_digits_are_real_and_the_test_digits_are_not_trained_on(digits: tuple[Items, Items]) -> None:
    train, test = digits
    assert (len(train), len(test)) == (4000, 1000)
    assert train.values.shape == (4000, 28, 28, 3)
    assert not set(train.ids) & set(test.ids)
    assert train.label_names == tuple("0123456789")
    counts = np.bincount(np.asarray(test.labels))
    assert counts.min() > 60
    assert train.values.max() == 255
