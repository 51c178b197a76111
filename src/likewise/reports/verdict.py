"""The verdict of the report: what the finished model is worth, in plain words, and what to try next.

With labels the embedding is compared with raw pixels (or vectors). Without labels there are only signs: whether it has
learned its own task, whether it uses its numbers, and how far its neighbours are those of raw pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from likewise.config.settings import FitSettings, ViewSettings
from likewise.console import Tick, part_of
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.evaluation.baselines import raw_rows
from likewise.evaluation.retrieve import FILE as RETRIEVAL
from likewise.evaluation.scores import EVALUATION
from likewise.metrics import Score, collapse_std, effective_rank, retrieval, top_k
from likewise.model import Model
from likewise.training.health import Health
from likewise.training.health import verdict as trouble_of
from likewise.training.signs import agreement
from likewise.training.supervision import method_with_labels

ITEMS = 2000  # items that are compared
VIEWED = 500  # of these, items whose random views are compared
NEIGHBOURS = 10
ALIKE = 0.01  # a difference up to this is none
MILD_CROP = 0.5  # the smallest share of the area that a mild crop keeps


class Pair(NamedTuple):
    """A measure of the learned embedding and of raw pixels or vectors, higher is better; and which difference is none.

    ``least`` is above ``ALIKE`` where the measure is of few items, for it is then also what chance alone makes.
    """

    name: str
    learned: float
    raw: float
    least: float = ALIKE


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known about a finished model.

    Args:
        settings: those of the run.
        raw: what the baseline is called: raw pixels, or raw vectors.
        health: loss, chance level, rank and spread at the end; the loss is NaN if nothing was logged.
        by_labels: measures that need labels, the most telling first; empty if there are none.
        seen: whether these measures are of labels that training used.
        of_views: how often a random view of an item finds another view of it, among ``VIEWED`` items.
        shared: the share of the nearest neighbours that raw pixels find too, and the share expected by chance.
        method: a method that trains with the labels of the items; None where there are no such labels.
        said: what the last check of the training found wrong; empty if nothing.
    """

    settings: FitSettings
    raw: str
    health: Health
    by_labels: Sequence[Pair]
    seen: bool
    of_views: Pair
    shared: tuple[float, float]
    method: str | None
    said: str


def verdict_on(
    model: Model,
    items: Items,
    rows: Tensor,
    scores: Mapping[str, Sequence[Score]],
    log: Sequence[Mapping[str, float | str]],
    tick: Tick,
) -> "Verdict":
    """The verdict on a finished model, of two items or more.

    Args:
        model: the trained model.
        items: the items that are looked at.
        rows: their embedding, (N, D).
        scores: what the run holds of this model, by the names of their files.
        log: the lines of the training.
        tick: told the share of the work that is done.
    """
    measured = [score for file in (EVALUATION, RETRIEVAL) for score in scores.get(file, ())]
    last = next((line for line in reversed(log) if "loss" in line), {})
    return judge(gather(model, items, rows, measured, last, tick))


def gather(
    model: Model, items: Items, rows: Tensor, scores: Sequence[Score], last: Mapping[str, float | str], tick: Tick
) -> Evidence:
    """The evidence about ``model``, from at most 2,000 of the items.

    Args:
        model: the trained model.
        items: the items of the report.
        rows: their embedding, (N, D).
        scores: what ``likewise evaluate`` and ``likewise retrieve`` saved of this model.
        last: the last line of the log that has a loss; empty if there is none.
        tick: told the share of the work that is done.
    """
    some = torch.randperm(len(items), generator=torch.Generator().manual_seed(0))[:ITEMS].sort().values
    part, z = items.select(some.numpy()), rows[some]
    raw = raw_rows(model, part, None, tick=part_of(tick, 0, 3))[0]
    by_labels = saved_pairs(scores)
    measured = by_labels or nearest_pairs(part, z, raw)
    values = {name: float(value) for name, value in last.items() if not isinstance(value, str)}
    health = Health(
        loss=values.get("loss", float("nan")),
        chance=values.get("chance"),
        rank=effective_rank(z),
        spread=collapse_std(z),
        most=min(z.shape),
    )
    return Evidence(
        settings=model.settings,
        raw="raw pixels" if items.kind == "images" else "raw vectors",
        health=health,
        by_labels=measured,
        seen=not by_labels and model.settings.alike != "instance",
        of_views=view_pair(model, part, part_of(tick, 1, 3)),
        shared=shared_neighbours(z, raw, part_of(tick, 2, 3)),
        method=method_with_labels(items),
        said=str(last.get("verdict", "")),
    )


def saved_pairs(scores: Sequence[Score]) -> list[Pair]:
    """The saved scores that compare best: kNN and Recall@1 of the learned embedding and of the raw rows."""
    value = {score.name: score.value for score in scores}
    words = {"recall@1": "Recall@1", "knn": "weighted kNN", "map@r": "MAP@R"}
    names = [name for name in words if f"learned/{name}" in value and f"raw/{name}" in value]
    return [Pair(words[name], value[f"learned/{name}"], value[f"raw/{name}"]) for name in names]


def nearest_pairs(items: Items, rows: Tensor, raw: Tensor) -> list[Pair]:
    """How often the nearest other item has the same label; empty where no two items share one."""
    if items.labels is None or len(items.label_names) < 2:
        return []
    labels = torch.from_numpy(np.asarray(items.labels))
    try:
        learned, before = (retrieval(each, labels, ks=(1,), worst=0) for each in (rows, raw))
    except LikewiseError:  # no two items share a label
        return []
    first, other = ((each.per_query.first_rank == 1).double() for each in (learned, before))
    apart = (first - other)[learned.per_query.relevant > 0]
    chance = 2 * float(apart.std(correction=0)) / len(apart) ** 0.5  # two standard errors of the mean difference
    name = f"nearest item of the same label, among {len(items):,} items"
    return [Pair(name, learned.precision_at_1, before.precision_at_1, max(ALIKE, chance))]


def view_pair(model: Model, items: Items, tick: Tick) -> Pair:
    """How often a random view of an item is nearest to another view of it, in the embedding and as raw pixels."""
    found = agreement(model, items.select(np.arange(min(VIEWED, len(items)))))
    tick(1.0)
    return Pair("a random view finds its item", found.learned, found.raw)


def shared_neighbours(rows: Tensor, raw: Tensor, tick: Tick) -> tuple[float, float]:
    """The share of an item's ten nearest that are also among its ten nearest raw rows, and that share by chance."""
    k, ids = min(NEIGHBOURS, len(rows) - 1), torch.arange(len(rows))
    near, other = (top_k(each, each, k, query_ids=ids, key_ids=ids)[1] for each in (rows, raw))
    tick(1.0)
    both = (near[:, :, None] == other[:, None, :]).any(2)
    return float(both.double().mean()), k / (len(rows) - 1)


class Verdict(NamedTuple):
    """The verdict: one sentence, the signs behind it, and what to try next."""

    sentence: str
    signs: list[str]
    advice: list[str]


ALONE = Verdict(
    "There is one item only, so nothing says how good the embedding is.",
    [],
    ["A report of more items: likewise report RUN --data DATA."],
)


def judge(found: Evidence) -> Verdict:
    """The verdict on a finished model. What is worse than raw pixels is said first."""
    return Verdict(_sentence(found), list(_signs(found)), list(_advice(found)))


def _pair(found: Evidence) -> Pair:
    """The measure that decides: by labels, and where there are none by views."""
    return found.by_labels[0] if found.by_labels else found.of_views


def _sentence(found: Evidence) -> str:
    pair, wrong = _pair(found), _wrong(found)
    gap, numbers = pair.learned - pair.raw, f"{pair.name}: learned {pair.learned:.1%}, {found.raw} {pair.raw:.1%}"
    if not found.by_labels and found.settings.alike != "instance":  # such a training does not practise views
        return wrong or f"Nothing says whether the embedding is better than {found.raw}: the items have no labels."
    if gap < -pair.least:
        return f"The embedding is worse than {found.raw} ({numbers})."
    if found.by_labels and gap > pair.least:
        return f"The embedding is better than {found.raw} ({numbers})."
    if wrong:
        return wrong
    if found.by_labels:
        few = "; of so few items, such a difference may be chance" if abs(gap) > ALIKE else ""
        return f"The embedding is about as good as {found.raw} ({numbers}{few})."
    if gap <= pair.least:
        return f"The embedding is no better than {found.raw} ({numbers})."
    return f"The embedding has learned its task ({numbers}). No label says whether it is better than {found.raw}."


def _wrong(found: Evidence) -> str:
    """What went wrong in the training; empty if nothing did."""
    health, trouble = found.health, trouble_of(found.health)
    if trouble is None:
        return ""
    if trouble.kind in ("chance", "worse than chance"):
        return f"Nothing was learned: the loss ended at {health.loss:.3f}, and chance is {health.chance:.3f}."
    return f"The training failed by {trouble.text}"


def _signs(found: Evidence) -> Iterator[str]:
    health, views, (share, chance) = found.health, found.of_views, found.shared
    yield from (f"{pair.name}: learned {pair.learned:.1%}, {found.raw} {pair.raw:.1%}." for pair in found.by_labels)
    if found.seen:
        yield "These labels are those that trained it, so the numbers flatter it."
    if health.loss == health.loss:
        level = "" if health.chance is None else f"; {health.chance:.3f} is chance, where nothing is learned"
        yield f"Loss at the end: {health.loss:.3f}{level}."
    if found.said:
        yield f"The last check of the training said: {found.said}"
    yield (
        f"Effective rank {health.rank:.1f} of {health.most}, the number of directions in which the embeddings vary; "
        "near 1 they are all the same."
    )
    if found.settings.alike == "instance":
        yield (
            f"A random view of an item finds another view of it in {views.learned:.1%} ({found.raw} {views.raw:.1%}). "
            "Training practises this."
        )
    yield (
        f"Of an item's nearest neighbours, {share:.0%} are also those of {found.raw} ({chance:.0%} by chance). Near "
        f"100 % the embedding shows little that {found.raw} do not."
    )


def _advice(found: Evidence) -> Iterator[str]:
    s, trouble, pair = found.settings, trouble_of(found.health), _pair(found)
    better = pair.learned - pair.raw > pair.least
    if trouble is not None and trouble.kind == "collapse":
        yield f"Lower the learning rate: --optim.lr {s.optim.lr / 3:.2g}."
    elif trouble is not None:
        yield f"Another learning rate: --optim.lr {3 * s.optim.lr:.2g}, or {s.optim.lr / 3:.2g} if the loss jumps."
    if s.alike == "instance" and found.raw == "raw pixels" and not better and (milder := _milder(s.views)):
        yield f"Milder views, where left and right, colour or the border of an image tell items apart: {milder}."
    if s.alike == "instance" and found.method is not None:
        yield f"The items have labels: train with them, by --method {found.method} (--alike label)."
    if not better or not found.by_labels:
        yield f"A longer training: more --epochs than {s.epochs}."
    if not found.by_labels:
        yield (
            f"Look at the neighbours in the report. To know whether it is better than {found.raw}, label a hundred "
            "items and measure: likewise evaluate RUN --train LABELLED."
        )
    elif found.seen:
        yield "Measure it on items that it has not seen: likewise retrieve RUN --gallery OTHER."
    elif better:
        yield "Use it: likewise index RUN DATA, then likewise search RUN QUERY."


def _milder(views: ViewSettings) -> str:
    """The options that make views milder, without those that are so already."""
    shares = {"flip": views.flip, "grayscale": views.grayscale, "jitter": views.jitter}
    crop = [f"--views.crop_scale {MILD_CROP},1"] if views.crop_scale[0] < MILD_CROP else []
    return " ".join([*crop, *(f"--views.{name} 0" for name, share in shares.items() if share > 0)])
