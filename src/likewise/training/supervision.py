"""Supervision: the labels or relations that say which items are alike, and how they changed since a checkpoint.

Dimension legend: N items, L labels of an item at most, n items that are in both the checkpoint and the data.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.config.objective_table import objective
from likewise.config.settings import FitSettings
from likewise.data import Items, Skipped
from likewise.data.pair_files import Graded, Pairs, Relations, read_graded, read_pairs, read_triplets
from likewise.distributed import processes
from likewise.errors import LikewiseError
from likewise.graph.graph_file import EDGES, holds_graph, related_pairs
from likewise.text import quoted
from likewise.training.pair_graph import refuse_small_batches, refuse_without_negatives
from likewise.training.planted import PlantedSampler, clusters_of, said
from likewise.training.samplers import GradedSampler, PairSampler


def keep_labelled(items: Items) -> Items:
    """The items that have a label. The others join the skipped items.

    Raises LikewiseError when fewer than two items have a label, or when all labels are the same.
    """
    n = len(items)
    labels = np.full((n, 1), -1) if items.labels is None else items.labels.reshape(n, -1)
    known, used = (labels >= 0).any(1), np.unique(labels[labels >= 0])
    if len(used) and used[-1] >= len(items.label_names):
        raise LikewiseError(
            f"{items.source} has labels up to {used[-1]}, but only {len(items.label_names)} label_names."
        )
    has = "no labels" if items.labels is None else f"no label for any of its {n:,} items" if not len(used) else ""
    if not has and known.sum() == 1:
        has = f"a label for one of its {n:,} items only"
    elif len(used) == 1:
        has = f"one label only ({quoted(items.label_names[used[0]])})"
    if has:
        raise LikewiseError(
            f"{items.source} has {has}, and alike=label needs two: put images in a folder per class, or give --labels: "
            "a column, or a file of labels."
        )
    if known.all():
        return items
    without = tuple(Skipped(id=items.ids[row], reason="no label") for row in np.flatnonzero(~known))
    return replace(items.select(np.flatnonzero(known)), skipped=(*items.skipped, *without))


LARGE = 60  # relevance whose exponential gain float32 still adds up


def read_relations(settings: FitSettings, items: Items) -> Relations | None:
    """Reads the pairs, triplets or graded relevance of the file ``settings.relations``; None where no file is named.

    Raises LikewiseError when the file can't be read, and when the objective can't learn from its rows.
    """
    if settings.relations is None or settings.alike == "clusters":
        return None
    if settings.alike == "graded":
        return _read_graded(settings, items, settings.relations)
    if settings.alike == "triplets":
        if settings.batch_size < 3:
            raise LikewiseError(
                f"batch_size={settings.batch_size} has no room for a triplet, which has three items; with "
                "alike=triplets it must be at least 3."
            )
        return read_triplets(settings.relations, items.ids, skipped=items.skipped)
    pairs = _read_pairs(settings.relations, items)
    if settings.sampler.planted != "none" and not pairs.all_alike:
        raise LikewiseError(
            f"{pairs.source} names negatives itself, with pairs that are not alike: set sampler.planted=none, or take "
            "method facenet."
        )
    if pairs.all_alike:
        refuse_small_batches(settings, pairs)
        refuse_without_negatives(settings, pairs, items)
        return pairs
    kind = settings.objective.kind
    if objective(kind).judges_pairs and not settings.negatives.mines:
        return pairs
    if not torch.isin(pairs.rows[pairs.alike], pairs.rows[~pairs.alike]).any():
        policies = f" with {settings.negatives.title()}" * settings.negatives.mines
        raise LikewiseError(
            f"{pairs.source} has no item in both a pair that is alike and one that is not alike, and objective "
            f"{kind}{policies} compares an item's positives with its negatives: add such pairs, or use contrastive or "
            "margin, which judge each pair alone."
        )
    return pairs


def _read_pairs(file: str, items: Items) -> Pairs:
    """Reads pairs, some of them alike, of a file or the folder of a graph. Raises LikewiseError when there are none."""
    if holds_graph(file):
        return related_pairs(file, items.ids)
    if Path(file).is_dir():
        raise LikewiseError(
            f"{file} is a folder without {EDGES}, so it is no graph; likewise graph makes one "
            "(docs/relations.md says how to join the parts that Spark writes)."
        )
    pairs = read_pairs(file, items.ids, skipped=items.skipped)
    if not pairs.alike.any():
        raise LikewiseError(f"{pairs.source} has no pair that is alike, so there are no positives; add some.")
    return pairs


def with_clusters(settings: FitSettings, items: Items) -> tuple[Items, list[str]]:
    """The items that a pair joins, with their cluster as label, and what to say. The others join the skipped items.

    Raises LikewiseError when the pairs can't be read, and when there is no such level, or one cluster only.
    """
    assert settings.relations is not None
    pairs = _read_pairs(settings.relations, items)
    found = clusters_of(pairs, len(items), settings.clusters)
    level, total = settings.clusters.level, len(items)
    joined = np.zeros(total, dtype=bool)
    joined[pairs.rows[pairs.alike].numpy().ravel()] = True
    names, labels = np.unique(found.labels[level][joined], return_inverse=True)
    if len(names) < 2:
        lower = "take a lower clusters.level, or " * (level > 0)
        raise LikewiseError(
            f"{pairs.source} has one cluster of level {level} only, and alike=clusters needs two: {lower}add pairs of "
            "other items."
        )
    named = tuple(f"cluster {number}" for number in names.tolist())
    without = tuple(Skipped(id=items.ids[row], reason="no pair joins it") for row in np.flatnonzero(~joined))
    items = replace(items.select(np.flatnonzero(joined)), labels=labels, label_names=named)
    alike = "" if pairs.all_alike else " Pairs that are not alike do not count."
    notes = [
        f"{pairs.source} gives the classes: its clusters of level {level}.{alike}",
        *_left_out(pairs),
        *said(found),
    ]
    if without:
        notes.append(f"left out, since no pair joins them: {len(without):,} of the {total:,} items (skipped.csv).")
    return replace(items, skipped=(*items.skipped, *without)), notes


def _read_graded(settings: FitSettings, items: Items, file: str) -> Graded:
    """Reads graded relevance. Raises LikewiseError when the objective can't learn from it."""
    if settings.batch_size < 3:
        raise LikewiseError(
            f"batch_size={settings.batch_size} has no room for a query and two items; with alike=graded it must be at "
            "least 3."
        )
    graded, kind = read_graded(file, items.ids, skipped=items.skipped), settings.objective.kind
    highest, grades = float(graded.relevance.max()), settings.objective.number("grades", math.inf)
    if highest > grades:
        raise LikewiseError(
            f"{graded.source} has relevance up to {highest:g}, but objective.grades={grades:g} is the highest grade of "
            f"{kind}; set it to {math.ceil(highest)}."
        )
    if settings.objective.parameters.get("gains") == "exponential" and highest > LARGE:
        raise LikewiseError(
            f"{graded.source} has relevance up to {highest:g}, and a gain of 2^relevance − 1 is too large above "
            f"{LARGE}: set objective.gains=linear, or write smaller numbers."
        )
    if not objective(kind).point_wise and not graded.queries()[1]:
        raise LikewiseError(
            f"{graded.source} has no query with items of different relevance, and {kind} learns which items of a query "
            "are more relevant than others: add some, with relevance 0 for example, or use regression, logistic or "
            "ordinal, which judge each item alone."
        )
    if highest == 0:
        raise LikewiseError(f"{graded.source} has no relevance above 0, so nothing is relevant; add some.")
    return graded


def refuse_classes(settings: FitSettings, items: Items) -> None:
    """Raises LikewiseError when ``objective.classes`` does not cover the label, or the item, of every anchor."""
    classes = int(settings.objective.number("classes", 0))
    if not classes:
        return
    several = settings.by_label and items.labels is not None and items.labels.ndim > 1
    if several or settings.relations is not None:
        what = "several labels of an item" if several else f"alike={settings.alike}"
        raise LikewiseError(f"objective.classes={classes} needs one label for each item, not {what}; leave it out.")
    count, what = (len(items.label_names), "labels") if settings.by_label else (len(items), "items")
    if classes < count:
        raise LikewiseError(
            f"objective.classes={classes} is fewer than the {count:,} {what} of {items.source}; set it to {count}."
        )


def method_with_labels(items: Items) -> str | None:
    """A method that trains with the labels of these items; None where there are none that say what is alike.

    normface is among the best two of docs/results.md, and takes classes of any size and number. With several labels an
    item a class-level objective is not possible; ms is the best of the others there.
    """
    if items.labels is None or not 2 <= len(items.label_names) <= len(items) // 2:
        return None
    return "normface" if items.labels.ndim == 1 else "ms"


def advice_on_labels(settings: FitSettings, items: Items) -> Iterator[str]:
    """One line where the items have labels that do not train: which method trains with them."""
    method = method_with_labels(items) if settings.alike == "instance" else None
    if method is not None:
        yield (
            f"advice: the items have {len(items.label_names):,} labels, which only measure here; --method {method} "
            "trains with them (--alike label)."
        )


def notes_on(settings: FitSettings, relations: Relations | None, sampler: object) -> Iterator[str]:
    """Notes about usable relations, one line each: rows left out, missing negatives, and lists that teach less."""
    if relations is None:
        return
    yield from _left_out(relations)
    if isinstance(relations, Pairs) and relations.all_alike:
        besides = "those that an edge joins" if relations.weight is not None else "those with a partner in common"
        yield (
            f"{relations.source} has only pairs that are alike, so the other items of a batch are the negatives, "
            f"except {besides}."
        )
    if isinstance(sampler, PlantedSampler):
        yield from sampler.notes
    if isinstance(relations, Graded):
        queries, teaching = relations.queries()
        if teaching < queries and not objective(settings.objective.kind).point_wise:
            yield (
                f"the items of {queries - teaching:,} of the {queries:,} queries of {relations.source} are all equally "
                "relevant: these queries teach no order."
            )
    if isinstance(sampler, GradedSampler) and sampler.cut:
        yield (
            f"{sampler.cut:,} of the queries have more items than fit into batch_size={settings.batch_size}: in each "
            "epoch they have others of them, at random."
        )


def _left_out(relations: Relations) -> Iterator[str]:
    """A line about the rows that are left out, if there are any."""
    lost = relations.skipped
    if lost:
        total = len(relations) + relations.merged + len(lost)
        example = f"{lost[0].id}: {lost[0].reason}"
        yield f"left out: {len(lost):,} of the {total:,} rows of {relations.source} ({example})."


def refuse_small_steps(settings: FitSettings, sampler: object, total: int) -> None:
    """Raises LikewiseError when one of ``total`` steps of pairs or triplets has too few items to be divided."""
    groups, parts, count = settings.encoder.bn_groups, settings.micro_batches, processes.size()
    most = max(2 * groups, parts, count)
    if most <= 2:
        return
    if isinstance(sampler, PairSampler | PlantedSampler):
        small = sampler.first_below(most, total)
    elif isinstance(sampler, GradedSampler):
        small = (0, sampler.least) if sampler.least < most else None
    else:
        small = None
    if small is None:
        return
    into = f"encoder.bn_groups={groups} groups of two" if most == 2 * groups else f"micro_batches={parts} parts"
    into = into if most > count else f"{count} processes"
    raise LikewiseError(
        f"step {small[0] + 1} would hold the {settings.alike} of only {small[1]} items, too few for {into}: the same "
        f"items are in many {settings.alike}; raise batch_size={settings.batch_size}, or lower that number."
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Supervision:
    """The labels of a run, or a hash of its relations. Both are empty where a run trains without supervision.

    Args:
        names: the names of the labels, in the order of their numbers.
        labels: (N,) or (N, L) int32 label numbers, −1 for none; None where training reads no labels.
        relations: a hash of the pairs, triplets or graded relevance, in order, by the ids of their items. Reordering or
            adding items does not change it. Empty where training reads no relations.
    """

    names: tuple[str, ...] = ()
    labels: Tensor | None = None
    relations: str = ""

    def state_dict(self) -> dict[str, Any]:
        """What the checkpoint saves: strings and a tensor."""
        return {"names": list(self.names), "labels": self.labels, "relations": self.relations}


def supervision_of(settings: FitSettings, items: Items, relations: Relations | None) -> Supervision:
    """The supervision of this run. Cost: 4·N·L bytes of labels; a hash of every id and 8 bytes per item of a tuple."""
    if relations is not None:
        return Supervision(relations=_hash(relations, items.ids))
    if not settings.by_label or items.labels is None:
        return Supervision()
    return Supervision(names=items.label_names, labels=torch.from_numpy(items.labels.astype(np.int32)))


def saved_supervision(state: dict[str, Any]) -> Supervision:
    """Restores a ``Supervision`` from its ``state_dict()``."""
    return Supervision(names=tuple(state["names"]), labels=state["labels"], relations=state["relations"])


def describe_change(before: Supervision, now: Supervision, old_ids: Sequence[str], ids: Sequence[str]) -> str:
    """A sentence that says what changed since the checkpoint; empty where the supervision is the same."""
    if before.relations != now.relations:
        what = "pairs, triplets or graded relevance"
        return f"the {what} changed since the checkpoint; training continues with the new ones."
    count = relabelled(before, now, old_ids, ids)
    change = f"the labels of {count:,} of the {len(ids):,} items changed since the checkpoint"
    return f"{change}; training continues with the new ones." if count else ""


def refuse_relabelled(
    before: Supervision | None, now: Supervision, old_ids: Sequence[str], ids: Sequence[str], bound: str
) -> None:
    """Raises LikewiseError if stored keys would now refer to other labels. ``bound`` names these keys in the message.

    Items may be added or removed. ``before`` is None for a checkpoint of an older version, which saved no labels.
    """
    if before is None and list(old_ids) == list(ids):
        return
    change = "the items changed since the checkpoint, which an older version wrote without their labels"
    if before is not None:
        change = _difference(before, now, old_ids, ids)
    if change:
        raise LikewiseError(
            f"{change}, and the {bound} belong to the old labels; use the labels of the run, or start a new run."
        )


def _difference(before: Supervision, now: Supervision, old_ids: Sequence[str], ids: Sequence[str]) -> str:
    """How the labels differ, in words; empty where they are the same."""
    old, new = set(before.names), set(now.names)
    changes = [f"{name!r} is new" for name in now.names if name not in old]
    changes += [f"{name!r} is gone" for name in before.names if name not in new]
    if before.names != now.names:
        return f"the labels changed since the checkpoint ({changes[0] if changes else 'they are in another order'})"
    count = relabelled(before, now, old_ids, ids)
    return f"the labels of {count:,} of the {len(ids):,} items changed since the checkpoint" if count else ""


def relabelled(before: Supervision, now: Supervision, old_ids: Sequence[str], ids: Sequence[str]) -> int:
    """Number of shared items whose labels changed, compared by name. 0 where training reads no labels."""
    if before.labels is None or now.labels is None:
        return 0
    same = before.names == now.names and torch.equal(before.labels, now.labels)
    if same and len(old_ids) == len(ids) and all(map(eq, old_ids, ids)):
        return 0
    place = dict(zip(old_ids, range(len(old_ids)), strict=True))
    rows = np.array([place.get(id, -1) for id in ids])
    number = dict(zip(now.names, range(len(now.names)), strict=True))
    gone = len(now.names)  # a number that no item has now
    renumbered = np.array([*(number.get(name, gone) for name in before.names), -1])  # −1 is the last
    old = _sorted(renumbered[before.labels.numpy()[rows[rows >= 0]]])
    new = _sorted(now.labels.numpy()[rows >= 0])
    width = max(old.shape[1], new.shape[1])
    return int((_widened(old, width) != _widened(new, width)).any(axis=1).sum())


def _sorted(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(n, L) labels, each row in ascending order; −1 comes first."""
    return np.sort(labels[:, None] if labels.ndim == 1 else labels, axis=1)


def _widened(labels: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    """(n, width) labels, padded with −1 on the left."""
    return np.pad(labels, ((0, 0), (width - labels.shape[1], 0)), constant_values=-1)


def _hash(relations: Relations, ids: Sequence[str]) -> str:
    names = [hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest() for id in ids]
    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.frombuffer(b"".join(names), dtype=np.uint64)[relations.rows.numpy()].tobytes())
    if isinstance(relations, Pairs):
        digest.update(relations.alike.numpy().tobytes())
        digest.update(b"" if relations.weight is None else relations.weight.numpy().tobytes())
    if isinstance(relations, Graded):
        digest.update(relations.relevance.numpy().tobytes())
    return digest.hexdigest()
