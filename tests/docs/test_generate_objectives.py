"""docs/objectives.md matches the docstrings, the table of objectives has what the package exports, its calls run."""

import inspect
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import likewise as lw
from likewise.cli.main import main
from likewise.config.objective_table import DRAWN, KNOWN, OBJECTIVES, Known, Row, objective
from likewise.errors import LikewiseError
from likewise.objectives.inputs import from_pairs, from_triplets

DOCS = Path(__file__).parents[2] / "docs"
EACH = pytest.mark.parametrize("known", OBJECTIVES, ids=lambda known: known.name)


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "generate_objectives.py"))


def test_the_page_is_what_the_docstrings_say(generator: dict[str, Any]) -> None:
    written = (DOCS / "objectives.md").read_text(encoding="utf-8")
    assert written == generator["page"](), f"docs/objectives.md is old; run: {generator['COMMAND']}"


def test_the_page_shows_the_figures_that_are_there(generator: dict[str, Any]) -> None:
    page = generator["page"]()
    figures = sorted((DOCS / "objectives").iterdir())
    assert [figure.name for figure in figures] == sorted(f"{known.name}.svg" for known in DRAWN)
    assert all(f"](objectives/{figure.name})" in page for figure in figures)
    assert sum(figure.stat().st_size for figure in figures) < 1.5e6


@EACH
def test_every_docstring_has_its_parts_in_order(known: Row, generator: dict[str, Any]) -> None:
    kind = known.load()
    parts = generator["sections"](known)
    assert list(parts) == ["", "Relations", "Departures", "Cost", "Paper", "Args"]
    assert all(parts.values())
    assert "`" in parts[""]
    assert list(generator["arguments"](known)) == list(inspect.signature(kind).parameters)


def test_the_table_has_the_objectives_that_the_package_exports() -> None:
    exported = {name: vars(lw.objectives)[name] for name in lw.objectives.__all__}
    kinds = {value for value in exported.values() if inspect.isclass(value) and issubclass(value, nn.Module)}
    final = {kind for kind in kinds if not any(other is not kind and issubclass(other, kind) for other in kinds)}
    final.remove(lw.objectives.Mined)  # of an objective and a policy: docs/metric-learning.md has it
    assert sorted(kind.__name__ for kind in final) == sorted(known.class_name for known in OBJECTIVES)
    for known in OBJECTIVES:
        assert exported[known.class_name] is known.load()


def test_names_are_found_however_they_are_written() -> None:
    for name in ("AMSoftmax", "am-softmax", "am_softmax", "COSFACE", "cos-face"):
        assert objective(name).name == "am-softmax"
    with pytest.raises(LikewiseError, match=r"there is no objective 'circel'\. Did you mean 'circle'"):
        objective("circel")
    with pytest.raises(LikewiseError, match=r"there is no objective ''\. Known: unified"):
        objective("")


def test_every_objective_fits_some_data() -> None:
    fits = {name for row in KNOWN for name in row.objectives}
    assert fits == {known.name for known in OBJECTIVES}
    for row in KNOWN:
        assert row.call.startswith(f"{objective(row.objectives[0]).class_name}(")


def namespace() -> dict[str, Callable[..., Any] | Any]:
    """The names that the calls of the table use."""
    generator = torch.Generator().manual_seed(0)
    rows = functional.normalize(torch.randn(100, 4, generator=generator), dim=1)
    z = functional.normalize(torch.randn(12, 4, generator=generator), dim=1).requires_grad_()
    ids = torch.arange(12) // 2
    return {
        **{known.class_name: known.load() for known in OBJECTIVES},
        **{"z": z, "other": rows[:12], "contexts": rows, "bank": type("Bank", (), {"rows": rows})},
        **{"ids": ids, "labels": ids, "several": torch.stack([ids, torch.where(ids > 3, -1, ids + 1)], 1)},
        **{"classes": 6, "dim": 4, "counts": torch.arange(1.0, 101)},
        "relevance": torch.arange(144).reshape(12, 12) % 3,
        **{"pairs": torch.tensor([[0, 1], [2, 3], [0, 4], [5, 6]]), "alike": torch.tensor([True, True, False, False])},
        **{"triplets": torch.tensor([[0, 1, 2], [3, 4, 5]])},
        **{"from_pairs": from_pairs, "from_triplets": from_triplets},
    }


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row.data)
def test_the_calls_of_the_table_run(row: Known) -> None:
    names = namespace()
    torch.manual_seed(0)  # proxies and noise
    loss = eval(row.call, names)
    assert loss.ndim == 0
    assert loss.isfinite()
    loss.backward()
    assert names["z"].grad.isfinite().all()
    assert names["z"].grad.any()


def test_methods_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("npid\n")
    for row in KNOWN:
        assert f"{row.data}\n  fits        {', '.join(row.objectives)}\n  call        {row.call}\n" in printed
