"""``likewise retrieve --relations``: how a run, raw pixels and the untrained encoder rank the items of each query."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from likewise.console import say, stages
from likewise.data import read_graded
from likewise.errors import LikewiseError
from likewise.evaluation.retrieve import representations
from likewise.evaluation.scores import lay_out, percent, print_rows
from likewise.metrics.ranking import Ranking
from likewise.metrics.score import Score
from likewise.model import Model, model_of
from likewise.stamp import Stamp, source_words

FILE = "ranking.json"  # in the run folder, beside retrieval.json
PAIRS = 65_536  # cosines at once
SAME = "have items of one relevance alone, so that any order of them is as good as another"
WORDS = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "hit": "hit rate", "recall": "Recall"}


def ranked(
    model: Model | str | Path,
    *,
    gallery: object,
    relations: str | Path,
    key: str | None = None,
    image: str | None = None,
    columns: Sequence[str] = (),
    k: int = 10,
    progress: bool = True,
) -> list[Score]:
    """Ranks the judged items of each query by cosine: of ``model``, raw pixels (or vectors), the untrained encoder.

    Args:
        model: the model to measure, or the folder of its run.
        gallery: source of the items; queries are items too.
        relations: file of graded relevance, see ``read_graded``; only judged items are ranked.
        key: the column of the ids; None: as the run was trained.
        image: the parquet column of the images; None: as the run was trained.
        columns: the columns of the vectors; empty: as the run was trained.
        k: the places that count.
        progress: show bars.

    Returns:
        Scores named ``raw/ndcg@10``, ``learned/mrr@10`` ..., each with its protocol, and the convention in it.

    Raises:
        LikewiseError: as ``read_graded``; no relevance is above 0.

    Cost: one pass of each encoder over the items. The rows of only one representation are in memory at a time.
    """
    model = model_of(model)
    items = model.open(gallery, labels="none", key=key, image=image, columns=columns, progress=progress)
    graded = read_graded(relations, items.ids, skipped=items.skipped)
    if not bool((graded.relevance > 0).any()):
        raise LikewiseError(f"{graded.source} has no relevance above 0, so nothing is relevant; add some.")
    queries, ordered = graded.queries()
    if ordered < queries:
        say([f"{graded.source}: {queries - ordered:,} of the {queries:,} queries {SAME}."])
    order, offsets = graded.by_query()
    pairs, relevance = graded.rows[order], graded.relevance[order]
    about: Stamp = {**items.stamp("gallery"), "relations": graded.source, "judged": len(graded), "k": k}
    scores: list[Score] = []
    with stages(enabled=progress) as begin:
        for name, rows, query_rows, stamp in representations(model, items, None, about, begin):
            meter = Ranking(tuple(WORDS), k=k)
            meter.update(_cosines(query_rows, rows, pairs), relevance, offsets=offsets)
            for measure, found in meter.compute().items():
                counted: Stamp = {"convention": found.convention, "queries_counted": len(found.values) - found.skipped}
                scores.append(Score(name=f"{name}/{measure}", value=found.mean, protocol={**stamp, **counted}))
    return scores


def _cosines(queries: Tensor, rows: Tensor, pairs: Tensor) -> Tensor:
    """(M,) of the unit rows (N, F) of query and item."""
    return torch.cat([(queries[part[:, 0]] * rows[part[:, 1]]).sum(1) for part in torch.split(pairs, PAIRS)])


def ranked_table(scores: Sequence[Score]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of text: a row for each measure, a column for each representation."""
    return lay_out(scores, "%", _describe, percent)


def print_ranked_table(scores: Sequence[Score]) -> None:
    """The table on standard output."""
    print_rows(*ranked_table(scores))


def renewal(run: Path, protocol: Mapping[str, object]) -> list[str]:
    """The command that measures again what a score's protocol says."""
    gallery = source_words(protocol, "gallery", "gallery")
    return ["likewise", "retrieve", str(run), *gallery, "--relations", str(protocol.get("relations", ""))]


def _describe(name: str) -> str:
    """``ndcg@10`` in words."""
    kind, _, k = name.partition("@")
    return f"{WORDS[kind]}@{k}"
