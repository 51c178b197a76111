"""Measures of ranked lists: against loops, against the libraries that a convention is named after, and their edges."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, dcg_score, ndcg_score
from torch import Tensor
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_precision,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

import likewise as lw
from likewise.metrics import Convention, Ranking, coverage, ndcg, popularity, ranking
from likewise.metrics.bootstrap import LARGE, mean_interval
from likewise.metrics.conventions import CONVENTIONS
from likewise.metrics.ordered_lists import CELLS, Lists
from likewise.metrics.ranking import MEASURES

ALLRANK = json.loads(Path(__file__).with_name("allrank_numbers.json").read_text())


def loop(scores: list[float], relevance: list[float], k: int, convention: Convention) -> dict[str, float]:
    """Every measure of one query, as a textbook has it; ties by order."""
    n = len(scores)
    order = sorted(range(n), key=lambda i: (-scores[i], i if convention.ties == "by order" else -i))
    returned = [i for i in order if scores[i] > -math.inf]

    def gain(y: float) -> float:
        return y if convention.gains == "linear" else 2**y - 1

    ideal = sorted(map(gain, relevance), reverse=True)[:k]
    best = sum(g / math.log2(r + 2) for r, g in enumerate(ideal))
    found = sum(gain(relevance[i]) / math.log2(r + 2) for r, i in enumerate(returned[:k]))
    least = convention.relevant
    relevant = {i for i in range(n) if (relevance[i] > 0 if least is None else relevance[i] >= least)}
    hits = [r for r, i in enumerate(returned[:k]) if i in relevant]
    over = {"relevant": len(relevant), "reachable": min(len(relevant), k), "hits": max(1, len(hits))}
    precisions = [(place + 1) / (r + 1) for place, r in enumerate(hits)]
    empty = math.nan if convention.empty == "skip" else float(convention.empty)
    values = {
        "map": sum(precisions) / over[convention.denominator] if relevant else 0,
        "mrr": 1 / (hits[0] + 1) if hits else 0,
        "hit": float(bool(hits)),
        "recall": len(hits) / len(relevant) if relevant else 0,
        "precision": len(hits) / k,
    }
    return {"ndcg": found / best if best else empty, "dcg": found} | {
        name: value if relevant else empty for name, value in values.items()
    }


def lists(seed: int, queries: int = 40, longest: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """Scores with ties and some items not returned, relevance 0 to 3, and a mask; the first query has no relevance."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 6, (queries, longest), generator=generator).double()
    scores[torch.rand(scores.shape, generator=generator) < 0.1] = -math.inf
    relevance = torch.randint(0, 4, (queries, longest), generator=generator).double()
    relevance[0] = 0
    lengths = torch.randint(1, longest + 1, (queries, 1), generator=generator)
    return scores, relevance, torch.arange(longest) < lengths


@pytest.mark.parametrize("k", [1, 4, 30])
@pytest.mark.parametrize(
    "convention",
    [
        Convention(),
        Convention(gains="linear", ties="last first", empty=0, denominator="reachable"),
        Convention(empty=1, denominator="hits", relevant=2),
    ],
    ids=repr,
)
def test_every_measure_is_its_loop(k: int, convention: Convention) -> None:
    scores, relevance, mask = lists(0)
    meter = Ranking(list(MEASURES), k=k, convention=convention)
    for part in (slice(0, 7), slice(7, 40)):
        meter.update(scores[part], relevance[part], mask=mask[part])
    wanted = [
        loop(s[m].tolist(), y[m].tolist(), k, convention) for s, y, m in zip(scores, relevance, mask, strict=True)
    ]
    for name, found in meter.compute().items():
        each = torch.tensor([row[name.partition("@")[0]] for row in wanted], dtype=torch.float64)
        torch.testing.assert_close(found.values, each, equal_nan=True)
        assert float(found) == pytest.approx(each.nanmean().item())


def test_padded_ragged_and_single_lists_of_any_kind_are_the_same() -> None:
    scores, relevance, mask = lists(1)
    padded = ndcg(scores, relevance, 5, mask=mask).values
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cumsum(0)])
    torch.testing.assert_close(ndcg(scores[mask], relevance[mask], 5, offsets=offsets).values, padded, equal_nan=True)
    numbers = scores[mask].numpy(), relevance[mask].int().numpy()
    found = ndcg(*numbers, 5, offsets=offsets.numpy()).values
    torch.testing.assert_close(found, padded, equal_nan=True)
    for query in range(40):
        one = ndcg(scores[query, mask[query]].tolist(), relevance[query, mask[query]].tolist(), 5)
        torch.testing.assert_close(one.values[0], padded[query], equal_nan=True)
    assert float(lw.ndcg([3, 2, 1], [1, 0, 2], k=10, gains="exponential")) == pytest.approx(0.6885, abs=1e-4)
    empty = ndcg([], [], offsets=[0, 0, 0], empty=0)  # two lists without items
    assert empty.values.tolist() == [0, 0]


def test_as_scikit_learn() -> None:
    scores, relevance, _ = lists(2, queries=60)
    scores = scores.clamp(min=0)
    for k in (1, 3, 9, None):
        found = ndcg(scores, relevance, k, convention="scikit-learn").values
        each = [ndcg_score(y[None], s[None], k=k) for s, y in zip(scores.numpy(), relevance.numpy(), strict=True)]
        np.testing.assert_allclose(found, each, atol=1e-12)
        meter = Ranking("dcg", k=k, convention="scikit-learn")
        meter.update(scores, relevance)
        each = [dcg_score(y[None], s[None], k=k) for s, y in zip(scores.numpy(), relevance.numpy(), strict=True)]
        np.testing.assert_allclose(next(iter(meter.compute().values())).values, each, atol=1e-12)
    scores = torch.rand(scores.shape)  # its average precision is another where scores are equal
    meter = Ranking("map", k=None, convention="scikit-learn")
    meter.update(scores, relevance)
    each = [average_precision_score(y > 0, s) for s, y in zip(scores[1:].numpy(), relevance[1:].numpy(), strict=True)]
    np.testing.assert_allclose(meter.compute()["map"].values[1:], each, atol=1e-12)


def test_as_torchmetrics() -> None:
    scores, relevance, _ = lists(3, queries=60)
    scores = scores.clamp(min=0).float()
    for k in (1, 3, 9, None):
        found = ndcg(scores, relevance, k, convention="torchmetrics").values
        each = [retrieval_normalized_dcg(s, y.long(), top_k=k) for s, y in zip(scores, relevance, strict=True)]
        torch.testing.assert_close(found.float(), torch.stack(each), atol=2e-6, rtol=0)
    scores = torch.rand(scores.shape)  # its other measures take equal scores as its sort leaves them
    theirs = {
        "map": retrieval_average_precision,
        "mrr": retrieval_reciprocal_rank,
        "hit": retrieval_hit_rate,
        "recall": retrieval_recall,
        "precision": retrieval_precision,
    }
    for k in (1, 3, 12, None):
        meter = Ranking(tuple(theirs), k=k, convention="torchmetrics")
        meter.update(scores, relevance)
        for (name, function), ours in zip(theirs.items(), meter.compute().values(), strict=True):
            each = [function(s, y > 0, top_k=k) for s, y in zip(scores, relevance, strict=True)]
            torch.testing.assert_close(ours.values.float(), torch.stack(each), atol=2e-6, rtol=0, msg=name)


def test_as_trec_eval() -> None:
    scores, relevance, _ = lists(4, queries=60)
    relevance = relevance.clone()
    relevance[5, 2] = -1  # spam, which trec_eval counts as not relevant
    names = [f"{place:02}" for place in range(scores.shape[1])]
    run = {
        f"{q}": {name: s for name, s in zip(names, row.tolist(), strict=True) if s > -math.inf}
        for q, row in enumerate(scores)
    }
    judged = {f"{q}": dict(zip(names, map(int, row.tolist()), strict=True)) for q, row in enumerate(relevance)}
    cuts = (1, 3, 5)
    theirs = {"ndcg": "ndcg_cut", "map": "map_cut", "precision": "P", "recall": "recall", "hit": "success"}
    wanted = pytrec_eval.RelevanceEvaluator(
        judged, {*(f"{name}_{k}" for name in theirs.values() for k in cuts), "ndcg", "map", "recip_rank"}
    ).evaluate(run)
    whole = {"ndcg": "ndcg", "map": "map", "mrr": "recip_rank"}
    for k in (*cuts, None):
        named = {name: f"{cut}_{k}" for name, cut in theirs.items()} if k else whole
        meter = Ranking(tuple(named), k=k, convention="trec_eval")
        meter.update(scores, relevance)
        for name, found in zip(named.values(), meter.compute().values(), strict=True):
            each = [wanted[f"{q}"].get(name, 0.0) for q in range(60)]
            np.testing.assert_allclose(found.values, each, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("case", ALLRANK["cases"])
def test_as_allrank(case: dict[str, Any]) -> None:
    """allRank does not install beside a torch of today, so its numbers are kept: see "made with" in the file."""
    relevance = torch.tensor(case["relevance"])
    for place, k in enumerate(case["ks"]):
        found = ndcg(torch.tensor(case["scores"]), relevance.clamp(min=0), k, mask=relevance >= 0, convention="allrank")
        torch.testing.assert_close(found.values.float(), torch.tensor(case["ndcg"])[:, place], atol=1e-6, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, -math.inf]), st.integers(0, 5)), min_size=1, max_size=12),
    st.integers(1, 14),
    st.sampled_from(["by order", "averaged", "last first"]),
    st.sampled_from(["exponential", "linear"]),
)
def test_ndcg_is_from_0_to_1_and_1_for_the_best_order(
    items: list[tuple[float, int]], k: int, ties: Any, gains: Any
) -> None:
    scores, relevance = (list(part) for part in zip(*items, strict=True))
    value = float(ndcg(scores, relevance, k, ties=ties, gains=gains, empty=0))
    assert 0 <= value <= 1 + 1e-12
    if any(relevance):
        assert float(ndcg(relevance, relevance, k, ties=ties, gains=gains)) == pytest.approx(1)


def test_faults_of_other_tools() -> None:
    # a model that gives one score to all is as good as chance, not perfect
    constant = ndcg([0.0] * 4, [0, 0, 0, 1], ties="averaged", gains="linear")
    assert float(constant) == pytest.approx(np.mean([1 / math.log2(r + 2) for r in range(4)]))
    # the ideal is of all judged items, not of the hits alone
    first, both = (float(ndcg([3.0, 2, 1], relevance)) for relevance in ([1, 0, 0], [1, 0, 1]))
    assert (first, both) == (1, pytest.approx(1.5 / (1 + 1 / math.log2(3))))
    # fewer returned than k: what was judged and not returned counts for the ideal
    few = ndcg([5.0, -math.inf, -math.inf], [1, 1, 1], 3)
    assert float(few) == pytest.approx(1 / sum(1 / math.log2(r + 2) for r in range(3)))
    assert float(ndcg([1.0], [2])) == 1  # a list of one
    assert math.isnan(float(ndcg([1.0], [0])))
    assert repr(ndcg([[1.0], [1]], [[0], [3]])) == (
        "Ranked(ndcg@10=1.0000, 2 queries, 1 skipped; exponential gains, ties by order, empty queries skipped)"
    )
    # lists side by side are not one list
    scores, relevance = torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([[1, 0], [1, 0]])
    assert float(ndcg(scores, relevance)) == pytest.approx((1 / math.log2(3) + 1) / 2)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ndcg([1.0, 2], [1, -1]), "relevance -1 of query 0 is negative"),
        (lambda: ndcg([[1.0, 2]] * 3, [[1, 0], [0, 0], [0, math.nan]]), "a relevance of query 2 is NaN"),
        (lambda: ndcg([math.nan, 2], [1, 0]), "a score of query 0 is NaN"),
        (lambda: ndcg([1.0, 2], [2000, 0]), "relevance 2000 of query 0 has no finite gain"),
        (lambda: ndcg([1.0, 2], [math.inf, 0], gains="linear"), "relevance inf of query 0 has no finite gain"),
        (lambda: ndcg([1.0, 2], [1]), r"scores \(2,\) and relevance \(1,\) must have one shape"),
        (lambda: ndcg([[1.0], [2, 3]], [[1], [2, 3]]), "scores can't be read as numbers"),
        (lambda: ndcg(torch.zeros(2, 2, 2), torch.zeros(2, 2, 2)), r"must be \(N,\) of one query"),
        (lambda: ndcg([], []), r"scores \(1, 0\) must be \(N,\) of one query"),
        (lambda: ndcg([1.0, 2], [1, 0], mask=[True]), r"mask \(1, 1\) must have the shape"),
        (lambda: ndcg([1.0, 2], [1, 0], mask=[1, 0]), "mask are torch.int64; they must be torch.bool"),
        (lambda: ndcg([1.0, 2], [1, 0], mask=[True, False], offsets=[0, 2]), "leave one out"),
        (lambda: ndcg([1.0, 2], [1, 0], offsets=[0, 1]), "offsets must rise from 0 to the 2 items"),
        (lambda: ndcg([1.0, 2], [1, 0], offsets=[0, 2, 1, 2]), "offsets must rise from 0 to the 2 items"),
        (lambda: ndcg([[1.0, 2]], [[1, 0]], offsets=[0, 2]), r"scores are \(M,\), not \(1, 2\)"),
        (lambda: ndcg([1.0], [1], 0), "k=0 must be at least 1"),
        (lambda: ndcg([1.0], [1], gains="square"), "gains='square' must be one of 'exponential', 'linear'"),  # type: ignore[arg-type]
        (lambda: ndcg([1.0], [1], empty=2), "empty=2 must be one of 'skip', 0, 1"),  # type: ignore[arg-type]
        (lambda: ndcg([1.0], [1], convention="sklearn"), "no convention 'sklearn'. Did you mean 'scikit-learn'?"),
        (lambda: ndcg([1.0], [1], ties="averaged", convention="allrank"), "convention='allrank' sets ties"),
        (lambda: Ranking(("ncdg",)), "there is no measure 'ncdg'. Did you mean 'ndcg'?"),
        (lambda: Ranking(()), "no measure is named; there are ndcg"),
        (lambda: Ranking().compute(), "there are no queries to measure"),
        (lambda: Ranking(convention=Convention(relevant=0)), "relevant=0 must be above 0"),
        (lambda: ndcg([1.0], [0]).interval(), "every query was skipped"),
        (lambda: ndcg([1.0], [1]).interval(share=1), "share=1 must be above 0 and below 1"),
        (lambda: ndcg([1.0], [1]).minus(ndcg([1.0], [1], 5)), "are different measures"),
        (lambda: ndcg([[1.0]] * 2, [[1]] * 2).minus(ndcg([[1.0]] * 2, [[1], [0]])), "not of the same queries: 2 and 1"),
        (lambda: coverage([1, 2], 3), r"recommended \(2,\) must be \(Q, K\)"),
        (lambda: coverage([[3]], 3), "recommended items must be from 0 to 2, or −1 for none"),
        (lambda: popularity([[-1]], [1.0, 2]), "no item is recommended"),
    ],
)
def test_bad_input_is_one_sentence(call: Any, said: str) -> None:
    with pytest.raises(lw.LikewiseError, match=said):
        call()


def test_a_refused_batch_counts_for_nothing() -> None:
    meter = Ranking()
    meter.update([[2.0, 1]], [[1, 0]])
    with pytest.raises(lw.LikewiseError, match="of query 2 is negative"):  # query 0 came before
        meter.update([[2.0, 1]] * 2, [[1, 0], [1, -1]])
    assert len(meter) == 1
    assert float(meter.compute()["ndcg@10"]) == 1
    meter.reset()
    assert len(meter) == 0


def test_memory_is_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many queries come at once, and however uneven ragged lists are, a measure sees CELLS items at most."""
    seen = list[int]()
    real = MEASURES["ndcg"]

    def counted(lists: Lists, *rest: Any) -> Tensor:
        seen.append(lists.gains.numel())
        return real(lists, *rest)

    monkeypatch.setattr(ranking, "MEASURES", {**MEASURES, "ndcg": counted})
    ndcg(torch.rand(300, 10_000), torch.ones(300, 10_000))
    lengths = torch.tensor([3] * 50_000 + [500_000] + [2] * 50_000)
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    found = ndcg(torch.rand(int(ends[-1])), torch.ones(int(ends[-1])), offsets=ends)
    assert len(found.values) == 100_001
    assert bool((found.values == 1).all())
    assert max(seen) <= CELLS


def test_intervals_and_paired_differences() -> None:
    generator = np.random.default_rng(0)
    hard = generator.normal(size=400)  # how hard each query is
    first, second = hard + 0.02 + generator.normal(size=400) * 0.1, hard + generator.normal(size=400) * 0.1
    one = mean_interval(first)
    assert one.low < first.mean() == one.mean < one.high
    assert one.high - one.low == pytest.approx(2 * 1.96 * first.std() / 20, rel=0.1)
    assert mean_interval(first) == one  # the same values, the same interval
    left, right = (lw.metrics.Ranked("ndcg@10", "", torch.from_numpy(values)) for values in (first, second))
    paired = left.minus(right)
    assert paired.low > 0  # what the queries have in common does not hide the difference
    assert left.interval().low < right.interval().high  # as it does in two intervals
    many = generator.normal(size=LARGE)
    near, drawn = mean_interval(many), mean_interval(many[:-1])
    np.testing.assert_allclose(near, drawn, atol=2e-3)
    assert str(one).startswith(f"{one.mean:.4f} [")


def test_coverage_and_popularity() -> None:
    assert coverage([[0, 1], [1, -1]], 8) == 0.25
    counts = [10.0, 1, 1, 5]
    assert popularity([[0, 0]], counts) == 0.875
    assert popularity([[1, 2, -1]], counts) == 0.25  # the mean place of the two
    assert popularity([[0, 1, 2, 3]], counts) == 0.5
    for name in CONVENTIONS:
        assert float(ndcg([2.0, 1], [1, 0], convention=name)) == 1
