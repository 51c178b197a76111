"""What teaches a run which items are alike: labels, pairs or triplets; and whether that changed since a checkpoint.

Dimension legend: N items, L labels of an item at most, n items that a checkpoint and the data share.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import eq
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.config.objective_table import objective
from likewise.config.settings import FitSettings
from likewise.data import Items, Skipped
from likewise.data.pair_files import Pairs, Triplets, read_pairs, read_triplets
from likewise.distributed import processes
from likewise.errors import LikewiseError
from likewise.training.samplers import PairSampler


def labelled(items: Items) -> Items:
    """The items that have a label; the others are then among those skipped.

    Raises LikewiseError where none has, or one alone, or all have the same.
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
        has = f"one label only ({items.label_names[used[0]]!r})"
    if has:
        raise LikewiseError(
            f"{items.source} has {has}, and alike=label needs two: put images in a folder per class, or name the "
            "parquet column with --labels."
        )
    if known.all():
        return items
    without = tuple(Skipped(id=items.ids[row], reason="no label") for row in np.flatnonzero(~known))
    return replace(items.select(np.flatnonzero(known)), skipped=(*items.skipped, *without))


def read_relations(settings: FitSettings, items: Items) -> Pairs | Triplets | None:
    """The pairs or triplets that ``settings.relations`` names, if what is alike is said by such.

    Raises LikewiseError on a file that can't be read, and on one that would teach nothing.
    """
    if settings.relations is None:
        return None
    if settings.alike == "triplets":
        if settings.batch_size < 3:
            raise LikewiseError(
                f"batch_size={settings.batch_size} has no room for a triplet, which is three items; with "
                "alike=triplets it must be at least 3."
            )
        return read_triplets(settings.relations, items.ids, skipped=items.skipped)
    pairs = read_pairs(settings.relations, items.ids, skipped=items.skipped)
    if not pairs.alike.any():
        raise LikewiseError(f"{pairs.source} has no pair that is alike, so nothing would pull; add some.")
    kind = settings.objective.kind
    if objective(kind).judges_pairs and not settings.negatives.mines:
        return pairs
    if not torch.isin(pairs.rows[pairs.alike], pairs.rows[~pairs.alike]).any():
        some = "item in both a pair that is alike and one" if not pairs.alike.all() else "pair"
        policies = f" with {settings.negatives.title()}" * settings.negatives.mines
        raise LikewiseError(
            f"{pairs.source} has no {some} that is not alike, and objective {kind}{policies} compares an item's "
            "alike with its unlike: add such pairs, or take contrastive or margin, which judge each pair by itself."
        )
    return pairs


def remarks(relations: Pairs | Triplets | None) -> Iterator[str]:
    """What there is to say of relations that can be used: a line each."""
    if relations is None:
        return
    lost = relations.skipped
    if lost:
        total = len(relations) + relations.merged + len(lost)
        such = f"{lost[0].id}: {lost[0].reason}"
        yield f"left out: {len(lost):,} of the {total:,} rows of {relations.source} ({such})."
    if isinstance(relations, Pairs) and relations.alike.all():
        yield (
            f"warning: {relations.source} has no pair that is not alike, so training only pulls: everything may end in "
            "one place."
        )


def refuse_small_steps(settings: FitSettings, sampler: object, total: int) -> None:
    """Raises LikewiseError where one of ``total`` steps of pairs or triplets has too few items to be shared out."""
    groups, parts, count = settings.encoder.bn_groups, settings.micro_batches, processes.size()
    most = max(2 * groups, parts, count)
    if not isinstance(sampler, PairSampler) or most <= 2:
        return
    small = sampler.first_below(most, total)
    if small is None:
        return
    into = f"encoder.bn_groups={groups} groups of two" if most == 2 * groups else f"micro_batches={parts} parts"
    into = into if most > count else f"{count} processes"
    raise LikewiseError(
        f"step {small[0] + 1} would hold the {settings.alike} of only {small[1]} items, too few for {into}: the same "
        f"items are in many {settings.alike}; raise batch_size={settings.batch_size}, or take fewer."
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Supervision:
    """The labels, or the pairs or triplets, that say which items are alike; empty where there are none.

    Args:
        names: of the labels, in the order of their numbers.
        labels: (N,) or (N, L) int32 numbers of names, −1 for none; None where no label teaches.
        relations: a hash of the pairs or triplets by their items' ids, in their order, so that neither another order of
            the items nor more of them changes it; empty where none teach.
    """

    names: tuple[str, ...] = ()
    labels: Tensor | None = None
    relations: str = ""

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: texts and a tensor."""
        return {"names": list(self.names), "labels": self.labels, "relations": self.relations}


def supervision_of(settings: FitSettings, items: Items, relations: Pairs | Triplets | None) -> Supervision:
    """The supervision of this run. Cost: 4·N·L bytes of labels; a hash of every id where pairs or triplets teach."""
    if relations is not None:
        return Supervision(relations=_hash(relations, items.ids))
    if settings.alike != "label" or items.labels is None:
        return Supervision()
    return Supervision(names=items.label_names, labels=torch.from_numpy(items.labels.astype(np.int32)))


def supervision_from(state: dict[str, Any]) -> Supervision:
    """The supervision that ``Supervision.state_dict`` describes."""
    return Supervision(names=tuple(state["names"]), labels=state["labels"], relations=state["relations"])


def said_of_change(before: Supervision, now: Supervision, old_ids: Sequence[str], ids: Sequence[str]) -> str:
    """A sentence where a run goes on with other labels, pairs or triplets; empty where they are the same."""
    if before.relations != now.relations:
        return "the pairs or triplets changed since the checkpoint; from here on the new ones teach."
    count = relabelled(before, now, old_ids, ids)
    said = f"the labels of {count:,} of the {len(ids):,} items changed since the checkpoint"
    return f"{said}; from here on the new ones teach." if count else ""


def refuse_relabelled(
    before: Supervision | None, now: Supervision, old_ids: Sequence[str], ids: Sequence[str], bound: str
) -> None:
    """Raises LikewiseError if stored keys would now refer to other labels.

    ``bound`` names what belongs to labels by their numbers, such as proxies. Items may come and go. ``before`` is None
    for a checkpoint of an older version, which holds the items but not their labels.
    """
    if before is None and list(old_ids) == list(ids):
        return
    what = "the items changed since the checkpoint, which an older version wrote without their labels"
    if before is not None:
        what = _difference(before, now, old_ids, ids)
    if what:
        raise LikewiseError(f"{what}, and the {bound} belong to the old ones; take the run's labels, or start anew.")


def _difference(before: Supervision, now: Supervision, old_ids: Sequence[str], ids: Sequence[str]) -> str:
    """How the labels differ, in words; empty where they do not."""
    old, new = set(before.names), set(now.names)
    others = [f"{name!r} is new" for name in now.names if name not in old]
    others += [f"{name!r} is gone" for name in before.names if name not in new]
    if before.names != now.names:
        return f"the labels changed since the checkpoint ({others[0] if others else 'they are in another order'})"
    count = relabelled(before, now, old_ids, ids)
    return f"the labels of {count:,} of the {len(ids):,} items changed since the checkpoint" if count else ""


def relabelled(before: Supervision, now: Supervision, old_ids: Sequence[str], ids: Sequence[str]) -> int:
    """How many of the items that are there before and now have other labels, by name. 0 where no label teaches."""
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
    """(n, L), none first."""
    return np.sort(labels[:, None] if labels.ndim == 1 else labels, axis=1)


def _widened(labels: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    """(n, width): more of none."""
    return np.pad(labels, ((0, 0), (width - labels.shape[1], 0)), constant_values=-1)


def _hash(relations: Pairs | Triplets, ids: Sequence[str]) -> str:
    names = [hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest() for id in ids]
    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.frombuffer(b"".join(names), dtype=np.uint64)[relations.rows.numpy()].tobytes())
    if isinstance(relations, Pairs):
        digest.update(relations.alike.numpy().tobytes())
    return digest.hexdigest()
