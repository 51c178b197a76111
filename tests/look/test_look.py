"""What the page is told, against plain loops; and what it is told when something is missing."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import unit_clusters

from likewise.errors import LikewiseError
from likewise.index import Index
from likewise.look import Look
from likewise.look import look as look_module
from likewise.look.points import clusters_of, far, weakest, wrong_share
from likewise.look.polygon import inside
from likewise.maps import nearest
from likewise.stamp import hash_of_bytes


def winding(polygon: list[tuple[float, float]], x: float, y: float) -> int:
    """How often a polygon goes around a point, by the sum of angles."""
    total = 0.0
    for (ax, ay), (bx, by) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        one, other = complex(ax - x, ay - y), complex(bx - x, by - y)
        total += float(np.angle(other / one))
    return round(total / (2 * np.pi))


def test_inside_is_what_the_winding_says() -> None:
    star = [(0.0, 3.0), (1.0, 1.0), (3.0, 0.5), (1.0, -0.5), (1.5, -3.0), (-0.2, -1.0), (-3.0, -2.0), (-1.0, 0.3)]
    points = np.random.default_rng(0).uniform(-3.5, 3.5, (500, 2)).astype(np.float32)
    wanted = [winding(star, float(x), float(y)) != 0 for x, y in points]
    assert inside(star, points).tolist() == wanted
    assert 0 < sum(wanted) < 500


@pytest.mark.parametrize(
    ("polygon", "why"),
    [
        ([(0, 0), (1, 1)], "3 to 5,000 corners, not 2"),
        ([(0, 0), (1, 1), (float("nan"), 0)], "NaN"),
        ([(0, 0), (1, 1), (1e31, 0)], "beyond"),
        ([(0, 0), (1, 1), (2,)], "two numbers"),
    ],
)
def test_what_is_no_polygon_is_refused(polygon: list[tuple[float, ...]], why: str) -> None:
    with pytest.raises(LikewiseError, match=why):
        inside(polygon, np.zeros((3, 2), np.float32))


def test_shares_and_distances_are_what_loops_find() -> None:
    rows = unit_clusters(40)
    labels = np.random.default_rng(0).integers(-1, 3, 40)
    near = nearest(rows, 15)
    error, distance = wrong_share(near, labels[:, None]), far(rows, near)
    for row in range(40):
        order = sorted(
            (other for other in range(40) if other != row), key=lambda other: -float(rows[row] @ rows[other])
        )
        known = [labels[other] for other in order[:10] if labels[other] >= 0]
        wanted = np.mean([label != labels[row] for label in known]) if known and labels[row] >= 0 else np.nan
        assert error[row] == pytest.approx(wanted, nan_ok=True)
        assert distance[row] == pytest.approx(1 - float(rows[row] @ rows[order[9]]), abs=1e-5)
    found = weakest(error, labels[:, None], ("a", "b", "c"), 2)
    means = {label: np.nanmean(error[labels == label]) for label in range(3)}
    assert [label for label, _, _ in found] == sorted(means, key=lambda label: -means[label])[:2]


def test_a_lone_item_has_no_neighbours_to_speak_of() -> None:
    alone = torch.empty(1, 0, dtype=torch.int64)
    assert np.isnan(wrong_share(alone, np.zeros((1, 1), np.int64))).all()
    assert np.isnan(far(torch.ones(1, 1), alone)).all()
    assert clusters_of(torch.ones(1, 1), np.zeros(1, np.int64)).tolist() == [0]


def look(run: Path, rows: torch.Tensor, labels: np.ndarray, names: tuple[str, ...]) -> Look:
    run.mkdir(exist_ok=True)
    return Look(
        run,
        Index(rows, [f"i{row}" for row in range(len(rows))], {"model": "m"}),
        labels.reshape(len(labels), -1),
        names,
    )


def test_the_map_is_kept_and_made_anew_for_other_rows(tmp_path: Path) -> None:
    rows, labels = unit_clusters(30), np.arange(30) % 2
    first = look(tmp_path, rows, labels, ("a", "b"))
    points = first.points()
    again = look(tmp_path, rows, labels, ("a", "b"))
    again._near = None  # type: ignore[method-assign,assignment]  # a map that is read needs no neighbours
    assert np.array_equal(again.map().xy, first.map().xy)
    other = look(tmp_path, unit_clusters(30, seed=1), labels, ("a", "b"))
    assert not np.array_equal(other.map().xy, first.map().xy)
    header = json.loads(points[8 : 8 + int.from_bytes(points[4:8], "little")])
    assert [column["name"] for column in header["columns"]] == ["x", "y", "cluster", "distance", "label", "error"]
    assert header["map"]["kept"] == first.map().kept


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    bare = look(tmp_path, unit_clusters(20), np.full(20, -1), ())
    assert bare.verdict() is None
    assert bare.groups("weakest").groups == bare.groups("suspects").groups == ()
    with pytest.raises(LikewiseError, match="needs a model and its data"):
        bare.groups("duplicates")
    with pytest.raises(LikewiseError, match=r"no groups of the kind 'outlier'. Did you mean 'outliers'"):
        bare.groups("outlier")


def test_a_label_that_the_neighbours_contradict_is_suspect(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    labels = np.arange(60) % 2
    rows = torch.nn.functional.normalize(
        torch.eye(2)[torch.from_numpy(labels)] + 0.1 * torch.randn(60, 2, generator=random), dim=1
    )
    labels[7] = 0
    found = look(tmp_path, rows, labels, ("even", "odd")).groups("suspects")
    assert [(group.title, [item.id for item in group.items]) for group in found.groups] == [
        ("labelled even, but the neighbours say odd; 1 item", ["i7"])
    ]


def test_of_several_labels_one_in_common_is_enough(tmp_path: Path) -> None:
    rows = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.99, 0.1], [0.98, 0.2], [0.9, 0.4]]), dim=1)
    found = look(tmp_path, rows, np.array([[0, 1], [1, -1], [2, -1], [-1, -1]]), ("a", "b", "c"))
    header = json.loads((points := found.points())[8 : 8 + int.from_bytes(points[4:8], "little")])
    start = 8 + int.from_bytes(points[4:8], "little")
    columns = {
        each["name"]: np.frombuffer(points, each["type"], 4, start + each["offset"]) for each in header["columns"]
    }
    assert columns["label"].tolist() == [0, 1, 2, -1]
    assert np.array_equal(columns["error"], np.float32([0.5, 0.5, 1, np.nan]), equal_nan=True)
    assert "several labels" in header["note"]
    assert found.inside(np.ones(4, np.bool_))[1] == {"b": 2, "a": 1, "c": 1}
    assert [found.label(row) for row in range(4)] == ["a, b", "b", "c", None]
    assert [group.title.partition(":")[0] for group in found.groups("weakest").groups] == ["c", "a", "b"]
    assert "several labels" in found.groups("suspects").sentence


def test_one_item_is_a_map_of_one_point(tmp_path: Path) -> None:
    look = Look(tmp_path, Index(torch.eye(3)[:1], ["a"]), np.zeros((1, 1), np.int64), ["x"])
    assert look.map().xy.shape == (1, 2)
    assert look.map().sentence() == "1 item."
    assert look.points().startswith(b"LWC1")
    assert not look.groups("weakest").groups


def test_large_data_are_hashed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_module, "_HASHED", 10**6)
    monkeypatch.setattr(look_module, "_PART", 10**4)
    values = np.random.default_rng(0).integers(0, 256, (4000, 1000), dtype=np.uint8)
    wanted = hash_of_bytes(values[::5].tobytes())
    tracemalloc.start()
    assert look_module._hash_of_some(values) == wanted
    assert tracemalloc.get_traced_memory()[1] < 10**5
    tracemalloc.stop()
