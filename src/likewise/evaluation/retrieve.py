"""``likewise retrieve``: retrieval, clusters and verification with a run, raw pixels and the untrained encoder.

It can be zero-shot: the classes of gallery and queries may be new to the model (Oh Song et al. 2016).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from likewise.console import Tick, say, stages
from likewise.data import Items
from likewise.data.label_files import refuse_shared
from likewise.errors import LikewiseError
from likewise.evaluation.baselines import embedded, encoders, raw_rows
from likewise.evaluation.labelled_items import (
    check_measures,
    data_stamp,
    labelled,
    options_text,
    renewal_command,
    shared_ids,
)
from likewise.evaluation.looked_up import LookedUp, look_up
from likewise.evaluation.matched import matched
from likewise.evaluation.picture_page import page_file
from likewise.evaluation.retrieval_detail import Detail
from likewise.evaluation.scores import Scores, Table, lay_out, percent, print_rows
from likewise.metrics.clustering import clustering
from likewise.metrics.retrieval import retrieval
from likewise.metrics.saved import SCORES
from likewise.metrics.score import Score
from likewise.metrics.verification import fold_pairs, random_pairs
from likewise.metrics.verification import verification as verify_pairs
from likewise.model import Model, model_of
from likewise.stamp import Stamp
from likewise.tables import table_file

FILE = SCORES["retrieve"]  # in the run folder
DETAIL = "retrieval"  # the folder beside it
FOLDS = 10
MEASURES = ("retrieval", "clusters", "verification")
LEAST = 4  # items of a label, on average, below which clusters are left out unless they are asked for
KS = (1, 2, 4, 8)  # the k of Recall@k
WRONG = 100  # pairs of each kind in wrong.csv
FARS = (1e-1, 1e-2, 1e-3)


def retrieve(
    model: Model | str | Path,
    *,
    gallery: object,
    queries: object | None = None,
    labels: str = "auto",
    query_labels: str | None = None,
    match: str | None = None,
    key: str | None = None,
    image: str | None = None,
    columns: Sequence[str] = (),
    ks: Sequence[int] = KS,
    measures: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    pairs: int = 6000,
    detail: Path | None = None,
    hits: str | Path | None = None,
    page: str | Path | None = None,
    progress: bool = True,
) -> list[Score]:
    """Measures ``model``, raw pixels (or vectors) and the untrained encoder by looking queries up in a gallery.

    There are three measurements. Retrieval looks each query up in the gallery. Clustering compares k-means clusters of
    the gallery with its labels; there are as many clusters as labels. Verification draws pairs from the gallery, half
    of them alike, and tests them in LFW's ten folds; the folds share no label if there are enough labels. See
    ``retrieval``, ``clustering``, ``fold_pairs`` and ``verification``.

    Args:
        model: the model to measure, or the folder of its run.
        gallery: source of the items that are searched; items without a label are left out.
        queries: source of the items that are looked up. None: the items of the gallery, each among the others. An item
            that is in both (same id, same content) never finds itself. The protocol counts, as "copies", the queries
            whose content is in the gallery with another id. Labels are matched by name. A query without an item of its
            label in the gallery does not count; the protocol has the number of such queries.
        labels: auto, the column of the label, or a file of labels.
        query_labels: those of the queries; None: ``labels``, unless it is a .npy file, with a label for each row.
        match: instead of labels, which items are the same thing: "stem", by the names of their files, or a file of
            pairs; see ``matched``. Only retrieval is measured then, and no single class.
        key: the column of the ids; None: as the run was trained.
        image: the parquet column of the images; None: as the run was trained.
        columns: the columns of the vectors; empty: as the run was trained.
        ks: the k of Recall@k.
        measures: which to compute: retrieval, clusters, verification. None: all, but no clusters if a label has fewer
            than 4 items on average, since clusters of so few items say little and take long. With several
            labels an item only retrieval is possible. Verification is left out if fewer than 40 pairs can be drawn.
        seeds: seeds of k-means; the first one also draws the pairs.
        pairs: the largest number of pairs; LFW has 6,000.
        detail: a folder for classes.csv (the measures of every class), wrong.csv (the pairs that the learned embedding
            gets most wrong) and roc.csv (points of the curve); None: no files.
        hits: a .csv or .parquet file for what the learned embedding finds, as many items for each query as the largest
            of ``ks``: query, rank, id, score, right; None: no file.
        page: an .html file that shows the same as pictures, wrong ones marked, see ``LookedUp.page``; None: no file.
        progress: show bars, and say what is left out.

    Returns:
        Scores named ``raw/recall@1``, ``learned/map@r`` ..., each with its protocol.

    Raises:
        LikewiseError: a measure is unknown; labels are missing or fewer than two, or no query has an item of its label
            in the gallery; ``hits`` or ``page`` can't be written, or retrieval is not among the measures.

    Cost: see ``retrieval`` and ``clustering``. The rows of only one representation are in memory at a time.
    """
    model = model_of(model)
    check_measures(measures or (), MEASURES)
    if (hits or page) and measures is not None and "retrieval" not in measures:
        raise LikewiseError("hits and page show what retrieval finds; add retrieval to the measures.")
    hits, page = None if hits is None else table_file(hits), None if page is None else page_file(page)
    if match is not None and (labels, query_labels) != ("auto", None):
        raise LikewiseError("match says which items are the same thing; leave labels out.")
    if match is not None:
        labels, query_labels = "none", "none"
    if queries is not None and query_labels is None:
        refuse_shared(labels, "name those of the queries with query_labels=")

    def opened(source: object, labels: str, least: int) -> Items:
        items = model.open(source, labels=labels, key=key, image=image, columns=columns, progress=progress)
        return items if match is not None else labelled(items, least)

    items = opened(gallery, labels, 2)
    others = None if queries is None else opened(queries, query_labels or labels, 1)
    if match is not None:
        items, others = matched(match, items, others)
    ids = shared_ids(items, items if others is None else others)
    wanted, left_out = _measured(measures, items, match)
    if progress:
        say(left_out)
    asked = {
        "labels": "auto" if match is not None else labels,
        "query_labels": None if match is not None else query_labels,
        "match": match,
        "key": key,
        "image": image,
        "columns": tuple(columns),
        "ks": tuple(ks),
    }
    usual = {
        "labels": "auto",
        "query_labels": None,
        "match": None,
        "key": None,
        "image": None,
        "columns": (),
        "ks": KS,
        "measures": None,
    }
    options = options_text(asked | {"measures": None if measures is None else tuple(measures)}, usual)
    scores: list[Score] = []
    tables, looked = Detail(), None
    with stages(enabled=progress) as begin:
        told = begin("looking for copies")
        about = data_stamp("gallery", "query", items, others, ids[1], title="queries", tick=told)
        stamp = about = about | ({"options": options} if options else {})
        for name, rows, query_rows, stamp in representations(model, items, others, about, begin):
            tables.of = name
            measured: list[Score] = []
            if "retrieval" in wanted:
                told = begin(f"{name}: retrieval")
                figures, relevant = _retrieved(rows, query_rows, items, others, ids, ks, stamp, tables, told)
                measured += figures
                if name == "learned" and (hits or page):
                    looked = _looked_up((rows, query_rows), items, others, ids, relevant, max(ks), stamp, begin)
                if match is not None:  # a class is one thing
                    tables.classes.clear()
                    measured = [score for score in measured if score.name != "worst-class"]
            if "clusters" in wanted:
                measured += _clustered(rows, items, seeds, stamp, begin(f"{name}: clusters"))
            if "verification" in wanted:
                begin(f"{name}: verification")
                measured += _verified(rows, items, pairs, seeds[0], stamp, tables)
            scores += [
                Score(name=f"{name}/{score.name}", value=score.value, std=score.std, protocol=score.protocol)
                for score in measured
            ]
    if detail is not None:
        tables.write(detail, stamp)
    if looked is not None and hits is not None:
        looked.save(hits)
    if looked is not None and page is not None:
        looked.page(page)
    return Scores(scores, retrieval_table)


def _looked_up(
    rows: tuple[Tensor, Tensor],
    items: Items,
    others: Items | None,
    ids: tuple[Tensor, Tensor],
    relevant: Tensor,
    k: int,
    stamp: Stamp,
    begin: Callable[[str], Tick],
) -> LookedUp:
    queries = items if others is None else others
    labels = torch.from_numpy(np.asarray(items.labels)), matched_labels(items, queries)[1]
    return look_up(rows, (items, queries), labels, ids, relevant, k, stamp, begin("looking up"))


def _measured(
    measures: Sequence[str] | None, items: Items, match: str | None = None
) -> tuple[tuple[str, ...], list[str]]:
    """The measures to compute, and a line if some are left out. LikewiseError if one was asked for and can't be."""
    assert items.labels is not None
    if match is not None:
        if impossible := [name for name in measures or () if name != "retrieval"]:
            raise LikewiseError(f"{impossible[0]} needs labels, and match gives none; leave it out.")
        return ("retrieval",), []
    if items.labels.ndim > 1:
        if impossible := [name for name in measures or () if name != "retrieval"]:
            raise LikewiseError(f"{items.source} has several labels per item, and {impossible[0]} needs one.")
        return ("retrieval",), []
    each = len(items) / len(items.label_names)
    if measures is None and each < LEAST:
        line = f"clusters: left out, for a label has {each:.1f} items on average; --measures clusters computes them."
        return tuple(name for name in MEASURES if name != "clusters"), [line]
    return tuple(measures or MEASURES), []


def renewal(run: Path, protocol: Mapping[str, object]) -> list[str]:
    """The command that measures again what a score's protocol says."""
    return renewal_command("retrieve", run, protocol, "gallery", "queries")


def representations(
    model: Model, gallery: Items, queries: Items | None, about: Stamp, begin: Callable[[str], Tick]
) -> Iterator[tuple[str, Tensor, Tensor, Stamp]]:
    """Name, gallery rows, query rows and protocol of each representation, one after the other."""
    rows, query_rows, layer = raw_rows(model, gallery, queries, tick=begin("reading raw rows"))
    size: Stamp = {"size": model.settings.size} if gallery.kind == "images" else {}
    yield "raw", rows, query_rows, {**about, "layer": layer, **size}
    del rows, query_rows
    for name, encoder in encoders(model, gallery):
        z = other = embedded(encoder, gallery, tick=begin(f"{name}: embedding the gallery"))
        layer_of_queries = encoder.layer_of_queries("embedding")
        if queries is not None or layer_of_queries != "embedding":
            asking = gallery if queries is None else queries
            other = embedded(encoder, asking, layer_of_queries, tick=begin(f"{name}: embedding the queries"))
        yield name, z, other, {**encoder.protocol("embedding"), **about}


def _retrieved(
    rows: Tensor,
    query_rows: Tensor,
    gallery: Items,
    queries: Items | None,
    ids: tuple[Tensor, Tensor],
    ks: Sequence[int],
    about: Stamp,
    tables: Detail,
    tick: Tick,
) -> tuple[list[Score], Tensor]:
    """The scores of retrieval: Recall@k, R-Precision, MAP@R, mAP, MRR, the worst class and hubs.

    And (Q,) the number of relevant items of each query.
    """
    query_items = gallery if queries is None else queries
    names, query_labels = matched_labels(gallery, query_items)
    result = retrieval(
        query_rows,
        query_labels,
        rows,
        torch.from_numpy(np.asarray(gallery.labels)),
        query_ids=ids[1],
        gallery_ids=ids[0],
        ks=ks,
        worst=WRONG if tables.of == "learned" else 0,
        tick=tick,
    )
    tables.add_retrieval(result, names, gallery, query_items)
    stamp: Stamp = {
        **about,
        "queries_counted": result.queries,
        "queries_without_relevant": result.without_relevant,
        "ties": "by gallery row",
    }
    worst, hubs = result.worst_class, result.hubness
    figures: list[tuple[str, float, Stamp]] = [(f"recall@{k}", value, {"k": k}) for k, value in result.recall.items()]
    figures += [
        ("r-precision", result.r_precision, {}),
        ("map@r", result.map_at_r, {}),
        ("map", result.mean_average_precision, {}),
        ("mrr", result.mrr, {}),
        ("worst-class", worst.map_at_r, {"class": names[worst.label], "class_queries": worst.queries}),
        ("hub-skew", hubs.skewness, {"k": hubs.k, "top_hub_count": hubs.top_count}),
        ("anti-hubs", hubs.anti_hubs, {"k": hubs.k}),
    ]
    scores = [Score(name=name, value=value, protocol={**stamp, **more}) for name, value, more in figures]
    return scores, result.per_query.relevant


def matched_labels(gallery: Items, queries: Items) -> tuple[tuple[str, ...], Tensor]:
    """All label names, those of the gallery first, and the labels of the queries as places in them; −1 stays −1."""
    names = tuple(dict.fromkeys(gallery.label_names + queries.label_names))
    place = {name: number for number, name in enumerate(names)}
    number = np.array([*(place[name] for name in queries.label_names), -1])  # index −1 gives −1
    return names, torch.from_numpy(number[np.asarray(queries.labels)])


def _clustered(rows: Tensor, gallery: Items, seeds: Sequence[int], about: Stamp, tick: Tick) -> list[Score]:
    """NMI and AMI of k-means clusters and the labels."""
    result = clustering(rows, torch.from_numpy(np.asarray(gallery.labels)), seeds=seeds, tick=tick)
    stamp: Stamp = {**about, "clusters": result.clusters, "seeds": ",".join(map(str, seeds)), "iterations": 100}
    return [
        Score(name=name, value=value, std=std, protocol=stamp)
        for name, value, std in (("nmi", result.nmi, result.nmi_std), ("ami", result.ami, result.ami_std))
    ]


def _verified(rows: Tensor, gallery: Items, most: int, seed: int, about: Stamp, tables: Detail) -> list[Score]:
    """Verification of gallery pairs, half of them alike; no scores if too few can be drawn."""
    drawn = drawn_pairs(torch.from_numpy(np.asarray(gallery.labels)), most, seed)
    if drawn is None:
        return []
    pairs, same, folds = drawn
    apart = isinstance(folds, Tensor)
    result = verify_pairs(rows, pairs, same, fars=FARS, folds=folds)
    tables.add_curve(result.roc)
    stamp: Stamp = {**about, "pairs": len(pairs), "pairs_alike": len(pairs) // 2, "pairs_seed": seed}
    stamp["folds_share_labels"] = "no" if apart else "yes, there are too few labels"
    scores = [
        Score(
            name="accuracy",
            value=result.accuracy,
            protocol={**stamp, "folds": FOLDS, "standard_error": result.standard_error},
        ),
        Score(name="auc", value=result.auc, protocol=stamp),
    ]
    for far, rate in result.tar_at_far.items():
        few: Stamp = {"trouble": "too few different pairs for this rate"} if rate is None else {}
        value = float("nan") if rate is None else rate
        scores.append(Score(name=f"tar@{far:g}", value=value, protocol={**stamp, "far": far, **few}))
    return scores


def drawn_pairs(labels: Tensor, most: int, seed: int) -> tuple[Tensor, Tensor, Tensor | int] | None:
    """Pairs, which of them are alike (half), and their folds; None if there are too few items.

    The folds share no label if there are enough labels.
    """
    sizes = torch.bincount(labels)
    alike = int((sizes * (sizes - 1)).sum()) // 2
    half = min(most // 2, alike, len(labels) * (len(labels) - 1) // 2 - alike)
    if half < 2 * FOLDS:
        return None
    with suppress(LikewiseError):  # too few labels
        pairs, same, folds = fold_pairs(labels, most, folds=FOLDS, seed=seed)
        if len(pairs) >= 4 * FOLDS:
            return pairs, same, folds
    return *random_pairs(labels, 2 * half, seed=seed), FOLDS


def retrieval_table(scores: Sequence[Score]) -> Table:
    """Header and rows of text: a row for each measure, a column for each representation."""
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
    """A score as text; ± is the standard deviation over seeds, or the standard error over folds."""
    if score.name.endswith("/hub-skew"):
        return f"{score.value:.2f}"
    if score.value != score.value:
        return "too few pairs"
    error = score.protocol.get("standard_error")
    return percent(score) + (f" ± {100 * error:.1f}" if isinstance(error, float) else "")
