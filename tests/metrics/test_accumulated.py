"""``Metric``: rows in batches give the result of all rows at once. dictionaries/test_sharded.py tests processes."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import likewise as lw
from likewise.errors import LikewiseError
from likewise.metrics import Metric

ROWS = torch.nn.functional.normalize(torch.randn(30, 6, generator=torch.Generator().manual_seed(0)), dim=1)
LABELS = torch.arange(30) % 5
MEASURES = {
    "retrieval": lw.retrieval,
    "kNN, leave-one-out": lw.knn_accuracy,
    "kNN against a bank": lambda z, y: lw.knn_accuracy(z, y, ROWS.flip(1), LABELS.flip(0), k=3),
    "clustering": lw.metrics.clustering,
    "verification": lambda z, y: lw.metrics.verification(z, *lw.metrics.random_pairs(y, 40)),
    "rank": lambda z, y: lw.metrics.effective_rank(z),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES.keys())
@settings(deadline=None, max_examples=5)
@given(cuts=st.lists(st.integers(1, 29), max_size=4, unique=True))
def test_any_batches_give_the_functions_numbers(measure: Any, cuts: list[int]) -> None:
    metric = Metric(measure)
    for rows, labels in zip(ROWS.tensor_split(sorted(cuts)), LABELS.tensor_split(sorted(cuts)), strict=True):
        metric.update(rows.requires_grad_(), labels.int().numpy())
    assert len(metric) == 30
    assert repr(metric.compute()) == repr(measure(ROWS, LABELS))
    assert repr(metric.compute()) == repr(measure(ROWS, LABELS))  # computing changes nothing
    metric.reset()
    assert len(metric) == 0
    metric.update(ROWS[:20], LABELS[:20])
    assert repr(metric.compute()) == repr(measure(ROWS[:20], LABELS[:20]))


def test_what_is_kept_is_float32_on_the_cpu_and_a_copy() -> None:
    metric, rows = Metric(lambda z, y: (z, y)), ROWS.bfloat16()
    metric.update(rows, LABELS[:, None].repeat(1, 2))
    rows.zero_()
    kept, labels = metric.compute()
    assert torch.equal(kept, ROWS.bfloat16().float())
    assert labels.shape == (30, 2)
    assert repr(Metric(lw.retrieval)).startswith("Metric(0 rows, measure=<function retrieval at ")


def test_leave_one_out_is_the_rows_against_themselves_by_id() -> None:
    ids = torch.arange(30)
    wanted = lw.knn_accuracy(ROWS, LABELS, ROWS, LABELS, k=4, query_ids=ids, key_ids=ids)
    assert lw.knn_accuracy(ROWS, LABELS, k=4) == wanted < 1
    with pytest.raises(LikewiseError, match="need keys: give them too"):
        lw.knn_accuracy(ROWS, LABELS, query_ids=ids, key_ids=ids)
    with pytest.raises(LikewiseError, match="key_labels are missing"):
        lw.knn_accuracy(ROWS, LABELS, ROWS)


def test_batches_that_do_not_fit_are_not_added() -> None:
    metric = Metric(lw.retrieval)
    with pytest.raises(LikewiseError, match=r"there are no rows to measure; update\(rows, labels\) comes before"):
        metric.compute()
    metric.update(ROWS, LABELS)
    for rows, labels, said in (
        (ROWS[:, :3], LABELS, r"rows \(30, 3\) follow others of shape \(30, 6\)"),
        (ROWS, LABELS[:, None], r"labels \(30, 1\) follow others of shape \(30,\)"),
        (ROWS, LABELS[:3], r"labels \(3,\) must be \(30,\), one per row, or \(30, L\)"),
        (ROWS, LABELS.float(), r"labels are torch.float32; they must be integers"),
    ):
        with pytest.raises(LikewiseError, match=said):
            metric.update(rows, labels)
    assert len(metric) == 30
