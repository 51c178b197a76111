"""A reader follows one training step of any method through nine files at most; through ten where pairs are mined."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from likewise.methods import METHODS, OF_ITEMS

MOST = 9
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "files_of_a_step.py"


@pytest.fixture(scope="module")
def files_of_a_step() -> Callable[[str], Any]:
    found: Callable[[str], Any] = runpy.run_path(str(SCRIPT))["files_of_a_step"]
    return found


@pytest.mark.parametrize("method", OF_ITEMS)
def test_a_step_opens_few_files(method: str, files_of_a_step: Callable[[str], Any]) -> None:
    frames = files_of_a_step(method)
    assert "training/step.py" in frames
    mined_pairs = METHODS[method].settings.alike == "pairs" and METHODS[method].settings.negatives.mines
    assert len(frames) <= MOST + mined_pairs, sorted(frames)
