"""Searches whose keys are ruled out in bfloat16 first, against whole numbers; on any CPU, however slow bfloat16 is."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.index import Index
from likewise.metrics import neighbours, rounded_keys, searched_keys, top_k
from likewise.metrics.rounded_keys import PROBE, RoundedKeys, quicker
from likewise.metrics.searched_keys import SearchedKeys

WAYS = ["copied", "on the way"]


def gaussian(count, width, seed):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def forced(monkeypatch):
    """As on a CPU that multiplies bfloat16, and with many keys of many numbers."""
    monkeypatch.setattr(rounded_keys, "WIDTH", 1)
    monkeypatch.setattr(searched_keys, "_MANY_A_KEPT", 12)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)


def in_bfloat16(way, queries, keys, k, **options):
    """``top_k`` with keys in bfloat16, kept or rounded tile by tile; two queries are asked first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "PROBE", 2)
        patch.setattr(neighbours, "_MANY", 1)
        rounded = RoundedKeys(keys) if way == "copied" else None
        return top_k(queries, keys, k, rounded=rounded, **options)


def whole_numbers(rows):
    """Rows as whole numbers of b bits, and the power of two of each row: the definition in ``exact_scores``."""
    rows = rows.double().numpy()
    bits = min(24, (53 - math.ceil(math.log2(rows.shape[1]))) // 2)
    power = np.frexp(np.abs(rows).max(1))[1].astype(np.int64)
    return np.rint(np.ldexp(rows, (bits - power)[:, None])).astype(np.int64), power - bits


def twin(queries, keys, k, query_ids=None, key_ids=None):
    """Every score in whole numbers, all of them sorted: float32 scores and rows."""
    (q, q_power), (x, x_power) = whole_numbers(queries), whole_numbers(keys)
    with np.errstate(over="ignore"):
        scores = np.ldexp((q @ x.T).astype(np.float64), q_power[:, None] + x_power).astype(np.float32)
    if query_ids is not None:
        scores[query_ids.numpy()[:, None] == key_ids.numpy()] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, 1)
    return torch.from_numpy(best + 0.0), torch.from_numpy(np.where(np.isneginf(best), -1, order))


def assert_same(found, wanted):
    assert all(map(torch.equal, found, wanted))


def case(name):
    queries, keys = gaussian(7, 24, 1), gaussian(700, 24, 2)
    if name == "ties":
        queries, keys = queries.round(), keys.round()
    elif name == "twins":
        keys = keys[:14].repeat(50, 1)
    elif name == "alike":
        keys = keys[:1] + 1e-3 * keys
    elif name == "more alike":
        keys = keys[:1] + 1e-7 * keys
    elif name == "equal in bfloat16":
        keys = keys[:2].bfloat16().float().repeat(350, 1) * (1 + 2.0**-10 * torch.rand(700, 1))
    elif name == "zeros":
        queries[0], keys[::2] = 0.0, 0.0
        keys *= torch.where(keys[:, :1] > 0, 1.0, -1.0)  # some of the zeros become −0
        queries[1] = -0.0
    elif name == "far away":  # all scores are below zero
        queries, keys = -queries.abs(), keys.abs()
    elif name == "one number":
        keys[:, 5] = 1e4 + keys[:, 5]
    elif name == "one key":
        keys[300] *= 1e5
    elif name == "infinite in bfloat16":
        keys[::7] *= 3.4e38 / keys[::7].abs().amax(1, keepdim=True)
        queries *= 1e-38
    elif name == "lengths":
        keys *= torch.logspace(-9, 9, 700)[:, None]
    return queries, keys


CASES = ["random", "ties", "twins", "alike", "more alike", "equal in bfloat16", "zeros", "far away", "one number"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*CASES, "one key", "infinite in bfloat16", "lengths"])
def test_the_same_bits_as_whole_numbers(name, way):
    queries, keys = case(name)
    ids = {"query_ids": torch.arange(7), "key_ids": torch.arange(700) % 9}
    for k in (1, 10):
        assert_same(in_bfloat16(way, queries, keys, k), twin(queries, keys, k))
        assert_same(in_bfloat16(way, queries, keys, k, tile=97, **ids), twin(queries, keys, k, **ids))
    longest = float(keys.double().norm(dim=1).amax())
    assert_same(in_bfloat16(way, queries, keys, 5, longest=longest), twin(queries, keys, 5))


@pytest.mark.parametrize("scale", [1e-44, 1e-39, 1e-30, 1e-12, 1e-9, 1e9, 1e12, 1e18])
def test_any_scale_of_either_side(scale):
    queries, keys = gaussian(5, 24, 3), gaussian(400, 24, 4)
    for way in WAYS:
        for other in (1.0, 1 / scale if scale >= 1e-30 else 1e30):
            for q, x in ((queries * scale, keys * other), (queries * other, keys * scale)):
                assert_same(in_bfloat16(way, q, x, 3), twin(q, x, 3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes(dtype):
    queries, keys = gaussian(5, 24, 5).to(dtype), gaussian(400, 24, 6).to(dtype)
    for way in WAYS:
        assert_same(in_bfloat16(way, queries, keys, 3), twin(queries, keys, 3))


@pytest.mark.parametrize("rounded", ["keys and scores", "queries and scores", "scores"])
def test_the_nearest_key_may_be_rounded_down_the_most(rounded):
    """Every score is 64 in bfloat16, and the last key is the nearest: each term of the bound is needed to see it."""
    low, step = 1 + 2.0**-8 - 2.0**-20, 2.0**-7  # low is rounded to 1; scores are rounded to multiples of ½
    queries, keys = torch.ones(3, 64), torch.ones(600, 64)
    if rounded == "scores":
        keys[:599, 63], keys[599, 63] = 1 + 13 * step, 1 + 26 * step
    else:
        keys[:, 63] = 1 + 26 * step
        (keys if rounded == "keys and scores" else queries)[:, :54] = low
        keys[:599, :2], keys[:599, 60:62] = (1.0, 1.0) if rounded == "keys and scores" else (0.0, 2.0)
    assert (queries.bfloat16() @ keys.bfloat16().T).unique().tolist() == [64.0]
    for way in WAYS:
        assert_same(in_bfloat16(way, queries, keys, 1), twin(queries, keys, 1))
        assert in_bfloat16(way, queries, keys, 1)[1].tolist() == [[599]] * 3


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(230, 500), st.sampled_from([1, 3, 16, 100])),
    spread=st.sampled_from([1.0, 0.1, 0.01, 1e-3, 1e-5]),
    k=st.integers(1, 6),
    tile=st.sampled_from([None, 100, 250]),
    way=st.sampled_from(WAYS),
    excluded=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_clouds_of_any_density(shape, spread, k, tile, way, excluded, seed):
    count, many, width = shape
    keys = gaussian(5, width, seed)[torch.arange(many) % 5] + spread * gaussian(many, width, seed + 1)
    queries = keys[:count] + spread * gaussian(count, width, seed + 2)
    ids = {"query_ids": torch.arange(count), "key_ids": torch.arange(many) % 7} if excluded else {}
    assert_same(in_bfloat16(way, queries, keys, k, tile=tile, **ids), twin(queries, keys, k, **ids))


def passes(monkeypatch):
    """The searches that are made from now on: which they are, and of how many queries."""
    made = []
    for name in ("by_bfloat16", "by_float32", "by_exact_scores"):
        kept = getattr(SearchedKeys, name)
        monkeypatch.setattr(
            SearchedKeys,
            name,
            lambda self, asked, *rest, name=name, kept=kept: (
                made.append((name, len(asked.rows))) or kept(self, asked, *rest)
            ),
        )
    return made


def test_what_bfloat16_tells_apart_is_asked_of_nothing_else(monkeypatch):
    queries, keys = gaussian(PROBE + 6, 24, 7), gaussian(700, 24, 8)
    made = passes(monkeypatch)
    top_k(queries, keys, 5, rounded=RoundedKeys(keys))
    assert made == [("by_bfloat16", PROBE), ("by_bfloat16", 6)]


def test_where_it_can_not_tell_keys_apart_it_is_soon_left(monkeypatch):
    keys = gaussian(1, 24, 9) + 1e-3 * gaussian(700, 24, 10)
    queries, rounded = keys[:200], RoundedKeys(keys)
    assert rounded.worth
    made = passes(monkeypatch)
    top_k(queries, keys, 5, rounded=rounded)
    assert made[:2] == [("by_bfloat16", PROBE), ("by_float32", 200)]
    assert not rounded.worth
    made.clear()
    top_k(queries, keys, 5, rounded=rounded)
    assert "by_bfloat16" not in dict(made)


def test_only_where_torch_says_that_the_cpu_has_it(monkeypatch):
    cpu, keys = torch.device("cpu"), gaussian(700, 24, 11)
    assert quicker(keys, cpu)
    assert not quicker(keys, torch.device("cuda"))
    assert not quicker(keys.to("meta"), cpu)
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "enabled", False)
        assert not quicker(keys, cpu)  # torch's own product is slow
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "arm64", "bf16": True})
    assert not quicker(keys, cpu)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not quicker(keys, cpu)
    made = passes(monkeypatch)
    assert_same(top_k(keys[:5], keys, 5, rounded=RoundedKeys(keys)), twin(keys[:5], keys, 5))
    assert made == [("by_float32", 5)]


def test_an_index_searches_what_it_holds_now(monkeypatch):
    rows, ids = gaussian(800, 24, 12), [str(number) for number in range(800)]
    index = Index(rows[:700], ids[:700])
    made = passes(monkeypatch)

    def holds(rows):
        made.clear()
        assert_same(index.nearest(rows[:5], 4), twin(rows[:5], rows, 4))
        assert made == [("by_bfloat16", 5)]

    holds(rows[:700])
    index.add(rows[700:], ids[700:])
    holds(rows)
    index.remove(ids[:50])
    holds(rows[50:])
    index.add(-rows[50:51], ids[50:51])  # in place of the row that it has
    holds(torch.cat([rows[51:], -rows[50:51]]))
