"""The nearest items on a server of Milvus.

Scores are Milvus' inner products in float32, of all rows (FLAT) or of those that its graph proposes (HNSW). Of what the
graph proposes, only a share fits a condition; so it looks at more rows, by that share. Its way is then cut by rows
that do not fit, whatever the effort; so where few fit, these are read and compared here. They are, too, if there are
fewer hits than fit.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from likewise.errors import LikewiseError
from likewise.index.conditions import Condition
from likewise.index.hits import Hit
from likewise.index.milvus.client import AWAY, Milvus
from likewise.index.milvus.fields import Rows, expression
from likewise.index.milvus.manifest import About
from likewise.metrics.neighbours import top_k

MOST = 16_384  # hits of a query
SPREAD = 4  # times the effort that the share of rows that fit asks for
AMONG = 1000  # rows that fit a condition, up to which they are read and compared here
_BLOCK = 256  # queries at once
_HITS = 1 << 18  # hits at once
_WIDEST_EFFORT = 32_768


def nearest(
    milvus: Milvus,
    about: About,
    queries: Rows,
    k: int,
    excluded: Sequence[str | None],
    conditions: Sequence[Condition],
    *,
    level: str,
    effort: int,
) -> list[list[Hit]]:
    """The k items that are nearest to each of (B, D) queries, or all that fit if there are fewer.

    ``effort`` is the number of rows of the graph that a query looks at (ef); ``level`` how new the rows must be.
    """
    fits = f"{about.visible()} and {expression(about.layout, conditions)}"
    limit = min(k + any(item is not None for item in excluded), about.items)
    if limit > MOST:
        raise LikewiseError(f"Milvus gives {MOST:,} hits of a query at most, but k={k:,}; give a smaller k.")
    if conditions and about.engine == "hnsw":
        count = milvus.count(about.collection, fits, level)
        if count <= AMONG:
            rows = milvus.read(about.collection, fits, ["id", "embedding"], level)
            return _without(_compared([rows], queries, limit), excluded, k)
        limit, effort = min(limit, count), SPREAD * max(effort, limit) * about.items // count
    found: list[list[Hit]] = []
    block = max(1, min(_BLOCK, _HITS // max(1, limit)))
    for start in range(0, len(queries), block):
        found += _asked(milvus, about, queries[start : start + block], limit, fits, level, effort)
    if any(len(hits) < limit for hits in found):
        count = min(limit, milvus.count(about.collection, fits, level))
        short = [place for place, hits in enumerate(found) if len(hits) < count]
        if short:  # the graph has lost the way to some
            pages = milvus.pages(about.collection, fits, ["id", "embedding"], about.end, about.layout.dim)
            for place, hits in zip(short, _compared(pages, queries[short], limit), strict=True):
                found[place] = hits
    return _without(found, excluded, k)


def _without(found: Sequence[Sequence[Hit]], excluded: Sequence[str | None], k: int) -> list[list[Hit]]:
    """The k best hits of each query without one item; equal scores in the order of the ids."""
    return [
        sorted((hit for hit in hits if hit.id != but), key=_order)[:k]
        for hits, but in zip(found, excluded, strict=True)
    ]


def _order(hit: Hit) -> tuple[float, str]:
    return -hit.score, hit.id


def _asked(
    milvus: Milvus, about: About, queries: Rows, limit: int, fits: str, level: str, effort: int
) -> list[list[Hit]]:
    params: dict[str, Any] = {"ef": min(max(effort, limit), _WIDEST_EFFORT)} if about.engine == "hnsw" else {}
    answers = milvus.ask(
        lambda client: client.search(
            about.collection,
            data=list(queries),
            anns_field="embedding",
            limit=limit,
            filter=fits,
            output_fields=["id"],
            search_params={"metric_type": "IP", "params": params},
            consistency_level=level,
            timeout=30 * AWAY,
        )
    )
    return [[Hit(hit["entity"]["id"], float(hit["distance"])) for hit in hits] for hits in answers]


def _compared(pages: Iterable[Sequence[Any]], queries: Rows, limit: int) -> list[list[Hit]]:
    """By comparing all rows of some pages, here."""
    best: list[list[Hit]] = [[] for _ in queries]
    for page in pages:
        if page:
            rows = torch.from_numpy(np.array([row["embedding"] for row in page], np.float32))
            for place, (scores, at) in enumerate(zip(*top_k(queries, rows, limit), strict=True)):
                best[place] += [
                    Hit(page[row]["id"], score) for row, score in zip(at.tolist(), scores.tolist(), strict=True)
                ]
                best[place] = sorted(best[place], key=_order)[:limit]
    return best
