"""Kernels equal their naive twins in value and in each gradient alone."""

import pytest
import torch
from torch import Tensor

from likewise.kernels import numerics
from likewise.kernels.logsumexp import naive_row_logsumexp, row_logsumexp
from likewise.kernels.numerics import paired_similarities


def made(wanted: str) -> tuple[Tensor, Tensor]:
    queries, keys = torch.randn(7, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    return queries.requires_grad_("queries" in wanted), keys.requires_grad_("keys" in wanted)


def same(found: Tensor, expected: Tensor, queries: Tensor, keys: Tensor) -> None:
    torch.testing.assert_close(found, expected)
    sought = [each for each in (queries, keys) if each.requires_grad]
    weights = torch.randn(found.shape, dtype=torch.float64)
    mine, theirs = (torch.autograd.grad((each * weights).sum(), sought) for each in (found, expected))
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("wanted", ["queries", "keys", "queries, keys"])
def test_each_side_has_its_gradient_alone(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "GATHER_FLOATS", 3 * 5)  # three pairs at a time
    queries, keys = made(wanted)
    rows, columns = torch.randint(7, (11,)), torch.randint(6, (11,))
    same(paired_similarities(queries, keys, rows, columns), (queries[rows] * keys[columns]).sum(1), queries, keys)
    same(row_logsumexp(queries, keys, 3.0), naive_row_logsumexp(queries, keys, 3.0), queries, keys)
    same(row_logsumexp(queries, keys, 3.0, tile=2), naive_row_logsumexp(queries, keys, 3.0), queries, keys)


def test_no_pairs_have_no_similarities() -> None:
    queries, keys = made("queries, keys")
    none = torch.empty(0, dtype=torch.int64)
    found = paired_similarities(queries, keys, none, none)
    assert found.shape == (0,)
    assert torch.equal(torch.autograd.grad(found.sum(), queries)[0], torch.zeros_like(queries))
