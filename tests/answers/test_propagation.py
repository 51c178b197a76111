"""Label propagation against the inverse of the dense matrix, and the graph against loops."""

import math

import numpy as np
import pytest
import torch

from likewise.answers import candidates
from likewise.answers.propagation import knn_graph, propagate
from likewise.errors import LikewiseError
from likewise.index import all_rows


def unit_rows(count: int, dim: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, dim, generator=generator), dim=1)


def dense_graph(rows: torch.Tensor, k: int, temperature: float) -> np.ndarray:
    """S by plain loops in float64."""
    z = rows.double().numpy()
    count = len(z)
    a = np.zeros((count, count))
    for i in range(count):
        others = sorted((j for j in range(count) if j != i), key=lambda j: (-float(z[i] @ z[j]), j))
        for j in others[:k]:
            a[i, j] = math.exp((float(z[i] @ z[j]) - 1) / temperature)
    w = a + a.T
    d = w.sum(1)
    return w / np.sqrt(d[:, None] * d[None, :])


@pytest.mark.parametrize("k", [1, 4, 29])
def test_the_graph_is_that_of_loops(k):
    rows = unit_rows(30)
    found = knn_graph(rows, k, temperature=0.2).to_dense().numpy()
    assert np.allclose(found, dense_graph(rows, k, 0.2), atol=1e-6)
    assert np.allclose(found, found.T)
    assert np.abs(np.linalg.eigvalsh(found)).max() <= 1 + 1e-9


def test_an_engine_finds_nearly_the_same_graph_of_many_rows(monkeypatch):
    pytest.importorskip("faiss", reason="the graph of neighbours by an engine was not tested")
    rows = unit_rows(3000)
    exact = knn_graph(rows, 5)
    monkeypatch.setattr(all_rows, "_ALL_PAIRS", 0)
    found = knn_graph(rows, 5)
    both = ((exact.to_dense() > 0) & (found.to_dense() > 0)).sum()
    assert 0.93 < int(both) / exact.values().numel() <= 1
    assert int(both) / found.values().numel() > 0.9


def test_neighbours_that_an_engine_does_not_propose_weigh_nothing(monkeypatch):
    rows = unit_rows(30)

    def few(rows, k, tick):
        cosines, places = all_rows.nearest_of_all(rows, k, tick)
        cosines[:, 2:], places[:, 2:] = -torch.inf, -1
        return cosines, places

    wanted = knn_graph(rows, 2).to_dense()
    monkeypatch.setattr(candidates, "nearest_of_all", few)
    assert torch.allclose(knn_graph(rows, 4).to_dense(), wanted, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.1, 0.9, 0.99, 0.999])
def test_propagation_is_the_inverse_of_the_dense_matrix(alpha):
    graph = knn_graph(unit_rows(60), 3)
    labels = torch.zeros(60, 3)
    labels[[0, 7, 20, 41], [0, 1, 1, 2]] = 1
    dense = graph.to_dense().numpy()
    wanted = (1 - alpha) * np.linalg.inv(np.eye(60) - alpha * dense) @ labels.numpy()
    assert np.allclose(propagate(graph, labels, alpha=alpha).numpy(), wanted, atol=1e-9)


def test_nothing_reaches_items_without_a_path():
    rows = torch.zeros(40, 8)
    rows[:20, :4], rows[20:, 4:] = unit_rows(20, 4), unit_rows(20, 4, seed=1)
    labels = torch.zeros(40, 1)
    labels[3] = 1
    found = propagate(knn_graph(rows, 3), labels)
    assert bool((found[20:] == 0).all())
    assert float(found[3]) > 0


def test_rows_that_are_the_same_are_no_trouble():
    found = propagate(knn_graph(unit_rows(1).repeat(5, 1), 2), torch.eye(5))
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("k", [0, 30])
def test_k_is_from_one_to_the_others(k):
    with pytest.raises(LikewiseError, match=rf"k={k} must be from 1 to 29: an item has 29 others"):
        knn_graph(unit_rows(30), k)


def test_alpha_is_between_0_and_1():
    with pytest.raises(LikewiseError, match=r"alpha=1.0 must be above 0 and below 1"):
        propagate(knn_graph(unit_rows(5), 1), torch.eye(5), alpha=1.0)
