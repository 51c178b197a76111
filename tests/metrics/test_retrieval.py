"""Retrieval against loops in float64 with ties, scikit-learn, and itself in other tiles and batches, bit for bit."""

import math
import subprocess
import sys
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from likewise.errors import LikewiseError, LikewiseWarning
from likewise.metrics import Retrieval, retrieval, top_k
from likewise.metrics import ranks as module
from likewise.metrics.retrieval import hubness

Labels = list[set[int]]


def unit(count: int, width: int, seed: int) -> torch.Tensor:
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def label_sets(labels: torch.Tensor) -> Labels:
    wide = labels[:, None] if labels.ndim == 1 else labels
    return [{label for label in row if label >= 0} for row in wide.tolist()]


def by_loops(
    queries: torch.Tensor,
    query_labels: torch.Tensor,
    gallery: torch.Tensor,
    gallery_labels: torch.Tensor,
    ids: tuple[torch.Tensor, torch.Tensor] | None,
    ks: tuple[int, ...],
    hub_k: int,
) -> dict[str, Any]:
    """Every definition as loops: sort the whole gallery by score, descending, then by row."""
    wanted, given_ = label_sets(query_labels), label_sets(gallery_labels)
    figures: dict[str, list[Any]] = {
        name: [] for name in ("relevant", "first", "r_precision", "map_at_r", "ap", "different", "same")
    }
    recall: dict[int, list[bool]] = {k: [] for k in ks}
    occurrences = [0] * len(gallery)
    for number, query in enumerate(queries.double().numpy()):
        scores = [(-float(np.float32(np.dot(query, key))), row) for row, key in enumerate(gallery.double().numpy())]
        if ids is not None:
            scores = [(s, row) for s, row in scores if ids[0][number] != ids[1][row]]
        ranking = sorted(scores)
        for _, row in ranking[:hub_k]:
            occurrences[row] += 1
        hits = [bool(wanted[number] & given_[row]) for _, row in ranking]
        total = sum(hits)
        figures["relevant"].append(total)
        others = [(-s, number, row) for (s, row), hit in zip(ranking, hits, strict=True) if not hit]
        figures["different"] += others[:1]
        figures["same"] += [(-s, number, row) for (s, row), hit in zip(ranking, hits, strict=True) if hit][-1:]
        if total == 0:
            for name in ("r_precision", "map_at_r", "ap"):
                figures[name].append(math.nan)
            figures["first"].append(0)
            continue
        precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
        figures["first"].append(hits.index(True) + 1)
        figures["r_precision"].append(sum(hits[:total]) / total)
        figures["map_at_r"].append(
            sum(p for p, hit in zip(precision[:total], hits[:total], strict=True) if hit) / total
        )
        figures["ap"].append(sum(p for p, hit in zip(precision, hits, strict=True) if hit) / total)
        for k in ks:
            recall[k].append(any(hits[:k]))
    mean = {k: sum(found) / max(1, len(found)) for k, found in recall.items()}
    return figures | {"recall": mean, "occurrences": occurrences}


def check_equal(found: Retrieval, expected: dict[str, Any]) -> None:
    assert found.per_query.relevant.tolist() == expected["relevant"]
    assert found.per_query.first_rank.tolist() == expected["first"]
    for values, name in (
        (found.per_query.r_precision, "r_precision"),
        (found.per_query.map_at_r, "map_at_r"),
        (found.per_query.average_precision, "ap"),
    ):
        np.testing.assert_allclose(values.numpy(), expected[name], rtol=1e-13)
    counts = np.array(expected["relevant"]) > 0
    assert (found.queries, found.without_relevant) == (counts.sum(), (~counts).sum())
    assert found.recall == pytest.approx(expected["recall"], rel=1e-13)
    assert found.precision_at_1 == pytest.approx(np.mean(np.array(expected["first"])[counts] == 1), rel=1e-13)
    assert found.r_precision == pytest.approx(np.nanmean(expected["r_precision"]), rel=1e-13)
    assert found.map_at_r == pytest.approx(np.nanmean(expected["map_at_r"]), rel=1e-13)
    assert found.mean_average_precision == pytest.approx(np.nanmean(expected["ap"]), rel=1e-13)
    assert found.mrr == pytest.approx(np.mean(1 / np.array(expected["first"])[counts]), rel=1e-13)
    assert found.hubness.occurrences.tolist() == expected["occurrences"]
    assert list(found.nearest_different) == worst_by_loops(expected["different"], -1)
    assert list(found.furthest_same) == worst_by_loops(expected["same"], 1)


def worst_by_loops(pairs: list[tuple[float, int, int]], sign: int) -> list[tuple[int, int, float]]:
    """Ten pairs, a gallery item once; only where no pair can be met from both sides."""
    chosen: list[tuple[int, int, float]] = []
    for score, query, row in sorted(pairs, key=lambda pair: (sign * pair[0], pair[1])):
        if row not in [other for _, other, _ in chosen]:
            chosen.append((query, row, score))
    return chosen[:10]


@pytest.mark.filterwarnings("ignore:the first .* queries are rows of the gallery")  # rightly, of so few integers
@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 4)),
    classes=st.integers(1, 6),
    several=st.sampled_from([(0, 0), (2, 0), (0, 3), (2, 3)]),
    exclude=st.booleans(),
    tile=st.sampled_from([None, 1, 7, 16, 33]),
    hub_k=st.sampled_from([1, 3, 50]),
    seed=st.integers(0, 10**6),
)
def test_small_integers_full_of_ties_equal_the_loop(
    sizes: tuple[int, int, int],
    classes: int,
    several: tuple[int, int],
    exclude: bool,
    tile: int | None,
    hub_k: int,
    seed: int,
) -> None:
    count, items, width = sizes
    generator = torch.Generator().manual_seed(seed)
    q, x = (torch.randint(-2, 3, (n, width), generator=generator).float() for n in (count, items))
    q_labels, x_labels = (
        torch.randint(-1, classes, (n, labels) if labels else (n,), generator=generator)
        for n, labels in zip((count, items), several, strict=True)
    )
    ids = (torch.randint(0, 5, (count,), generator=generator), torch.randint(0, 5, (items,), generator=generator))
    expected = by_loops(q, q_labels, x, x_labels, ids if exclude else None, (1, 2, 5), min(hub_k, items))
    named = {"query_ids": ids[0], "gallery_ids": ids[1]} if exclude else {}

    def measure() -> Retrieval:
        return retrieval(q, q_labels, x, x_labels, **named, ks=(1, 2, 5), hub_k=hub_k, tile=tile)

    if not any(expected["relevant"]):
        with pytest.raises(LikewiseError, match="has another item of its label in the gallery"):
            measure()
        return
    found = measure()
    if exclude:  # ids repeat, so pairs do: these lists have their own test
        found = replace(found, nearest_different=(), furthest_same=())
        expected |= {"different": [], "same": []}
    check_equal(found, expected)


def test_average_precision_of_random_rows_is_scikit_learns() -> None:
    queries, gallery = unit(40, 16, 0), unit(300, 16, 1)
    generator = torch.Generator().manual_seed(2)
    labels, gallery_labels = (torch.randint(0, 7, (n,), generator=generator) for n in (40, 300))
    found = retrieval(queries, labels, gallery, gallery_labels, tile=64)
    scores = (queries.double() @ gallery.double().T).numpy()
    expected = [
        average_precision_score(gallery_labels == label, row) for label, row in zip(labels, scores, strict=True)
    ]
    np.testing.assert_allclose(found.per_query.average_precision.numpy(), expected, rtol=1e-12)
    assert found.mean_average_precision == pytest.approx(np.mean(expected), rel=1e-12)


def test_a_set_against_itself_equals_the_loop_with_ids() -> None:
    rows = unit(90, 6, 3)
    rows[60:] = rows[:30]  # duplicates
    labels = torch.arange(90) % 7
    labels[60:75] = labels[:15]  # half of them with the label of their twin
    ids = torch.arange(90)
    found = retrieval(rows, labels)
    expected = by_loops(snapped(rows), labels, snapped(rows), labels, (ids, ids), (1, 2, 4, 8), 10)
    pairs = {"nearest_different": found.nearest_different, "furthest_same": found.furthest_same}
    for name, sign in (("different", -1), ("same", 1)):
        expected[name] = []
        assert sign * min(sign * pair.score for pair in pairs[f"{'nearest' if sign < 0 else 'furthest'}_{name}"])
    check_equal(replace(found, nearest_different=(), furthest_same=()), expected)
    again = retrieval(rows, labels, rows.clone(), labels, query_ids=ids, gallery_ids=ids)
    assert_same(found, again)


def snapped(rows: torch.Tensor) -> torch.Tensor:
    """Rows whose products are exact."""
    return module.snap("rows", rows, 0)


def tensors(found: Retrieval) -> dict[str, torch.Tensor]:
    return {**vars(found.per_query), "occurrences": found.hubness.occurrences, **vars(found.per_class)}


def assert_same(one: Retrieval, two: Retrieval) -> None:
    """Bit for bit, all of it."""
    for name, value in tensors(one).items():
        other = tensors(two)[name]
        if value.is_floating_point():  # NaN too
            value, other = value.view(torch.int64), other.view(torch.int64)
        assert torch.equal(value, other), name
    for name in ("recall", "precision_at_1", "r_precision", "map_at_r", "mean_average_precision", "mrr", "worst_class"):
        assert getattr(one, name) == getattr(two, name), name
    assert one.nearest_different == two.nearest_different
    assert one.furthest_same == two.furthest_same


def many_ties(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows = unit(count, 24, seed)
    rows[count // 2 :] = rows[: count - count // 2]  # every score occurs twice
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 9, (count,), generator=generator)
    labels[torch.rand(count, generator=generator) < 0.2] = 100  # a large class
    labels[:3] = torch.tensor([-1, 50, 51])  # no label, and two of which there are no others
    return rows, labels


def test_bitwise_the_same_for_any_tile_batch_and_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    (queries, labels), (gallery, gallery_labels) = many_ties(60, 4), many_ties(300, 5)
    ids, gallery_ids = torch.arange(60), torch.arange(300)

    def measure(rows: slice, tile: int | None = None) -> Retrieval:
        return retrieval(
            queries[rows], labels[rows], gallery, gallery_labels,
            query_ids=ids[rows], gallery_ids=gallery_ids, tile=tile, worst=200,
        )  # fmt: skip

    whole = measure(slice(None))
    for tile in (16, 50, 290):
        assert_same(measure(slice(None), tile), whole)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert_same(measure(slice(None)), whole)
    finally:
        torch.set_num_threads(threads)
    for name, value in (("_QUERIES", 7), ("_ENTRIES", 1000), ("_SCORES", 3000), ("_TIED", 1)):
        monkeypatch.setattr(module, name, value)
        assert_same(measure(slice(None), 100), whole)
    parts = [measure(slice(start, start + 20)) for start in range(0, 60, 20)]
    for name, value in vars(whole.per_query).items():
        joined = torch.cat([getattr(part.per_query, name) for part in parts])
        assert torch.equal(joined.nan_to_num(-1), value.nan_to_num(-1)), name
    assert torch.equal(sum(part.hubness.occurrences for part in parts), whole.hubness.occurrences)


def test_the_figures_of_a_query_do_not_depend_on_the_others_beside_it() -> None:
    """Sums of 300 terms, padded to 3,000 beside a query of a larger class."""
    gallery_labels, labels = (torch.arange(3300) >= 300).long(), torch.tensor([0, 1] * 20)
    gallery, queries = unit(3300, 4, 13) + 2 * torch.eye(4)[gallery_labels], unit(40, 4, 14) + torch.eye(4)[labels]
    both = retrieval(queries, labels, gallery, gallery_labels).per_query
    alone = retrieval(queries[::2], labels[::2], gallery, gallery_labels).per_query
    assert torch.equal(both.average_precision[::2], alone.average_precision)
    assert torch.equal(both.map_at_r[::2], alone.map_at_r)
    assert float(both.map_at_r.mean()) > 0.3


def test_ranks_are_those_of_top_k() -> None:
    queries, gallery = unit(50, 12, 6), unit(400, 12, 7)
    gallery[200:] = gallery[:200]
    labels, gallery_labels = torch.arange(50) % 5, torch.arange(400) % 5
    found = retrieval(queries, labels, gallery, gallery_labels, hub_k=20, worst=1)
    scores, rows = top_k(queries, gallery, 400)
    hits = gallery_labels[rows] == labels[:, None]
    assert torch.equal(found.per_query.first_rank, hits.int().argmax(1) + 1)
    assert torch.equal(found.hubness.occurrences, torch.bincount(rows[:, :20].flatten(), minlength=400))
    other = scores.masked_fill(hits, -torch.inf)
    assert found.nearest_different[0].score == float(other.max())
    assert found.furthest_same[0].score == float(scores.masked_fill(~hits, torch.inf).min())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 8), st.integers(0, 60))
def test_counting_in_a_tile_equals_counting_by_keys(seed: int, width: int, relevant: int, start: int) -> None:
    """Relevant items before, in and after the tile, and scores that are mostly equal."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-2, 3, (5, width), generator=generator).float()
    row = torch.stack([torch.randperm(100, generator=generator)[:relevant] for _ in range(5)])
    score = torch.randint(-2, 3, (5, relevant), generator=generator).float()
    inside = (row >= start) & (row < start + width)
    own = inside.nonzero(as_tuple=True)
    score[own] = scores[own[0], row[own] - start]
    order = module.pack(score, row).argsort(1, descending=True)
    score, row = score.gather(1, order), row.gather(1, order)
    own = ((row >= start) & (row < start + width)).nonzero(as_tuple=True)
    counted = module._before(scores, score, row, own, start, start + width)
    assert torch.equal(counted, module.before_by_keys(scores, score, row, start))
    tile = [(-s, start + column) for column, s in enumerate(scores[0].tolist())]
    keys = [(-s, r) for s, r in zip(score[0].tolist(), row[0].tolist(), strict=True)]
    assert counted[0].tolist() == [sum(other < key for other in tile) for key in keys]


def test_queries_without_a_relevant_item_do_not_count() -> None:
    gallery, labels = unit(30, 4, 8), torch.arange(30) % 3
    queries, query_labels = unit(6, 4, 9), torch.tensor([0, 1, 2, 7, -1, 0])
    found = retrieval(queries, query_labels, gallery, labels, hub_k=1)
    assert (found.queries, found.without_relevant) == (4, 2)
    known = query_labels.ge(0) & query_labels.lt(3)
    alone = retrieval(queries[known], query_labels[known], gallery, labels)
    assert found.map_at_r == alone.map_at_r
    assert found.recall == alone.recall
    assert found.per_query.average_precision[3:5].isnan().all()
    assert found.per_query.first_rank[3:5].tolist() == found.per_query.relevant[3:5].tolist() == [0, 0]
    assert int(found.hubness.occurrences.sum()) == 6  # they do count here
    assert found.per_class.labels.tolist() == [0, 1, 2]


def test_the_only_item_of_a_label_is_relevant_to_others_but_not_to_itself() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    found = retrieval(rows, torch.tensor([0, 0, 1]))
    assert found.per_query.relevant.tolist() == [1, 1, 0]
    assert found.per_query.first_rank.tolist() == [1, 1, 0]  # 0.8 to each other; 0.6 and 0 to the third


def test_figures_of_a_ranking_by_hand() -> None:
    """Musgrave et al.'s example of two rankings with R = 4: hits 1, 2 of the first 4, and hits 3, 4."""
    scores = torch.linspace(1.0, 0.1, 8)[:, None]
    one = torch.tensor([1, 1, 0, 0, 0, 0, 1, 1])
    two = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
    for labels, expected in (
        (one, (0.5, (1 + 1) / 4, (1 + 1 + 3 / 7 + 4 / 8) / 4, 1.0)),
        (two, (0.5, (1 / 3 + 2 / 4) / 4, (1 / 3 + 2 / 4 + 3 / 7 + 4 / 8) / 4, 1 / 3)),
    ):
        found = retrieval(torch.ones(1, 1), torch.tensor([1]), scores, labels, ks=(1, 3))
        figures = (found.r_precision, found.map_at_r, found.mean_average_precision, found.mrr)
        assert figures == pytest.approx(expected, rel=1e-14)
        assert found.recall == {1: float(labels[0]), 3: 1.0}
        assert found.precision_at_1 == found.recall[1]


def test_each_class_and_the_worst() -> None:
    rows, labels = unit(60, 5, 10), torch.arange(60) % 4
    rows[labels == 2] = torch.nn.functional.normalize(rows[labels == 2] + 3.0, dim=1)
    found = retrieval(rows, labels)
    assert found.per_class.labels.tolist() == [0, 1, 2, 3]
    assert found.per_class.queries.tolist() == [15] * 4
    for place in range(4):
        mine = labels == place
        assert float(found.per_class.map_at_r[place]) == pytest.approx(float(found.per_query.map_at_r[mine].mean()))
        hits = (found.per_query.first_rank[mine] == 1).double().mean()
        assert float(found.per_class.precision_at_1[place]) == pytest.approx(float(hits))
    worst = int(found.per_class.map_at_r.argmin())
    assert worst != 2
    assert (found.worst_class.label, found.worst_class.queries) == (worst, 15)
    assert found.worst_class.map_at_r == float(found.per_class.map_at_r[worst])


def test_a_query_of_several_labels_counts_in_each_class() -> None:
    rows = unit(20, 5, 11)
    labels = torch.stack([torch.arange(20) % 2, torch.arange(20) % 3 + 10, torch.full((20,), -1)], 1)
    found = retrieval(rows, labels)
    assert found.per_class.labels.tolist() == [0, 1, 10, 11, 12]
    assert found.per_class.queries.tolist() == [10, 10, 7, 7, 6]
    assert found.per_query.relevant[0] == int(((labels == 0) | (labels == 10)).any(1)[1:].sum())


def test_hubness_by_loops() -> None:
    occurrences = torch.tensor([0, 3, 0, 1, 7, 0, 7, 2])
    values = occurrences.double().numpy()
    found = hubness(occurrences, 5)
    centred = values - values.mean()
    assert found.skewness == pytest.approx((centred**3).mean() / (centred**2).mean() ** 1.5, rel=1e-12)
    assert found[2:5] == (3 / 8, 4, 7)
    flat = hubness(torch.full((5,), 2), 5)
    assert (flat.skewness, flat.anti_hubs) == (0.0, 0.0)


def test_a_planted_hub_is_found() -> None:
    rows, labels = unit(200, 64, 12), torch.arange(200) % 2
    calm = retrieval(rows, labels).hubness
    rows[17] = torch.nn.functional.normalize(rows.mean(0), dim=0) * 3  # near to everybody
    found = retrieval(rows, labels).hubness
    assert (found.top_row, found.k) == (17, 10)
    assert found.top_count > 4 * int(calm.occurrences.max())
    assert found.skewness > calm.skewness + 3


def test_a_wrong_pair_is_listed_once_however_it_is_met() -> None:
    """Two equal items with different labels find each other; an outlier is the furthest of its class."""
    rows = torch.nn.functional.normalize(torch.eye(8) + 0.1, dim=1)
    rows[1] = rows[0] + 0.001
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    rows[6] = -rows[0]
    found = retrieval(rows, labels, worst=3)
    assert found.nearest_different[0][:2] == (0, 1)
    assert (1, 0) not in [pair[:2] for pair in found.nearest_different]
    items = [pair.gallery for pair in found.furthest_same]
    assert len(items) == len(set(items)) == 3
    assert set(found.furthest_same[0][:2]) == {0, 6}
    assert [pair.score for pair in found.furthest_same] == sorted(pair.score for pair in found.furthest_same)
    assert retrieval(rows, labels, worst=0).furthest_same == ()


ROWS, LABELS = unit(4, 3, 0), torch.tensor([0, 1, 1, 0])
BAD = ROWS.index_fill(0, torch.tensor([2]), math.nan)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"queries": BAD}, "queries row 2 holds NaN"),
        ({"gallery": BAD}, "gallery row 2 holds NaN"),
        ({"gallery": torch.ones(4, 5)}, "queries have 3 columns but gallery have 5"),
        ({"gallery": torch.ones(0, 3)}, "gallery is empty"),
        ({"queries": torch.ones(3)}, "queries must have shape"),
        ({"queries": torch.ones(4, 3, dtype=torch.int64)}, "floating point"),
        ({"queries": ROWS * 1e25, "gallery": ROWS * 1e25}, "don't fit into float32; divide each row by its length"),
        ({"query_labels": LABELS[:3]}, r"query_labels must be \(4,\), one per row"),
        ({"gallery_labels": torch.zeros(4, 0, dtype=torch.int64)}, r"gallery_labels must be \(4,\), one per row"),
        ({"gallery_labels": LABELS.float()}, "gallery_labels are torch.float32; they must be integers"),
        ({"gallery_labels": None}, "gallery_labels are missing"),
        ({"gallery_labels": LABELS + 5}, "none of the 4 queries has another item of its label"),
        ({"gallery": None}, "need a gallery: give it too"),
        ({"query_ids": torch.arange(4)}, "give query_ids and gallery_ids together"),
        ({"query_ids": torch.arange(4), "gallery_ids": torch.arange(5)}, "gallery_ids must be 4 integers"),
        ({"gallery": ROWS, "queries": ROWS}, "the same rows, so every item would find itself first"),
        ({"ks": ()}, "ks must be numbers of neighbours"),
        *(({"ks": (1, bad)}, "ks must be numbers of neighbours") for bad in (0, 1.5, float("nan"), float("inf"))),
        ({"hub_k": 0}, "k=0 must be at least 1"),
        ({"worst": -1}, "worst=-1 must be at least 1; it is the length of the lists"),
        ({"tile": 0}, "tile=0 must be at least 1"),
    ],
)
def test_bad_input_is_one_clear_sentence(change: dict[str, Any], text: str) -> None:
    arguments = {"queries": ROWS, "query_labels": LABELS, "gallery": unit(4, 3, 1), "gallery_labels": LABELS} | change
    with pytest.raises(LikewiseError, match=text) as error:
        retrieval(**arguments)
    assert "\n" not in str(error.value)


MEMORY = """
import sys, torch
from likewise.metrics import retrieval
torch.set_num_threads(1)
gallery, labels = torch.randn(150_000, 8), torch.arange(150_000) % 500
queries = gallery[:300].clone()
def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024
retrieval(queries, labels[:300], gallery[:20_000], labels[:20_000])
before = status("VmHWM")
retrieval(queries, labels[:300], gallery, labels)
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_flat_in_the_gallery() -> None:
    """300 × 150,000 scores are 172 MiB in float32; seven times the gallery may cost next to nothing more."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 50


def test_rows_that_find_themselves_without_ids_are_told() -> None:
    rows, labels = unit(20, 4, 0), torch.arange(20) % 5
    with pytest.warns(LikewiseWarning, match="the first 8 queries are rows of the gallery too"):
        retrieval(rows[:10].clone(), labels[:10], rows, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        retrieval(rows[:10], labels[:10], rows, labels, query_ids=torch.arange(10), gallery_ids=torch.arange(20))
        retrieval(unit(10, 4, 1), labels[:10], rows, labels)


def test_ids_and_ks_that_are_no_whole_numbers_are_refused() -> None:
    rows, labels = torch.randn(6, 4), torch.arange(6) % 2
    wrong = torch.ones(6, dtype=torch.bool)
    with pytest.raises(LikewiseError, match=r"query_ids are torch.bool; they must be integers"):
        retrieval(rows, labels, rows, labels, query_ids=wrong, gallery_ids=wrong)
    with pytest.raises(LikewiseError, match="ks must be numbers of neighbours"):
        retrieval(rows, labels, ks=(1.5,))  # type: ignore[arg-type]
