"""The bar on a terminal's standard error, and nothing elsewhere."""

import io
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from likewise.console import Tick, part_of, stages, track
from likewise.evaluation.baselines import raw_pixels
from likewise.metrics import clustering, few_labels, knn_accuracy, linear_probe, linear_svm, retrieval
from likewise.metrics.few_labels import FewLabelsSettings


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


def test_each_stage_has_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with stages() as begin:
        first = begin("raw: kNN [5]")
        part_of(first, 1, 2)(0.5)
    with stages() as begin:
        begin("the map")
    assert "raw: kNN [5]" in terminal.getvalue()
    assert "75%" in terminal.getvalue()
    assert "the map" in terminal.getvalue()


ROWS = torch.nn.functional.normalize(torch.randn(90, 6, generator=torch.Generator().manual_seed(0)), dim=1)
LABELS = torch.arange(90) % 3
FEW = FewLabelsSettings(per_class=(1, 2), fractions=(), seeds=(0, 1))
LONG: dict[str, Callable[[Tick], object]] = {
    "kNN": lambda tick: knn_accuracy(ROWS, LABELS, k=5, tick=tick),
    "retrieval": lambda tick: retrieval(ROWS, LABELS, tile=7, tick=tick),
    "clusters": lambda tick: clustering(ROWS, LABELS, seeds=(0, 1), starts=3, tick=tick),
    "svm": lambda tick: linear_svm(ROWS, LABELS, ROWS, LABELS, tick=tick),
    "probe": lambda tick: linear_probe(ROWS, LABELS, ROWS, LABELS, tick=tick),
    "few labels": lambda tick: few_labels(ROWS, LABELS, list(map(str, range(90))), ROWS, LABELS, FEW, tick=tick),
    "pixels": lambda tick: raw_pixels(np.zeros((5, 4, 4, 3), np.uint8), tick=tick),
}


@pytest.mark.parametrize("name", LONG)
def test_what_takes_long_tells_the_share_that_is_done(name: str) -> None:
    told: list[float] = []
    LONG[name](told.append)
    assert told == sorted(told)
    assert 0 < told[0] <= told[-1] == pytest.approx(1.0)
    assert len(told) > 1 or name in ("kNN", "pixels")  # one tile
