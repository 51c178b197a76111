"""``likewise classify``: what are these items, by the few of them that have a label."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from likewise.answers.classified import Classified
from likewise.answers.classify_rows import classify_rows, method_named
from likewise.answers.opening import made_by
from likewise.console import stages
from likewise.data import Items
from likewise.data.label_files import label_few, label_file
from likewise.errors import LikewiseError
from likewise.evaluation.labelled_items import one_label
from likewise.model import Layer, Model, model_of


def classify(
    run: Model | str | Path,
    source: object,
    *,
    labels: str | Path | Mapping[str, object],
    method: str = "auto",
    k: int | None = None,
    layer: Layer = "embedding",
    key: str | None = None,
    image: str | None = None,
    columns: Sequence[str] = (),
    progress: bool = True,
) -> Classified:
    """Labels all items of a source by those that have a label.

    Args:
        run: a run, or its model, which embeds the items.
        source: as for ``model.open``.
        labels: the labels of some of the items, by id: a mapping, or a .csv or .parquet file with the columns id and
            label. Or the column of the source that holds them, or a .npy file, with nothing or −1 where there is none.
        method: "propagation", "knn"; "auto": the one that finds more of the labels by leave-one-out.
        k: neighbours of an item: in the graph, and that vote. None: 10 in the graph, and ``fair_k`` that vote.
        layer: whose rows.
        key, image, columns: as for ``model.open``.
        progress: show bars.

    Raises:
        LikewiseError: there is no run; as ``model.open``; an id with a label is no item; fewer than two classes; an
            unknown method; k out of range.

    Cost: that of embedding, and of ``classify_rows``.
    """
    method_named(method)
    model = model_of(run)
    items = open_labelled(model, source, labels, key=key, image=image, columns=columns, progress=progress)
    with stages(enabled=progress) as begin:
        told = begin("embedding")
        rows = model.features(items, layer=layer, tick=lambda done: told(done / len(items)))
        assert items.labels is not None
        given = torch.from_numpy(np.asarray(items.labels))
        found = classify_rows(
            rows, given, names=items.label_names, ids=items.ids, method=method, k=k, tick=begin("classifying")
        )
    made = made_by("classify", items, model, layer)
    return replace(found, stamp={**made, "labels": int(found.given.sum()), "classified_by": found.method})


def open_labelled(
    model: Model,
    source: object,
    labels: str | Path | Mapping[str, object],
    *,
    key: str | None,
    image: str | None,
    columns: Sequence[str],
    progress: bool,
) -> Items:
    """The items of a source with the labels of some of them, one each. Raises LikewiseError as ``classify``."""
    by_id: Path | Mapping[str, object] | None = labels if isinstance(labels, Mapping) else label_file(str(labels))
    if isinstance(by_id, Path) and by_id.suffix.lower() == ".npy":
        by_id = None  # which opening reads, by row
    asked = "none" if by_id is not None else str(labels)
    items = model.open(source, labels=asked, key=key, image=image, columns=columns, progress=progress)
    items = one_label(items if by_id is None else label_few(items, by_id, key))
    if items.labels is None or not (items.labels >= 0).any():
        raise LikewiseError(f"no item of {items.source} has a label yet; write some into the column label.")
    return items
