"""Retrieval, clusters and verification of a run beside raw pixels and the untrained encoder: no class need be known.

Zero-shot: the classes of gallery and queries may all be ones that training never saw (Oh Song et al. 2016).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from likewise.data import Items
from likewise.evaluation.clustering import clustering
from likewise.evaluation.measures import Score
from likewise.evaluation.protocol import (
    REPRESENTATIONS,
    encoders,
    labelled,
    lay_out,
    percent,
    print_rows,
    raw_rows,
    shared_ids,
)
from likewise.evaluation.retrieval import retrieval
from likewise.evaluation.verification import random_pairs
from likewise.evaluation.verification import verification as verify_pairs
from likewise.model import Model
from likewise.progress import track

FILE = "retrieval.json"  # of a run, beside evaluation.json
FOLDS = 10
FARS = (1e-1, 1e-2, 1e-3)

Stamp = dict[str, str | int | float]


def evaluate_retrieval(
    model: Model,
    *,
    gallery: object,
    queries: object | None = None,
    labels: str = "auto",
    ks: Sequence[int] = (1, 2, 4, 8),
    clusters: bool = True,
    verification: bool = True,
    seeds: Sequence[int] = (0, 1, 2),
    pairs: int = 6000,
    progress: bool = True,
) -> list[Score]:
    """Measures ``model`` beside raw pixels (or vectors) and the untrained encoder by looking queries up in a gallery.

    Scores are named ``learned/recall@1``, ``learned/map@r`` ...: retrieval of the queries in the gallery; the
    agreement of k-means clusters of the gallery with its labels (as many clusters as labels); and verification of pairs
    drawn from the gallery, half of them alike, by LFW's ten folds. See ``retrieval``, ``clustering``, ``verification``.
    Every number has its protocol.

    Args:
        model: what to measure.
        gallery: source of the items looked up; without a label they are left out.
        queries: source of the items to look up. None: the gallery's, each left out of its own ranking. An item that is
            in both (same name, same content) never finds itself either. Labels are matched by name; queries of a label
            that the gallery lacks don't count, and the protocol says how many.
        labels: auto, or the parquet column of the label.
        ks: of Recall@k.
        clusters: whether to measure clusters; several labels per item have none.
        verification: whether to measure verification, likewise; left out where fewer than 40 pairs can be drawn.
        seeds: of k-means; the first is that of the draw of pairs.
        pairs: how many to draw, at most; LFW's number.
        progress: show a bar.

    Raises:
        LikewiseError: labels are missing or fewer than two, or no query has an item of its label in the gallery.

    Cost: see ``retrieval`` and ``clustering``; the rows of one representation are in memory at a time.
    """
    items = labelled(model.open(gallery, labels=labels, progress=progress))
    others = None if queries is None else labelled(model.open(queries, labels=labels, progress=progress))
    about: Stamp = {
        "gallery": items.source,
        "gallery_items": len(items),
        "gallery_ids_hash": items.ids_hash,
        "queries": "gallery, each left out" if others is None else others.source,
        "query_items": len(items if others is None else others),
        "query_ids_hash": (items if others is None else others).ids_hash,
    }
    scores: list[Score] = []
    with track("measuring", len(REPRESENTATIONS), enabled=progress) as tick:
        one_label = items.labels is not None and items.labels.ndim == 1
        for name, rows, query_rows, stamp in _representations(model, items, others, about):
            found = _retrieved(rows, query_rows, items, others, ks, stamp)
            if clusters and one_label:
                found += _clustered(rows, items, seeds, stamp)
            if verification and one_label:
                found += _verified(rows, items, pairs, seeds[0], stamp)
            scores += [
                Score(name=f"{name}/{score.name}", value=score.value, std=score.std, protocol=score.protocol)
                for score in found
            ]
            tick(REPRESENTATIONS.index(name) + 1)
    return scores


def _representations(
    model: Model, gallery: Items, queries: Items | None, about: Stamp
) -> Iterator[tuple[str, Tensor, Tensor, Stamp]]:
    """Name, rows of gallery and of queries, and protocol, one after the other."""
    rows, query_rows, layer = raw_rows(model, gallery, queries)
    size: Stamp = {"size": model.settings.size} if gallery.kind == "images" else {}
    yield "raw", rows, query_rows, {**about, "layer": layer, **size}
    del rows, query_rows
    for name, one in encoders(model, gallery):
        z = one.features(gallery)
        yield name, z, z if queries is None else one.features(queries), {**one.protocol("embedding"), **about}


def _retrieved(
    rows: Tensor, query_rows: Tensor, gallery: Items, queries: Items | None, ks: Sequence[int], about: Stamp
) -> list[Score]:
    """Everything that ranks say."""
    query_items = gallery if queries is None else queries
    names, query_labels = matched_labels(gallery, query_items)
    gallery_ids, query_ids = shared_ids(gallery, query_items)
    found = retrieval(
        query_rows,
        query_labels,
        rows,
        torch.from_numpy(np.asarray(gallery.labels)),
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        ks=ks,
        worst=0,
    )
    stamp: Stamp = {
        **about,
        "queries_counted": found.queries,
        "queries_without_relevant": found.without_relevant,
        "ties": "by gallery row",
    }
    worst, hubs = found.worst_class, found.hubness
    figures: list[tuple[str, float, Stamp]] = [(f"recall@{k}", value, {"k": k}) for k, value in found.recall.items()]
    figures += [
        ("r-precision", found.r_precision, {}),
        ("map@r", found.map_at_r, {}),
        ("map", found.mean_average_precision, {}),
        ("mrr", found.mrr, {}),
        ("worst-class", worst.map_at_r, {"class": names[worst.label], "class_queries": worst.queries}),
        ("hub-skew", hubs.skewness, {"k": hubs.k, "top_hub_count": hubs.top_count}),
        ("anti-hubs", hubs.anti_hubs, {"k": hubs.k}),
    ]
    return [Score(name=name, value=value, protocol={**stamp, **more}) for name, value, more in figures]


def matched_labels(gallery: Items, queries: Items) -> tuple[tuple[str, ...], Tensor]:
    """All names of labels, the gallery's first, and the queries' labels numbered by them, −1 staying."""
    names = tuple(dict.fromkeys(gallery.label_names + queries.label_names))
    place = {name: number for number, name in enumerate(names)}
    number = np.array([*(place[name] for name in queries.label_names), -1])  # the last is for −1
    return names, torch.from_numpy(number[np.asarray(queries.labels)])


def _clustered(rows: Tensor, gallery: Items, seeds: Sequence[int], about: Stamp) -> list[Score]:
    """Agreement of k-means clusters with the labels."""
    found = clustering(rows, torch.from_numpy(np.asarray(gallery.labels)), seeds=seeds)
    stamp: Stamp = {**about, "clusters": found.clusters, "seeds": ",".join(map(str, seeds)), "iterations": 100}
    return [
        Score(name=name, value=value, std=std, protocol=stamp)
        for name, value, std in (("nmi", found.nmi, found.nmi_std), ("ami", found.ami, found.ami_std))
    ]


def _verified(rows: Tensor, gallery: Items, most: int, seed: int, about: Stamp) -> list[Score]:
    """Verification of pairs of the gallery, half of them alike; nothing where there are too few."""
    labels = torch.from_numpy(np.asarray(gallery.labels))
    sizes = torch.bincount(labels)
    alike = int((sizes * (sizes - 1)).sum()) // 2
    half = min(most // 2, alike, len(labels) * (len(labels) - 1) // 2 - alike)
    if half < 2 * FOLDS:
        return []
    pairs, same = random_pairs(labels, 2 * half, seed=seed)
    found = verify_pairs(rows, pairs, same, fars=FARS, folds=FOLDS)
    stamp: Stamp = {**about, "pairs": 2 * half, "pairs_alike": half, "pairs_seed": seed}
    scores = [
        Score(
            name="accuracy",
            value=found.accuracy,
            protocol={**stamp, "folds": FOLDS, "standard_error": found.standard_error},
        ),
        Score(name="auc", value=found.auc, protocol=stamp),
    ]
    for far, rate in found.tar_at_far.items():
        few: Stamp = {"trouble": "too few different pairs for this rate"} if rate is None else {}
        value = float("nan") if rate is None else rate
        scores.append(Score(name=f"tar@{far:g}", value=value, protocol={**stamp, "far": far, **few}))
    return scores


# What is shown


def retrieval_table(scores: Sequence[Score]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of text: measures down, representations across."""
    return lay_out(scores, "%", _describe, _cell)


def print_retrieval_table(scores: Sequence[Score]) -> None:
    """The table on standard output."""
    print_rows(*retrieval_table(scores))


def _describe(name: str) -> str:
    """``tar@0.01`` in words."""
    kind, _, rate = name.partition("@")
    words = {
        "recall": f"Recall@{rate}",
        "r-precision": "R-Precision",
        "map": "MAP@R" if rate else "mAP of the full ranking",
        "mrr": "MRR",
        "worst-class": "MAP@R of the worst class",
        "hub-skew": "hubs: skewness (no %)",
        "anti-hubs": "items that nobody finds",
        "nmi": "clusters: NMI",
        "ami": "clusters: AMI",
        "accuracy": "verification: accuracy",
        "auc": "verification: AUC",
        "tar": f"verification: TAR at FAR {rate}",
    }
    return words[kind]


def _cell(score: Score) -> str:
    """The number as text; ± is the standard deviation over seeds, or the standard error over folds."""
    if score.name.endswith("/hub-skew"):
        return f"{score.value:.2f}"
    if score.value != score.value:
        return "too few pairs"
    error = score.protocol.get("standard_error")
    return percent(score) + (f" ± {100 * error:.1f}" if isinstance(error, float) else "")
