"""Splits, baselines, rules and full ranking, against loops."""

import math
from typing import Any

import numpy as np
import pytest

from likewise.errors import LikewiseError
from likewise.graph.co_engagement import Interactions
from likewise.graph.splits import Split, by_time, cold_items, per_user
from likewise.recommendation import baselines, rivals
from likewise.recommendation.baselines import Ease, ItemNeighbours, Popularity, RidgePerUser, matrix
from likewise.recommendation.catalogue import Catalogue
from likewise.recommendation.embedded import Embedded, Units
from likewise.recommendation.factors import als, bpr, ridge_to, spectral
from likewise.recommendation.histories import RULES, mean, rule_named, softmax, top
from likewise.recommendation.measure import recommended

USERS, ITEMS = 60, 25


@pytest.fixture(scope="module")
def rows() -> Interactions:
    rng = np.random.default_rng(0)
    taken = rng.random((USERS, ITEMS)) < np.linspace(0.05, 0.6, ITEMS)
    user, item = np.nonzero(taken)
    return Interactions(user.astype(np.int64), item.astype(np.int64), rng.permutation(len(user)).astype(np.int64))


def pairs(rows: Interactions) -> set[tuple[int, int]]:
    return set(zip(rows.user.tolist(), rows.item.tolist(), strict=True))


def test_cold_items_have_nothing_in_training_and_are_the_only_candidates(rows: Interactions) -> None:
    split = cold_items(rows, ITEMS, share=0.2, seed=3)
    assert split.candidates.sum() == 5
    assert not split.candidates[split.train.item].any()
    assert split.candidates[split.asked.item].all()
    assert pairs(split.train) | pairs(split.asked) == pairs(rows)
    assert not np.array_equal(split.candidates, cold_items(rows, ITEMS, seed=4).candidates)


def test_the_last_of_each_user_are_asked(rows: Interactions) -> None:
    split = per_user(rows, ITEMS, share=0.25, fewest=6)
    assert rows.time is not None
    for user in range(USERS):
        mine = rows.user == user
        number = round(0.25 * mine.sum()) if mine.sum() >= 6 else 0
        last = (
            set(rows.item[mine][np.argsort(rows.time[mine])][mine.sum() - max(1, number) :].tolist())
            if number
            else set()
        )
        assert {item for u, item in pairs(split.asked) if u == user} == last
    assert pairs(split.train) | pairs(split.asked) == pairs(rows)


def test_a_moment_divides_all_and_needs_users_on_both_sides(rows: Interactions) -> None:
    split = by_time(rows, ITEMS, users=10)
    assert split.train.time is not None
    assert split.asked.time is not None
    assert split.train.time.max() < split.asked.time.min()
    assert set(split.asked.user) <= set(split.train.user)
    one_day = rows._replace(time=rows.user.copy())  # each user gave all on one day
    with pytest.raises(LikewiseError, match=r"a split by time leaves \d users with items before and after"):
        by_time(one_day, ITEMS, users=10)
    with pytest.raises(LikewiseError, match="a time split needs a time for each interaction; name the column"):
        by_time(rows._replace(time=None), ITEMS)
    with pytest.raises(LikewiseError, match="share=1 must be above 0 and below 1"):
        cold_items(rows, ITEMS, share=1)


def test_full_ranking_is_its_loop(rows: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likewise.recommendation.measure.CELLS", 7 * ITEMS)  # several blocks
    split = per_user(rows, ITEMS)
    found = recommended(split, Popularity(split.train, USERS, ITEMS), USERS, ITEMS, k=3)
    counts = np.bincount(split.train.item, minlength=ITEMS)
    values, first = [], []
    for user in found.users:
        seen = {item for u, item in pairs(split.train) if u == user}
        wanted = {item for u, item in pairs(split.asked) if u == user}
        order = [i for i in sorted(range(ITEMS), key=lambda i: (-counts[i], i)) if i not in seen][:3]
        gain = sum(1 / math.log2(place + 2) for place, item in enumerate(order) if item in wanted)
        values.append(gain / sum(1 / math.log2(place + 2) for place in range(min(3, len(wanted)))))
        first += order
    np.testing.assert_allclose(found.measures["ndcg@3"].values, values)
    assert found.coverage == len(set(first)) / ITEMS
    assert found.popularity > 0.8
    assert found.measures["ndcg@3"].minus(found.measures["ndcg@3"]).high == 0


def test_ease_of_many_items_is_tried_on_those_that_most_users_took(
    rows: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rivals, "FEW_FOR_EASE", 5)
    names, nobody = list(map(str, range(ITEMS))), np.arange(ITEMS)
    known = Catalogue(ids=names, users=list(map(str, range(USERS))), rows=rows, content=nobody, notes=())
    ease = next(rival for rival in rivals.of_interactions(known) if rival.name == "EASE")
    split, often = per_user(rows, ITEMS), np.argsort(-np.bincount(per_user(rows, ITEMS).train.item), kind="stable")[:5]
    for slow, items in ((10, np.sort(often)), (30, np.arange(ITEMS))):
        monkeypatch.setattr(rivals, "SLOW_EASE", slow)
        assert ease.trial is not None
        tried, whole = list(ease.trial(split)), list(ease.family(split))
        assert [words for words, _ in tried] == [words for words, _ in whole] == ["λ = 100", "λ = 300", "λ = 1000"]
        scored = [np.flatnonzero(make().scores(np.arange(USERS)).any(0)) for _, make in (tried[0], whole[0])]
        np.testing.assert_array_equal(scored[0], items)
        np.testing.assert_array_equal(scored[1], np.arange(ITEMS))


def test_baselines_are_their_equations(rows: Interactions) -> None:
    x = matrix(rows, USERS, ITEMS).toarray().astype(np.float64)
    users = np.array([3, 0, 59])
    np.testing.assert_allclose(Popularity(rows, USERS, ITEMS).scores(users), np.tile(x.sum(0), (3, 1)))
    together = x.T @ x
    cosine = together / np.sqrt(np.outer(x.sum(0), x.sum(0)))
    np.fill_diagonal(cosine, 0)
    np.testing.assert_allclose(ItemNeighbours(rows, USERS, ITEMS).scores(users), x[users] @ cosine, rtol=1e-6)
    # EASE: each item by ridge on the others
    weights = np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):
        others = np.delete(np.arange(ITEMS), item)
        gram = x[:, others].T @ x[:, others] + 5 * np.eye(ITEMS - 1)
        weights[others, item] = np.linalg.solve(gram, x[:, others].T @ x[:, item])
    np.testing.assert_allclose(Ease(rows, USERS, ITEMS, 5).scores(users), x[users] @ weights, rtol=1e-4, atol=1e-5)
    content = np.random.default_rng(1).normal(size=(ITEMS, 4))
    gram = content.T @ content + 2 * np.eye(4)
    wanted = [content @ np.linalg.solve(gram, content.T @ x[user]) for user in users]
    np.testing.assert_allclose(RidgePerUser(rows, USERS, content, 2).scores(users), wanted, rtol=1e-6)


def test_sparse_rows_and_parts_of_the_columns_are_the_same(rows: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.random.default_rng(1).random((ITEMS, 90)) < 0.04
    found = []
    for share in (0.0, 1.0):
        monkeypatch.setattr("likewise.recommendation.embedded.SPARSE", share)
        units = Units(words)
        assert units.there.tolist() == words.any(1).tolist()
        found.append(units.cosines(np.array([3, 1, 1]), np.arange(ITEMS)))
        for cells in (1 << 24, 40):  # the latter: columns in parts
            monkeypatch.setattr("likewise.recommendation.embedded.CELLS", cells)
            found.append(Embedded(rows, USERS, words, top(2)).scores(np.arange(USERS))[:3])
    for dense, other in ((0, 3), (1, 2), (1, 4), (1, 5)):
        np.testing.assert_allclose(found[dense], found[other], atol=1e-6)


def test_rules_join_a_history(rows: Interactions) -> None:
    content = np.random.default_rng(1).normal(size=(ITEMS, 4)).astype(np.float32)
    mine = sorted(item for user, item in pairs(rows) if user == 5)
    content[mine[2]] = 0  # no content: it says nothing, and has no cosine
    units = content / np.maximum(np.linalg.norm(content, axis=1, keepdims=True), 1e-9)
    history = [item for item in mine if item != mine[2]]
    cosines = units[history] @ units.T
    for rule, wanted in (
        (mean, cosines.mean(0)),
        (top(2), np.sort(cosines, axis=0)[-2:].mean(0)),
        (top(99), cosines.mean(0)),
        (softmax(0.1), np.exp((cosines - 1) / 0.1).sum(0)),
    ):
        expected = np.where(np.arange(ITEMS) == mine[2], 0, wanted)
        found = Embedded(rows, USERS + 1, content, rule).scores(np.array([5, USERS]))
        np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)
        assert not found[1].any()  # nobody without a history
        only = np.arange(ITEMS) % 2 == 0
        some = Embedded(rows, USERS, content, rule, only=only).scores(np.array([5]))[0]
        np.testing.assert_allclose(some, np.where(only, expected, 0), rtol=1e-5, atol=1e-6)
    assert set(RULES) == {"mean", "top-3", "softmax"}
    assert rule_named("top-2")(cosines).tolist() == top(2)(cosines).tolist()
    with pytest.raises(LikewiseError, match=r"there is no rule 'means'. Did you mean 'mean'\?"):
        rule_named("means")


def test_content_predicts_the_factors_of_new_items() -> None:
    """Items whose links are a function of content: ridge finds the neighbours of items that it never saw."""
    sparse, rng = baselines.scipy_sparse(), np.random.default_rng(0)
    content = rng.normal(size=(80, 3)).astype(np.float32)
    weights = np.exp(-np.linalg.norm(content[:, None] - content[None], axis=2))
    known = np.arange(60)
    seen = weights.copy()
    seen[60:], seen[:, 60:] = 0, 0
    factors = spectral(sparse.csr_array(seen), 4)
    np.testing.assert_allclose(
        np.abs(factors.T @ factors), np.diag(np.sort(np.abs(np.linalg.eigvalsh(seen)))[:-5:-1]), atol=1e-6
    )
    predicted = ridge_to(content, factors, known, 0.1)
    found = np.corrcoef((predicted[60:] @ factors[:60].T).ravel(), weights[60:, :60].ravel())[0, 1]
    assert found > 0.5
    with pytest.raises(LikewiseError, match="size=80 must be below the 80 items"):
        spectral(sparse.csr_array(seen), 80)


def test_a_wide_ridge_is_the_same_ridge(rows: Interactions) -> None:
    content = np.random.default_rng(1).normal(size=(ITEMS, 2 * ITEMS))
    gram = content.T @ content + 3 * np.eye(2 * ITEMS)
    x = matrix(rows, USERS, ITEMS).toarray()[4]
    wanted = content @ np.linalg.solve(gram, content.T @ x)
    np.testing.assert_allclose(RidgePerUser(rows, USERS, content, 3).scores(np.array([4]))[0], wanted, rtol=1e-6)


def test_factors_of_implicit_know_the_popular_items(rows: Interactions) -> None:
    counts = np.bincount(rows.item, minlength=ITEMS)
    for model in (als(rows, USERS, ITEMS, 4), bpr(rows, USERS, ITEMS, 4)):
        scores = model.scores(np.arange(USERS))
        assert scores.shape == (USERS, ITEMS)
        assert np.corrcoef(scores.mean(0), counts)[0, 1] > 0.5


def test_what_can_not_be_measured_is_one_sentence(rows: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = Split(rows._replace(user=rows.user * 0), rows._replace(user=rows.user * 0 + 1), np.ones(ITEMS, bool), "x")
    with pytest.raises(LikewiseError, match="x: no user has items on both sides, so nobody can be asked"):
        recommended(nobody, Popularity(rows, USERS, ITEMS), USERS, ITEMS)
    monkeypatch.setattr(baselines, "MOST_ITEMS", 20)
    refused: list[tuple[Any, str]] = [
        (lambda: Ease(rows, USERS, ITEMS), "EASE needs a matrix of all pairs of 25 items; it takes up to 20"),
        (lambda: RidgePerUser(rows, USERS, np.ones((ITEMS, 2)), 0), "regularisation=0 must be above 0"),
        (lambda: top(0), "k=0 must be at least 1"),
        (lambda: softmax(0), "temperature=0 must be above 0"),
    ]
    for call, said in refused:
        with pytest.raises(LikewiseError, match=said):
            call()
