"""What to label first, against greedy loops over all pairs."""

import numpy as np
import pytest
import torch

from likewise.answers import choosers
from likewise.answers.choosers import METHODS, choose_rows, covering, radius, typicality
from likewise.answers.select import select_rows
from likewise.errors import LikewiseError
from likewise.metrics.clustering import kmeans

NONE = torch.empty(0, dtype=torch.int64)


def groups(sizes: tuple[int, ...] = (20, 14, 9), seed: int = 0) -> torch.Tensor:
    """Unit rows around as many directions."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(len(sizes), 5))
    rows = np.repeat(centres, sizes, axis=0) + 0.3 * random.normal(size=(sum(sizes), 5))
    return torch.nn.functional.normalize(torch.from_numpy(rows).float(), dim=1)


def cosines(rows: torch.Tensor) -> np.ndarray:
    return rows.double().numpy() @ rows.double().numpy().T


@pytest.mark.parametrize("known", [[], [4, 40]])
def test_k_center_takes_the_furthest_again_and_again(known):
    rows = groups()
    between = np.sqrt(np.maximum(0, 2 - 2 * cosines(rows)))
    taken = list(known)
    wanted = []
    for _ in range(8):
        free = [i for i in range(len(rows)) if i not in taken]
        if taken:
            best = max(free, key=lambda i: min(between[i, j] for j in taken))
        else:
            best = max(free, key=lambda i: float(rows[i].double() @ rows.double().mean(0)))
        taken.append(best)
        wanted.append(best)
    assert choose_rows(rows, 8, method="k-center", known=known).tolist() == wanted


@pytest.mark.parametrize("known", [[], [4, 40]])
def test_covering_takes_the_ball_with_the_most_new_items(known, monkeypatch):
    monkeypatch.setattr(choosers, "_TILE", 100)  # two rows at once
    rows, near = groups(), 0.93
    ball = cosines(rows) >= near
    np.fill_diagonal(ball, True)
    covered = ball[known].any(0) if known else np.zeros(len(rows), bool)
    wanted: list[int] = []
    while len(wanted) < 6:
        gains = [-1 if i in wanted or i in known else int((ball[i] & ~covered).sum()) for i in range(len(rows))]
        wanted.append(int(np.argmax(gains)))
        covered |= ball[wanted[-1]]
    found, share = covering(rows, 6, torch.tensor(known, dtype=torch.int64), near)
    assert found.tolist() == wanted
    assert share == covered.mean()


def test_the_balls_of_probcover_hold_about_half_of_the_items():
    rows = groups((200, 150, 100))
    near = radius(rows, 3, seed=0)
    assert covering(rows, 3, NONE, near)[1] >= 0.5
    assert covering(rows, 3, NONE, near + 0.01)[1] < 0.5


def test_when_all_items_are_in_a_ball_k_center_goes_on():
    rows = groups()
    found = choose_rows(rows, len(rows), method="probcover")
    assert sorted(found.tolist()) == list(range(len(rows)))


def test_typicality_is_one_over_the_mean_distance_to_the_nearest():
    rows = groups((9,))
    between = np.sqrt(np.maximum(0, 2 - 2 * cosines(rows)))
    np.fill_diagonal(between, np.inf)
    wanted = 1 / np.sort(between, 1)[:, :4].mean(1)
    assert np.allclose(typicality(rows).numpy(), wanted, rtol=1e-4)
    assert typicality(rows[:1]).tolist() == [1.0]


def test_typiclust_takes_the_most_typical_of_each_cluster_the_largest_first():
    rows = groups()
    labels = kmeans(rows, 3, seed=0, starts=3).labels
    members = sorted(((labels == c).nonzero().flatten() for c in range(3)), key=len, reverse=True)
    wanted = [int(each[typicality(rows[each]).argmax()]) for each in members]
    assert choose_rows(rows, 3, method="typiclust").tolist() == wanted


def test_typiclust_leaves_a_cluster_with_a_label_for_later(monkeypatch):
    monkeypatch.setattr(choosers, "MOST_CLUSTERS", 3)
    rows = groups()
    labels = kmeans(rows, 3, seed=0, starts=3).labels
    found = choose_rows(rows, 2, method="typiclust", known=[0])
    assert {int(labels[0]), *labels[found].tolist()} == {0, 1, 2}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("known", [[], [0, 3]])
def test_each_method_chooses_different_items_without_a_label(method, known):
    rows = groups((4, 3, 2))
    found = choose_rows(rows, 9 - len(known), method=method, known=known)
    assert sorted([*found.tolist(), *known]) == list(range(9))
    same = rows[:1].repeat(6, 1)
    assert len(set(choose_rows(same, 4, method=method).tolist())) == 4


def test_an_item_stands_for_those_that_it_is_nearest_to():
    rows = groups()
    ids = [f"i{row}" for row in range(len(rows))]
    found = select_rows(rows, ids, 3, method="typiclust", known=torch.tensor([5]))
    anchors = [*found.rows.tolist(), 5]
    nearest = np.array(anchors)[cosines(rows)[:, anchors].argmax(1)]
    assert found.stands_for.tolist() == [int((nearest == row).sum()) for row in found.rows.tolist()]
    assert found.ids == tuple(ids[row] for row in found.rows.tolist())


def test_of_many_items_some_are_drawn_and_the_labelled_ones_stay(monkeypatch):
    monkeypatch.setattr("likewise.answers.select.MOST", 12)
    rows = groups()
    ids = [f"i{row}" for row in range(len(rows))]
    for n in (5, 30):
        found = select_rows(rows, ids, n, method="k-center", known=torch.tensor([1, 2]))
        assert len(set(found.rows.tolist()) - {1, 2}) == n


def test_a_mistake_is_said():
    rows = groups()
    with pytest.raises(LikewiseError, match=r"no method 'typiclst'. Did you mean 'typiclust'\?"):
        choose_rows(rows, 3, method="typiclst")
    with pytest.raises(LikewiseError, match=r"n=42 is more than the 41 items without a label"):
        choose_rows(rows, 42, method="random", known=[0, 1])
    with pytest.raises(LikewiseError, match=r"n=0 must be at least 1"):
        choose_rows(rows, 0, method="random")
