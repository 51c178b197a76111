"""Exact search, saving and loading, and what is refused."""

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from likewise.errors import LikewiseError
from likewise.index import Hit, Index
from likewise.index.embedding_file import read_embedding, write_embedding

IDS = ["cats/a.jpg", "cats/ä.jpg", "dogs/c.jpg", "日本/d.png", "e"]
ROWS = torch.nn.functional.normalize(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), dim=1)
PROTOCOL = {"layer": "head", "epoch": 12, "temperature": 0.07}


def test_search_returns_ids_and_cosines_best_first():
    index = Index(ROWS, IDS, PROTOCOL)
    hits = index.search(ROWS[3], k=3)
    cosines = (ROWS.double() @ ROWS[3].double()).tolist()
    expected = sorted(zip(cosines, IDS, strict=True), reverse=True)[:3]
    assert [hit.id for hit in hits] == [item for _, item in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for score, _ in expected], abs=1e-6)
    assert isinstance(hits[0], Hit)
    assert hits[0].id == IDS[3]
    assert len(index.search(ROWS[3], k=100)) == 5
    assert len(index) == 5
    assert "e" in index
    assert "f" not in index


def test_an_indexed_item_is_searched_by_its_id_and_never_finds_itself():
    index = Index(ROWS, IDS)
    assert index.search("日本/d.png", 4) == index.search(ROWS[3], 4, exclude_id="日本/d.png")
    assert index.search(IDS[3], 5, exclude_id=IDS[0]) == index.search(ROWS[3], 5, exclude_id=IDS[0])


def test_a_row_is_a_tensor_an_array_or_a_list():
    wanted = Index(ROWS, IDS).search(ROWS[3], 2)
    assert Index(ROWS.numpy(), IDS).search(ROWS[3].numpy(), 2) == wanted
    assert Index(ROWS.tolist(), IDS).search(ROWS[3].double().tolist(), 2) == wanted


def test_a_file_needs_what_reads_it(tmp_path):
    file = tmp_path / "query.jpg"
    file.touch()
    asked = []
    index = Index(ROWS, IDS, read=lambda path: asked.append(path) or ROWS[2])
    assert index.search(file, 3) == index.search(str(file), 3) == index.search(ROWS[2], 3)
    assert asked == [str(file)] * 2
    index.save(tmp_path)
    with pytest.raises(LikewiseError, match=r"loaded without a model, .* use lw.load\(RUN\).search\('.*query.jpg'\)"):
        Index.load(tmp_path).search(file)
    with pytest.raises(LikewiseError, match=r"'nope.jpg' is neither a file nor the id of an indexed item"):
        index.search("nope.jpg")


def test_an_item_can_be_left_out_by_id():
    index = Index(ROWS, IDS)
    hits = index.search(ROWS[3], k=5, exclude_id=IDS[3])
    assert [hit.id for hit in hits] == [hit.id for hit in index.search(ROWS[3], k=5)][1:]
    assert index.search(ROWS[3], exclude_id="elsewhere.jpg") == index.search(ROWS[3])


def test_a_batch_finds_what_single_queries_find():
    index = Index(ROWS, IDS)
    excluded = [None, IDS[1], None, "unknown", IDS[0]]
    batch = index.search_batch(ROWS, k=3, exclude_ids=excluded)
    assert batch == [index.search(row, 3, exclude_id=item) for row, item in zip(ROWS, excluded, strict=True)]
    assert index.search_batch(ROWS, k=2) == [index.search(row, 2) for row in ROWS]


def test_save_and_load(tmp_path):
    index = Index(ROWS, IDS, PROTOCOL)
    index.save(tmp_path / "run" / "index")
    again = Index.load(tmp_path / "run" / "index")
    assert again.ids == tuple(IDS)
    assert torch.equal(again.rows, ROWS)
    assert again.protocol == PROTOCOL
    assert again.search(ROWS[0], 4) == index.search(ROWS[0], 4)
    names = {path.name for path in (tmp_path / "run" / "index").iterdir()}
    assert names == {".lock", "index.json", "items-1.parquet"}


def test_a_failed_save_leaves_the_old_index(tmp_path, monkeypatch):
    Index(ROWS, IDS, PROTOCOL).save(tmp_path)

    def full_disk(table, file, **options):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(OSError, match="No space left"):
        Index(ROWS[:2], IDS[:2]).save(tmp_path)
    assert Index.load(tmp_path).ids == tuple(IDS)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "index.json", "items-1.parquet"}


def test_readers_see_a_whole_index_while_it_is_replaced(tmp_path):
    big = torch.randn(400, 6)
    names = [str(number) for number in range(400)]
    Index(ROWS, IDS).save(tmp_path)
    stop = threading.Event()

    def read():
        seen = []
        while not stop.is_set():
            seen.append(len(Index.load(tmp_path)))
        return seen

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        try:
            for _ in range(40):
                Index(big, names).save(tmp_path)
                Index(ROWS, IDS).save(tmp_path)
        finally:
            stop.set()
        assert set(reader.result()) <= {5, 400}
        assert reader.result()


def test_embedding_file_has_the_promised_schema_and_other_tools_files_can_be_read(tmp_path):
    path = tmp_path / "z.parquet"
    write_embedding(path, ROWS.double(), IDS, PROTOCOL)
    schema = pq.read_schema(path)
    assert schema.field("id").type == pa.string()
    assert schema.field("embedding").type == pa.list_(pa.float32(), 6)
    table = pq.read_table(path)
    assert table["id"].to_pylist() == IDS
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), ROWS.numpy())
    rows, ids, metadata = read_embedding(path)
    assert (ids, metadata) == (tuple(IDS), PROTOCOL)
    assert torch.equal(rows, ROWS)
    lists = pa.table({"extra": [1, 2], "embedding": [[1.0, 2.0], [3.0, 4.0]], "id": ["a", "b"]})
    pq.write_table(lists, path)
    assert read_embedding(path).rows.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert read_embedding(path).metadata == {}


def test_many_row_groups_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr("likewise.index.embedding_file._GROUP_ROWS", 16)
    rows = torch.arange(300.0).reshape(100, 3)
    names = [f"{number}" for number in range(100)]
    write_embedding(tmp_path / "z.parquet", rows, names, {})
    assert pq.ParquetFile(tmp_path / "z.parquet").num_row_groups == 7
    again, ids, _ = read_embedding(tmp_path / "z.parquet")
    assert ids == tuple(names)
    assert torch.equal(again, rows)


BROKEN = ROWS.clone()
BROKEN[2, 1] = math.nan


@pytest.mark.parametrize("name", ["z", "z.csv", "-"])
def test_an_embedding_of_another_kind_of_file_is_refused(tmp_path, name):
    with pytest.raises(LikewiseError, match=r"must end in \.parquet or \.npy"):
        write_embedding(tmp_path / name, ROWS, IDS, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ids", "rows", "text"),
    [
        (IDS[:4], ROWS, "4 ids but 5 rows"),
        ([*IDS[:4], IDS[0]], ROWS, "'cats/a.jpg' occurs twice"),
        ([], ROWS[:0], "empty"),
        (IDS, ROWS[0], "shape"),
        (IDS, BROKEN, "row of 'dogs/c.jpg' holds NaN"),
    ],
)
def test_bad_embeddings_are_refused(tmp_path, ids, rows, text):
    with pytest.raises(LikewiseError, match=text):
        Index(rows, ids)
    with pytest.raises(LikewiseError, match=text):
        write_embedding(tmp_path / "z.parquet", rows, ids, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("query", "k", "text"),
    [
        (torch.ones(5), 10, "5 numbers but the index holds rows of 6"),
        (torch.ones(2, 6), 10, "one row"),
        (ROWS[0], 0, "k=0 must be at least 1"),
        (BROKEN[2], 10, "NaN"),
        (torch.ones(6, dtype=torch.int64), 10, "floating point"),
    ],
)
def test_bad_queries_are_refused(query, k, text):
    with pytest.raises(LikewiseError, match=text):
        Index(ROWS, IDS).search(query, k)


def test_exclude_ids_of_another_length_are_refused():
    with pytest.raises(LikewiseError, match="2 queries but 1 exclude_ids"):
        Index(ROWS, IDS).search_batch(ROWS[:2], exclude_ids=[None])


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(LikewiseError, match="no index in"):
        Index.load(tmp_path)
    with pytest.raises(LikewiseError, match="no embedding file"):
        read_embedding(tmp_path / "z.parquet")
    path = tmp_path / "z.parquet"
    good = pa.array([[1.0, 2.0], [3.0, 4.0]])
    tables = {
        "not an embedding file": pa.table({"id": ["a", "b"]}),
        "different|not an embedding": pa.table({"id": ["a", "b"], "embedding": [[1.0], [1.0, 2.0]]}),
        "missing ids": pa.table({"id": ["a", None], "embedding": good}),
        "not text": pa.table({"id": [1, 2], "embedding": good}),
        "missing|not an embedding file": pa.table({"id": ["a", "b"], "embedding": [[1.0, 2.0], None]}),
        "NaN|not an embedding file": pa.table({"id": ["a", "b"], "embedding": [[1.0, 2.0], [None, 1.0]]}),
        "occurs twice": pa.table({"id": ["a", "a"], "embedding": good}),
        "empty|not an embedding file": pa.table({"id": pa.array([], pa.string()), "embedding": good[:0]}),
    }
    for text, table in tables.items():
        pq.write_table(table, path)
        with pytest.raises(LikewiseError, match=text):
            read_embedding(path)
    for junk in (b"", b"PAR1 but not really"):
        path.write_bytes(junk)
        with pytest.raises(LikewiseError, match="not an embedding file"):
            read_embedding(path)
    write_embedding(path, ROWS, IDS, PROTOCOL)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LikewiseError, match="not an embedding file"):
        read_embedding(path)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (np.full(6, 1e38), r"numbers up to 1e\+38, so that scores would overflow: scale it to length 1"),
        (torch.full((6,), 1e300, dtype=torch.float64), "scores would overflow"),
        (np.full(6, 1 + 1j), "floating point, but is torch.complex128"),
        (["a"] * 6, "the query can't be read as numbers"),
        ([[1.0], [2.0, 3.0]], "the query can't be read as numbers"),
        (np.array([None] * 6), "the query can't be read as numbers"),
        (torch.eye(6)[0].to_sparse(), r"the query of shape \(6,\) is sparse"),
        (torch.empty(6, device="meta"), "is on the device meta"),
    ],
)
def test_queries_that_are_no_real_numbers_are_one_sentence(query, text):
    with pytest.raises(LikewiseError, match=text):
        Index(ROWS, IDS).search(query)


def test_queries_in_another_byte_order():
    query = ROWS[0].numpy()
    assert Index(ROWS, IDS).search(query.astype(">f4")) == Index(ROWS, IDS).search(query)
    assert Index(ROWS.numpy().astype(">f4"), IDS).search(query) == Index(ROWS, IDS).search(query)


def test_a_file_of_ids_that_is_not_ours_is_not_replaced(tmp_path: Path) -> None:
    rows, beside = torch.eye(2), tmp_path / "z.ids.json"
    beside.write_text('{"mine": 1}')
    with pytest.raises(LikewiseError, match=r"z\.ids\.json was not written by likewise, .* name another --out"):
        write_embedding(tmp_path / "z.npy", rows, ["a", "b"], {})
    assert beside.read_text() == '{"mine": 1}'
    assert not (tmp_path / "z.npy").exists()
    beside.unlink()
    for ids in (["a", "b"], ["c", "d"]):  # its own may be replaced
        write_embedding(tmp_path / "z.npy", rows, ids, {})
        assert json.loads(beside.read_text())["ids"] == ids
