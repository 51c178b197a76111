"""Classifies rows by the few that have a label: label propagation or weighted kNN, chosen by leave-one-out.

Dimension legend: N items, D columns, L labelled items, M of them that are left out in turn, C classes, K neighbours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from likewise.alike import Ids, as_ids
from likewise.answers.calibration import best_temperature, log_loss, reliability, shares
from likewise.answers.classified import Classified, HeldOut, Trial
from likewise.answers.propagation import NEIGHBOURS, knn_graph, propagate
from likewise.console import Tick, part_of, untold
from likewise.errors import LikewiseError, at_least_one, closest
from likewise.metrics.checks import Rows, as_rows, check_finite, check_ids
from likewise.metrics.neighbours import fair_k, knn_classify
from likewise.metrics.verification import roc
from likewise.text import quoted

METHODS = ("auto", "propagation", "knn")
MOST_LEFT_OUT, LEAST_LEFT_OUT = 500, 30  # labelled items that are left out in turn; few where there are many rows
USUAL = {"propagation": 0.3, "knn": 1.0}  # T where no item can be left out: about that of digits with 30 labels
_LEFT_OUT_NUMBERS = 5 * 10**7  # of the columns of those items
_NUMBERS = 2**24  # float64 of a block of columns


@torch.no_grad()
def classify_rows(
    rows: Rows,
    labels: Ids,
    *,
    names: Sequence[str],
    ids: Sequence[str],
    method: str = "auto",
    k: int | None = None,
    tick: Tick = untold,
) -> Classified:
    """The label of each of N rows, by those that have one; see ``Classified``.

    Two methods: label propagation, F = (1 − α)(I − α S)⁻¹ Y (see ``propagate``), where the column of a class in Y sums
    to 1, so that no class wins by its number of labels; and the weighted vote of ``knn_classify`` among the labelled
    rows. Each is tried on labelled items, one left out at a time; items that are the only one of their class are not
    tried, since nobody could find their label. The method that finds more is used, of equal ones that with the smaller
    loss. F is linear in Y, so leaving an item out takes no other solution than that of its own column.

    Confidence is p_c ∝ a_c^(1/T), where a are the values of F or the votes: T has the least loss on the items left out,
    and p is at most 1 − 1/(L + 2) or so: L labels can't show more (see ``shares``).

    Unlike is 1 / (1 + r N / L), where r is the share that labelled items have in what reaches an item: Σ over labelled
    j of P_ij / Σ over all j of P_ij, P = (1 − α)(I − α S)⁻¹. It is 0.5 where labels are as near as on average. A class
    without labels has paths to its own items mostly, and so a large value.

    Args:
        rows: (N, D) float unit rows.
        labels: (N,) integers, places in ``names``; −1 without a label.
        names: of the classes.
        ids: N different strings.
        method: "propagation", "knn" or "auto".
        k: K of the graph, and how many vote, at most L. None: 10, and ``fair_k`` of the labels.
        tick: told the share of the work that is done.

    Raises:
        LikewiseError: wrong shapes, NaN or infinity (by row); fewer than two classes have labels; an unknown method; K
            out of range.

    Cost: that of ``knn_graph``, and of ``propagate`` with C + M + 2 columns, M from 30 to 500, or with M + 2 where
    votes are better; memory that of the graph and about 700 MiB for a block of columns, whatever C is.
    """
    method_named(method)
    rows = as_rows("rows", rows)
    check_finite("rows", rows)
    check_ids(rows, ids)
    task = _task(rows, labels, names, k)
    graph = knn_graph(rows, task.neighbours, tick=part_of(tick, 0, 3))
    asked = _left_out(task)
    sums = _from_others(graph, task, asked, part_of(tick, 1, 3))
    several = torch.bincount(task.truth)[task.truth[asked]] > 1
    tried = asked[several]
    scores = {
        "propagation": lambda: _of_labels(task, tried, sums[:, several]),
        "knn": lambda: _votes(task, task.known[tried]),
    }
    trials = [_trial(each, scores[each](), task, tried) for each in (METHODS[1:] if method == "auto" else [method])]
    trials.sort(key=lambda trial: (-trial.right, trial.loss))  # of equal ones the first, which is propagation
    given = torch.zeros(len(rows), dtype=torch.bool)
    given[task.known] = True
    total, reached = propagate(graph, torch.stack([torch.ones(len(rows)), given.float()], 1)).T
    lost = (reached <= 0).nonzero().flatten()
    temperature, told = trials[0].temperature, part_of(tick, 2, 3)
    if trials[0].method == "knn":
        lost = lost[:0]
        labelled, confidence = _by_votes(task, torch.arange(len(rows)), temperature, told)
    else:
        labelled, confidence = _by_labels(graph, task, temperature, told)
        labelled[lost], confidence[lost] = _by_votes(task, lost, temperature)
    unlike = 1 / (1 + reached / total * len(rows) / len(task.known))
    labelled[task.known], confidence[task.known], unlike[task.known] = task.truth, 1.0, 0.0
    share = sums / total[task.known[asked]]
    return Classified(
        ids=tuple(ids),
        labels=labelled,
        names=tuple(names),
        confidence=confidence,
        unlike=unlike,
        given=given,
        trials=tuple(trials),
        held_out=tuple(_held_out(share, task.truth[asked], several, names)),
        unreached=len(lost),
    )


def method_named(name: str) -> None:
    """Raises LikewiseError unless it is one of ``METHODS``, with the closest."""
    if name not in METHODS:
        raise LikewiseError(f"there is no method {name!r}.{closest(name, METHODS)} Known: {', '.join(METHODS)}.")


class _Task(NamedTuple):
    """Rows, and what is known of them."""

    rows: Tensor  # (N, D)
    known: Tensor  # (L,) int64, the labelled ones
    truth: Tensor  # (L,) int64, their labels
    classes: int
    neighbours: int  # K of the graph
    voters: int

    @property
    def floor(self) -> float:
        """ε of ``shares``."""
        return 1 / (len(self.known) + 2)


def _task(rows: Tensor, labels: Ids, names: Sequence[str], k: int | None) -> _Task:
    given = as_ids("labels", labels).cpu().long()
    if given.shape != (len(rows),):
        raise LikewiseError(f"labels must be ({len(rows)},), one per row, but have shape {tuple(given.shape)}.")
    if len(given) and int(given.max()) >= len(names):
        raise LikewiseError(f"a label is {int(given.max())}, but there are {len(names)} names, counted from 0.")
    known = (given >= 0).nonzero().flatten()
    truth = given[known]
    if len(torch.unique(truth)) < 2:
        what = f"all {len(truth):,} labels are {quoted(names[int(truth[0])])}" if len(truth) else "there are no labels"
        raise LikewiseError(f"{what}, so there is nothing to tell apart; label items of two classes or more.")
    if k is not None and at_least_one("k", k, "it is a number of neighbours") >= len(rows):
        raise LikewiseError(f"k={k} must be from 1 to {len(rows) - 1:,}: an item has {len(rows) - 1:,} others.")
    neighbours, voters = (min(NEIGHBOURS, len(rows) - 1), fair_k(truth)) if k is None else (k, k)
    return _Task(rows, known, truth, len(names), neighbours, min(voters, len(known)))


def _left_out(task: _Task) -> Tensor:
    """(M,) places among the labelled rows, at most 500, that are left out in turn."""
    most = min(MOST_LEFT_OUT, max(LEAST_LEFT_OUT, _LEFT_OUT_NUMBERS // len(task.rows)))
    order = torch.randperm(len(task.known), generator=torch.Generator().manual_seed(0))
    return order[:most].sort().values


def _votes(task: _Task, asked: Tensor, tick: Tick = untold) -> Tensor:
    """(Q, C) float64 votes of the labelled rows for the rows ``asked``; none votes for itself."""
    votes = torch.zeros(len(asked), task.classes, dtype=torch.float64)
    if len(asked):
        keys = task.rows[task.known]
        classes, weights = knn_classify(
            *(task.rows[asked], keys, task.truth), k=task.voters, query_ids=asked, key_ids=task.known, tick=tick
        )
        votes.scatter_add_(1, classes.clamp_min(0), weights.double())
    return votes


def _from_others(graph: Tensor, task: _Task, asked: Tensor, tick: Tick) -> Tensor:
    """(C, M) float64 what the labelled items of each class give those ``asked``, each without its own label.

    Entry [i, j] of P = (1 − α)(I − α S)⁻¹ is what item j gives item i. P is symmetric: a column is a row.
    """
    sums = torch.zeros(task.classes, len(asked), dtype=torch.float64)
    blocks = torch.split(torch.arange(len(asked)), _block(task))
    for number, block in enumerate(blocks):
        places = asked[block], torch.arange(len(block))
        one = torch.zeros(len(task.rows), len(block), dtype=torch.float64)
        one[task.known[places[0]], places[1]] = 1.0
        reach = propagate(graph, one, tick=part_of(tick, number, len(blocks)))[task.known]
        reach[places] = 0.0
        sums[:, block] = sums[:, block].index_add_(0, task.truth, reach)
    return sums


def _of_labels(task: _Task, tried: Tensor, sums: Tensor) -> Tensor:
    """(M, C) float64 F of the labelled items ``tried``, without their own label; votes where it is 0."""
    counts = torch.bincount(task.truth, minlength=task.classes)[:, None].repeat(1, len(tried))
    counts[task.truth[tried], torch.arange(len(tried))] -= 1
    scores = (sums / counts.clamp_min(1)).T.contiguous()
    lost = (scores.sum(1) <= 0).nonzero().flatten()
    scores[lost] = _votes(task, task.known[tried[lost]])
    return scores


def _by_labels(graph: Tensor, task: _Task, temperature: float, tick: Tick) -> tuple[Tensor, Tensor]:
    """(N,) the class with the largest F and its share, as by ``shares``, with a block of classes in memory at a time.

    Where no label reaches, both mean nothing.
    """
    counts = torch.bincount(task.truth, minlength=task.classes)
    blocks = torch.split(torch.arange(task.classes), _block(task))
    label = torch.zeros(len(task.rows), dtype=torch.int64)
    peak = torch.full((len(task.rows),), torch.finfo(torch.float64).tiny, dtype=torch.float64)
    raised = torch.zeros_like(peak)  # Σ (F / peak)^(1/T)
    for number, block in enumerate(blocks):
        mine = (task.truth[:, None] == block).double() / counts[block].clamp_min(1)
        spread = torch.zeros(len(task.rows), len(block), dtype=torch.float64).index_add_(0, task.known, mine)
        scores = propagate(graph, spread, tick=part_of(tick, number, len(blocks)))
        most, place = scores.max(1)
        label = torch.where(most > peak, block[place], label)
        most = torch.maximum(most, peak)
        raised *= (peak / most).pow(1 / temperature)
        raised += (scores / most[:, None]).pow(1 / temperature).sum(1)
        peak = most
    return label, (1 - task.floor) / raised + task.floor / task.classes


def _by_votes(task: _Task, asked: Tensor, temperature: float, tick: Tick = untold) -> tuple[Tensor, Tensor]:
    """(Q,) the class with the most votes for the rows ``asked``, of equal ones the first, and its share."""
    labels, confidence = torch.zeros_like(asked), torch.zeros(len(asked), dtype=torch.float64)
    for places in torch.split(torch.arange(len(asked)), max(1, _NUMBERS // task.classes)) if len(asked) else ():
        most = shares(_votes(task, asked[places]), temperature, task.floor).max(1)
        labels[places], confidence[places] = most.indices, most.values
        tick(int(places[-1]) / len(asked))
    return labels, confidence


def _block(task: _Task) -> int:
    return max(1, _NUMBERS // len(task.rows))


def _trial(method: str, scores: Tensor, task: _Task, tried: Tensor) -> Trial:
    truth = task.truth[tried]
    if len(truth) == 0:
        return Trial(method, 0, 0, float("nan"), USUAL[method], ())
    temperature = best_temperature(scores, truth, task.floor)
    likely = shares(scores, temperature, task.floor)
    confidence, found = likely.max(1)
    right = found == truth
    bins = reliability(confidence, right)
    return Trial(method, int(right.sum()), len(truth), log_loss(likely, truth), temperature, tuple(bins))


def _held_out(share: Tensor, truth: Tensor, several: Tensor, names: Sequence[str]) -> list[HeldOut]:
    """How well "unlike" finds labelled items of a class whose labels are taken away, for each class in turn.

    Of what reaches an item, a smaller share must come from the labels of the other classes if it is of the class than
    if it is not: the area under the ROC. Empty with fewer than three classes.

    Args:
        share: (C, M) of the labels of each class, an item's own left out.
        truth: (M,) int64 labels of the items.
        several: (M,) bool, whether an item's class has other labels; the rest is never "of the other classes", since
            without its own label it is of an unknown class too.
        names: of the classes.
    """
    present = torch.unique(truth).tolist()
    found = []
    for label in present if len(present) > 2 else []:
        alien = truth == label
        counted = alien | several
        if bool((counted & ~alien).any()):
            known = share.sum(0) - share[label]
            auroc = roc(-known[counted], alien[counted]).auc
            found.append(HeldOut(names[label], auroc, int(alien.sum())))
    return found
