"""Every engine of an index in a folder holds to the properties of all indexes. Servers have files of their own."""

from pathlib import Path

import index_properties as properties
import pytest

from likewise.index import index as module
from likewise.index.asked import Searched

KINDS = ("exact", "faiss:ivf?lists=8", "faiss:hnsw")


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if "faiss" in request.param:
        pytest.importorskip("faiss", reason="not tested: engines of faiss; pip install 'likewise[faiss]'")
    return str(request.param)


@pytest.fixture(scope="module")
def made(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    run = tmp_path_factory.mktemp("run")
    properties.make(kind, run)
    return properties.reopened(run)


@pytest.mark.parametrize("limit", [0, module.AMONG], ids=["by the engine", "by comparing"])
@pytest.mark.parametrize("holds", properties.ON_ONE, ids=properties.name_of)
def test_all_hold(holds: object, made: Searched, kind: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AMONG", limit)
    holds(made, kind == "exact")


@pytest.mark.parametrize("holds", properties.ON_ITS_OWN, ids=properties.name_of)
def test_all_hold_of_one_that_changes(holds: object, kind: str, tmp_path: Path) -> None:
    holds(kind, tmp_path, kind == "exact")
