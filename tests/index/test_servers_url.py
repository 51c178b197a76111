"""The URL of servers, and the file that says where the index of a run is."""

import json
import os
import sys
from pathlib import Path

import pytest

from likewise.errors import LikewiseError
from likewise.index import milvus, pointer
from likewise.index.milvus import client
from likewise.index.names import number_of
from likewise.index.postgresql import parse, shards
from likewise.index.servers import check, opened


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("postgresql://h", "names no database"),
        ("postgresql:///db", "'' in '' is no HOST or HOST:PORT"),
        ("postgresql://h1,,h2/db", "'' in 'h1,,h2' is no HOST or HOST:PORT"),
        ("postgresql://h1,h1/db", "the URL names the server h1:5432 twice"),
        ("postgresql://h:99999/db", "is no HOST or HOST:PORT"),
        ("postgresql://h/db?engin=exact", "has no option 'engin'. Did you mean 'engine'?"),
        ("postgresql://h/db?engine=ivf", "the option engine of the servers is 'ivf'; give one of auto, exact, hnsw"),
        ("postgresql://h/db?halfvec=yes", "the option halfvec of the servers is 'yes'; give 0 or 1"),
        ("postgresql://h/db?halfvec=1&bits=1", "the option bits of the servers is '1'; give 0, or 1 without halfvec"),
        ("postgresql://h/db?engine=exact&bits=1", "bits=1 is an option of the graph"),
        ("postgresql://h/db?links=1", "the option links of the servers is '1'; give a whole number from 2 to 100"),
        ("postgresql://h/db?table=a-b", "the option table of the servers is 'a-b'; give small letters"),
        ("postgresql://h/db?table=indexes", "the option table of the servers is 'indexes'"),
        ("milvus://", "'' is no HOST or HOST:PORT, as in milvus://HOST:19530/NAME"),
        ("milvus://h:0/x", "'h:0' is no HOST or HOST:PORT"),
        ("milvus://h1,h2/x", "names several servers (h1,h2), but Milvus spreads the items over its own"),
        ("milvus://me:secret@h/x", "takes no user; give MILVUS_TOKEN=USER:PASSWORD in the environment"),
        ("milvus://h/a-b", "the name of the index in the URL is 'a-b'; give small letters"),
        ("milvus://h/a/b", "the name of the index in the URL is 'a/b'"),
        ("milvus://h/x?engin=exact", "has no option 'engin'. Did you mean 'engine'?"),
        ("milvus://h/x?engine=ivf", "the option engine of the servers is 'ivf'; give one of auto, exact, hnsw"),
        ("milvus://h/x?secure=yes", "the option secure of the servers is 'yes'; give 0 or 1"),
        ("milvus://h/x?links=1", "the option links of the servers is '1'"),
        ("postgresql://h/db?engine=exact&halfvec=1", "halfvec=1 is an option of the graph"),
    ],
)
def test_a_url_that_can_not_be_one(text: str, sentence: str) -> None:
    with pytest.raises(LikewiseError) as refused:
        check(text)
    assert sentence in str(refused.value)


def test_a_url_is_written_without_its_password() -> None:
    servers = parse("postgresql://me:p%40ss@h1:5433|h1b,[::1]/my%20db?engine=hnsw&halfvec=1&links=24&sslmode=require")
    assert servers.password == "p@ss"
    assert [[(host.name, host.port) for host in shard] for shard in servers.shards] == [
        [("h1", 5433), ("h1b", 5432)],
        [("::1", 5432)],
    ]
    assert "p" + "@ss" not in str(servers)
    assert "p%40ss" not in str(servers)
    again = parse(str(servers))
    assert (again.shards, again.user, again.library) == (servers.shards, "me", (("sslmode", "require"),))
    assert (again.engine, again.numbers, again.links, again.database) == ("hnsw", "halfvec", 24, "my db")
    assert servers.named("Demo Run-3").table == "demo_run_3"
    assert servers.named("é").table == "run"
    assert servers.named("7").table == "run_7"
    assert servers.named("indexes").table == "run_indexes"


def test_a_url_of_milvus_is_written_again() -> None:
    for text in ("milvus://h:19530/x?engine=hnsw&links=24&database=my+db&secure=1", "milvus://[::1]:7/x"):
        assert str(milvus.parse(text)) == text
    assert str(milvus.parse("milvus://h").named("Demo Run-3")) == "milvus://h:19530/demo_run_3"


def test_the_number_of_an_id_is_the_same_everywhere() -> None:
    assert [number_of(item) for item in ("a", "é")] == [2340832890917691671, 7317610273420446871]


def test_a_missing_library_is_said_with_the_line_of_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LikewiseError, match=r"pip install 'likewise\[postgresql\]'"):
        shards.psycopg_here()
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(LikewiseError, match=r"pip install 'likewise\[milvus\]'"):
        client.pymilvus_here()


def test_a_damaged_pointer_is_refused(tmp_path: Path) -> None:
    for content in ("{", "[]", '{"likewise index on servers": 1, "url": "x", "owner": ""}', json.dumps({"url": 3})):
        (tmp_path / pointer.FILE).write_text(content)
        with pytest.raises(LikewiseError, match=r"servers.json is missing or damaged; write it again: likewise index"):
            opened(tmp_path)
    assert os.listdir(tmp_path) == [pointer.FILE]
