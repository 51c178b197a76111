"""Classification by few labels, against dense inverses and loops; calibration by hand."""

import math

import numpy as np
import pytest
import torch

from likewise.answers import classify_rows as home
from likewise.answers.calibration import best_temperature, calibration_error, log_loss, reliability, shares
from likewise.answers.classify_rows import classify_rows
from likewise.answers.propagation import ALPHA, knn_graph
from likewise.errors import LikewiseError
from likewise.metrics.neighbours import knn_classify
from likewise.metrics.verification import roc

NAMES = ("a", "b", "c")


def rows_of_three(each: int = 25, spread: float = 0.5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows around three directions, and the direction of each."""
    random = np.random.default_rng(seed)
    truth = np.repeat(np.arange(3), each)
    rows = np.eye(3, 6)[truth] + spread * random.normal(size=(3 * each, 6))
    return torch.nn.functional.normalize(torch.from_numpy(rows).float(), dim=1), torch.from_numpy(truth)


def some_labels(truth: torch.Tensor, count: int = 12, seed: int = 0) -> torch.Tensor:
    labels = torch.full_like(truth, -1)
    known = torch.randperm(len(truth), generator=torch.Generator().manual_seed(seed))[:count]
    labels[known] = truth[known]
    return labels


def classified(rows, labels, **options):
    return classify_rows(rows, labels, names=NAMES, ids=[f"i{row}" for row in range(len(rows))], **options)


def dense(rows: torch.Tensor, k: int = 10) -> np.ndarray:
    graph = knn_graph(rows, k).to_dense().numpy()
    return (1 - ALPHA) * np.linalg.inv(np.eye(len(rows)) - ALPHA * graph)


def balanced(labels: np.ndarray) -> np.ndarray:
    """Y, whose columns sum to 1 or 0."""
    y = np.stack([(labels == c) * 1.0 for c in range(3)], 1)
    return y / np.maximum(1, y.sum(0))


@pytest.mark.parametrize("block", [2**24, 200])
def test_propagation_and_what_it_finds_without_each_label(block, monkeypatch):
    monkeypatch.setattr(home, "_NUMBERS", block)
    rows, truth = rows_of_three()
    labels = some_labels(truth)
    found = classified(rows, labels, method="propagation")
    reach, given = dense(rows), labels.numpy()
    wanted = (reach @ balanced(given)).argmax(1)
    fresh = given < 0
    assert found.labels.numpy()[fresh].tolist() == wanted[fresh].tolist()
    assert found.labels.numpy()[~fresh].tolist() == given[~fresh].tolist()
    right = 0
    for row in np.flatnonzero(~fresh):
        without = given.copy()
        without[row] = -1
        right += int((reach @ balanced(without))[row].argmax() == given[row])
    (trial,) = found.trials
    assert (trial.method, trial.right, trial.tried) == ("propagation", right, 12)
    share = reach[:, ~fresh].sum(1) / reach.sum(1)
    unlike = np.where(fresh, 1 / (1 + share * len(rows) / 12), 0.0)
    assert np.allclose(found.unlike.numpy(), unlike, atol=1e-5)


def test_votes_and_what_they_find_without_each_label():
    rows, truth = rows_of_three()
    labels = some_labels(truth)
    known = (labels >= 0).nonzero().flatten()
    found = classified(rows, labels, method="knn", k=3)
    right = 0
    for row in range(len(rows)):
        others = known[known != row]
        own = torch.tensor([-1])
        task = rows[row][None], rows[others], truth[others]
        wanted = int(knn_classify(*task, k=3, query_ids=own, key_ids=others)[0][0, 0])
        if labels[row] < 0:
            assert int(found.labels[row]) == wanted
        else:
            right += wanted == int(truth[row])
    assert (found.trials[0].right, found.trials[0].tried) == (right, 12)


def test_the_method_that_finds_more_labels_is_used():
    for seed in range(4):
        rows, truth = rows_of_three(spread=0.9, seed=seed)
        found = classified(rows, some_labels(truth, 20, seed))
        first, second = found.trials
        assert first.right >= second.right
        alone = classified(rows, some_labels(truth, 20, seed), method=first.method)
        assert torch.equal(found.labels, alone.labels)
        assert found.method == first.method


def test_a_class_without_labels_is_unlike_the_others():
    rows, truth = rows_of_three(spread=0.2)
    labels = some_labels(truth, 20)
    found = classified(rows, labels)
    assert min(each.auroc for each in found.held_out) > 0.9
    assert [each.label for each in found.held_out] == list(NAMES)
    without = torch.where(labels == 2, -1, labels)
    lost = classify_rows(rows, without, names=NAMES, ids=[str(row) for row in range(len(rows))])
    assert roc(lost.unlike[without < 0], (truth == 2)[without < 0]).auc > 0.95
    assert lost.held_out == ()  # of two classes none can be held out


def test_items_that_no_path_joins_to_a_label_get_the_vote():
    rows = torch.zeros(30, 6)
    part, _ = rows_of_three(5)
    rows[:15, :3], rows[15:, 3:] = part[:, :3].abs(), part[:, :3].abs()
    rows = torch.nn.functional.normalize(rows, dim=1)
    labels = torch.full((30,), -1)
    labels[[0, 1, 14, 13]] = torch.tensor([0, 0, 1, 1])
    found = classified(rows, labels, k=2)
    assert found.unreached == 15
    assert bool((found.unlike[15:] == 1).all())
    votes = knn_classify(
        rows[15:],
        rows[[0, 1, 13, 14]],
        torch.tensor([0, 0, 1, 1]),
        k=2,
        query_ids=range(15, 30),
        key_ids=[0, 1, 13, 14],
    )[0][:, 0]
    assert torch.equal(found.labels[15:], votes)


def test_one_label_of_each_class_can_not_be_checked():
    rows, truth = rows_of_three()
    labels = torch.full_like(truth, -1)
    labels[[0, 30, 60]] = torch.tensor([0, 1, 2])
    found = classified(rows, labels)
    assert found.method == "propagation"
    assert found.trials[0].tried == 0
    assert any("none can be left out" in line for line in found.lines())


@pytest.mark.parametrize(
    ("labels", "options", "sentence"),
    [
        ([1, 1], {}, r"all 2 labels are 'b', so there is nothing to tell apart"),
        ([], {}, r"there are no labels, so there is nothing to tell apart"),
        ([0, 1], {"method": "propagatoin"}, r"no method 'propagatoin'. Did you mean 'propagation'\?"),
        ([0, 1], {"k": 75}, r"k=75 must be from 1 to 74: an item has 74 others"),
        ([0, 1], {"k": 0}, r"k=0 must be at least 1"),
        ([0, 3], {}, r"a label is 3, but there are 3 names"),
    ],
)
def test_a_mistake_is_said(labels, options, sentence):
    rows, truth = rows_of_three()
    given = torch.full_like(truth, -1)
    given[: len(labels)] = torch.tensor(labels, dtype=torch.int64)
    with pytest.raises(LikewiseError, match=sentence):
        classified(rows, given, **options)


def test_shares_are_a_softmax_with_a_temperature_and_a_floor():
    scores = torch.tensor([[0.2, 0.1, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    found = shares(scores, 0.5, 0.03)
    assert found[0].tolist() == pytest.approx([0.97 * 0.8 + 0.01, 0.97 * 0.2 + 0.01, 0.01])
    assert found[1].tolist() == pytest.approx([1 / 3] * 3)
    assert log_loss(found, torch.tensor([1, 2])) == pytest.approx(-(math.log(0.204) + math.log(1 / 3)) / 2)


def test_the_temperature_makes_confidence_what_it_says():
    """Scores in the ratio 1 : 9 that are right in 3 of 4 cases: p = 0.75 needs 9^(1/T) = 3, T = 2."""
    scores = torch.tensor([[1.0, 9.0]] * 40, dtype=torch.float64)
    truth = torch.tensor([1, 1, 1, 0] * 10)
    temperature = best_temperature(scores, truth, 0.0)
    assert temperature == pytest.approx(2.0, rel=0.03)
    assert float(shares(scores, temperature, 0.0)[0, 1]) == pytest.approx(0.75, abs=0.01)
    assert best_temperature(scores[:0], truth[:0], 0.0) == 1.0


def test_reliability_has_bins_of_equal_size():
    confidence = torch.tensor([0.9, 0.5] * 10, dtype=torch.float64)
    right = torch.tensor([True, False] * 9 + [True, True])
    low, high = reliability(confidence, right)
    assert (low.least, low.most, low.right, low.number) == (0.5, 0.5, 0.1, 10)
    assert (high.mean, high.right, high.number) == (pytest.approx(0.9), 1.0, 10)
    assert calibration_error([low, high]) == pytest.approx((0.4 + 0.1) / 2)
    assert len(reliability(confidence[:5], right[:5])) == 1
    assert reliability(confidence[:0], right[:0]) == []
    assert calibration_error([]) == 0.0
