"""Maps: forces against plain sums, the gradient against autograd, the kept share against loops; the file of a map."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import unit_clusters

from likewise.errors import LikewiseError
from likewise.maps import Map, kept_share, layout, nearest, read_map, stamp_of, write_map
from likewise.maps.map_file import FILE
from likewise.maps.repulsion import repulsion
from likewise.maps.tsne import attraction

STAMP = stamp_of(unit_clusters(30), "a" * 32)
RENEW = ["likewise", "serve", "runs/digits"]


def naive_kept(rows: Tensor, points: np.ndarray, k: int) -> float:
    """By full sorts, in plain loops."""
    shares = []
    for own in range(len(rows)):
        others = [other for other in range(len(rows)) if other != own]
        near = sorted(others, key=lambda other: -float(rows[own].double() @ rows[other].double()))[:k]
        close = sorted(others, key=lambda other: float(((points[own] - points[other]) ** 2).sum()))[:k]
        shares.append(len(set(near) & set(close)) / k)
    return float(np.mean(shares))


def test_kept_is_what_loops_count() -> None:
    rows = unit_clusters(60)
    made = layout(rows)
    assert made.kept == pytest.approx(naive_kept(rows, made.xy.astype(np.float64), 15))
    shuffled = torch.rand(60, 2)
    everyone = torch.arange(60)
    assert kept_share(nearest(rows, 5), shuffled, everyone) == pytest.approx(naive_kept(rows, shuffled.numpy(), 5))


@pytest.mark.parametrize(("extent", "most"), [(1e-4, 0.001), (3.0, 0.01), (40.0, 0.12)])
def test_repulsion_is_the_sum_over_all_pairs(extent: float, most: float) -> None:
    points = extent * torch.rand(400, 2)
    apart = (points[:, None] - points).double()
    near = 1 / (1 + apart.square().sum(2))
    pushed, total = repulsion(points)
    expected = (apart * near.square()[..., None]).sum(1)
    assert float((pushed - expected).norm() / expected.norm()) < most
    assert total == pytest.approx(float(near.sum()) - 400, rel=0.01)


def test_the_forces_are_the_gradient_of_the_divergence() -> None:
    near = nearest(unit_clusters(80), 6)
    p = torch.zeros(80, 80, dtype=torch.float64).scatter_(1, near, 1.0)
    p = (p + p.T) / (2 * 80 * 6)
    points = (3 * torch.rand(80, 2)).double().requires_grad_()
    q = 1 / (1 + (points[:, None] - points).square().sum(2)) - torch.eye(80)
    q = q / q.sum()
    (p[p > 0] * (p[p > 0] / q[p > 0]).log()).sum().backward()
    assert points.grad is not None
    flat = points.detach().float()
    pushed, total = repulsion(flat)
    pulled = attraction(flat, near, near.flatten(), torch.ones(80, 6))
    found = 4 * (pulled / (2 * 80 * 6) - pushed / total)
    assert float((found - points.grad).norm() / points.grad.norm()) < 0.01


def test_a_map_keeps_neighbours_and_is_the_same_each_time() -> None:
    rows = unit_clusters(300)
    made = layout(rows)
    flat = torch.from_numpy(made.xy)
    principal = torch.pca_lowrank(rows, 2)[0]
    everyone = torch.arange(300)
    assert made.kept > kept_share(nearest(rows, 15), principal, everyone) + 0.15
    assert np.array_equal(layout(rows, near=nearest(rows, 15)).xy, made.xy)
    assert flat.dtype == torch.float32
    assert float(flat.mean(0).abs().max()) < 1e-3


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_few_and_equal_rows_have_a_map(count: int) -> None:
    for rows in (torch.ones(count, 3), torch.randn(count, 1)):
        made = layout(rows)
        assert made.xy.shape == (count, 2)
        assert np.isfinite(made.xy).all()


@pytest.mark.slow  # numba compiles for ten seconds
def test_pacmap_lays_out_when_it_is_asked_for() -> None:
    pytest.importorskip("pacmap", reason="pacmap is not installed: maps by it are not tested")
    made = layout(unit_clusters(120), method="pacmap")
    assert made.method == "pacmap"
    assert made.kept > 0.2


def test_bad_rows_and_methods_are_refused() -> None:
    with pytest.raises(LikewiseError, match=r"there is no map by 'tsn'. Did you mean 'tsne'"):
        layout(torch.randn(9, 3), method="tsn")
    with pytest.raises(LikewiseError, match="rows row 2 holds NaN"):
        layout(torch.tensor([[1.0, 0], [0, 1], [0, float("nan")]]))
    with pytest.raises(LikewiseError, match="row 1 has length 0"):
        layout(torch.tensor([[1.0, 0], [0, 0]]))
    with pytest.raises(LikewiseError, match=r"near has shape \(9, 2\)"):
        layout(torch.randn(9, 3), near=torch.zeros(9, 2, dtype=torch.int64))


@pytest.fixture(scope="module")
def made() -> Map:
    return layout(unit_clusters(30))


def test_the_file_of_a_map_gives_it_back(tmp_path: Path, made: Map) -> None:
    assert read_map(tmp_path / FILE, STAMP, RENEW) is None
    write_map(tmp_path / FILE, made, STAMP)
    again = read_map(tmp_path / FILE, STAMP, RENEW)
    assert again is not None
    assert np.array_equal(again.xy, made.xy)
    assert again.sentence() == made.sentence()


def test_a_map_of_another_model_or_other_items_is_refused(tmp_path: Path, made: Map) -> None:
    path = tmp_path / FILE
    write_map(path, made, STAMP)
    with pytest.raises(LikewiseError, match=r"was made with another model .* likewise serve runs/digits"):
        read_map(path, STAMP | {"model": "c" * 32}, RENEW)
    with pytest.raises(LikewiseError, match="is of other items than there are now"):
        read_map(path, stamp_of(unit_clusters(30, seed=1), "a" * 32), RENEW)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises(LikewiseError, match="is damaged or is no map"):
            read_map(path, STAMP, RENEW)
