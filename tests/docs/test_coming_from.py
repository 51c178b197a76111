"""docs/coming-from.md: all calls run, except those of libraries that are not installed; equal results are equal."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = (Path(__file__).parents[2] / "docs/coming-from.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
NOT_INSTALLED = "lightly"


def blocks(text: str) -> str:
    return "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def lines(text: str) -> list[tuple[str, str, str]]:
    """Rows of the tables whose first two cells are code."""
    return re.findall(r"^\| `(.*?)` \| `(.*?)` \| ?(.*?) ?\|$", text, re.MULTILINE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_runs_and_says_what_is_equal(section: str) -> None:
    names: dict[str, Any] = {}
    exec(blocks(PAGE.split("\n## ")[0]) + blocks(SECTIONS[section]), names)
    for theirs, ours, said in lines(SECTIONS[section]):
        result = eval(ours, names)
        if section == NOT_INSTALLED:
            continue
        wanted = eval(theirs, names)
        if said.startswith("equal"):
            torch.testing.assert_close(float(result), float(wanted), rtol=1e-4, atol=1e-5, msg=lambda m, o=ours: o + m)


def test_the_page_has_lines_and_no_row_escapes_the_test() -> None:
    assert [*SECTIONS] == ["pytorch-metric-learning", "torchmetrics", NOT_INSTALLED]
    rows = [row for row in re.findall(r"^\| .*", PAGE, re.MULTILINE) if "`" in row]
    assert len(rows) == sum(len(lines(text)) for text in SECTIONS.values()) + 1  # lightly's memory bank: a block
    assert sum(said.startswith("equal") for text in SECTIONS.values() for *_, said in lines(text)) >= 20
