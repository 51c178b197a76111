"""Few labels: the same subsets for all representations, and scores with their protocol."""

import math

import pytest
import torch
from sklearn.svm import LinearSVC

from likewise.errors import LikewiseError
from likewise.metrics import FewLabelsSettings, few_labels
from likewise.metrics.few_labels import draw_order, labelled_rows

IDS = [f"photos/{number:04d}.jpg" for number in range(300)]


def data(seed, count=300, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, 8, generator=torch.Generator().manual_seed(77))
    labels = torch.arange(count) % 4
    rows = centres[labels] + torch.randn(count, 8, generator=generator)
    return torch.nn.functional.normalize(rows, dim=1).to(dtype), labels


def test_subsets_follow_ids_and_seed_not_the_order_of_the_data():
    labels = torch.randint(0, 3, (300,), generator=torch.Generator().manual_seed(0))
    shuffle = torch.randperm(300, generator=torch.Generator().manual_seed(1)).tolist()
    chosen = labelled_rows(labels, draw_order(IDS, 0), 7)
    shuffled_ids = [IDS[row] for row in shuffle]
    again = labelled_rows(labels[shuffle], draw_order(shuffled_ids, 0), 7)
    assert [IDS[row] for row in chosen] == [shuffled_ids[row] for row in again]
    assert labels[chosen].tolist() == [0] * 7 + [1] * 7 + [2] * 7
    other = labelled_rows(labels, draw_order(IDS, 1), 7)
    assert set(chosen.tolist()) != set(other.tolist())


def test_subsets_are_nested_and_every_item_is_equally_likely():
    labels = torch.zeros(300, dtype=torch.int64)
    counts = torch.zeros(300)
    for seed in range(200):
        order = draw_order(IDS, seed)
        ten = labelled_rows(labels, order, 10).tolist()
        assert labelled_rows(labels, order, 5).tolist() == ten[:5]
        counts[ten] += 1
    # binomial(200, 1/30): mean 6.7, standard deviation 2.5; 300 of them stay within about five deviations
    assert counts.sum() == 2000
    assert counts.max() <= 20
    assert counts.var() == pytest.approx(6.4, rel=0.4)


def test_fractions_round_to_nearest_with_at_least_one_of_each_class():
    labels = torch.tensor([0] * 250 + [1] * 47 + [2] * 3)
    order = draw_order(IDS, 3)
    for share, expected in [(0.01, [3, 1, 1]), (0.02, [5, 1, 1]), (0.1, [25, 5, 1]), (1.0, [250, 47, 3])]:
        kept = labels[labelled_rows(labels, order, share)]
        assert torch.bincount(kept).tolist() == expected
    assert torch.bincount(labels[labelled_rows(labels, order, 10)]).tolist() == [10, 10, 3]


def test_scores_equal_a_direct_computation():
    (x, y), (test_x, test_y) = data(0, dtype=torch.float64), data(1, dtype=torch.float64)
    settings = FewLabelsSettings(per_class=(3,), fractions=(0.1,), seeds=(0, 4), k=5, temperature=0.1, C=2.0)
    scores = {score.name: score for score in few_labels(x, y, IDS, test_x, test_y, settings)}
    assert list(scores) == ["knn/3-per-class", "svm/3-per-class", "knn/10%", "svm/10%"]
    for name, keep in (("3-per-class", 3), ("10%", 0.1)):
        knn, svm = [], []
        for seed in (0, 4):
            rows = labelled_rows(y, draw_order(IDS, seed), keep)
            similarity, nearest = (test_x @ x[rows].T).topk(5, dim=1)
            votes = torch.nn.functional.one_hot(y[rows][nearest], 4) * (similarity / 0.1).exp()[:, :, None]
            knn.append((votes.sum(1).argmax(1) == test_y).double().mean().item())
            oracle = LinearSVC(C=2.0, tol=1e-8, max_iter=50_000, dual=False).fit(x[rows].numpy(), y[rows].numpy())
            svm.append(oracle.score(test_x.numpy(), test_y.numpy()))
        for classifier, expected in (("knn", knn), ("svm", svm)):
            score = scores[f"{classifier}/{name}"]
            assert score.value == pytest.approx(sum(expected) / 2, abs=0.004)
            assert score.std == pytest.approx(abs(expected[0] - expected[1]) / math.sqrt(2), abs=0.004)
    assert scores["knn/3-per-class"].protocol == {
        "labels_kept": "3 per class",
        "labels_total": 12,
        "seeds": "0,4",
        "k": 5,
        "temperature": 0.1,
    }
    assert scores["svm/10%"].protocol["C"] == 2.0


def test_shuffling_the_data_changes_no_number():
    (x, y), (test_x, test_y) = data(0), data(1)
    shuffle = torch.randperm(300, generator=torch.Generator().manual_seed(9))
    settings = FewLabelsSettings(seeds=(0, 1), fractions=(0.02,))
    ids = [IDS[row] for row in shuffle.tolist()]
    assert few_labels(x, y, IDS, test_x, test_y, settings) == few_labels(
        x[shuffle], y[shuffle], ids, test_x, test_y, settings
    )


def test_more_labels_do_better_and_k_follows_the_labels():
    (x, y), (test_x, test_y) = data(0), data(1)
    settings = FewLabelsSettings(seeds=(0, 1))
    scores = {score.name: score for score in few_labels(x, y, IDS, test_x, test_y, settings)}
    subsets = ("1-per-class", "5-per-class", "10-per-class", "2%", "4%", "10%", "20%")  # 1 % of 75 is 1 per class again
    assert list(scores) == [f"{classifier}/{subset}" for subset in subsets for classifier in ("knn", "svm")]
    assert [scores[f"knn/{few}-per-class"].protocol["k"] for few in (1, 5, 10)] == [1, 5, 10]
    fixed = few_labels(x, y, IDS, test_x, test_y, FewLabelsSettings(seeds=(0,), k=30, fractions=()))
    assert [score.protocol["k"] for score in fixed if "knn" in score.name] == [4, 20, 30]
    assert scores["knn/1-per-class"].value < scores["knn/20%"].value
    assert scores["svm/1-per-class"].value < scores["svm/20%"].value
    one_seed = few_labels(x, y, IDS, test_x, test_y, FewLabelsSettings(seeds=(0,), fractions=()))
    assert one_seed[0].std is None


def test_bad_input():
    x, y = data(0)
    with pytest.raises(LikewiseError, match=r"'photos/0000.jpg' occurs twice"):
        few_labels(x, y, [IDS[0], *IDS[:-1]], x, y)
    with pytest.raises(LikewiseError, match="299 ids but 300 rows"):
        few_labels(x, y, IDS[1:], x, y)
    with pytest.raises(LikewiseError, match="at least two classes"):
        few_labels(x, torch.zeros_like(y), IDS, x, y)
    ranges = {"per_class": (0, 1.5), "fractions": (1.5,), "seeds": (1, 1), "k": 0, "C": 1e300}
    for bad in (*({name: value} for name, value in ranges.items()), {"seeds": ()}, {"k": 1.5}, {"C": 0.0}):
        with pytest.raises(LikewiseError, match=next(iter(bad))):
            FewLabelsSettings(**bad)
