"""Tables and what made them: in the metadata of .parquet, beside a .csv, which stays plain."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from likewise.data import Items
from likewise.data.label_files import label_few
from likewise.errors import LikewiseError
from likewise.tables import stamp_of, table_file, write_table

COLUMNS = {"id": ["a,b", 'c"d', "e\nf", "ü"], "score": [0.5, 1.0, -2.0, 0.0], "given": [True, False, False, True]}
STAMP = {"command": "search", "likewise": "1", "model": "abc", "queries": "photos ü"}


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.CSV"])
def test_a_table_says_what_made_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / name
    write_table(path, COLUMNS, STAMP)
    assert stamp_of(path) == STAMP
    if path.suffix == ".parquet":
        assert pq.read_table(path).to_pydict() == COLUMNS
        return
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == COLUMNS["id"]
    assert sorted(each.name for each in path.parent.iterdir()) == [name, f"{name}.json"]


def test_another_file_beside_a_csv_is_not_replaced(tmp_path: Path) -> None:
    beside = tmp_path / "t.csv.json"
    for text in ('{"mine": 1}', "[1]", "no json"):
        beside.write_text(text)
        with pytest.raises(LikewiseError, match="which is there and is another file"):
            table_file(tmp_path / "t.csv")
        assert beside.read_text() == text
    beside.write_text(json.dumps(STAMP))
    assert table_file(tmp_path / "t.csv") == tmp_path / "t.csv"
    assert table_file(tmp_path / "t.parquet")


def test_a_table_that_is_not_ours_has_no_stamp(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,label\na,x\n")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    assert stamp_of(tmp_path / "t.csv") == stamp_of(tmp_path / "t.parquet") == stamp_of(tmp_path / "none.parquet") == {}


@pytest.mark.parametrize("name", ["all.csv", "all.parquet"])
def test_labels_that_were_found_are_not_taken_for_given_ones(name: str, tmp_path: Path) -> None:
    items = Items(ids=("a", "b"), values=np.zeros((2, 1), np.float32), kind="vectors", source="two")
    columns = {"id": ["a", "b"], "label": ["x", "y"]}
    write_table(tmp_path / name, columns, {**STAMP, "command": "classify"})
    with pytest.raises(LikewiseError, match="holds the labels that likewise classify found"):
        label_few(items, tmp_path / name)
    write_table(tmp_path / name, columns, {**STAMP, "command": "select"})
    assert label_few(items, tmp_path / name).label_names == ("x", "y")
