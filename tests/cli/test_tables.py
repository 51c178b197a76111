"""Labelled vectors from the command line: every command takes tables, array files and files of labels."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import clusters

from likewise.cli.main import main

SMALL = ["--encoder.name", "mlp", "--encoder.hidden", "16", "--encoder.dim", "8", "--epochs", "2", "--batch_size", "60"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the same labelled vectors in every form."""
    monkeypatch.chdir(tmp_path)
    x, labels = clusters()
    names = [f"v{row}" for row in range(len(x))]
    lines = [",".join(["id", *(f"n{column}" for column in range(16)), "kind"])]
    lines += [",".join([name, *map(str, row), str(label)]) for name, row, label in zip(names, x, labels, strict=True)]
    Path("d.csv").write_text("\n".join(lines))
    pq.write_table(pa.table({"sku": names, "v": x.tolist(), "w": (-x).tolist(), "kind": labels}), "d.parquet")
    np.savez("d.npz", x=x, y=labels)
    np.save("x.npy", x)
    np.save("y.npy", labels)
    pq.write_table(pa.table({"id": names[::-1], "label": labels[::-1]}), "labels.parquet")
    return tmp_path


def test_vectors_of_every_form(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", "d.csv", "--labels", "kind", "--columns", "n*", "--method", "circle", "--sampler.per_class", "5"]
    assert main([*fit, "--out", "run", *SMALL]) == 0
    of_lists = ["--columns", "v", "--key", "sku"]
    assert main(["embed", "run", "d.csv", "--out", "a.parquet"]) == 0
    assert main(["embed", "run", "d.parquet", *of_lists, "--out", "b.npy"]) == 0
    one, two = pq.read_table("a.parquet"), json.loads(Path("b.ids.json").read_text())["ids"]
    assert one["id"].to_pylist() == two
    assert np.array_equal(np.stack(one["embedding"].to_numpy()), np.load("b.npy"))
    assert main(["index", "run", "d.parquet", *of_lists]) == 0
    assert main(["search", "run", "v3", "-k", "2"]) == 0
    found = set[float]()
    for data in (
        ["d.csv", "--labels", "labels.parquet"],
        ["d.parquet", "--labels", "kind", *of_lists],
        ["d.npz"],
    ):
        assert main(["retrieve", "run", "--gallery", *data, "--measures", "retrieval", "--out", "r.json"]) == 0
        scores = {score["name"]: score["value"] for score in json.loads(Path("r.json").read_text())}
        found.add(scores["learned/recall@1"])
    assert len(found) == 1
    assert main(["evaluate", "run", "--train", "d.npz", "--test", "d.csv", "--labels", "nothing"]) == 2
    assert "d.npz has no array 'nothing' (labels=)." in capsys.readouterr().err


def test_a_run_on_an_embedding_and_a_file_of_labels_goes_on_from_elsewhere(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = [
        "fit",
        "x.npy",
        "--labels",
        "y.npy",
        "--method",
        "circle",
        "--sampler.per_class",
        "5",
        "--out",
        "run",
        *SMALL,
    ]
    assert main(fit) == 0
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert main(["fit", "../x.npy", "--out", "../run", "--resume"]) == 0
