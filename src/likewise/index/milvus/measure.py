"""The promise of an index on Milvus, measured against exact search."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.console import Tick
from likewise.index.milvus import search
from likewise.index.milvus.client import NOW, Milvus
from likewise.index.milvus.manifest import About
from likewise.index.names import number_of
from likewise.index.promise import QUERIES, K, Promise, Tuning, exact_promise, sample
from likewise.metrics.neighbours import top_k

EFFORTS = (16, 24, 40, 64, 100, 160, 250, 400, 640, 1000, 2000)


def measured(milvus: Milvus, about: About, keys: npt.NDArray[np.int64], recall: float, tick: Tick) -> Promise:
    """The promise of a collection whose items have these keys; what is truly nearest is computed here.

    Cost: of the graph, all rows are read once, and multiplied with 1,024 queries.
    """
    drawn = np.random.default_rng(0).permutation(keys)[: 2 * QUERIES]
    which = f"{about.visible()} and key in [{', '.join(map(str, drawn.tolist()))}]"
    items = milvus.read(about.collection, which, ["id", "embedding"], NOW)
    ids = [item["id"] for item in items]
    queries = torch.from_numpy(np.array([item["embedding"] for item in items], np.float32))

    def found(effort: int, asked: Tensor, k: int) -> Tensor:
        but = [ids[place] for place in asked.tolist()]
        near = search.nearest(milvus, about, queries[asked].numpy(), k, but, (), level=NOW, effort=effort)
        hits = torch.full((len(near), k), -1, dtype=torch.int64)
        for place, each in enumerate(near):
            hits[place, : len(each)] = torch.tensor([number_of(hit.id) for hit in each], dtype=torch.int64)
        return hits

    if about.engine == "exact":
        return replace(exact_promise(len(ids), recall, found, served=True), rows=about.items)
    true = _true(milvus, about, queries, torch.tensor([number_of(item) for item in ids]), tick)
    sets = [(asked, true[asked]) for asked in sample(len(ids))]
    return Tuning(sets, about.items, recall, served=True).promise(EFFORTS, found)


def _true(milvus: Milvus, about: About, queries: Tensor, numbers: Tensor, tick: Tick) -> Tensor:
    """(Q, 10) numbers of the items nearest to items of these numbers, without themselves."""
    best, near = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    done = 0
    for page in milvus.pages(about.collection, about.visible(), ["id", "embedding"], about.end, about.layout.dim):
        if page:
            rows = torch.from_numpy(np.array([row["embedding"] for row in page], np.float32))
            keys = torch.tensor([number_of(row["id"]) for row in page])
            scores, at = top_k(queries, rows, K, query_ids=numbers, key_ids=keys)
            best, near = (
                torch.cat([best, scores], 1),
                torch.cat([near, torch.where(at < 0, at, keys[at.clamp_min(0)])], 1),
            )
            best, places = best.topk(min(K, best.shape[1]), dim=1)
            near = near.gather(1, places)
        done += len(page)
        tick(min(1.0, done / about.items))
    return near
