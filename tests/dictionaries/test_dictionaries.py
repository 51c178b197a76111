"""The dictionaries: what they hold, what they give, their names and their state."""

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from likewise.dictionaries import Batch, Fresh, MemoryBank, Proxies, Queue
from likewise.dictionaries.sharded import ShardedMemoryBank
from likewise.errors import LikewiseError
from likewise.objectives import InfoNCE, SupCon


def test_rows_start_as_random_unit_vectors() -> None:
    bank = MemoryBank(4000, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bank.rows.norm(dim=1), torch.ones(4000))
    assert bank.rows.mean(0).norm() < 0.05
    cosines = bank.rows[:500] @ bank.rows[500:1000].T
    assert float(cosines.std()) == pytest.approx(64**-0.5, rel=0.05)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_update_is_the_formula_and_touches_its_rows_alone(momentum: float) -> None:
    bank = MemoryBank(10, 5, momentum=momentum)
    before, ids = bank.rows.clone(), torch.tensor([7, 2])
    queries = functional.normalize(torch.randn(2, 5), dim=1).requires_grad_()
    bank.update(queries, ids)
    for i, row in enumerate(ids.tolist()):
        mixed = momentum * before[row] + (1 - momentum) * queries[i].detach()
        torch.testing.assert_close(bank.rows[row], mixed / mixed.norm())
    rest = [row for row in range(10) if row not in ids]
    assert torch.equal(bank.rows[rest], before[rest])
    assert not bank.rows.requires_grad


def test_shuffled_or_grown_data_finds_its_rows_by_name() -> None:
    bank = MemoryBank(4, 3, item_ids=["a", "b", "c", "d"])
    old = dict(zip("abcd", bank.rows.clone(), strict=True))
    assert bank.rebind(["d", "new", "a", "c"]) == 3
    for row, name in enumerate(["d", "new", "a", "c"]):
        if name in old:
            assert torch.equal(bank.rows[row], old[name])
    torch.testing.assert_close(bank.rows[1].norm(), torch.tensor(1.0))
    assert bank.item_ids == ["d", "new", "a", "c"]


def test_state_carries_rows_and_names() -> None:
    bank, other = MemoryBank(4, 3, item_ids=list("abcd")), MemoryBank(4, 3, item_ids=list("wxyz"))
    other.load_state_dict(bank.state_dict())
    assert torch.equal(other.rows, bank.rows)
    assert other.item_ids == list("abcd")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MemoryBank(3, 2, momentum=1.0), "momentum=1.0"),
        (lambda: MemoryBank(3, 2, item_ids=["a", "a", "b"]), "3 unique item ids, got 2"),
        (lambda: MemoryBank(3, 2).rebind(["a"]), "without item ids"),
        (lambda: MemoryBank(1, 2, item_ids=["a"]).rebind(["b", "b"]), "must be unique"),
    ],
)
def test_misuse_is_one_sentence(make: object, message: str) -> None:
    with pytest.raises(LikewiseError, match=message):
        make()  # type: ignore[operator]


# The bank's samples


def test_sampled_keys_are_the_positives_and_drawn_rows() -> None:
    noise = torch.Generator().manual_seed(0)
    bank = MemoryBank(1000, 4, samples=5000, noise=noise)
    ids = torch.tensor([7, 2])
    keys = bank.keys(ids)
    assert keys.ids is not None
    assert keys.ids[:2].tolist() == [7, 2]
    assert torch.equal(keys.rows, bank.rows[keys.ids])
    assert keys.pulls.tolist() == [True] * 2 + [False] * 5000  # type: ignore[union-attr]
    assert keys.pushes.tolist() == [False] * 2 + [True] * 5000  # type: ignore[union-attr]
    counts = torch.bincount(keys.ids[2:], minlength=1000)
    # drawn with replacement, uniformly: about 5 ± √5 of each
    assert float(counts.float().std()) == pytest.approx(5**0.5, rel=0.15)
    assert bank.keys(ids).ids.tolist() != keys.ids.tolist()  # type: ignore[union-attr]


def test_infonce_over_sampled_rows_is_he_et_als_bank() -> None:
    """−log of e^{q·v_i/τ} / (e^{q·v_i/τ} + Σ over drawn rows of other items), by hand."""
    bank = MemoryBank(30, 6, samples=12, noise=torch.Generator().manual_seed(3))
    bank.double()
    ids = torch.tensor([4, 11, 9])
    queries = functional.normalize(torch.randn(3, 6, dtype=torch.float64), dim=1)
    keys = bank.keys(ids)
    loss = InfoNCE(temperature=0.1)(queries, ids, keys.rows, keys.ids, pulls=keys.pulls, pushes=keys.pushes)
    wanted = 0.0
    for query, row in zip(queries, ids.tolist(), strict=True):
        drawn = [j for j in keys.ids[3:].tolist() if j != row]  # type: ignore[index]
        positive = (query @ bank.rows[row] / 0.1).exp()
        wanted += -(positive / (positive + sum((query @ bank.rows[j] / 0.1).exp() for j in drawn))).log() / 3
    torch.testing.assert_close(loss, torch.as_tensor(wanted))


# The queue


def numbered(first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys that carry their ids first, first + 1, ..., and these."""
    ids = torch.arange(first, first + count)
    return torch.stack([ids.float(), torch.ones(count)], 1), ids


@settings(deadline=None, max_examples=60)
@given(size=st.integers(1, 12), counts=st.lists(st.integers(0, 30), max_size=8), empty=st.booleans())
def test_a_queue_holds_the_newest_keys_whatever_the_batches(size: int, counts: list[int], empty: bool) -> None:
    queue, oracle = Queue(size, 2, start="empty" if empty else "random"), deque[int](maxlen=size)
    place = 0
    for count in counts:
        keys, ids = numbered(place, count)
        queue.update(keys, ids)
        oracle.extend(ids.tolist())
        place += count
        held = queue.keys(ids)
        assert held.pulls is not None
        assert held.ids is not None
        there = held.pulls & (held.ids >= 0)
        assert sorted(held.ids[there].tolist()) == sorted(oracle)
        assert torch.equal(held.rows[there][:, 0].long(), held.ids[there])  # ids stay beside their keys
        assert int(queue.pointer) == place % size
        assert int(held.pulls.sum()) == (min(size, place) if empty else size)


def test_a_step_sees_its_new_keys_pull_and_the_queue_push() -> None:
    queue = Queue(4, 2, start="empty")
    queue.update(*numbered(10, 3))
    fresh = Fresh(torch.randn(2, 2), torch.tensor([11, 20]))
    keys = queue.keys(fresh.ids, fresh)
    assert keys.ids is not None
    assert keys.ids.tolist() == [11, 20, 10, 11, 12, -1]
    assert keys.pulls.tolist() == [True, True, False, False, False, False]  # type: ignore[union-attr]
    assert keys.pushes.tolist() == [False, False, True, True, True, False]  # type: ignore[union-attr]
    own_batch = Queue(1, 2, own_batch=True).keys(fresh.ids, fresh)
    assert own_batch.pushes.tolist() == [True, True, True]  # type: ignore[union-attr]


def test_infonce_over_a_queue_is_mocos_but_for_its_own_older_keys() -> None:
    """MoCo's Algorithm 1 in float64: logits of the positive, then of the queue; class 0 is right."""
    torch.manual_seed(0)
    queue = Queue(7, 5).double()
    queue.update(functional.normalize(torch.randn(3, 5, dtype=torch.float64), dim=1), torch.tensor([1, 2, 3]))
    queries, new = functional.normalize(torch.randn(2, 4, 5, dtype=torch.float64), dim=2)
    ids = torch.tensor([5, 6, 2, 8])  # item 2's older key is in the queue, in row 1
    keys = queue.keys(ids, Fresh(new, ids))
    objective = InfoNCE(temperature=0.07)
    loss = objective(queries, ids, keys.rows, keys.ids, pulls=keys.pulls, pushes=keys.pushes)
    logits = torch.cat([(queries * new).sum(1, keepdim=True), queries @ queue.rows.T], 1) / 0.07
    logits[2, 1 + 1] = -torch.inf  # neither pulls nor pushes
    torch.testing.assert_close(loss, functional.cross_entropy(logits, torch.zeros(4, dtype=torch.long)))


def test_a_queue_of_labels_is_cross_batch_memory() -> None:
    """Without new keys, older keys of the same class pull as well."""
    queue = Queue(6, 3, start="empty").double()
    rows = functional.normalize(torch.randn(4, 3, dtype=torch.float64), dim=1)
    queue.update(rows, torch.tensor([0, 1, 0, 1]))
    queries, ids = functional.normalize(torch.randn(2, 3, dtype=torch.float64), dim=1), torch.tensor([0, 1])
    held = queue.keys(ids)
    loss = SupCon()(queries, ids, held.rows, held.ids, pulls=held.pulls, pushes=held.pushes)
    torch.testing.assert_close(loss, SupCon()(queries, ids, rows, torch.tensor([0, 1, 0, 1])))


def test_a_queue_of_several_labels_a_key_is_a_loop_over_what_any_label_says() -> None:
    """SupCon in float64: an older key pulls where any label agrees, pushes where none does, and no label agrees."""
    torch.manual_seed(0)
    queue = Queue(5, 4, start="empty", older_pull=True, own_batch=True, ids_each=2).double()
    old = functional.normalize(torch.randn(7, 4, dtype=torch.float64), dim=1)
    old_ids = torch.tensor([[0, 9], [8, -1], [0, 1], [2, -1], [-1, -1], [1, 3], [3, -1]])
    queue.update(old[:4], old_ids[:4])
    queue.update(old[4:], old_ids[4:])  # the first two leave
    queries, new = functional.normalize(torch.randn(2, 3, 4, dtype=torch.float64), dim=2)
    ids = torch.tensor([[0, 3], [2, -1], [-1, -1]])
    keys = queue.keys(ids, Fresh(new, ids))
    objective = SupCon(temperature=0.5, reduction="sum")
    loss = objective(queries, ids, keys.rows, keys.ids, pulls=keys.pulls, pushes=keys.pushes)
    wanted = torch.zeros((), dtype=torch.float64)
    everything, labels = torch.cat([new, old[2:]]), [*ids.tolist(), *old_ids[2:].tolist()]
    for query, row in zip(queries, ids.tolist(), strict=True):
        similarities = everything @ query / 0.5
        same = [j for j, other in enumerate(labels) if {*row} & {*other} - {-1}]
        if same:
            wanted += similarities.logsumexp(0) - similarities[same].mean()
    torch.testing.assert_close(loss, wanted)


def test_a_queue_of_several_labels_a_key_is_state() -> None:
    queue, other = Queue(3, 2, ids_each=2), Queue(3, 2, ids_each=2)
    assert queue.ids.tolist() == [[-1, -1]] * 3
    queue.update(torch.randn(2, 2), torch.tensor([[4, -1], [1, 2]]))
    other.load_state_dict(queue.state_dict())
    assert other.ids.tolist() == queue.ids.tolist() == [[4, -1], [1, 2], [-1, -1]]


def test_a_queues_pointer_and_count_are_state() -> None:
    queue, other = Queue(5, 2, start="empty"), Queue(5, 2, start="empty")
    queue.update(*numbered(0, 3))
    other.load_state_dict(queue.state_dict())
    for one in (queue, other):
        one.update(*numbered(3, 4))
    assert other.ids.tolist() == queue.ids.tolist() == [5, 6, 2, 3, 4]
    assert torch.equal(other.rows, queue.rows)
    assert (int(other.pointer), int(other.filled)) == (2, 5)


def test_a_queues_keys_follow_their_items_when_the_data_changed() -> None:
    queue = Queue(4, 2, start="empty")
    queue.update(*numbered(0, 3))
    queue.rename(["a", "b", "c"], ["c", "new", "a"])  # b has left
    assert queue.ids.tolist() == [2, -1, 0, -1]


def test_batch_and_proxies_keep_nothing() -> None:
    fresh = Fresh(torch.randn(2, 3), torch.tensor([4, 5]))
    keys = Batch().keys(fresh.ids, fresh)
    assert keys.rows is fresh.rows
    assert keys.ids is fresh.ids
    assert Proxies(3).keys(fresh.ids, fresh) is None
    assert not Batch().state_dict()
    assert not Proxies(3).state_dict()


def test_keys_that_do_not_fit_a_queue_leave_it_as_it_was() -> None:
    for each, keys, ids in ((None, (3, 4), (2,)), (None, (3, 5), (3,)), (None, (3, 4), (3, 2)), (2, (3, 4), (3,))):
        queue = Queue(6, 4, ids_each=each)
        before = {name: x.clone() for name, x in queue.state_dict().items()}
        with pytest.raises(
            LikewiseError, match=r"and their ids .* don't fit a queue with 4 numbers( and 2 ids)? per key"
        ):
            queue.update(torch.randn(keys), torch.zeros(ids, dtype=torch.int64))
        assert all(torch.equal(x, before[name]) for name, x in queue.state_dict().items())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Queue(0, 2), "size=0 must be at least 1"),
        (lambda: Queue(3, 2, start="zeros"), "start='zeros' must be 'random' or 'empty'"),  # type: ignore[arg-type]
    ],
)
def test_misuse_of_a_queue_is_one_sentence(make: object, message: str) -> None:
    with pytest.raises(LikewiseError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("make", [MemoryBank, ShardedMemoryBank, Queue])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_rows_that_are_not_finite_are_refused_whole(make: Callable[..., Any], dtype: torch.dtype, value: float) -> None:
    dictionary, rows = make(5, 3), torch.randn(4, 3).to(dtype)
    before, rows[2, 1] = dictionary.rows.clone(), value
    with pytest.raises(LikewiseError, match=r"^rows\[2\] holds NaN or infinity"):
        dictionary.update(rows, torch.arange(4))
    assert torch.equal(dictionary.rows, before)
    dictionary.update(rows, torch.arange(4), look=False)  # as the training step does, which looks at the loss
    assert not dictionary.rows.isfinite().all()
