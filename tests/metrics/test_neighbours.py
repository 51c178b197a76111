"""Exact neighbours and weighted votes against brute force in float64."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.errors import LikewiseError
from likewise.metrics import exact_scores, knn_accuracy, knn_classify, searched_keys, top_k
from likewise.metrics import neighbours as module


def unit(count, width, seed):
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def brute_force(queries, keys, k, query_ids=None, key_ids=None):
    """A float64 loop: sort by score descending, then by row."""
    found = []
    for number, query in enumerate(queries.double().numpy()):
        scores = [(-float(np.dot(query, key)), row) for row, key in enumerate(keys.double().numpy())]
        if query_ids is not None:
            scores = [(s, row) for s, row in scores if key_ids[row] != query_ids[number]]
        found.append(sorted(scores)[:k])
    return found


@settings(max_examples=40, deadline=None)
@given(
    queries=st.integers(1, 9),
    keys=st.integers(1, 70),
    width=st.integers(1, 5),
    k=st.integers(1, 80),
    tile=st.sampled_from([None, 1, 7, 16, 33]),
    exclude=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_small_integers_full_of_ties_equal_the_loop(queries, keys, width, k, tile, exclude, seed):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randint(-2, 3, (queries, width), generator=generator).float()
    x = torch.randint(-2, 3, (keys, width), generator=generator).float()
    ids = {}
    if exclude:
        ids = {
            "query_ids": torch.randint(0, 5, (queries,), generator=generator),
            "key_ids": torch.randint(0, 5, (keys,), generator=generator),
        }
    scores, rows = top_k(q, x, k, tile=tile, **ids)
    assert scores.shape == rows.shape == (queries, min(k, keys))
    for number, expected in enumerate(brute_force(q, x, k, **ids)):
        missing = rows.shape[1] - len(expected)
        assert rows[number].tolist() == [row for _, row in expected] + [-1] * missing
        assert scores[number].tolist() == [-score for score, _ in expected] + [-math.inf] * missing


@pytest.mark.parametrize("width", [3, 128, 1000])
def test_random_unit_rows_equal_the_loop_to_float32(width):
    queries, keys = unit(8, width, 0), unit(600, width, 1)
    scores, rows = top_k(queries, keys, 20)
    exact = queries.double() @ keys.double().T
    torch.testing.assert_close(scores.double(), exact.sort(1, descending=True).values[:, :20], atol=3e-7, rtol=0)
    torch.testing.assert_close(scores.double(), exact.gather(1, rows), atol=3e-7, rtol=0)


def test_bitwise_the_same_for_any_tile_batch_and_number_of_threads(monkeypatch):
    keys = unit(700, 96, 2)
    keys[350:] = keys[:350]  # every score occurs twice
    queries = unit(60, 96, 3)
    scores, rows = top_k(queries, keys, 30)
    for tile in (1, 50, 64, 333):
        assert all(map(torch.equal, top_k(queries, keys, 30, tile=tile), (scores, rows)))
    monkeypatch.setattr(searched_keys, "QUERY_TILE", 7)
    assert all(map(torch.equal, top_k(queries, keys, 30), (scores, rows)))
    for size in (1, 13):
        parts = [top_k(part, keys, 30) for part in queries.split(size)]
        assert torch.equal(torch.cat([part[0] for part in parts]), scores)
        assert torch.equal(torch.cat([part[1] for part in parts]), rows)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert all(map(torch.equal, top_k(queries, keys, 30), (scores, rows)))
    finally:
        torch.set_num_threads(threads)
    # of two equal keys the one with the smaller row comes first
    assert torch.equal(rows[:, 0::2] + 350, rows[:, 1::2])


@pytest.mark.parametrize("order", ["best first", "best last", "all equal"])
def test_the_best_keys_may_lie_in_one_group_or_in_as_many_as_there_are(order):
    scores = torch.linspace(1, 0.1, 640)
    scores = {"best first": scores, "best last": scores.flip(0), "all equal": torch.ones(640)}[order]
    for k in (1, 2, 5, 17, 39, 41):
        found = top_k(torch.ones(1, 1), scores[:, None], k)[1][0].tolist()
        assert found == ([639 - row for row in range(k)] if order == "best last" else list(range(k)))
    apart = torch.zeros(640).index_fill(0, torch.arange(16) * 40, 1.0)  # one group of sixteen
    assert top_k(torch.ones(1, 1), apart[:, None], 18)[1][0].tolist() == [row * 40 for row in range(16)] + [1, 2]


def test_scores_do_not_depend_on_where_the_keys_stand():
    queries, keys = unit(20, 130, 4), unit(500, 130, 5)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    scores, rows = top_k(queries, keys, 50)
    shuffled_scores, shuffled_rows = top_k(queries, keys[order], 50, tile=77)
    assert torch.equal(scores, shuffled_scores)
    assert torch.equal(rows, order[shuffled_rows])


def test_products_are_exact_at_the_largest_sums():
    """The worst case for the 53 bits: all entries at the rounding's largest magnitude."""
    for width in (31, 32, 33, 4096):
        rows = torch.full((3, width), 1.0 - 2.0**-24)
        snapped = exact_scores.snap("rows", rows, 0)
        values = [int(v * 2.0**30) for v in snapped[0].tolist()]
        assert int((snapped @ snapped.T)[0, 1]) == sum(v * v for v in values) // 2**60
        forward = snapped[0].dot(snapped[1])
        halves = snapped[0, ::2].dot(snapped[1, ::2]) + snapped[0, 1::2].dot(snapped[1, 1::2])
        assert torch.equal(forward, halves)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e12])
def test_scale_of_the_rows_does_not_matter(scale):
    queries, keys = unit(5, 40, 6), unit(200, 40, 7)
    assert torch.equal(top_k(queries * scale, keys, 9)[1], top_k(queries.double() * scale, keys, 9)[1])
    torch.testing.assert_close(top_k(queries * scale, keys, 9)[0] / scale, top_k(queries, keys, 9)[0])


def test_self_match_is_excluded_by_id_even_when_rows_are_shuffled():
    rows = unit(50, 16, 8)
    ids = torch.arange(50)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    _, found = top_k(rows, rows[order], 49, query_ids=ids, key_ids=ids[order])
    assert (order[found] != ids[:, None]).all()
    assert (found >= 0).all()
    assert torch.equal(order[top_k(rows, rows[order], 1)[1][:, 0]], ids)  # without ids everything finds itself


def vote_by_loops(queries, keys, labels, k, temperature, classes):
    votes = np.zeros((len(queries), classes))
    for number, neighbours in enumerate(brute_force(queries, keys, k)):
        nearest = -neighbours[0][0]
        for score, row in neighbours:
            votes[number, labels[row]] += math.exp((-score - nearest) / temperature)
    return votes


def of_each_class(voted, classes):
    """The votes of each class, from those of the classes in order."""
    named, votes = voted
    assert (votes.diff(dim=1) <= 0).all()
    assert (named >= 0).sum(1).equal((votes > 0).sum(1))
    return torch.zeros(len(votes), classes).scatter_add_(1, named.clamp_min(0), votes)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (10, 0.07), (10, 0.005), (500, 0.5)])
def test_votes_equal_the_loop(k, temperature):
    queries, keys = unit(30, 8, 9), unit(120, 8, 10)
    labels = torch.randint(0, 4, (120,), generator=torch.Generator().manual_seed(2))
    votes = of_each_class(knn_classify(queries, keys, labels, k=k, temperature=temperature), 6)
    expected = vote_by_loops(queries, keys, labels.tolist(), k, temperature, 6)
    np.testing.assert_allclose(votes.numpy(), expected, rtol=2e-4 if temperature > 0.01 else 2e-3)


def test_votes_follow_the_rule_of_the_released_code():
    """lemniscate's kNN: top-k of q·k, weights exp(s/σ), summed one-hot, sorted; for σ where that does not overflow."""
    queries, keys = unit(40, 12, 11), unit(300, 12, 12)
    labels = torch.randint(0, 5, (300,), generator=torch.Generator().manual_seed(3))
    similarity, nearest = (queries.double() @ keys.double().T).topk(50, dim=1)
    one_hot = torch.nn.functional.one_hot(labels[nearest], 5).double()
    released = (one_hot * (similarity / 0.1).exp()[:, :, None]).sum(1)
    votes = of_each_class(knn_classify(queries, keys, labels, k=50, temperature=0.1), 5)
    relative = released / (similarity[:, :1] / 0.1).exp()
    torch.testing.assert_close(votes.double(), relative, rtol=1e-5, atol=1e-6)
    truth = torch.randint(0, 5, (40,), generator=torch.Generator().manual_seed(4))
    accuracy = knn_accuracy(queries, truth, keys, labels, k=50, temperature=0.1)
    assert accuracy == pytest.approx(float((released.argmax(1) == truth).double().mean()))


def test_equal_votes_go_to_the_smaller_class_and_a_lonely_query_is_wrong():
    keys = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    query = torch.tensor([[1.0, 0.0]])
    assert knn_accuracy(query, torch.tensor([1]), keys, torch.tensor([2, 1]), k=2) == 1.0
    lonely = {"query_ids": torch.tensor([7]), "key_ids": torch.tensor([7, 7])}
    named, votes = knn_classify(query, keys, torch.tensor([0, 0]), **lonely)
    assert (named.tolist(), votes.tolist()) == ([[-1, -1]], [[0.0, 0.0]])
    assert knn_accuracy(query, torch.tensor([0]), keys, torch.tensor([0, 0]), **lonely) == 0.0


BAD_ROWS = unit(4, 3, 0).index_fill(0, torch.tensor([2]), math.nan)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"k": 0}, "k=0 must be at least 1"),
        *(({"k": bad}, "must be a whole number") for bad in (1.5, math.nan, math.inf, True)),
        ({"temperature": 10**400}, "temperature must be a number above 0"),
        ({"temperature": 0.0}, "temperature must be a number above 0"),
        ({"temperature": math.nan}, "temperature must be a number above 0"),
        ({"queries": BAD_ROWS}, "queries row 2 holds NaN"),
        ({"keys": BAD_ROWS}, "keys row 2 holds NaN"),
        ({"keys": torch.ones(4, 5)}, "queries have 3 columns but keys have 5"),
        ({"keys": torch.ones(4, 3, dtype=torch.int64)}, "floating point"),
        ({"keys": torch.ones(0, 3)}, "keys is empty"),
        ({"queries": torch.ones(3)}, "shape"),
        ({"key_labels": torch.zeros(3, dtype=torch.int64)}, "one label per row: 4 rows"),
        ({"key_labels": torch.zeros(4)}, "key_labels are torch.float32; they must be integers"),
        ({"key_labels": torch.tensor([0, 1, -1, 0])}, "row 2 is -1"),
        ({"query_ids": torch.arange(4)}, "query_ids and key_ids together"),
        ({"query_ids": torch.arange(4), "key_ids": torch.arange(5)}, "key_ids must be 4 integers"),
    ],
)
def test_bad_input_is_one_clear_sentence(change, text):
    given_ = {"queries": unit(4, 3, 0), "keys": unit(4, 3, 1), "key_labels": torch.tensor([0, 1, 1, 0])} | change
    positional = [given_.pop(name) for name in ("queries", "keys", "key_labels")]
    with pytest.raises(LikewiseError, match=text) as error:
        knn_classify(*positional, **given_)
    assert "\n" not in str(error.value)


def test_a_tile_of_no_keys_is_refused():
    with pytest.raises(LikewiseError, match="tile=0 must be at least 1; it is a number of keys"):
        top_k(unit(2, 3, 0), unit(4, 3, 1), 1, tile=0)


MEMORY = """
import resource, torch
from likewise.metrics import knn_classify
torch.set_num_threads(1)
keys = torch.randn(150_000, 8)
queries, labels = keys[:600].clone(), torch.zeros(150_000, dtype=torch.int64)
knn_classify(queries[:512], keys[:8192], labels[:8192], k=50)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
knn_classify(queries, keys, labels + 10**12 + torch.arange(150_000), k=50)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_memory_stays_flat_in_keys_and_queries():
    """600 × 150,000 scores are 343 MiB in float32; eighteen times the keys may cost next to nothing more."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 40


def test_more_keys_than_have_numbers_are_refused(monkeypatch):
    monkeypatch.setattr(module, "LOW", 4)
    with pytest.raises(LikewiseError, match="5 keys are more than 4; search them in parts"):
        top_k(torch.eye(5), torch.eye(5), 2)


def test_no_labels_have_no_number_of_neighbours() -> None:
    with pytest.raises(LikewiseError, match="labels are empty"):
        module.fair_k([])


def _by_exact_scores_alone(queries, keys, k, **ids):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.torch, "get_float32_matmul_precision", lambda: "high")
        return top_k(queries, keys, k, **ids)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("case", ["random", "near ties", "twins", "one point", "lengths", "tiny", "huge", "zero query"])
def test_keys_ruled_out_in_float32_are_those_that_exact_scores_rule_out(case, dtype):
    queries, keys = unit(9, 24, 7), unit(1500, 24, 8)
    if case == "near ties":  # more keys than are kept, closer to each other than float32 can tell
        keys = keys[:1] + 1e-8 * keys
    elif case == "twins":
        keys = keys[:30].repeat(50, 1)
    elif case == "one point":
        keys = keys[:1].repeat(1500, 1)
    elif case == "lengths":
        keys = keys * torch.logspace(-6, 6, 1500)[:, None]
    elif case in ("tiny", "huge"):
        queries, keys = (part * (1e-18 if case == "tiny" else 1e18) for part in (queries, keys))
    elif case == "zero query":
        queries[3] = 0
    queries, keys = queries.to(dtype), keys.to(dtype)
    ids = {"query_ids": torch.arange(9), "key_ids": torch.arange(1500) % 40}
    for k in (1, 10):
        for named in ({}, ids):
            assert all(
                map(torch.equal, top_k(queries, keys, k, **named), _by_exact_scores_alone(queries, keys, k, **named))
            )
    longest = float(keys.double().norm(dim=1).amax())
    assert all(map(torch.equal, top_k(queries, keys, 5, longest=longest), _by_exact_scores_alone(queries, keys, 5)))


def test_exact_scores_are_the_exception(monkeypatch):
    queries, keys, searched = unit(40, 24, 7), unit(1500, 24, 8), []
    kept = searched_keys.SearchedKeys.by_exact_scores
    monkeypatch.setattr(
        searched_keys.SearchedKeys,
        "by_exact_scores",
        lambda self, asked, *rest: searched.append(len(asked.rows)) or kept(self, asked, *rest),
    )
    top_k(queries, keys, 10)
    assert searched == []
    keys[100:] = keys[100]  # of some queries the nearest
    top_k(queries, keys, 10)
    assert 0 < sum(searched) < 40


def test_autocast_changes_no_score():
    queries, keys = unit(9, 24, 7), unit(1500, 24, 8)
    wanted = top_k(queries, keys, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(map(torch.equal, top_k(queries, keys, 10), wanted))


SETTING = """
import torch
from likewise.metrics import top_k
draw = torch.Generator().manual_seed(0)
queries, keys = torch.randn(9, 24, generator=draw), torch.randn(1500, 24, generator=draw)
wanted = top_k(queries, keys, 10)
{setting}
assert all(map(torch.equal, top_k(queries, keys, 10), wanted))
"""


@pytest.mark.parametrize(
    "setting",
    [
        "torch.set_default_dtype(torch.float64)",
        "torch.backends.fp32_precision = 'tf32'",
    ],
)
def test_what_a_program_sets_in_torch_changes_no_score(setting):
    subprocess.run([sys.executable, "-c", SETTING.format(setting=setting)], check=True)
