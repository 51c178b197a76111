"""What the indexes of a server of Milvus are: a row for each in the collection ``likewise_indexes``.

Writing that row puts a generation into use, at once and whole. Rows of items that came later are not of that
generation, and those that it does not have any more are removed when the next one begins: so who still reads the
former one finds all of it.
"""

import json
from typing import Any, NamedTuple

from likewise.errors import LikewiseError
from likewise.index.layout import Layout
from likewise.index.milvus.client import NOW, Milvus
from likewise.index.milvus.fields import TEXT, literal
from likewise.index.promise import Promise

INDEXES = "likewise_indexes"
MARK = "likewise: what the indexes are, format 1"


class About(NamedTuple):
    """The manifest of an index.

    Args:
        generation: counts renewals.
        owner, run: whose index it is, see ``pointer``.
        protocol: how the rows were made.
        layout: the fields.
        engine: exact or hnsw.
        links: of the graph.
        promise: what was measured.
        collection: of its items.
        end: above all keys.
        items: how many.
    """

    generation: int
    owner: str
    run: str
    protocol: dict[str, str | int | float]
    layout: Layout
    engine: str
    links: int
    promise: Promise | None
    collection: str
    end: int
    items: int

    def visible(self) -> str:
        """Which rows are of this generation, in Milvus' language."""
        return f"since <= {self.generation} and until > {self.generation}"


def read(milvus: Milvus, level: str) -> About | None:
    """The manifest of an index; None if there is none.

    Raises LikewiseError when the collection of manifests is one that likewise did not make.
    """
    if level == NOW:
        if not milvus.ask(lambda client: client.has_collection(INDEXES)):
            return None
        if described(milvus, INDEXES) != MARK:
            raise not_ours(milvus, INDEXES)
    found = milvus.read(INDEXES, f"name == {literal(milvus.server.name)}", ["manifest"], level)
    if not found:
        return None
    told: dict[str, Any] = json.loads(found[0]["manifest"])
    told["layout"], told["promise"] = (
        Layout.from_json(told["layout"]),
        Promise(**told["promise"]) if told["promise"] else None,
    )
    return About(**told)


def write(milvus: Milvus, about: About) -> None:
    """Puts a generation into use."""
    told = about._asdict() | {
        "layout": about.layout.as_json(),
        "promise": about.promise.as_json() if about.promise else None,
    }
    text = json.dumps(told)
    if len(text) > TEXT:
        raise LikewiseError("the names of the metadata's columns are too long for Milvus; give fewer or shorter ones.")
    if not milvus.ask(lambda client: client.has_collection(INDEXES)):
        milvus.ask(_create)
    record = {"name": milvus.server.name, "manifest": text, "unused": [0.0, 0.0]}
    milvus.ask(lambda client: client.upsert(INDEXES, [record]))


def _create(client: Any) -> None:
    """Makes the collection of manifests. Each collection of Milvus must have a vector."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description=MARK)
    schema.add_field("name", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("manifest", DataType.VARCHAR, max_length=TEXT)
    schema.add_field("unused", DataType.FLOAT_VECTOR, dim=2)
    client.create_collection(INDEXES, schema=schema)
    index = client.prepare_index_params()
    index.add_index("unused", index_type="FLAT", metric_type="IP", index_name="unused")
    client.create_index(INDEXES, index)
    client.load_collection(INDEXES)


def described(milvus: Milvus, collection: str) -> str:
    """What a collection says of itself."""
    return str(milvus.ask(lambda client: client.describe_collection(collection)).get("description", ""))


def not_ours(milvus: Milvus, collection: str) -> LikewiseError:
    """What to raise of a collection that is not of this run."""
    return LikewiseError(
        f"{milvus} has a collection {collection} that this run did not make; it is left as it is. Name the index "
        "otherwise in the URL, milvus://HOST/NAME, or rename the collection."
    )
