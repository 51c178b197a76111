"""Measures of collapse: whether rows vary in many directions (effective rank), and how far they spread."""

import math

import torch

from likewise.errors import LikewiseError
from likewise.metrics.checks import Rows, as_rows, check_finite


def effective_rank(rows: Rows) -> float:
    """exp of the entropy of the singular values over their sum (RankMe, Garrido et al. 2023, eq. 1).

    Between 1 (collapsed: all rows on one line) and min(N, D). Rows are neither centred nor normalised, as in the paper.
    If all rows are zero it is 0.

    Args:
        rows: (N, D) float; a few thousand rows are enough.

    Raises:
        LikewiseError: wrong shape, NaN or infinity (by row).

    Cost: O(N·D·min(N, D)) in float64. Departures: singular values are the square roots of the eigenvalues of the
    smaller Gram matrix; this is faster and loses only values below 1e-8 of the largest. No ε is added to the shares.
    """
    rows = as_rows("rows", rows)
    check_finite("rows", rows)
    exact = rows.detach().double()
    peak = exact.abs().max()
    if float(peak) == 0.0:
        return 0.0
    exact = exact / peak  # so that squares neither overflow nor vanish
    gram = exact.T @ exact if exact.shape[0] >= exact.shape[1] else exact @ exact.T
    singular = torch.linalg.eigvalsh(gram).clamp_min(0.0).sqrt()
    share = singular / singular.sum()
    return float(torch.exp(-torch.xlogy(share, share).sum()))


def collapse_std(rows: Rows) -> float:
    """Mean over columns of the standard deviation of the L2-normalised rows, times √D (SimSiam, fig. 2).

    Near 1 if the rows spread over the whole sphere, 0 if all are the same point.

    Args:
        rows: (N, D) float, N ≥ 2.

    Raises:
        LikewiseError: wrong shape, fewer than two rows, NaN or infinity (by row).

    Cost: O(N·D).
    """
    rows = as_rows("rows", rows)
    check_finite("rows", rows)
    if rows.shape[0] < 2:
        raise LikewiseError("the spread of one row is undefined; give at least two rows.")
    unit = torch.nn.functional.normalize(rows.detach().double(), dim=1)
    return float(unit.std(dim=0, correction=0).mean()) * math.sqrt(rows.shape[1])
