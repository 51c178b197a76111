"""Lists with scores and relevance, of any form, as padded lists in the order of their scores, some at a time.

Letters in shapes: Q queries, N items of a list, M items of all lists.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from likewise.alike import Flags, Ids, as_flags, as_ids
from likewise.errors import LikewiseError
from likewise.metrics.checks import Rows, as_tensor
from likewise.metrics.conventions import Convention

Numbers = Rows | Sequence[float]
CELLS = 1 << 20  # items of a chunk of lists; a measure needs about 60 bytes for each


class Lists(NamedTuple):
    """Padded lists, in the order of their scores."""

    gains: Tensor  # (Q, N) float64 by rank; 0 for what was not returned and for padding
    scores: Tensor  # (Q, N) by rank, −inf at the end
    returned: Tensor  # (Q, N) bool by rank
    relevant: Tensor  # (Q, N) bool by rank: relevant and returned
    total: Tensor  # (Q,) float64, the number of relevant items, returned or not
    ideal: Tensor  # (Q, N) float64, gains in the best order


def chunks(
    scores: Numbers, relevance: Numbers, mask: Flags | Tensor | None, offsets: Ids | None, before: int
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Padded lists on the CPU, some queries at a time: scores (q, n), float64 relevance (q, n), earlier queries.

    Padding has score −inf and relevance 0. ``before`` queries came in earlier calls. Raises LikewiseError on what
    :func:`likewise.ndcg` refuses.
    """
    scores, relevance = (
        as_tensor(name, values).detach().cpu() for name, values in (("scores", scores), ("relevance", relevance))
    )
    if scores.shape != relevance.shape:
        raise LikewiseError(f"scores {tuple(scores.shape)} and relevance {tuple(relevance.shape)} must have one shape.")
    if scores.is_complex() or relevance.is_complex():
        raise LikewiseError("scores and relevance must be real numbers.")
    if offsets is not None:
        yield from _ragged(scores, relevance, mask, offsets, before)
        return
    if scores.ndim == 1:
        scores, relevance = scores.unsqueeze(0), relevance.unsqueeze(0)
    if scores.ndim != 2 or 0 in scores.shape:
        raise LikewiseError(
            f"scores {tuple(scores.shape)} must be (N,) of one query, (Q, N) of several, or (M,) with offsets."
        )
    judged = torch.ones_like(scores, dtype=torch.bool)
    if mask is not None:
        judged = as_flags("mask", mask).cpu()
        judged = judged.unsqueeze(0) if judged.ndim == 1 else judged
        if judged.shape != scores.shape:
            raise LikewiseError(f"mask {tuple(judged.shape)} must have the shape of the scores {tuple(scores.shape)}.")
    step = max(1, CELLS // scores.shape[1])
    for start in range(0, len(scores), step):
        part = slice(start, start + step)
        yield _checked(scores[part], relevance[part], judged[part], before + start)


def _ragged(
    scores: Tensor, relevance: Tensor, mask: Flags | Tensor | None, offsets: Ids, before: int
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """:func:`chunks` of lists that follow each other."""
    ends = as_ids("offsets", offsets).cpu()
    if mask is not None:
        raise LikewiseError("mask is for padded lists, and offsets for lists that follow each other; leave one out.")
    if scores.ndim != 1 or ends.ndim != 1 or len(ends) < 2:
        raise LikewiseError(
            f"with offsets (Q + 1,), scores are (M,), not {tuple(scores.shape)} with {tuple(ends.shape)}."
        )
    lengths = ends.diff()
    if int(ends[0]) != 0 or int(ends[-1]) != len(scores) or bool((lengths < 0).any()):
        raise LikewiseError(f"offsets must rise from 0 to the {len(scores)} items.")
    start = 0
    while start < len(lengths):
        # as many lists as fit when all are as long as the longest of them
        longest = lengths[start : start + CELLS].cummax(0).values.clamp(min=1)
        fits = int((longest * torch.arange(1, len(longest) + 1) <= CELLS).sum())
        stop = start + max(1, fits)
        place = torch.arange(int(longest[stop - start - 1])).expand(stop - start, -1)
        judged = place < lengths[start:stop].unsqueeze(1)
        rows = (place + ends[start:stop].unsqueeze(1)).masked_fill(~judged, 0)
        if len(scores):
            yield _checked(scores[rows], relevance[rows], judged, before + start)
        else:
            yield _checked(torch.zeros(rows.shape), torch.zeros(rows.shape), judged, before + start)
        start = stop


def _checked(scores: Tensor, relevance: Tensor, judged: Tensor, before: int) -> tuple[Tensor, Tensor, int]:
    """One chunk. Raises LikewiseError on NaN; ``before`` is the number of earlier queries."""
    for name, values in (("score", scores), ("relevance", relevance)):
        bad = (values.isnan() & judged).any(1)
        if bool(bad.any()):
            raise LikewiseError(f"a {name} of query {before + int(bad.nonzero()[0])} is NaN.")
    kept = scores if scores.is_floating_point() else scores.double()
    return kept.masked_fill(~judged, -math.inf), relevance.double().masked_fill(~judged, 0), before


def in_order(scores: Tensor, relevance: Tensor, convention: Convention, before: int) -> Lists:
    """The lists by falling score. Raises LikewiseError on relevance that is negative or has no finite gain."""
    if convention.negative:
        relevance = relevance.clamp(min=0)
    lowest, query = relevance.amin(1).min(0)
    if float(lowest) < 0:
        raise LikewiseError(f"relevance {float(lowest):g} of query {before + int(query)} is negative; give 0 or more.")
    gains = relevance if convention.gains == "linear" else torch.exp2(relevance) - 1
    if not bool((gains.sum(1) < math.inf).all()):
        largest, query = relevance.amax(1).max(0)
        raise LikewiseError(
            f"relevance {float(largest):g} of query {before + int(query)} has no finite gain; scale it down."
        )
    relevant = relevance > 0 if convention.relevant is None else relevance >= convention.relevant
    if convention.ties == "last first":
        scores, gains, relevant = scores.flip(1), gains.flip(1), relevant.flip(1)
    ordered, order = scores.sort(dim=1, descending=True, stable=True)
    returned = ordered > -math.inf
    return Lists(
        gains=gains.gather(1, order) * returned,
        scores=ordered,
        returned=returned,
        relevant=relevant.gather(1, order) & returned,
        total=relevant.sum(1).double(),
        ideal=gains.sort(1, descending=True).values,
    )
