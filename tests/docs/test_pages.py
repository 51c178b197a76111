"""README and docs: their Python runs, their commands parse, their links have a target, their names exist."""

import importlib
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn import functional

import likewise as lw
from likewise.cli.commands import COMMANDS
from likewise.cli.parser import build_parser
from likewise.config.checks import check
from likewise.config.objective_table import OBJECTIVES
from likewise.config.overrides import flatten
from likewise.config.policy_table import POLICIES
from likewise.config.settings import EncoderSettings, FitSettings
from likewise.config.values import parameters_of
from likewise.methods import over_method

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PARSER = build_parser(COMMANDS)
KNOWN = {part.name: {option for action in part._actions for option in action.option_strings} for part in PARSER.family}
NO_SETTINGS = {"data", "features", "sequences", "out", "resume", "config"}
EACH = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def fences(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language; "" for blocks without one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every likewise command in a fenced block, with or without torchrun before it."""
    for block in fences(page, ""):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "likewise" in words:
                yield words[words.index("likewise") + 1 :]


@EACH
def test_commands_parse(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(page):
        try:
            parser = build_parser(COMMANDS, words) if "--features" in words else PARSER
            given = parser.parse_args(words, defaults=False)
        except SystemExit:
            pytest.fail(f"likewise {' '.join(words)}: {capsys.readouterr().err}")
        if given.command == "fit":
            settings = given.fit.as_dict()
            check(over_method({name: settings[name] for name in settings.keys() - NO_SETTINGS}))


@EACH
def test_options_named_in_the_text_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for words in re.findall(r"`likewise ([^`]*)`", text):
        name, *rest = words.split()
        assert name in KNOWN or name.startswith("-"), f"likewise {words}"
        for option in (word.partition("=")[0] for word in rest if word.startswith("--")):
            assert option in KNOWN[name], f"likewise {words}"
    every = {"--max-restarts", "--rdzv-id", *(option for options in KNOWN.values() for option in options)}
    for option in re.findall(r"`(--[\w.-]+)", text):
        assert option in every, option


@EACH
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_glossary_names_what_is_there() -> None:
    tables = {"objective": OBJECTIVES, "negatives": POLICIES}
    parameters = {f"{setting}.{name}" for setting, rows in tables.items() for name in parameters_of(rows)}
    settings = {*flatten(FitSettings()), *parameters}
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| .+ \| (.*)\|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert len(rows) > 40
    for _, where in rows:
        for name in re.findall(r"`([^`]+)`", where):
            if name.startswith("likewise "):
                assert name.split()[1] in KNOWN, name
            elif name.split(".")[0] in ("lw", "likewise"):
                named(name)
            else:
                assert name in settings, name


def named(name: str) -> Any:
    """The object that a dotted name such as lw.objectives.Circle or likewise.metrics.top_k names."""
    home, *rest = name.replace("lw", "likewise", 1).split(".") if name.startswith("lw.") else name.split(".")
    value: Any = importlib.import_module(home)
    for part in rest:
        try:
            value = getattr(value, part)
        except AttributeError:
            value = importlib.import_module(f"{value.__name__}.{part}")
    return value


def folder_of_images(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for number in range(6):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")


def toys() -> dict[str, Any]:
    """The names that the examples use without defining them: rows, labels, an encoder."""
    generator = torch.Generator().manual_seed(0)

    def rows(count: int) -> torch.Tensor:
        return functional.normalize(torch.randn(count, 128, generator=generator), dim=1)

    encoder = lw.build_embedder(FitSettings().encoder)
    views = torch.randn(2, 8, 3, 32, 32, generator=generator)
    return {
        "z": rows(8),
        "z0": rows(8),
        "z1": rows(8),
        "labels": torch.arange(8) // 2,
        "queries": rows(8),
        "ids": torch.arange(8),
        "keys": rows(12),
        "key_labels": torch.arange(12) // 2,
        "triplets": torch.tensor([[0, 1, 2], [2, 3, 4]]),
        "encoder": encoder,
        "first_views": views[0],
        "second_views": views[1],
    }


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path / "cache"))
    for name in ("photos", "A", "B"):
        folder_of_images(tmp_path / name)
    names: dict[str, Any] = {}
    for code in fences(ROOT / "README.md", "python"):
        names |= toys()
        small = code.replace('"epochs": 100', '"epochs": 1').replace('"size": 64', '"size": 16')
        exec(compile(small, "README.md", "exec"), names)
    assert names["index"].protocol["epoch"] == 1
    assert len(names["hits"]) == 10
    assert {score.name for score in names["scores"]} >= {"learned/knn", "raw/knn"}


@pytest.mark.parametrize(
    "page",
    [
        "answers",
        "export",
        "index",
        "metric-learning",
        "parts",
        "preflight",
        "ranking",
        "recommendation",
        "relations",
        "scaling",
        "views",
        "words",
    ],
)
def test_the_pages_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{number}.jpg" for number in range(256)]
    lines = (f"{a},{b},{number % 2}" for number, (a, b) in enumerate(pairwise(names)))
    Path("pairs.csv").write_text("\n".join(["a,b,alike", *lines]))
    lines = (
        f"{a},{b},{number % 2 + 1}\n{a},{c},0"
        for number, (a, b, c) in enumerate(zip(names, names[1:], names[2:], strict=False))
    )
    Path("graded.csv").write_text("\n".join(["query,item,relevance", *lines]))
    ratings = (f"{row % 17},{row * row % 23},{1 + row % 5},{row}" for row in range(400))
    Path("ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *ratings]))
    films = pd.DataFrame(
        {"movieId": range(24), "title": [f"film {number % 7}" for number in range(24)], "genres": "a|b"}
    )
    films.to_csv("movies.csv", index=False)
    pd.DataFrame({"movieId": range(24), "x": np.arange(24.0) % 5}).to_parquet("audio.parquet")
    folder_of_images(tmp_path / "photos")
    (tmp_path / "posters").mkdir()
    for number in range(20):
        Image.new("RGB", (8, 8), (number, 2 * number, 0)).save(tmp_path / "posters" / f"{number}.png")
    given = toys() | {"step": 0, "epoch": 0}
    for number, code in enumerate(fences(ROOT / "docs" / f"{page}.md", "python")):
        if page == "metric-learning" and number == 1:  # a whole data set: 64 classes of 4
            given |= {"ids": names, "labels": torch.arange(256) // 4, "items": torch.randn(256, 3, 32, 32)}
        if page in ("answers", "export", "index"):
            Image.new("RGB", (8, 8), "red").save("photos/a.jpg")
            settings = FitSettings(size=8, encoder=EncoderSettings(name="resnet-small", dim=8))
            Path("runs/photos").mkdir(parents=True, exist_ok=True)
            model = lw.Model.untrained(settings, lw.open_items("photos", size=8, progress=False))
            model.save(Path("runs/photos/model.safetensors"))
        if page == "recommendation":
            content = np.random.default_rng(0).normal(size=(23, 4)).astype(np.float32)
            pd.DataFrame({"id": map(str, range(23)), "vector": content.tolist()}).to_parquet("content.parquet")
            vectors = lw.Items(ids=tuple(map(str, range(23))), values=content, kind="vectors")
            settings = FitSettings(encoder=EncoderSettings(name="mlp", hidden=8, dim=4))
            given |= {"model": lw.Model.untrained(settings, vectors)}
        if page == "ranking":
            given |= {
                "scores": torch.randn(2, 3, requires_grad=True),
                "relevance": torch.tensor([[0, 1, 2], [1, 0, 0]]),
            }
            given |= {"mask": torch.ones(2, 3, dtype=torch.bool), "ids": names, "items": torch.randn(256, 3, 32, 32)}
        exec(compile(code, page, "exec"), given)
