"""ROC and AUC against scikit-learn with ties, LFW's folds against loops, and pairs drawn fairly."""

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve
from torch.nn import functional

from likewise.errors import LikewiseError
from likewise.metrics import fold_pairs, pair_scores, random_pairs, roc, tar_at_far, top_k, verification


def rows_and_pairs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(40) % 4
    rows = torch.nn.functional.normalize(torch.eye(4, 8)[labels] + 0.5 * torch.randn(40, 8, generator=generator), dim=1)
    return rows, *random_pairs(labels, count, seed=seed)


# Curves


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 60), st.integers(1, 9), st.integers(0, 10**6))
def test_curve_and_area_are_scikit_learns_with_ties(count: int, values: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-values, values + 1, (count,), generator=generator) / 4
    alike = torch.randint(0, 2, (count,), generator=generator).bool()
    alike[:2] = torch.tensor([True, False])
    found = roc(scores, alike)
    expected = roc_curve(alike.numpy(), scores.numpy(), drop_intermediate=False)
    for mine, theirs in zip(found[:3], expected, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs)
    assert found.auc == pytest.approx(roc_auc_score(alike.numpy(), scores.numpy()), abs=1e-14)


def test_area_is_the_share_of_ordered_pairs_and_half_the_ties() -> None:
    scores, alike = torch.tensor([0.1, 0.4, 0.4, 0.8, 0.4]), torch.tensor([False, True, False, True, True])
    wins = [(a > b) + 0.5 * (a == b) for a in scores[alike].tolist() for b in scores[~alike].tolist()]
    assert roc(scores, alike).auc == pytest.approx(sum(wins) / len(wins), abs=1e-15)
    assert roc(torch.zeros(4), torch.tensor([True, False, True, False])).auc == 0.5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.001, 0.05, 0.1, 0.29, 0.3, 1.0]))
def test_tar_at_a_far_by_trying_every_threshold(seed: int, far: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 12, (200,), generator=generator) / 8
    alike = torch.arange(200) < 100
    found = tar_at_far(roc(scores, alike), far, 100)
    if far < 0.01:
        assert found is None
        return
    rates = [(int((scores[~alike] >= t).sum()), int((scores[alike] >= t).sum())) for t in [*scores.tolist(), math.inf]]
    assert found == max(true for false, true in rates if false <= round(far * 100)) / 100


def test_rates_that_are_whole_numbers_of_pairs_are_not_lost_to_rounding() -> None:
    """0.29 · 100 is 28.999999999999996."""
    scores = torch.cat([torch.linspace(0, 1, 100), torch.tensor([0.705])])
    alike = torch.arange(101) == 100
    assert int((scores[:100] >= scores[100]).sum()) == 30
    curve = roc(scores, alike)
    assert (tar_at_far(curve, 0.29, 100), tar_at_far(curve, 0.3, 100)) == (0.0, 1.0)
    with pytest.raises(LikewiseError, match="different=0 must be at least 1"):
        tar_at_far(curve, 0.3, 0)


# LFW's protocol


def fold_by_loops(scores: np.ndarray, alike: np.ndarray, folds: np.ndarray) -> list[float]:
    """Best threshold over all midpoints of the other folds' scores, the highest of equally good ones."""
    accuracies = []
    for fold in sorted(set(folds.tolist())):
        train, best = folds != fold, (-1.0, math.nan)
        values = sorted(set(scores[train].tolist()))
        for threshold in [values[0], *((a + b) / 2 for a, b in pairwise(values)), math.inf]:
            right = float(((scores[train] >= threshold) == alike[train]).mean())
            best = max(best, (right, threshold))
        accuracies.append(float(((scores[~train] >= best[1]) == alike[~train]).mean()))
    return accuracies


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.booleans())
def test_folds_equal_the_loop_with_ties(seed: int, folds: int, given_folds: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-2, 3, (9, 3), generator=generator).float()
    pairs = torch.randint(0, 9, (40, 2), generator=generator)
    alike = torch.randint(0, 2, (40,), generator=generator).bool()
    alike[:2] = torch.tensor([True, False])
    places = torch.randint(0, folds, (40,), generator=generator) if given_folds else torch.arange(40) * folds // 40
    places[:2] = torch.tensor([0, folds - 1])
    found = verification(rows, pairs, alike, folds=places if given_folds else folds)
    if not given_folds:
        places = torch.arange(40) * folds // 40
    scores = (rows[pairs[:, 0]] * rows[pairs[:, 1]]).sum(1)
    expected = fold_by_loops(scores.double().numpy(), alike.numpy(), places.numpy())
    assert list(found.fold_accuracies) == pytest.approx(expected, abs=1e-15)
    assert found.accuracy == pytest.approx(np.mean(expected), abs=1e-14)
    error = np.std(expected, ddof=1) / math.sqrt(len(expected))
    assert found.standard_error == pytest.approx(error, abs=1e-14)


def test_folds_are_runs_of_the_pairs_as_in_lfws_file() -> None:
    rows, _, _ = rows_and_pairs(20, 0)
    alike_pairs, different_pairs = torch.tensor([[0, 4]] * 30), torch.tensor([[0, 1]] * 30)
    pairs = torch.cat([part for fold in range(10) for part in (alike_pairs[:3], different_pairs[:3])])
    alike = (torch.arange(60) % 6) < 3
    found = verification(rows, pairs, alike)
    assert len(found.fold_accuracies) == 10
    one, other = pair_scores(rows, torch.tensor([[0, 4], [0, 1]])).double().tolist()
    assert found.thresholds == ((one + other) / 2,) * 10
    assert (found.accuracy, found.standard_error, found.auc) == (1.0, 0.0, 1.0)


def test_everything_of_a_verification_fits_together() -> None:
    rows, pairs, alike = rows_and_pairs(120, 1)
    found = verification(rows, pairs, alike, fars=(0.5, 0.1, 1e-3))
    assert (found.alike, found.different) == (60, 60)
    scores = (rows[pairs[:, 0]].double() * rows[pairs[:, 1]].double()).sum(1)
    assert found.auc == pytest.approx(roc_auc_score(alike.numpy(), scores.numpy()), abs=1e-6)
    assert found.auc == found.roc.auc
    assert found.tar_at_far[1e-3] is None
    assert found.tar_at_far[0.5] == tar_at_far(found.roc, 0.5, 60)
    assert 0.5 < found.accuracy < 1


def test_scores_are_those_of_top_k() -> None:
    rows = torch.randn(50, 33, generator=torch.Generator().manual_seed(2))
    scores, found = top_k(rows, rows, 50)
    pairs = torch.stack([torch.arange(50).repeat_interleave(50), found.flatten()], 1)
    assert torch.equal(pair_scores(rows, pairs), scores.flatten())


# Pairs


def test_all_pairs_in_order() -> None:
    labels = torch.tensor([3, 0, 3, 0, 0])
    pairs, alike = random_pairs(labels)
    assert pairs.tolist() == [[a, b] for a in range(5) for b in range(a + 1, 5)]
    assert alike.tolist() == [labels[a] == labels[b] for a, b in pairs.tolist()]


@pytest.mark.parametrize("count", [6, 8, 40])
def test_drawn_pairs_are_right_distinct_balanced_and_repeatable(count: int) -> None:
    labels = torch.tensor([2, 0, 2, 0, 0, 1] * 5)
    pairs, alike = random_pairs(labels, count, seed=7)
    assert len({tuple(pair) for pair in pairs.tolist()}) == count
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert int(alike.sum()) == count // 2
    assert torch.equal(alike, labels[pairs[:, 0]] == labels[pairs[:, 1]])
    again, _ = random_pairs(labels, count, seed=7)
    other, _ = random_pairs(labels, count, seed=8)
    assert torch.equal(pairs, again)
    assert not torch.equal(pairs, other)


@pytest.mark.parametrize("count", [2, 8])
def test_every_pair_is_drawn_equally_often(count: int) -> None:
    """Both ways of drawing: from a permutation of all, and by drawing numbers again; both sorts of pairs."""
    labels = torch.tensor([0] * 5 + [1] * 2 + [2] * 4)
    seen: Counter[tuple[int, int]] = Counter()
    draws = 1500
    for seed in range(draws):
        seen.update(tuple(pair) for pair in random_pairs(labels, count, seed=seed)[0].tolist())
    total_alike = 10 + 1 + 6
    for a in range(11):
        for b in range(a + 1, 11):
            total = total_alike if labels[a] == labels[b] else 55 - total_alike
            expected = draws * count / 2 / total
            assert abs(seen[a, b] - expected) < 5 * math.sqrt(expected) + 1, (a, b)


def test_all_alike_pairs_can_be_asked_for_but_no_more() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 3])  # 4 alike pairs
    pairs, alike = random_pairs(labels, 8)
    assert {tuple(pair) for pair in pairs[alike].tolist()} == {(0, 1), (0, 2), (1, 2), (3, 4)}
    with pytest.raises(LikewiseError, match="the labels make 4 alike pairs, fewer than the 5 asked for"):
        random_pairs(labels, 10)
    with pytest.raises(LikewiseError, match="the labels make 0 different pairs"):
        random_pairs(torch.zeros(5, dtype=torch.int64), 4)


# Bad input

ROWS, PAIRS = torch.eye(3), torch.tensor([[0, 1], [1, 2], [0, 0], [1, 1]])
ALIKE = torch.tensor([False, False, True, True])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rows": torch.tensor([[1.0], [math.inf], [0.0]])}, "rows row 1 holds NaN or infinity"),
        ({"rows": torch.ones(3)}, "rows must have shape"),
        ({"pairs": PAIRS.float()}, "pairs are torch.float32; they must be integers, such as torch.int64.$"),
        ({"pairs": PAIRS[:, :1]}, r"pairs must be \(P, 2\) integers"),
        ({"pairs": PAIRS + 1}, "pairs name rows 1 to 3, but there are 3 rows"),
        ({"pairs": PAIRS - 1}, "pairs name rows -1 to 1"),
        ({"alike": ALIKE.long()}, "alike are torch.int64; they must be torch.bool"),
        ({"alike": ALIKE[:3]}, r"alike must be \(4,\), one per pair"),
        ({"alike": torch.ones(4, dtype=torch.bool)}, "all 4 pairs are alike"),
        ({"alike": torch.zeros(4, dtype=torch.bool)}, "all 4 pairs are different"),
        ({"folds": 5}, "folds must be from 2 to the 4 pairs, but are 5"),
        ({"folds": 1}, "folds must be from 2"),
        ({"folds": torch.zeros(4, dtype=torch.int64)}, "all pairs are in one fold"),
        ({"folds": torch.zeros(4)}, "folds are torch.float32; they must be integers"),
        ({"fars": (0.0,)}, "a false accept rate must be above 0"),
    ],
)
def test_bad_input_is_one_clear_sentence(change: dict[str, Any], text: str) -> None:
    arguments: dict[str, Any] = {"rows": ROWS, "pairs": PAIRS, "alike": ALIKE, "folds": 2} | change
    with pytest.raises(LikewiseError, match=text) as error:
        verification(arguments.pop("rows"), arguments.pop("pairs"), arguments.pop("alike"), **arguments)
    assert "\n" not in str(error.value)


def test_bad_scores_and_counts_are_refused() -> None:
    with pytest.raises(LikewiseError, match="the score of pair 1 is NaN"):
        roc(torch.tensor([0.0, math.nan]), torch.tensor([True, False]))
    with pytest.raises(LikewiseError, match=r"scores must be \(P,\) float"):
        roc(torch.tensor([0, 1]), torch.tensor([True, False]))
    for count, said in ((0, "count=0 must be at least 1"), (3, "count must be an even number of pairs")):
        with pytest.raises(LikewiseError, match=said):
            random_pairs(torch.tensor([0, 0, 1]), count)
    with pytest.raises(LikewiseError, match="20000 rows make 199990000 pairs; give a count"):
        random_pairs(torch.zeros(20000, dtype=torch.int64))


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_folds_share_no_label_and_are_balanced(folds: int) -> None:
    labels = torch.cat([torch.full((2 + label % 7,), 3 * label) for label in range(30)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    pairs, alike, fold = fold_pairs(labels, 400, folds=folds, seed=1)
    seen = [set[int]() for _ in range(folds)]
    for place in range(folds):
        mine = fold == place
        assert int(mine.sum()) == 2 * int(alike[mine].sum()) == len(pairs) // folds
        seen[place] = set(labels[pairs[mine].flatten()].tolist())
        assert all(seen[place].isdisjoint(other) for other in seen[:place])
    assert torch.equal(labels[pairs[:, 0]] == labels[pairs[:, 1]], alike)
    assert len({tuple(pair) for pair in pairs.tolist()}) == len(pairs) <= 400
    again = fold_pairs(labels, 400, folds=folds, seed=1)
    assert torch.equal(again[0], pairs)
    assert not torch.equal(fold_pairs(labels, 400, folds=folds, seed=2)[0], pairs)
    rows = functional.normalize(torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(2)), dim=1)
    assert len(verification(rows, pairs, alike, folds=fold).thresholds) == folds


def test_folds_that_can_share_no_label_are_refused() -> None:
    labels = torch.arange(12) % 3
    with pytest.raises(LikewiseError, match="3 labels do not make alike and different pairs in each of 2 folds"):
        fold_pairs(labels, folds=2)
    with pytest.raises(LikewiseError, match="folds must be at least 2"):
        fold_pairs(labels, folds=1)


def test_folds_are_one_for_each_pair() -> None:
    rows, pairs, alike = rows_and_pairs(6, 0)
    with pytest.raises(LikewiseError, match=r"folds must be a number or \(6,\), one per pair, not \(5,\)"):
        verification(rows, pairs, alike, folds=torch.arange(5))
