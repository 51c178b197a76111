"""Confidence that means what it says: a temperature chosen on items whose labels are known, and how reliable it is.

Dimension legend: L items with a known label, C classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

TEMPERATURES = torch.logspace(-1.5, 1.5, 121, dtype=torch.float64)  # 0.03 to 32, with 1 in the middle
BINS, FEWEST = 5, 10  # at most so many bins, of at least so many items


class Bin(NamedTuple):
    """Items of about the same confidence."""

    least: float  # their lowest confidence
    most: float  # their highest
    mean: float  # their mean confidence
    right: float  # the share of them whose label is right
    number: int  # of items


def shares(scores: Tensor, temperature: float, floor: float) -> Tensor:
    """p_c = (1 − ε) a_c^(1/T) / Σ a^(1/T) + ε / C, of (L, C) scores a ≥ 0; a row of zeros becomes 1 / C.

    T is the temperature (Guo et al. 2017, for log a as logits) and ε the floor: nothing is more certain than that.
    """
    peak = scores.amax(1, keepdim=True)
    raised = (scores / peak.clamp_min(torch.finfo(torch.float64).tiny)).pow(1 / temperature)
    raised = torch.where(peak > 0, raised, 1.0)
    return (1 - floor) * raised / raised.sum(1, keepdim=True) + floor / scores.shape[1]


def best_temperature(scores: Tensor, truth: Tensor, floor: float) -> float:
    """The T of ``TEMPERATURES`` with the least −Σ log p of the true classes (L,) by ``shares``; 1 without items."""
    if len(truth) == 0:
        return 1.0
    losses = [log_loss(shares(scores, float(each), floor), truth) for each in TEMPERATURES]
    return float(TEMPERATURES[int(torch.tensor(losses).argmin())])


def log_loss(probabilities: Tensor, truth: Tensor) -> float:
    """−1/L Σ log p of the true classes."""
    return float(-probabilities.gather(1, truth[:, None]).log().mean())


def reliability(confidence: Tensor, right: Tensor) -> list[Bin]:
    """Bins of (L,) confidence, lowest first, with equally many items: at most 5, of at least 10 each; see ``Bin``."""
    if len(confidence) == 0:
        return []
    order = confidence.argsort(stable=True)
    bins = []
    for part in torch.tensor_split(order, min(BINS, max(1, len(order) // FEWEST))):
        inside = confidence[part]
        share = float(right[part].double().mean())
        bins.append(Bin(float(inside[0]), float(inside[-1]), float(inside.mean()), share, len(part)))
    return bins


def calibration_error(bins: Sequence[Bin]) -> float:
    """ECE = Σ_b n_b / L · |right − mean confidence| (Naeini et al. 2015), in [0, 1]."""
    total = sum(each.number for each in bins)
    return sum(each.number * abs(each.right - each.mean) for each in bins) / total if total else 0.0
