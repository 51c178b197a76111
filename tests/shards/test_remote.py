"""Sources and shards by URL, with a local server of S3 (moto): the rows of local files, and mistakes."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shards_of import VECTORS, photos, run_of_pictures, run_of_vectors, tables

from likewise.cli.main import main
from likewise.data import open_items
from likewise.errors import LikewiseError
from likewise.remote import Remote, open_url, without_secret
from likewise.shards import embed_shards, read_shards

server_of = pytest.importorskip("moto.server", reason="not tested: s3://; pip install 'moto[s3]' flask flask-cors")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server of S3, with keys for it in the environment."""
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def place(server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data here, and the same in the bucket ``data``."""
    import boto3

    folder = tmp_path_factory.mktemp("data")
    run_of_pictures(folder / "pictures")
    run_of_vectors(folder / "vectors")
    photos(folder / "photos")
    tables(folder / "tables")
    np.save(folder / "vectors.npy", VECTORS)
    (folder / "photos" / "notes.txt").write_text("no picture")
    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket="data")
    client.create_bucket(Bucket="out")
    for name in ("photos", "tables", "vectors.npy"):
        files = [folder / name] if (folder / name).is_file() else [p for p in (folder / name).rglob("*") if p.is_file()]
        for file in files:
            client.put_object(Bucket="data", Key=str(file.relative_to(folder)), Body=file.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("run", "data"),
    [("pictures", "photos"), ("vectors", "tables"), ("vectors", "tables/[12].parquet"), ("vectors", "vectors.npy")],
)
def test_data_and_shards_by_url_are_those_of_local_files(place: Path, tmp_path: Path, run: str, data: str) -> None:
    here = embed_shards(place / run, str(place / data), tmp_path / "out", shard_rows=100, progress=False)
    url = f"s3://out/{data.replace('[12].parquet', 'some')}/"
    there = embed_shards(place / run, f"s3://data/{data}", url, shard_rows=100, progress=False)
    assert [item.id for item in there.skipped] == [item.id for item in here.skipped]
    for one, other in zip(read_shards(tmp_path / "out")[1], read_shards(url)[1], strict=True):
        assert one.ids == other.ids
        assert np.array_equal(one.rows, other.rows)
        assert np.array_equal(one.contents, other.contents)
    at = open_url(f"{url}part-00000.parquet")
    content = at.read()
    at.write(content[:-9])
    assert embed_shards(place / run, f"s3://data/{data}", url, progress=False).kept == there.manifest.count - 1
    assert at.read() == content


@pytest.mark.parametrize("data", ["other.npy", "other.parquet"])
def test_one_file_by_url_that_has_changed_is_other_data(place: Path, server: str, data: str) -> None:
    import boto3

    client, out = boto3.client("s3", endpoint_url=server), f"s3://out/{data}/"

    def put(kind: str) -> None:
        file, values = io.BytesIO(), VECTORS.astype(kind)
        if data.endswith("npy"):
            np.save(file, values)
        else:
            rows = pa.array(values.tolist(), pa.list_(pa.from_numpy_dtype(values.dtype)))
            pq.write_table(pa.table({"id": [f"{row:04}" for row in range(len(values))], "embedding": rows}), file)
        client.put_object(Bucket="data", Key=data, Body=file.getvalue())

    put("float32")
    embed_shards(place / "vectors", f"s3://data/{data}", out, progress=False)
    assert embed_shards(place / "vectors", f"s3://data/{data}", out, progress=False).kept == 1
    put("float64")
    with pytest.raises(LikewiseError, match="the data have changed since"):
        embed_shards(place / "vectors", f"s3://data/{data}", out, progress=False)


def test_what_opens_items_takes_urls_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items, here = open_items("s3://data/photos", size=8), open_items(place / "photos", size=8)
    assert items.ids == here.ids
    assert np.array_equal(items.values, here.values)
    assert items.path == "s3://data/photos"
    assert [item.id for item in items.skipped] == ["even/12.png"]
    assert np.array_equal(open_items("s3://data/tables/*.parquet").values, VECTORS)
    assert main(["embed", str(place / "pictures"), "s3://data/photos", "--out", "s3://out/cli"]) == 0
    assert "s3://out/cli: 29 rows of 4 in 1 shards, 0 kept." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "out", "said"),
    [
        ("s3://nowhere/photos", "o/", "s3://nowhere/photos holds nothing, or does not exist"),
        ("s3://data/nothing/", "o/", "s3://data/nothing/ holds nothing, or does not exist"),
        ("s3://data/tables/9*.parquet", "o/", "no .parquet file matches s3://data/tables/9*.parquet"),
        ("s3://", "o/", "s3:// names no bucket or folder; write s3://BUCKET/FOLDER/."),
        (
            "s4://data/photos",
            "o/",
            "s4://data/photos is of a scheme that is not known. Known are s3://, gs:// and hdfs://.",
        ),
        ("s3://data/photos?regoin=x", "o/", "Unexpected query parameter in S3 URI: 'regoin'; correct the URL"),
        ("photos", "s3://nowhere/out/", "s3://nowhere/out: there is no such bucket; make it"),
        ("photos", "s3://data/photos/", "s3://data/photos holds other files (such as notes.txt) and no shards"),
    ],
)
def test_a_mistake_in_a_url_is_one_sentence(
    place: Path, data: str, out: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert main(["embed", "pictures", data, "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.startswith("likewise: ")
    assert error.count("\n") == 1
    assert said in error


def test_a_service_that_is_away_is_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(LikewiseError, match=r"^s3://data/photos: the service can't be reached; look at the network"):
        open_items("s3://data/photos")


def test_hdfs_without_hadoop_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(LikewiseError, match=r"hdfs://host/x: hdfs:// needs Java and Hadoop's libhdfs on this machine"):
        open_url("hdfs://host/x")


def test_a_key_in_a_url_is_not_shown() -> None:
    assert without_secret("s3://key:secret@bucket/x?region=y") == "s3://bucket/x?region=y"
    assert without_secret("gs://anonymous@bucket/x") == "gs://anonymous@bucket/x"
    assert "secret" not in str(open_url("s3://key:secret@bucket/x?region=us-east-1"))


def test_a_file_system_without_whole_writes_gets_files_by_renaming(tmp_path: Path) -> None:
    from pyarrow.fs import LocalFileSystem  # in the place of hdfs, which no package has

    at = Remote(LocalFileSystem(), str(tmp_path), "hdfs")
    at.below("a").write(b"content")
    assert (at.below("a").read(), [file.name for file in at.files()]) == (b"content", ["a"])
    at.below("a").write(b"other")
    assert at.below("a").read() == b"other"
