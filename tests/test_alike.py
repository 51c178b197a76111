"""Ids, roles and listed pairs that do not fit their rows are refused in a sentence."""

import pytest
import torch

from likewise.errors import LikewiseError
from likewise.objectives import InfoNCE, from_pairs


def test_roles_are_one_for_each_key() -> None:
    rows, ids = torch.eye(4), torch.tensor([0, 0, 1, 1])
    with pytest.raises(LikewiseError, match=r"pushes must be \(4,\) bool, one per key, not \(3,\)"):
        InfoNCE()(rows, ids, rows, ids, pushes=torch.ones(3, dtype=torch.bool))


def test_listed_pairs_are_alike_or_not_each() -> None:
    with pytest.raises(LikewiseError, match=r"alike \(3,\) must be \(2,\), one per pair"):
        from_pairs(torch.eye(4), torch.tensor([[0, 1], [2, 3]]), torch.ones(3, dtype=torch.bool))
