"""The command line, end to end on a handful of pictures; and what it says to every mistake: one sentence, code 2."""

import argparse
import base64
import contextlib
import html.parser
import inspect
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import likewise.__main__ as entry
from likewise.cli.commands import COMMANDS
from likewise.cli.help import SHELLS
from likewise.cli.main import main
from likewise.cli.mistakes import Asked, explain
from likewise.cli.parser import Parser, build_parser
from likewise.config.objective_table import OBJECTIVES
from likewise.config.overrides import settings_from
from likewise.config.policy_table import POLICIES
from likewise.config.yaml_file import read_yaml
from likewise.data import cache
from likewise.errors import LikewiseError
from likewise.index.embedding_file import read_embedding
from likewise.index.index import Index
from likewise.methods import METHODS
from likewise.model import load

NAMES = [command.name for command in COMMANDS]
FIT = ("--size", "16", "--epochs", "2", "--batch_size", "16", "--encoder.dim", "8", "--objective.noise", "32")
MLP = ("--encoder.name", "mlp", "--encoder.hidden", "8", "--encoder.dim", "4", "--epochs", "1", "--knn_epochs", "0")


def picture(seed: int, colour: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 160, (16, 16, 3), dtype=np.uint8)
    pixels[..., colour] = 255
    return Image.fromarray(pixels)


def write_pictures(folder: Path, first: int, each: int) -> None:
    for colour, name in enumerate(("red", "green")):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            picture(first + 100 * colour + number, colour).save(folder / name / f"{number:02} é.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to work in, with pictures, vectors, a run of each, and things that are wrong."""
    place = tmp_path_factory.mktemp("cli")
    write_pictures(place / "photos", 0, 20)
    write_pictures(place / "test", 50, 6)
    (place / "photos/notes.txt").write_text("not a picture")
    (place / "photos/red/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    np.save(place / "vectors.npy", np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32))
    np.save(place / "wider.npy", np.ones((3, 6), np.float32))
    np.save(place / "wider_one.npy", np.ones(6, np.float32))
    picture(9, 1).save(place / "query.png")
    np.save(place / "one.npy", np.load(place / "vectors.npy")[7])
    np.save(place / "far.npy", np.array([0, 0, 1e38, 0, 0], np.float32))
    np.save(place / "complex.npy", np.load(place / "one.npy") + 1j)
    write_wrong(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("LIKEWISE_CACHE", str(place / "cache"))
        assert main(["fit", "photos", "--out", "run", *FIT]) == 0
        assert main(["fit", "vectors.npy", "--out", "vrun", *MLP]) == 0
        assert main(["index", "run", "photos"]) == 0
        assert main(["index", "vrun", "vectors.npy"]) == 0
        break_runs(place)
        yield place


def write_wrong(place: Path) -> None:
    (place / "empty").mkdir()
    (place / "bad").mkdir()
    (place / "bad/a.png").write_bytes(b"no")
    (place / "bad/b.jpg").write_bytes(b"")
    (place / "a_file").write_text("text")
    (place / "list.yaml").write_text("- 1\n- 2\n")
    (place / "broken.yaml").write_text("epochs: [1\n")
    (place / "typo.yaml").write_text("views:\n  flipp: 0.5\n")
    (place / "word.yaml").write_text("negatives:\n  policies: hard\n")
    (place / "empty_run").mkdir()
    (place / "strangers/blue").mkdir(parents=True)
    (place / "strangers/red").mkdir()
    picture(1, 2).save(place / "strangers/blue/0.png")
    picture(2, 0).save(place / "strangers/red/0.png")


def break_runs(place: Path) -> None:
    shutil.copytree(place / "run", place / "unindexed", ignore=shutil.ignore_patterns("index"))
    model = (place / "run/model.safetensors").read_bytes()
    other = (place / "vrun/model.safetensors").read_bytes()
    broken = {"cut": model[: len(model) // 2], "nothing": b"", "noise": bytes(range(256)) * 8, "header": other[:900]}
    for name, data in broken.items():
        shutil.copytree(place / "run", place / name)
        (place / name / "model.safetensors").write_bytes(data)
    shutil.copytree(place / "run", place / "unfinished")
    (place / "unfinished/model.safetensors").unlink()
    files = {"bad_data": "data.json", "bad_scores": "evaluation.json", "bad_index": "index/index.json"}
    for name, file in files.items():
        shutil.copytree(place / "run", place / name)
        (place / name / file).write_text("{")


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("LIKEWISE_CACHE", str(place / "cache"))
    monkeypatch.setenv("COLUMNS", "100")


# Help


@pytest.fixture(scope="module")
def parser() -> Parser:
    return build_parser(COMMANDS)


@pytest.fixture
def built_once(parser: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    """``main`` without the tenth of a second that it takes to build the parser."""
    monkeypatch.setattr("likewise.cli.main.build_parser", lambda commands, words: parser)


def test_help_is_quick_and_free_of_torch() -> None:
    code = f"""
import sys
from likewise.cli.main import main
for command in ([], *([name] for name in {NAMES!r})):
    try:
        main([*command, "--help"])
    except SystemExit as stop:
        assert stop.code == 0, command
for line in ([], ["methods"], ["methods", "moco"], ["objectives"], ["objectives", "circle"]):
    assert main(line) == 0
heavy = {{"torch", "numpy", "PIL", "pyarrow", "rich", "safetensors", "matplotlib", "sklearn"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert f"usage: likewise {name} " in done.stdout
    assert "Wu, Xiong, Yu, Lin" in done.stdout


def test_the_help_lists_every_command_in_the_order_of_its_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out == text
    assert max(map(len, text.splitlines())) <= 95
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    assert listed == NAMES
    groups = [command.group for command in COMMANDS]
    assert [line[:-1] for line in text.splitlines() if line.endswith(":")] == list(dict.fromkeys(groups))
    assert groups == sorted(groups, key=groups.index)  # each heading once


def test_a_shell_completes_commands_options_and_choices(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for shell in SHELLS:
        with pytest.raises(SystemExit) as stop:
            main(["--print_completion", shell])
        assert stop.value.code == 0
        script = capsys.readouterr().out
        assert all(word in script for word in (*NAMES, "views.crop_scale", "proxies"))
    assert main(["--print_completion", "bashh"]) == 2
    assert "must be one of bash, zsh, tcsh. Did you mean 'bash'?" in capsys.readouterr().err
    monkeypatch.setattr("likewise.cli.help.find_spec", lambda name: None)
    assert main(["--print_completion", "bash"]) == 2
    assert 'pip install "likewise[completion]"' in capsys.readouterr().err


@pytest.mark.usefixtures("built_once")
def test_methods_shows_one_with_the_settings_that_make_it(capsys: pytest.CaptureFixture[str]) -> None:
    for name, method in METHODS.items():
        assert main(["methods", name]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"{name}\n  paper       {method.paper}\n")
        options = text.partition("  settings\n")[2].split()
        settings = method.settings
        if settings.related:  # the user's file
            options, settings = [*options, "--relations", "file.csv"], replace(settings, relations="file.csv")
        assert main(["fit", *options, "--method", name, "--print_config"]) == 0
        assert settings_from(read_yaml(capsys.readouterr().out, "printed")) == settings


@pytest.mark.usefixtures("built_once")
def test_objectives_lists_all_and_shows_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["objectives"]) == 0
    text = capsys.readouterr().out
    for known in OBJECTIVES:
        assert f"  {known.name} " in text
    assert "Circle loss (Sun et al. 2020, eq. 6)" in text
    for known in OBJECTIVES:
        assert main(["objectives", known.name]) == 0
        page = capsys.readouterr().out
        assert page.startswith(known.name)
        assert inspect.cleandoc(known.load().__doc__ or "").splitlines()[0].replace("``", "") in page
        assert "Cost:" in page
        for name, part in inspect.signature(known.load()).parameters.items():
            shown = name if part.default is inspect.Parameter.empty else f"{name}={part.default!r}"
            (line,) = re.findall(rf"^  {re.escape(shown)} +\S.*", page, re.MULTILINE)
            by_run, python = line.endswith(" (given by the run)"), line.endswith(" (Python only)")
            assert (by_run, python) == (name in known.given, name not in (*known.given, *known.parameters)), line


@pytest.mark.usefixtures("built_once")
def test_policies_lists_all_and_shows_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policies"]) == 0
    text = capsys.readouterr().out
    for known in POLICIES:
        assert f"  {known.name} " in text
        assert main(["policies", known.class_name]) == 0
        page = capsys.readouterr().out
        assert page.startswith(known.name)
        assert f"Set in a run by --negatives {known.name}" in page
        for name, part in inspect.signature(known.load()).parameters.items():
            assert f"  {name}={part.default!r} " in page
            assert f"--negatives.{name} VALUE" in page
    assert main(["policies", "semihard"]) == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == "likewise 0.1.0\n"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "likewise", "methods"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    assert process.stdout is not None
    process.stdout.close()  # as `| head -0` does
    process.stdout = None
    assert process.communicate()[1] == b""
    assert process.returncode == 0


# End to end


def test_fit_leaves_a_whole_run_folder(place: Path) -> None:
    assert {path.name for path in (place / "run").iterdir()} >= {
        *("config.yaml", "data.json", "skipped.csv", "metrics.jsonl", "checkpoint.pt", "model.safetensors"),
    }
    about = json.loads((place / "run/data.json").read_text())
    assert (about["items"], about["kind"], about["labels"]) == (40, "images", ["green", "red"])
    assert about["skipped"] == 1
    assert (place / "run/skipped.csv").read_text().splitlines()[1].startswith("red/broken.png,")
    model = load(place / "run")
    assert model.epoch == 2
    assert model.settings.encoder.dim == 8
    assert model.settings.size == 16


def test_the_config_of_a_run_makes_the_same_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "photos", "--out", "again", "--config", "run/config.yaml"]) == 0
    out = capsys.readouterr().out
    assert "likewise index again DATA" in out
    one, two = load("run").embedder.state_dict(), load("again").embedder.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("layer", ["embedding", "backbone"])
def test_embed_writes_ids_and_unit_rows(
    place: Path, layer: Literal["embedding", "backbone"], capsys: pytest.CaptureFixture[str]
) -> None:
    model = load("run")
    dim = {"embedding": 8, "backbone": model.embedder.feature_dim}[layer]
    assert main(["embed", "run", "photos", "--out", "z.parquet", "--layer", layer]) == 0
    assert capsys.readouterr().out == f"z.parquet: 40 rows of {dim}\n"
    table = pq.read_table("z.parquet")
    names = [f"{folder}/{number:02} é.png" for folder in ("green", "red") for number in range(20)]
    assert table["id"].to_pylist() == names
    rows = np.array(table["embedding"].to_pylist())
    assert rows.shape == (40, dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    about = read_embedding("z.parquet").metadata
    assert (about["layer"], about["epoch"], about["data"]) == (layer, 2.0, "photos")
    assert about["data_ids_hash"] == json.loads((place / "run/data.json").read_text())["ids_hash"]
    torch.testing.assert_close(torch.tensor(rows).float(), model.embed("photos", layer=layer).rows)


@pytest.mark.filterwarnings("default::likewise.errors.LikewiseWarning")
def test_a_warning_is_one_line_without_source(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLACE_OF_CACHES", str(tmp_path))
    monkeypatch.setenv("LIKEWISE_CACHE", "$PLACE_OF_CACHES/own")
    command = ["embed", "run", "photos", "--out", str(tmp_path / "rows.npy")]
    assert main(command) == 0
    (values,) = tmp_path.glob("own/*/values.bin")
    values.write_bytes(bytes(values.stat().st_size))
    cache._CHECKED.clear()
    capsys.readouterr()
    assert main(command) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {values.parent} does not match its checksum: ")
    monkeypatch.setenv("LIKEWISE_CACHE", "${NO_SUCH_PLACE}/own")
    assert main(command) == 2
    assert capsys.readouterr().err == (
        "likewise: LIKEWISE_CACHE is ${NO_SUCH_PLACE}/own, but there is no variable ${NO_SUCH_PLACE}; write the path "
        "in full.\n"
    )


def test_embed_makes_its_folder_and_writes_npy(place: Path) -> None:
    """The ids are in a file of their own, with what made the rows."""
    assert main(["embed", "run", "photos", "--out", "new/folder/z.npy"]) == 0
    rows, about = np.load("new/folder/z.npy"), json.loads((place / "new/folder/z.ids.json").read_bytes())
    assert (rows.shape, rows.dtype) == ((40, 8), np.float32)
    expected = load("run").embed("photos")
    assert about["ids"] == list(expected.ids)
    np.testing.assert_array_equal(rows, expected.rows.numpy())
    assert about["metadata"] == expected.metadata
    assert about["metadata"]["data_path"] == str(place / "photos")
    assert about["metadata"]["model"] == load("run").weights_hash


def search(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[tuple[float, str]]:
    capsys.readouterr()
    assert main(["search", *arguments]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    return [(float(score), name) for score, name in lines]


def test_search_finds_a_file_itself_and_an_id_never(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("red/03 é.png", "green/11 é.png"):
        by_file = search(capsys, "run", f"photos/{name}", "-k", "5")
        assert len(by_file) == 5
        assert by_file[0] == (1.0, name)
        by_id = search(capsys, "run", name, "-k", "100")
        assert len(by_id) == 39
        assert name not in [hit for _, hit in by_id]
        assert [hit for _, hit in by_id[:4]] == [hit for _, hit in by_file[1:]]
        scores = [score for score, _ in by_id]
        assert scores == sorted(scores, reverse=True)


def test_search_from_python_is_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    model = load("run")
    for query in ("photos/red/03 é.png", "red/03 é.png"):
        wanted = search(capsys, "run", query, "-k", "3")
        assert [(round(score, 4), name) for name, score in model.search(query, 3)] == wanted
        assert model.index("photos", progress=False).search(query, 3) == model.search(query, 3)
    assert model.search(model.embed_file("photos/red/03 é.png"), 3) == model.search(Path("photos/red/03 é.png"), 3)
    vectors = load("vrun")
    assert vectors.search("one.npy", 1)[0].id == "7"
    model.run = None
    with pytest.raises(LikewiseError, match="has no run folder, so it has no index"):
        model.search("red/03 é.png")


def test_search_equals_cosines_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    index = Index.load("run/index")
    rows = index.rows.double().numpy()
    query = index.ids.index("green/05 é.png")
    order = np.argsort(-(rows @ rows[query]), kind="stable")
    expected = [index.ids[row] for row in order if row != query]
    found = search(capsys, "run", "green/05 é.png", "--k", "10")
    assert [score for score, _ in found] == pytest.approx(np.sort(rows @ rows[query])[::-1][1:11], abs=1e-4)
    assert len(set(expected[:10]) & {name for _, name in found}) >= 9  # ties of printed digits aside


def test_search_in_another_layer(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(place / "run", place / "deep")
    assert main(["index", "deep", "photos", "--layer", "backbone"]) == 0
    assert search(capsys, "deep", "photos/red/03 é.png", "-k", "1") == [(1.0, "red/03 é.png")]


def test_search_among_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    assert search(capsys, "vrun", "one.npy", "-k", "1") == [(1.0, "7")]
    assert "7" not in [name for _, name in search(capsys, "vrun", "7")]


def test_a_picture_that_was_never_indexed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hits = search(capsys, "run", "test/red/00 é.png", "-k", "3")
    assert len(hits) == 3
    assert all(-1 <= score <= 1 for score, _ in hits)


class Page(html.parser.HTMLParser):
    """Everything that a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


def test_evaluate_stores_every_number_with_its_protocol_and_the_report_shows_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "run", place / "measured", ignore=shutil.ignore_patterns("*evaluation.json", "retrieval*"))
    assert main(["report", "measured"]) == 0
    assert "Not measured yet" in (place / "measured/report.html").read_text()
    small = ("--k", "7", "--probe_epochs", "2", "--seeds", "2")
    assert main(["evaluate", "measured", "--train", "photos", "--test", "test", *small]) == 0
    out = capsys.readouterr().out
    assert "weighted kNN, all labels" in out
    assert "untrained encoder" in out
    assert "linear SVM, 5 per class" in out
    scores = {score["name"]: score for score in json.loads((place / "measured/evaluation.json").read_text())}
    per = ["knn", "svm", "probe"]
    per += [f"{kind}/{few}" for few in ("1-per-class", "5-per-class", "10-per-class", "10%") for kind in ("knn", "svm")]
    assert {f"{name}/{number}" for name in ("raw", "untrained", "learned") for number in per} <= set(scores)
    train, test = (load("measured").open(name, progress=False) for name in ("photos", "test"))
    for name, score in scores.items():
        kind, measure = name.split("/")[:2]
        protocol = score["protocol"]
        assert 0 <= score["value"] <= 1
        assert (protocol["train"], protocol["test"]) == ("photos", "test")
        assert (protocol["train_ids_hash"], protocol["test_ids_hash"]) == (train.ids_hash, test.ids_hash)
        assert (protocol["train_items"], protocol["test_items"]) == (40, 12)
        assert protocol["size"] == 16
        deep = "backbone" if name.count("/") == 1 and measure != "knn" else "embedding"
        assert protocol["layer"] == ("pixels, centred" if kind == "raw" else deep)
        assert protocol.get("epoch") == {"raw": None, "untrained": 0.0, "learned": 2.0}[kind]
        if kind != "raw":
            assert (protocol["encoder"], protocol["method"], protocol["seed"]) == ("resnet-small", "npid", 0)
        if measure == "knn":
            assert protocol["temperature"] == 0.07
            assert protocol["k"] == min(7, int(protocol.get("labels_total", 7)))
        if measure == "svm":
            assert protocol["C"] == 1.0
        if measure == "probe":
            assert (protocol["lr"], protocol["probe_epochs"], protocol["weight_decay"]) == (30.0, 2, 0.0)
        if name.count("/") == 2:
            assert protocol["seeds"] == "0,1"
            assert score["std"] is not None

    assert main(["report", "measured"]) == 0
    assert capsys.readouterr().out.strip().endswith("measured/report.html")
    text = (place / "measured/report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.links
    assert all(link.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for link in page.links)
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert len(page.links) >= 2 * 11  # a typical item of each of two labels, with ten neighbours
    value = scores["learned/knn"]["value"]
    assert f"<td>{100 * value:.1f}</td>" in text
    assert "photos" in text
    assert "batch_size: 16" in text
    for link in page.links[:3]:
        Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))).verify()


def test_retrieve_in_a_gallery_of_any_labels(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Retrieval needs no label that training knew, and numbers keep their protocol."""
    assert main(["retrieve", "run", "--gallery", "test"]) == 0
    said = capsys.readouterr().out
    assert "Recall@1" in said
    assert "MAP@R" in said
    scores = {score["name"]: score for score in json.loads((place / "run/retrieval.json").read_text())}
    assert {name.partition("/")[0] for name in scores} == {"raw", "untrained", "learned"}
    assert scores["learned/recall@1"]["protocol"]["queries"] == "gallery, each left out"
    assert (place / "run/retrieval/classes.csv").exists()
    line = ["retrieve", "run", "--gallery", "photos", "--queries", "test", "--ks", "1,3", "--out", "found.json"]
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "Recall@3" in said
    assert "Recall@2" not in said
    assert json.loads((place / "found.json").read_text())[0]["protocol"]["query_items"] == 12
    assert (place / "found/roc.csv").exists()


def test_items_under_other_ids_are_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder within the gallery: its ids are other paths, so that every item finds itself."""
    assert main(["retrieve", "run", "--gallery", "photos", "--queries", "photos/red", "--labels", "none"]) == 2
    shutil.copytree(place / "test", place / "more" / "within")
    assert main(["retrieve", "run", "--gallery", "test", "--queries", "more/within"]) == 0
    assert "among the items searched" not in capsys.readouterr().out  # the same ids
    for folder in ("red", "green"):
        for file in (place / "more/within" / folder).iterdir():
            file.rename(file.with_name("new " + file.name))
    assert main(["retrieve", "run", "--gallery", "test", "--queries", "more/within"]) == 0
    assert "12 of the items looked up are also among the items searched, with another id" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("fit x --out o --negatives.policies hard", ("hard",)),
        ("fit x --out o --negatives.policies=hard", ("hard",)),
        ("fit x --out o --negatives.policies easy,hard", ("easy", "hard")),
        ("fit x --out o --negatives.policies [easy,hard]", ("easy", "hard")),
        ("fit x --out o --negatives.at 3", (3.0,)),
        ("fit x --out o --negatives.at=3,4.5", (3.0, 4.5)),
        ("fit x --out o --negatives.at []", ()),
        ("fit x --out o --views.crop_scale 0.5,1", (0.5, 1.0)),
        ("fit x --out o --views.crop_scale [0.5,1]", (0.5, 1.0)),
        ("fit x --out o --views.mean -1e-1,0,.5", (-0.1, 0.0, 0.5)),
        ("figure circle --range -1e-1 -.5", [-0.1, -0.5]),
        ("compare d --out o --methods circle,ms", ["circle,ms"]),
        ("compare d --out o --methods circle ms", ["circle", "ms"]),
        ("fit x --out o --encoder.allow *.weight,fc.?", ("*.weight", "fc.?")),
        ("retrieve r --gallery g --ks 5", [(5,)]),
        ("retrieve r --gallery g --ks 1 10", [(1,), (10,)]),
        ("retrieve r --gallery g --ks 1,10", [(1, 10)]),
        ("retrieve r --gallery g --ks [1,10]", [(1, 10)]),
    ],
)
def test_an_option_of_several_takes_one_too(line: str, found: object, parser: Parser) -> None:
    words = line.split()
    option = [word.partition("=")[0] for word in words if word.startswith("--")][-1]
    assert parser.parse_args(words)[words[0]][option[2:]] == found


def test_evaluate_within_one_folder_is_knn_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "run", "--train", "photos", "--temperature", "0.2", "--out", "within.json"]) == 0
    scores = json.loads(Path("within.json").read_text())
    assert [score["name"] for score in scores] == ["raw/knn", "untrained/knn", "learned/knn"]
    assert {score["protocol"]["test"] for score in scores} == {"train, each left out"}
    assert {(score["protocol"]["k"], score["protocol"]["temperature"]) for score in scores} == {(20, 0.2)}


def test_names_with_markup_are_shown_as_text(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "x<script>alert(1)"
    folder.mkdir()
    for number in range(4):
        picture(number, number % 3).save(folder / f'{number}"><b onclick=x>.png')
    assert main(["fit", str(folder), "--out", str(tmp_path / "<i>run"), *FIT, "--epochs", "1"]) == 0
    assert main(["report", str(tmp_path / "<i>run")]) == 0
    page = Page()
    page.feed((tmp_path / "<i>run/report.html").read_text())
    assert "i" not in page.tags
    assert page.tags.count("script") == 3  # the page's own: points, pictures, and the only one that runs
    assert page.tags.count("b") == 1  # the page's own, around the data's name


def test_parquet_with_a_key_and_a_label_column(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted((place / "photos").glob("*/*é.png"))
    cells = [{"bytes": file.read_bytes(), "path": None} for file in files]
    names = [f"item-{number}" for number in range(len(files))]
    columns = {"image": cells, "name": names, "colour": [file.parent.name for file in files]}
    data, run = str(tmp_path / "data.parquet"), str(tmp_path / "run")
    pq.write_table(pa.table(columns), data)
    assert main(["fit", data, "--out", run, "--key", "name", "--labels", "colour", *FIT, "--epochs", "1"]) == 0
    assert "2 labels" in capsys.readouterr().err
    assert main(["index", run, data]) == 0
    assert search(capsys, run, str(files[3]), "-k", "1") == [(1.0, "item-3")]  # a file has no columns
    assert len(search(capsys, run, "item-3", "-k", "2")) == 2
    assert main(["embed", run, "photos", "--out", str(tmp_path / "z.parquet")]) == 0  # neither has a folder
    assert main(["evaluate", run, "--train", data, "--labels", "colour"]) == 0
    assert main(["report", run]) == 0


# Mistakes

JARGON = ("<class", "typing.", "Union", "Subtypes", "Parser key", "Got value", "Expected a ", "NoneType", "argument --")
MISTAKES: list[tuple[str, str]] = [
    # the command itself
    ("fitt photos --out x", "there is no command 'fitt'. Did you mean 'fit'?|See `likewise --help`"),
    ("--quiet", "`likewise` has no option --quiet"),
    ("fit", "`likewise fit` needs DATA and --out. See `likewise fit --help`."),
    ("fit photos", "`likewise fit` needs --out."),
    ("figure", "`likewise figure` needs NAME."),
    ("figure circle --range 1", "--range needs 2 values."),
    ("fit photos --out x --epoch 3", "--epoch|Did you mean '--epochs'?"),
    ("fit photos --out x --views.flipp 1", "Did you mean '--views.flip'?|likewise fit --help"),
    ("fit photos --out x --epochs many", "--epochs can't be 'many'; it must be a whole number."),
    ("fit photos --out x --epochs", "--epochs needs a value."),
    (
        "fit photos --out x --objective circle --objective.margin wide",
        "'objective.margin' is 'wide'",
    ),
    ("fit photos --out x --objective.margin 1", "objective auto has no parameter 'margin'. It has temperature"),
    ("fit photos --out x --objective.kind nces", "there is no objective 'nces'. Did you mean 'nce'?"),
    ("fit photos --out x --views.crop_scale [0.5]", "--views.crop_scale can't be '[0.5]'; it must be 2 values"),
    ("fit photos --out x --views 3", "--views is a group of settings|--views.crop_scale"),
    ("fit photos --out x --resume=yes", "--resume takes no value"),
    ("fit photos test --out x", "`likewise fit` has no place for 'test'"),
    ("fit a.parquet b.parquet --out x", "no place for 'b.parquet'. Put a pattern of several files in quotes"),
    ("fit photos --out x --config typo.yaml", "'views.flipp'|Did you mean 'views.flip'?"),
    ("fit photos --out x --config list.yaml", "list.yaml holds no settings"),
    ("fit photos --out x --config broken.yaml", "broken.yaml can't be read: "),
    ("fit photos --out x --config none.yaml", "can't read none.yaml: No such file"),
    ("fit photos --out x --config query.png", "query.png is not UTF-8 text"),
    ("fit photos --out x --config word.yaml", "negatives.policies=hard needs an objective over an anchor's row"),
    ("search run a --k ten", "--k can't be 'ten'; it must be a whole number."),
    ("methods nipd", "there is no method 'nipd'. Did you mean 'npid'?"),
    ("fit photos --out x --method NT_Xent", "no method 'NT_Xent', but an objective: --objective NT_Xent (see"),
    ("fit photos --out x --method queue", "no method 'queue', but a dictionary: --dictionary queue."),
    ("fit photos --out x --objective moco", "no objective 'moco', but a method: --method moco (see"),
    ("fit photos --out x --negatives circle", "but a method: --method circle|and an objective: --objective circle"),
    ("compare photos --methods hard --out x", "no method 'hard', but a policy of negatives: --negatives hard (see"),
    ("figure moco", "there is no objective 'moco', but a method"),
    ("fit photos --out x --optim={lr:3}", "--optim is a group of settings, not a value; give its parts, such as --opt"),
    ("fit photos --out x --epochs=", "--epochs is empty."),
    ("fit photos --out x --seed " + "1" * 5000, "it must be a smaller whole number."),
    ("verify npid --set =3", "--set takes NAME=VALUE, such as encoder.bn_groups=4, not '=3'."),
    ("compare photos --methods ms --out run", "run holds a run of fit; name another --out."),
    ("objectives circel", "there is no objective 'circel'. Did you mean 'circle'?"),
    # settings
    ("fit photos --out x --method nipd", "no method 'nipd'. Did you mean 'npid'?"),
    ("fit photos --out x --epochs -1", "'epochs' is -1; it must be a whole number from 1 to 1,000,000,000,000."),
    ("fit photos --out x --objective.temperature 0", "'objective.temperature' is 0; it must be a number above 0"),
    ("fit photos --out x --seed -1", "'seed' is -1; it must be a whole number from 0 to 4,294,967,295"),
    ("fit photos --out x --optim.weight_decay -1", "'optim.weight_decay' is -1.0; it must be a number from 0"),
    ("fit photos --out x --device cuda:99", "device 'cuda:99' can't be used here|try auto"),
    ("fit photos --out x --device mps", "device 'mps' can't be used here (torch sees cpu only); try auto."),
    ("fit photos --out x --device quantum", "device 'quantum' can't be used here"),
    ("fit photos --out x --device meta", "device 'meta' can't be used here"),
    ("fit photos --out x --encoder.name resnet19", "no encoder 'resnet19'. Did you mean 'resnet18'?"),
    ("fit photos --out x --encoder.weights no.pt", "no.pt: there is no such weights file"),
    (
        "fit photos --out x --objective circle --objective.gama 3",
        "objective circle has no parameter 'gama'. Did you mean 'gamma'? It has gamma, margin.",
    ),
    ("fit photos --out x --method cosface --objective.marginn=3", "Did you mean 'margin'? It has scale, margin."),
    ("compare photos --methods ms --out x --objective.gama 3", "`likewise compare` has no option --objective.gama."),
    ("fit photos --out x --negatives.polices hard", "no parameter 'polices'. Did you mean 'policies'?"),
    ("fit photos --out x --negatives random --negatives.cont 3", "no parameter 'cont'. Did you mean 'count'?"),
    ("fit photos --out x --views.rotation -3", "'views.rotation' is -3.0; it must be a number from 0 to 180."),
    # data
    ("fit nowhere --out x", "nowhere does not exist"),
    ("fit photo --out x", "photo does not exist. Did you mean 'photos'?"),
    ("fit empty --out x", "empty holds no images, it has no files at all"),
    ("fit bad --out x", "none of the 2 items of bad can be used|a.png|b.jpg"),
    (
        "fit vectors.npy --out x --encoder.name resnet-small",
        "'resnet-small' does not fit the items, which are vectors of 5 numbers; use mlp",
    ),
    ("fit photos --out x --encoder.name mlp", "encoder 'mlp' does not fit the items, which are images"),
    ("fit photos --out x --labels colour", "'colour' names a column, but photos is a folder of images"),
    ("fit photos --out x --key id", "'id' names a column"),
    ("fit photos --out x --cache a_file", "a_file cannot be written"),
    # run folders
    ("fit photos --out run", "run already holds a run; add --resume"),
    ("fit photos --out a_file", "a_file is a file; --out must name a folder"),
    ("fit photos --out a_file/x", "can't write the run folder a_file/x: Not a directory"),
    ("fit photos --out nothing_here --resume", "nothing_here holds no run to resume"),
    ("fit photos --out run --resume --optim.lr 0.5", "keeps its saved settings, but optim.lr was 0.03 and is now 0.5"),
    ("fit photos --out run --resume --seed 200", "keeps its saved settings, but seed was 0 and is now 200"),
    ("fit vectors.npy --out run --resume", "does not fit the items"),
    ("fit test --out vrun --resume", "does not fit the items"),
    ("evaluate nope --train photos", "there is no run nope; train one first"),
    ("evaluate empty_run --train photos", "empty_run holds no trained model"),
    ("evaluate unfinished --train photos", "training has not finished; add --resume"),
    ("embed cut photos --out z", "cut/model.safetensors is damaged"),
    ("embed nothing photos --out z", "nothing/model.safetensors is damaged"),
    ("embed noise photos --out z", "noise/model.safetensors is damaged"),
    ("embed header photos --out z", "header/model.safetensors is damaged"),
    # measuring
    ("evaluate run --train vectors.npy", "vectors.npy holds vectors, but this model was trained on images"),
    ("evaluate vrun --train photos", "photos holds images, but this model was trained on vectors"),
    ("evaluate vrun --train wider.npy", "no labels"),
    ("evaluate run --train photos/red", "photos/red has no labels"),
    ("evaluate run --train photos --test strangers", "strangers has labels that photos lacks: blue"),
    ("evaluate run --train photos --k 0", "--k is 0; it must be a whole number from 1 to 1,000,000,000,000."),
    (
        "evaluate run --train photos --measures knn,prob",
        "there is no measure 'prob'. Did you mean 'probe'? Known: ",
    ),
    ("evaluate run --train photos --measures probe", "without test items only knn is measured; give test."),
    (
        "evaluate run",
        "`likewise evaluate` needs --train, labelled items, or --split, to measure recommendation, or --pairs",
    ),
    ("evaluate run --gallery photos", "has no option --gallery, but `likewise retrieve` has."),
    ("evaluate run --train photos --queries test", "has no option --queries, but `likewise retrieve` has."),
    ("evaluate run --train photos --ks [1]", "has no option --ks, but `likewise retrieve` has. Did you mean '--k'?"),
    ("retrieve run", "`likewise retrieve` needs --gallery."),
    ("retrieve run --gallery photos --test test", "has no option --test, but `likewise evaluate` has."),
    ("retrieve run --gallery photos --ks 1,0", "--ks is 0; it must be a whole number from 1 to 1,000,000,000,000."),
    (
        "retrieve run --gallery photos --ks 1 100000000000000000000",
        "--ks is 100000000000000000000; it must be a whole number from 1 to 1,000,000,000,000.",
    ),
    ("retrieve run --gallery photos --ks 1 x", "--ks can't be 'x'; it must be a whole number."),
    ("retrieve run --gallery photos --measures nmi", "there is no measure 'nmi'. Known: retrieval, clusters, verif"),
    ("retrieve run --gallery photos --key id", "'id' names a column"),
    ("retrieve run --gallery vectors.npy", "vectors.npy holds vectors, but this model was trained on images"),
    ("retrieve vrun --gallery wider.npy", "no labels"),
    ("report run --labels colour", "--labels, --key, --image and --columns need --data"),
    ("evaluate run --train photos --temperature 0", "--temperature is 0.0; it must be a number above 0 and at most"),
    ("evaluate run --train photos --test test --seeds 0", "--seeds is 0; it must be a whole number from 1 to 10,000."),
    (
        "evaluate run --train photos --test test --probe_epochs -1",
        "--probe_epochs is -1; it must be a whole number from 0",
    ),
    ("evaluate run --train photos --out a_file/e.json", "can't write a_file/e.json: Not a directory"),
    # embedding and search
    ("embed run photos --out a_file/z.parquet", "can't write a_file/z.parquet: Not a directory"),
    ("embed run photos --out /dev/null", "/dev/null must end in .parquet or .npy"),
    ("evaluate run --train photos --out /dev/null", "/dev/null is a device"),
    ("retrieve run --gallery photos --out /dev/null", "/dev/null is a device"),
    ("retrieve run --gallery photos --out numbers", "numbers as .json, so --out numbers must end so"),
    ("retrieve run --gallery photos --out hits.txt", "numbers as .json, so --out hits.txt must end so"),
    ("fit photos --out x --config vectors.npy", "vectors.npy is not UTF-8 text"),
    ("fit photos --out /dev/null", "/dev/null is no folder; --out must name a folder"),
    ("figure circle --out a_file/x", "can't write a_file/x.png: Not a directory"),
    ("embed run photos --out empty", "empty must end in .parquet or .npy"),
    ("embed run photos --out z.parquet --layer top", "there is no layer 'top'"),
    ("embed vrun wider.npy --out z.parquet", "this model takes 5 numbers per item, not rows of shape (6,)"),
    ("index run empty", "empty holds no images"),
    ("search unindexed x", "there is no index in unindexed/index; make one with: likewise index RUN DATA"),
    ("search bad_index x", "bad_index/index/index.json is damaged"),
    (
        "search run nope.png",
        "'nope.png' is neither a file nor the id of an indexed item|like 'green/00 é.png'",
    ),
    ("search run empty", "'empty' is neither a file nor the id"),
    ("search run a_file", "a_file: not an image"),
    ("search run one.npy", "one.npy: not an image"),
    ("search run photos/red/broken.png", "broken.png: "),
    ("search vrun query.png", "not a .npy file of one vector"),
    ("search vrun far.npy", "item '0' is more than 1e+09 standard deviations from those of the training"),
    ("search vrun complex.npy", "complex.npy is not a .npy file of one vector of real numbers"),
    ("search vrun vectors.npy", "vectors.npy is not a .npy file of one vector"),
    ("search vrun wider_one.npy", "this model takes 5 numbers per item"),
    ("search vrun 7 -k 0", "--k is 0; it must be a whole number from 1 to 1,000,000,000,000."),
    ("figure circle --range -2 1", "--range is -2.0; it must be a number from -1 to 1."),
    # report and demo
    ("report nope", "there is no run nope"),
    ("report empty_run", "empty_run holds no trained model"),
    ("report run --data nowhere", "nowhere does not exist"),
    ("report bad_data", "bad_data/data.json is damaged"),
    ("report bad_scores", "bad_scores/evaluation.json is damaged"),
    ("demo --out photos", "photos exists and was not made by the demo"),
]


@pytest.mark.parametrize(("line", "expected"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_sentence_and_code_2(
    line: str, expected: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(line.split())
    except SystemExit as stop:
        code = stop.code
    shutil.rmtree(place / "x", ignore_errors=True)
    said = capsys.readouterr()
    assert code == 2, said.err
    lines = said.err.splitlines()
    assert lines[-1].startswith("likewise: ")
    assert [text for text in lines if text.startswith("likewise: ")] == lines[-1:]
    for part in expected.split("|"):
        assert part in lines[-1]
    for noise in (*JARGON, "Traceback", "tmp-", "[options]"):
        assert noise not in said.err
    assert len(lines[-1]) < 600
    assert said.out == ""


def needed(part: Parser) -> list[str]:
    """What must be given to ``part``: a word for each."""
    words: list[str] = []
    for action in part._actions:
        if not action.option_strings and action.nargs != "?":
            words.append("x")
        elif action.dest in ("out", "train", "gallery", "methods", "labels", "n") and action.required:
            words += [action.option_strings[0], "1" if action.dest == "n" else "x"]
    return words


def refusal(parser: Parser, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the parser says to ``words``; nothing where it takes them."""
    with contextlib.suppress(SystemExit):
        parser.parse_args(words)
    return capsys.readouterr().err


def one_of_each_kind(part: Parser) -> dict[str, argparse.Action]:
    """An option of every type in every group of settings (``--optim.``), by how it is written."""
    found: dict[tuple[str, ...], tuple[str, argparse.Action]] = {}
    for action in part._actions:
        option = next(reversed(action.option_strings), "")
        if option in ("", "--help", "--help-all", "--resume", "--anew", "--allow_urls", "--config", "--print_config"):
            continue
        if part._option_string_actions[option] is not action:  # another way to write an option
            continue
        typed = str(vars(action).get("_typehint", action.type))
        group, default = option.rpartition(".")[0], type(action.default).__name__
        found[type(action).__name__, typed, str(action.nargs), default, group] = option, action
    return dict(found.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_value_of_any_kind_of_option_is_one_sentence(
    name: str, parser: Parser, capsys: pytest.CaptureFixture[str]
) -> None:
    part = parser.part(name)
    for option, action in one_of_each_kind(part).items():
        asked = [name, *needed(part), option]
        assert refusal(parser, asked, capsys).startswith(f"likewise: {option} needs ")
        refused = {value: refusal(parser, [*asked, value], capsys) for value in ("", "[@", "1.5")}
        for said in filter(None, refused.values()):
            assert said.startswith("likewise: ")
            assert option[2:] in said
            assert said.endswith(f" See `likewise {name} --help`.\n")
            assert said.count("\n") == 1
            assert not [word for word in JARGON if word in said], said
        if isinstance(action.default, bool | int | float):
            assert refused[""], option
            assert refused["[@"], option


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "", "--out", "x"], "DATA is empty."),
        (["fit", "photos", "--out", ""], "--out is empty."),
        (["index", "", "photos"], "RUN is empty."),
        (["retrieve", "run", "--gallery="], "--gallery is empty."),
    ],
)
def test_a_path_from_an_unset_variable_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"likewise: {said}\n"


def test_extras_that_are_not_installed(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main(["fit", "photos", "--out", "tb", *FIT, "--tensorboard", "true"]) == 2
    assert 'tensorboard is not installed; pip install "likewise[tb]"' in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["figure", "circle"]) == 2
    assert 'pip install "likewise[plot]"' in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    assert main(["demo", "--out", "demo"]) == 2
    assert 'pip install "likewise[demo]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, entry.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_that_wait_leave_their_core(
    before: dict[str, str], after: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, before.get(name, ""))
        if name not in before:
            monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "argv", ["likewise", "objectives", "circle"])
    handler = signal.getsignal(signal.SIGINT)
    try:
        assert entry.main() == 0
    finally:
        signal.signal(signal.SIGINT, handler)
    assert os.environ.get("GOMP_SPINCOUNT") == after


def test_a_mistake_in_a_real_process_leaves_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "likewise", "fit", "nowhere", "--out", "x"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("likewise: nowhere does not exist")
    assert done.stderr.count("\n") == 1


def test_a_message_of_no_known_form_is_passed_on() -> None:
    asked = Asked(command="fit", commands={}, options={})
    message = 'Parser key "optim.lr": something\n  new:'
    assert explain(message, asked) == 'setting "optim.lr": something new. See `likewise fit --help`.'
