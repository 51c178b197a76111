"""k-means against plain loops and itself on other tiles; NMI and AMI against scikit-learn."""

import math
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

from likewise.errors import LikewiseError
from likewise.metrics import adjusted_mutual_information, clustering, kmeans, normalized_mutual_information
from likewise.metrics import clustering as function
from likewise.metrics.clustering import expected_information

MODULE = import_module("likewise.metrics.clustering")  # as an attribute, that is the function


def blobs(count: int, groups: int, width: int, noise: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % groups
    centres = torch.nn.functional.normalize(torch.randn(groups, width, generator=generator), dim=1)
    return centres[labels] + noise * torch.randn(count, width, generator=generator), labels


# Agreement


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 10**6))
def test_random_labellings_agree_as_scikit_learn_says(
    count: int, classes: int, clusters: int, copied: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    one = generator.integers(0, classes, count) * 7 - 3  # numbers need not be dense, nor from 0
    two = np.where(generator.random(count) < copied, one, generator.integers(0, clusters, count))
    given_ = torch.from_numpy(one), torch.from_numpy(two)
    nmi, ami = normalized_mutual_information(*given_), adjusted_mutual_information(*given_)
    assert nmi == pytest.approx(normalized_mutual_info_score(one, two), abs=1e-10)
    expected = adjusted_mutual_info_score(one, two)
    if abs(expected) < 10:  # 0/0 guarded by machine epsilon beyond that: each item its own group
        assert ami == pytest.approx(expected, abs=1e-10)
    assert adjusted_mutual_information(given_[1], given_[0]) == pytest.approx(ami, abs=1e-9)


@pytest.mark.parametrize(("count", "classes", "clusters"), [(3000, 10, 12), (3000, 700, 650), (2000, 2, 900)])
def test_many_items_and_many_groups(count: int, classes: int, clusters: int) -> None:
    generator = np.random.default_rng(count + classes)
    one = np.sort(generator.zipf(1.5, count) % classes)  # sizes of all sorts
    two = np.where(generator.random(count) < 0.4, one, generator.integers(0, clusters, count))
    table = contingency_matrix(one, two, sparse=True)
    sizes = (np.unique(labels, return_counts=True)[1] for labels in (one, two))
    assert expected_information(*sizes) == pytest.approx(expected_mutual_information(table, count), rel=1e-10)
    given_ = torch.from_numpy(one), torch.from_numpy(two)
    assert normalized_mutual_information(*given_) == pytest.approx(normalized_mutual_info_score(one, two), abs=1e-10)
    assert adjusted_mutual_information(*given_) == pytest.approx(adjusted_mutual_info_score(one, two), abs=1e-10)


def test_expected_information_by_the_formula_with_factorials() -> None:
    rows, columns = np.array([5, 3, 3, 1]), np.array([6, 2, 2, 2])
    size, total = 12, 0.0
    f = math.factorial
    for a in rows.tolist():
        for b in columns.tolist():
            for n in range(max(1, a + b - size), min(a, b) + 1):
                ways = f(a) * f(b) * f(size - a) * f(size - b)
                ways /= f(size) * f(n) * f(a - n) * f(b - n) * f(size - a - b + n)
                total += n / size * math.log(size * n / (a * b)) * ways
    assert expected_information(rows, columns) == pytest.approx(total, rel=1e-13)


def test_expected_information_in_small_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = np.arange(1, 90), np.arange(3, 92)[::-1].copy()
    sizes[0][0] += sizes[1].sum() - sizes[0].sum()
    whole = expected_information(*sizes)
    monkeypatch.setattr(MODULE, "_TERMS", 300)
    assert expected_information(*sizes) == pytest.approx(whole, rel=1e-14)


def test_equal_groupings_and_single_groups() -> None:
    labels, one = torch.tensor([0, 0, 1, 1, 2]), torch.zeros(5, dtype=torch.int64)
    for measure in (normalized_mutual_information, adjusted_mutual_information):
        assert measure(labels, 5 - labels) == pytest.approx(1.0, abs=1e-14)
        assert measure(one, one) == 1.0
        assert measure(labels, one) == measure(one, labels) == 0.0


def test_random_clusters_have_an_adjusted_score_of_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    labels, clusters = (torch.randint(0, 200, (1000,), generator=generator) for _ in range(2))
    assert normalized_mutual_information(labels, clusters) > 0.5  # why AMI is needed
    assert abs(adjusted_mutual_information(labels, clusters)) < 0.02


# k-means


def by_loops(rows: np.ndarray, centres: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray, float]:
    labels = np.full(len(rows), -1)
    for _ in range(iterations):
        distances = np.array([[((row - centre) ** 2).sum() for centre in centres] for row in rows])
        found = distances.argmin(1)  # the first of equal ones
        if (found == labels).all():
            break
        labels = found
        centres = np.array(
            [rows[labels == c].mean(0) if (labels == c).any() else centres[c] for c in range(len(centres))]
        )
    distances = np.array([[((row - centre) ** 2).sum() for centre in centres] for row in rows])
    return labels, centres, distances.min(1).sum()


@pytest.mark.parametrize("seed", range(4))
def test_lloyds_steps_equal_the_loop(seed: int) -> None:
    rows, _ = blobs(80, 5, 3, 0.6, seed)
    rows = (rows * 256).round() / 256  # few enough bits that nothing is rounded on the way in
    whole, unit = MODULE._whole(rows, False)
    assert torch.equal(whole.double() * unit, rows.double())
    start = MODULE._start(whole, 5, torch.Generator().manual_seed(seed)) * unit
    found = kmeans(rows, 5, seed=seed, starts=1)
    labels, centres, inertia = by_loops(rows.double().numpy(), start.numpy(), 100)
    assert found.labels.tolist() == labels.tolist()
    np.testing.assert_allclose(found.centres.numpy(), centres, atol=1e-12)
    assert found.inertia == pytest.approx(inertia, rel=1e-6)  # centres are rounded to 23 bits for the distances
    assert 1 < found.iterations < 100


def test_centres_start_at_rows_and_far_ones_are_likelier() -> None:
    """Of points at 0 (many), 1 and 10 the third centre's chance follows the squared distance, here by 2,000 draws."""
    rows = torch.tensor([[0.0]] * 8 + [[1.0], [3.0]])
    whole, unit = MODULE._whole(rows, False)
    count = 2000
    first_zero, far = 0, 0
    for seed in range(count):
        first, second = (MODULE._start(whole, 2, torch.Generator().manual_seed(seed)) * unit)[:, 0].tolist()
        if first == 0.0:
            first_zero += 1
            far += second == 3.0
    assert first_zero / count == pytest.approx(0.8, abs=0.04)
    assert far / first_zero == pytest.approx(9 / 10, abs=0.04)


def test_the_start_is_k_means_plus_plus_over_several_rounds() -> None:
    """All three centres: probabilities from the definition, against draws that share a round of candidates."""
    points = [0.0, 1.0, 3.0, 7.0]
    expected: dict[frozenset[float], float] = {}
    for a in points:
        d = {x: (x - a) ** 2 for x in points}
        for b in points:
            e = {x: min(d[x], (x - b) ** 2) for x in points}
            for c in points:
                chance = 0.25 * d[b] / sum(d.values()) * (e[c] / sum(e.values()) if sum(e.values()) else 0.0)
                key = frozenset((a, b, c))
                expected[key] = expected.get(key, 0.0) + chance
    whole, unit = MODULE._whole(torch.tensor(points)[:, None], False)
    seen: dict[frozenset[float], int] = {}
    count = 2000
    for seed in range(count):
        centres = MODULE._start(whole, 3, torch.Generator().manual_seed(seed)) * unit
        key = frozenset(centres[:, 0].tolist())
        seen[key] = seen.get(key, 0) + 1
    for key, chance in expected.items():
        assert seen.get(key, 0) / count == pytest.approx(chance, abs=0.04)


def test_a_cluster_without_rows_keeps_its_centre() -> None:
    rows, centres = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[9.0, 9.0], [7.0, 7.0]]).double()
    labels = torch.tensor([1, 1])
    assert MODULE._means(rows, labels, centres, None).tolist() == [[9.0, 9.0], [2.0, 2.0]]
    moved = MODULE._means(rows, labels, centres, 10.0)
    assert moved.tolist() == [[9.0, 9.0], pytest.approx([50**0.5, 50**0.5])]


def test_of_equally_near_centres_the_smaller_number() -> None:
    rows = torch.tensor([[0.0], [1.0], [2.0]])
    labels, distances = MODULE._nearest(rows, torch.tensor([[2.0], [0.0], [2.0]]).double())
    assert labels.tolist() == [1, 0, 0]
    assert distances.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("spherical", [False, True])
def test_bitwise_the_same_for_any_tile_and_number_of_threads(monkeypatch: pytest.MonkeyPatch, spherical: bool) -> None:
    rows, _ = blobs(150, 8, 20, 0.5, 1)
    whole = kmeans(rows, 8, seed=3, spherical=spherical)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert all(map(torch.equal, kmeans(rows, 8, seed=3, spherical=spherical)[:2], whole[:2]))
    finally:
        torch.set_num_threads(threads)
    for name in ("_TILE", "_TILE_VALUES"):
        monkeypatch.setattr(MODULE, name, 500)
        again = kmeans(rows, 8, seed=3, spherical=spherical)
        assert torch.equal(again.labels, whole.labels)
        assert torch.equal(again.centres, whole.centres)
        assert again[2:] == whole[2:]


def test_separate_groups_are_found_and_scale_does_not_matter() -> None:
    rows, labels = blobs(300, 6, 16, 0.02, 2)
    assert clustering(rows, labels).nmi == pytest.approx(1.0)
    one = kmeans(rows, 6, seed=0)
    two = kmeans(rows.double() * 2.0**-130, 6, seed=0)
    assert torch.equal(one.labels, two.labels)
    assert two.inertia == pytest.approx(one.inertia * 2.0**-260, rel=1e-12)


def test_the_best_of_ten_starts_finds_six_easy_groups_for_every_seed() -> None:
    """A single start joins two of them for some seeds; each start comes after the one before it."""
    rows, labels = blobs(300, 6, 16, 0.02, 2)
    single = [kmeans(rows, 6, seed=seed, starts=1) for seed in range(20)]
    assert min(normalized_mutual_information(labels, run.labels) for run in single) < 0.99
    assert clustering(rows, labels, seeds=range(5)).nmi == pytest.approx(1.0)
    runs = [kmeans(rows, 6, seed=0, starts=starts) for starts in (1, 2, 5)]
    assert [run.inertia for run in runs] == sorted((run.inertia for run in runs), reverse=True)
    assert torch.equal(runs[0].labels, single[0].labels)
    with pytest.raises(LikewiseError, match="starts=0 must be at least 1"):
        kmeans(rows, 6, seed=0, starts=0)


def test_spherical_clusters_do_not_see_length() -> None:
    rows, labels = blobs(200, 4, 8, 0.05, 3)
    lengths = torch.logspace(-1, 1, 200)[:, None]
    found = kmeans(rows * lengths, 4, seed=0, spherical=True)
    assert normalized_mutual_information(labels, found.labels) == pytest.approx(1.0)
    torch.testing.assert_close(found.centres.norm(dim=1), torch.ones(4, dtype=torch.float64))
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    apart = (unit - found.centres[found.labels]).square().sum()
    assert found.inertia == pytest.approx(float(apart), rel=1e-5)
    means = torch.stack([unit[found.labels == number].mean(0) for number in range(4)])
    torch.testing.assert_close(found.centres, torch.nn.functional.normalize(means, dim=1), atol=1e-6, rtol=0)
    plain = kmeans(rows * lengths, 4, seed=0)
    assert normalized_mutual_information(labels, plain.labels) < 0.9


def test_collapsed_rows_make_one_cluster() -> None:
    """An encoder that maps all to one point has no agreement; it does not stop the evaluation."""
    rows, labels = torch.ones(30, 4), torch.arange(30) % 3
    found = kmeans(rows, 3, seed=0)
    assert (len(found.centres), found.labels.tolist(), found.inertia) == (1, [0] * 30, 0.0)
    scores = clustering(rows, labels)
    assert (scores.nmi, scores.ami, scores.nmi_std) == (0.0, 0.0, 0.0)
    zeros = kmeans(torch.zeros(5, 2), 2, seed=0, spherical=True)
    assert torch.equal(zeros.centres, torch.zeros(1, 2, dtype=torch.float64))


def test_mean_and_deviation_are_over_the_seeds() -> None:
    rows, labels = blobs(120, 6, 4, 0.8, 4)
    found = clustering(rows, labels, seeds=(5, 1, 9))
    each = []
    for seed in (5, 1, 9):
        clusters = kmeans(rows, 6, seed=seed).labels
        each.append((normalized_mutual_info_score(labels, clusters), adjusted_mutual_info_score(labels, clusters)))
    np.testing.assert_allclose(found.per_seed, each, atol=1e-10)
    np.testing.assert_allclose((found.nmi, found.ami), np.mean(each, 0), atol=1e-10)
    np.testing.assert_allclose((found.nmi_std, found.ami_std), np.std(each, 0, ddof=1), atol=1e-9)
    assert found.nmi_std is not None
    assert found.nmi_std > 0
    assert (found.clusters, found.seeds) == (6, (5, 1, 9))
    alone = clustering(rows, labels, seeds=[5], clusters=3)
    assert (alone.nmi_std, alone.ami_std, alone.clusters) == (None, None, 3)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rows": torch.tensor([[1.0], [math.nan], [0.0]])}, "rows row 1 holds NaN"),
        ({"rows": torch.ones(3)}, "rows must have shape"),
        ({"labels": torch.tensor([0, 1])}, "labels must hold one label per row"),
        ({"labels": torch.tensor([0, -1, 1])}, "labels row 1 is -1"),
        ({"seeds": ()}, "seeds are empty"),
        ({"clusters": 4}, "clusters must be from 1 to the 3 rows, but is 4"),
        ({"clusters": 0}, "clusters=0 must be at least 1"),
        ({"iterations": 0}, "iterations=0 must be at least 1"),
    ],
)
def test_bad_input_is_one_clear_sentence(change: dict[str, Any], text: str) -> None:
    arguments: dict[str, Any] = {"rows": torch.tensor([[1.0], [2.0], [0.0]]), "labels": torch.tensor([0, 1, 1])}
    arguments |= change
    with pytest.raises(LikewiseError, match=text):
        function(arguments.pop("rows"), arguments.pop("labels"), **arguments)


def test_agreement_refuses_what_is_not_two_labellings() -> None:
    for wrong, text in (
        (torch.tensor([0.0, 1.0]), "labels are torch.float32; they must be integers"),
        (torch.zeros(0, dtype=torch.int64), r"labels must be \(N,\) integers"),
        (torch.tensor([0, 1, 1]), "there are 3 labels but 2 clusters"),
    ):
        with pytest.raises(LikewiseError, match=text):
            normalized_mutual_information(wrong, torch.tensor([0, 1]))


def test_one_iteration_is_the_start_and_its_nearest_centres() -> None:
    rows, _ = blobs(60, 3, 5, 0.2, 0)
    one, two = (kmeans(rows, 3, iterations=count, seed=1) for count in (1, 2))
    assert one.iterations == 1
    centres = one.centres.double()
    expected = torch.cdist(rows.double(), centres).argmin(1)
    assert torch.equal(one.labels, expected)
    assert two.inertia <= one.inertia
