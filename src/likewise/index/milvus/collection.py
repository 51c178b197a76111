"""The collections of items that likewise makes, and no others."""

import json
import time
from collections.abc import Callable
from typing import Any

from likewise.console import Tick
from likewise.index.milvus.client import Milvus
from likewise.index.milvus.manifest import About, described, not_ours

_MARK = "likewise: items of "
_PAUSE = 0.1  # seconds between questions whether a graph is ready


def name_of(index: str, generation: int) -> str:
    """The name of the collection of an index that was made in this generation."""
    return f"likewise_{index}_{generation}"


def _is_ours(milvus: Milvus, collection: str, owner: str) -> bool:
    said = described(milvus, collection)
    return said.startswith(_MARK) and json.loads(said.removeprefix(_MARK))["owner"] == owner


def create(milvus: Milvus, collection: str, owner: str, run: str, schema: Callable[[Any, str], Any]) -> None:
    """Makes a collection, in the place of one of the same owner that a renewal which was killed has left.

    Raises LikewiseError when the name is taken by another.
    """
    if milvus.ask(lambda client: client.has_collection(collection)):
        if not _is_ours(milvus, collection, owner):
            raise not_ours(milvus, collection)
        milvus.ask(lambda client: client.drop_collection(collection))
    about = _MARK + json.dumps({"owner": owner, "run": run})
    milvus.ask(lambda client: client.create_collection(collection, schema=schema(client, about)))


def build(milvus: Milvus, collection: str, engine: str, links: int, tick: Tick) -> None:
    """Builds the graph, or says that every row is compared, and loads the collection into the server's memory."""
    kind, params = ("HNSW", {"M": links, "efConstruction": max(200, 8 * links)}) if engine == "hnsw" else ("FLAT", {})

    def index(client: Any) -> None:
        wanted = client.prepare_index_params()
        wanted.add_index("embedding", index_type=kind, metric_type="IP", index_name="embedding", params=params)
        client.flush(collection)
        client.create_index(collection, wanted)

    milvus.ask(index)
    while (left := milvus.ask(lambda client: client.describe_index(collection, "embedding"))).get("pending_index_rows"):
        tick(1 - left["pending_index_rows"] / max(1, left["total_rows"]))
        time.sleep(_PAUSE)
    milvus.ask(lambda client: client.load_collection(collection))


def drop_others(milvus: Milvus, index: str, owner: str, used: About | None) -> None:
    """Removes the collections of an index that are not in use."""
    kept = used.collection if used else ""
    for collection in milvus.ask(lambda client: client.list_collections()):
        of = collection.removeprefix(name_of(index, 0)[:-1])
        if of != collection and of.isdecimal() and collection != kept and _is_ours(milvus, collection, owner):
            milvus.ask(lambda client, collection=collection: client.drop_collection(collection))  # type: ignore[misc]
