"""What a model made is not used after the model, the items or the place are others; the sentence renews it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from likewise import stamp
from likewise.cli.main import main
from likewise.comparison.run import compare
from likewise.data import open_items
from likewise.errors import LikewiseError
from likewise.evaluation.classify import Protocol, options_of
from likewise.evaluation.labelled_items import options_text
from likewise.index import Index
from likewise.index.embedding_file import write_embedding
from likewise.model import load
from likewise.proof.small_run import make_plan
from likewise.reports.figure import draw_named
from likewise.reports.html import write_report
from likewise.training.fit import fit
from likewise.training.metrics_log import read_metrics

SMALL = {"size": 8, "epochs": 1, "batch_size": 4, "knn_epochs": 0, "encoder.dim": 4}


def write_pictures(folder: Path, seed: int) -> None:
    for number in range(8):
        path = folder / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed + number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, a run of them with everything that commands write, and another run."""
    place = tmp_path_factory.mktemp("stamp")
    write_pictures(place / "photos", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        fit("photos", out="other", settings={**SMALL, "seed": 1}, progress=False)
        fit("photos", out="run", settings=SMALL, progress=False)
        assert main(["index", "run", "photos"]) == 0
        assert main(["evaluate", "run", "--train", "photos", "--k", "3"]) == 0
        assert main(["retrieve", "run", "--gallery", "photos", "--ks", "1,2"]) == 0
        assert main(["report", "run"]) == 0
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run beside its photos, at a place where a test may change it; the photos stay where they were."""
    shutil.copytree(made / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def retrain(made: Path) -> None:
    shutil.copy(made / "other" / "model.safetensors", "run/model.safetensors")


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(LikewiseError) as error:
        act()
    return str(error.value)


def test_every_derived_file_has_the_stamp(made: Path, place: Path) -> None:
    model, items = load("run"), open_items(made / "photos", size=8, progress=False)
    expected = {"model": model.weights_hash, "data": "photos", "data_path": str(made / "photos")}
    expected["data_ids_hash"] = items.ids_hash
    assert model.weights_hash == stamp.hash_of(Path("run/model.safetensors"))
    assert expected.items() <= model.load_index().protocol.items()
    page = re.search('<meta name="likewise" content="(.*?)">', Path("run/report.html").read_text(encoding="utf-8"))
    assert page is not None
    assert expected.items() <= json.loads(page[1].replace("&quot;", '"')).items()
    for file, name in (("evaluation.json", "train"), ("retrieval.json", "gallery")):
        protocol = json.loads(Path("run", file).read_bytes())[-1]["protocol"]
        assert {key.replace("data", name): value for key, value in expected.items()}.items() <= protocol.items()
    assert json.loads(Path("run/data.json").read_bytes())["path"] == str(made / "photos")


def test_a_model_in_memory_has_the_hash_of_its_file(tmp_path: Path) -> None:
    items = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    mlp = {"encoder.name": "mlp", "encoder.hidden": 4, "encoder.dim": 2, "epochs": 1, "batch_size": 4}
    model = fit(items, out=tmp_path, settings=mlp, progress=False)
    assert model.weights_hash == stamp.hash_of(tmp_path / "model.safetensors") == load(tmp_path).weights_hash
    model.index(items, progress=False).save(tmp_path / "index")
    assert model.search("3", 1)[0].id == load(tmp_path).search("3", 1)[0].id


def test_the_index_of_another_model_is_refused_with_the_command_that_renews_it(made: Path, place: Path) -> None:
    assert main(["search", "run", "0/0.png"]) == 0
    retrain(made)
    command = f"likewise index run {made / 'photos'}"
    for act in (lambda: load("run").search("0/0.png"), lambda: load("run").load_index()):
        assert (
            refused(act) == f"run/index was made with another model than the run has now; make it again with: {command}"
        )
    assert main(["search", "run", "0/0.png"]) == 2
    assert main(command.split()[1:]) == 0
    assert main(["search", "run", "0/0.png"]) == 0


def test_scores_of_another_model_are_refused_with_the_commands_that_renew_them(
    made: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    retrain(made)
    photos = made / "photos"
    renewals = (f"likewise evaluate run --train {photos} --k 3", f"likewise retrieve run --gallery {photos} --ks 1,2")
    for command in renewals:
        assert refused(lambda: write_report(Path("run"))).endswith(
            f" was made with another model than the run has now; make it again with: {command}"
        )
        assert main(command.split()[1:]) == 0
    assert main(["report", "run"]) == 0


def test_a_command_that_renews_scores_names_every_column_that_was_named() -> None:
    columns = {"labels": "name", "key": "id", "image": "photo"}
    assert (
        options_of(Protocol(k=3, labels="name", key="id", image="photo"))
        == "--labels name --key id --image photo --k 3"
    )
    options = options_text({**columns, "ks": (1, 2)}, {"labels": "auto", "key": None, "image": None, "ks": (1,)})
    assert options == "--labels name --key id --image photo --ks 1,2"


def test_figures_that_were_not_made_with_the_scores_are_refused(made: Path, place: Path) -> None:
    (place / "run/retrieval/stamp.json").write_text("[1, 2]")
    command = f"likewise retrieve run --gallery {made / 'photos'} --ks 1,2"
    assert refused(lambda: write_report(Path("run"))).endswith(f"make both again with: {command}")


def test_files_of_an_older_version_are_refused_with_the_same_commands(made: Path, place: Path) -> None:
    index = load("run").load_index()
    older = {name: index.protocol[name] for name in ("method", "encoder", "layer", "size", "epoch", "seed", "data")}
    Index(index.rows, index.ids, older).save("run/index")
    assert refused(lambda: load("run").load_index()) == (
        "run/index does not say which model made it; make it again with: likewise index run DATA"
    )
    shutil.copytree(made / "photos", "photos")
    assert refused(lambda: load("run").load_index()).endswith("likewise index run photos")


def test_the_report_shows_the_photos_of_the_training_and_no_others(made: Path, place: Path) -> None:
    write_pictures(place / "photos", 100)  # this folder's own, with the same names
    page = write_report(Path("run")).read_text(encoding="utf-8")
    assert str(made / "photos") in page
    wanted = write_report(Path("run"), data=made / "photos").read_text(encoding="utf-8")
    pictures = re.compile('src="data:image/png;base64,[^"]*"')
    assert pictures.findall(page)[1:30] == pictures.findall(wanted)[1:30]


def test_items_that_are_others_now_are_refused(made: Path, place: Path) -> None:
    about = json.loads(Path("run/data.json").read_bytes())
    write_pictures(place / "photos", 0)
    (place / "photos/0/0.png").rename(place / "photos/0/renamed.png")
    for older in ({**about, "path": str(place / "photos")}, {**about, "path": None}):  # without it: as typed
        Path("run/data.json").write_text(json.dumps(older))
        assert "holds other items than run was trained on; name the items that you mean with --data" in refused(
            lambda: write_report(Path("run"))
        )
        assert "Items: made-up images, since the run's own can't be opened." in make_plan("run").notes


@pytest.mark.parametrize("text", [b"null", b"3", b"[1,2]", b"{", b"\xff\xfe", b'{"source": 3}', b"[" * 9999])
def test_damaged_side_files_are_a_sentence(text: bytes, place: Path) -> None:
    files = {
        "data.json": "delete it. `likewise report` then needs --data",
        "evaluation.json": "delete it, and measure",
        "retrieval.json": "delete",
    }
    for name, help in files.items():
        kept = Path("run", name).read_bytes()
        Path("run", name).write_bytes(text)
        assert re.search(f"run/{name} is damaged.*{help}", refused(lambda: write_report(Path("run"))))
        Path("run", name).write_bytes(kept)
    with Path("run/metrics.jsonl").open("ab") as log:
        log.write(b'{"step": 3, "loss": 2.5, "knn": 0.5}\n')  # of no epoch
    Path("run/config.yaml").write_bytes(b"epochs: 1 # \xe9")
    write_report(Path("run"))  # has the settings of the model
    assert main(["fit", "photos", "--out", "run", "--resume"]) == 2


@pytest.mark.parametrize(
    "bad",
    [b"null", b"3", b'"text"', b"\xff\xfe", b'{"step": null}', b'{"step": 1, "knn": null, "epoch": 1}', b"[" * 9999],
)
def test_a_bad_line_of_the_log_is_left_out(bad: bytes, place: Path) -> None:
    path = Path("run/metrics.jsonl")
    good = path.read_bytes()
    expected = read_metrics(Path("run"))
    assert len(expected) > 0
    path.write_bytes(bad + b"\n" + good + bad)
    assert read_metrics(Path("run")) == expected


def test_comparisons_say_whose_answers_they_are(made: Path, tmp_path: Path) -> None:
    settings = {"size": 8, "encoder.dim": 4, "batch_size": 4, "sampler.per_class": 2}
    for number in range(4):
        shutil.copytree(made / "photos" / "0", tmp_path / "data" / f"{number}")
        for path in (tmp_path / "data" / f"{number}").iterdir():
            pixels = np.random.default_rng(number + int(path.stem) * 9).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    out = tmp_path / "data" / "compared"  # among the data, too
    compare(tmp_path / "data", methods=["contrastive"], out=out, seeds=1, settings=settings, steps=1, progress=False)
    answers = [json.loads(line) for line in (out / "cells.jsonl").read_bytes().splitlines()]
    learned = next(answer for answer in answers if answer["question"]["what"] == "contrastive")
    assert learned["model"] == stamp.hash_of(out / "contrastive-seed-0" / "model.safetensors")
    assert json.loads((out / "compare.json").read_bytes())["data"]["train_path"] == str(tmp_path / "data")
    draw_named("circle", str(tmp_path / "data" / "0" / "circle"), [], (-1.0, 1.0))
    alone = tmp_path / "data" / "1" / "plot.png"  # without the SVG that was drawn with it
    shutil.copy(out / "compare.png", alone)
    (alone.parent / "0.svg").write_text("<svg/>")  # beside 0.png, which is a photo
    items = open_items(tmp_path / "data", size=8, progress=False)
    assert len(items) == 16
    assert [(one.id, one.reason) for one in items.skipped] == [("1/plot.png", "a plot that likewise drew")]


def test_an_index_among_the_tables_is_no_data(tmp_path: Path, made: Path) -> None:
    files = sorted((made / "photos").rglob("*.png"))
    rows = [{"image": {"bytes": file.read_bytes(), "path": str(number)}} for number, file in enumerate(files)]
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    write_embedding(tmp_path / "run.parquet", np.ones((2, 3), np.float32), ["a", "b"], {"layer": "embedding"})
    assert len(open_items(tmp_path, size=8, progress=False)) == 8


def test_home_is_the_home_folder_in_every_path(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    shutil.copytree(made / "photos", tmp_path / "photos")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "photos")
    assert main(["embed", "~/run", "~/photos", "--out", "~/new/z.parquet"]) == 0
    assert main(["index", "~/run", "~/photos"]) == 0
    assert main(["search", "~/run", "~/photos/0/0.png", "-k", "1"]) == 0
    assert capsys.readouterr().out.endswith("\t0/0.png\n")
    assert main(["fit", "~/photos", "--out", "~/run", "--config", "~/run/config.yaml"]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (tmp_path / "new" / "z.parquet").exists()
    assert not list((tmp_path / "photos").glob("~*"))


@pytest.mark.parametrize(
    "line",
    [
        ["fit", "", "--out", "x"],
        ["fit", "photos", "--out", " "],
        ["fit", "photos", "--out", "x", "--cache", ""],
        ["fit", "photos", "--out", "x", "--config", ""],
        ["embed", "run", "photos", "--out", ""],
        ["index", "", "photos"],
        ["report", "run", "--data", ""],
        ["compare", "photos", "--methods", "circle", "--out", "x", "--test", ""],
    ],
    ids=lambda line: " ".join(line),
)
def test_an_empty_path_is_refused_by_name(line: list[str], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(place.rglob("*"))
    assert main(line) == 2
    assert capsys.readouterr().err.rstrip().endswith("is empty.")
    assert sorted(place.rglob("*")) == before
    for act in (lambda: fit("", out="x"), lambda: fit("photos", out=""), lambda: load(""), lambda: open_items(" ")):
        assert "is empty; name a file or folder" in refused(act)


def test_the_code_is_known_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Path(stamp.__file__).parent / "metrics").is_dir()  # all of the package
    (tmp_path / "sub").mkdir()
    (tmp_path / "stamp.py").write_text("a = 1\n")
    (tmp_path / "sub/b.py").write_text("b = 1\n")
    monkeypatch.setattr(stamp, "__file__", str(tmp_path / "stamp.py"))
    digest = stamp.code_digest.__wrapped__
    first = digest()
    assert len(first) == 8
    (tmp_path / "notes.txt").write_text("no code")
    assert digest() == first
    (tmp_path / "sub/b.py").write_text("b = 2\n")
    assert digest() != first
    (tmp_path / "sub/b.py").rename(tmp_path / "b.py")
    (tmp_path / "b.py").write_text("b = 1\n")
    assert digest() != first
