"""Which rows a step sees: what an epoch covers, and that nothing but the data, sizes, seed and step decides."""

from collections import Counter
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.errors import LikewiseError
from likewise.training.samplers import BalancedSampler, ClassSampler, EpochSampler, GradedSampler, PairSampler


@settings(max_examples=150, deadline=None)
@given(n=st.integers(2, 300), batch_size=st.integers(2, 64), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 9))
def test_every_row_once_an_epoch_in_near_equal_batches(n: int, batch_size: int, seed: int, epoch: int) -> None:
    sampler = EpochSampler(n, batch_size, seed)
    steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
    batches = [sampler.rows(step) for step in steps]
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(n))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2  # BatchNorm can't take one
    assert max(sizes) <= (3 if batch_size == 2 and n % 2 else batch_size)
    assert len(batches) == -(-n // batch_size) or (batch_size == 2 and n % 2)  # and no more of them than needed


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    straight = EpochSampler(23, 4, 7)
    expected = [straight.rows(step) for step in range(60)]
    for step in torch.randperm(60, generator=torch.Generator().manual_seed(0)).tolist():
        assert torch.equal(EpochSampler(23, 4, 7).rows(step), expected[step])
        assert torch.equal(straight.rows(step), expected[step])


def test_global_random_numbers_are_neither_used_nor_moved() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    rows = EpochSampler(50, 10, 3).rows(7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(EpochSampler(50, 10, 3).rows(7), rows)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(EpochSampler(100, 100, seed).rows(epoch).tolist())

    orders = {order(seed, epoch) for seed in range(6) for epoch in range(6)}
    assert len(orders) == 36


def test_places_are_uniform() -> None:
    n, epochs = 20, 600
    sampler = EpochSampler(n, n, 0)
    place = torch.stack([sampler.rows(epoch).argsort() for epoch in range(epochs)]).double()
    assert place.mean(0).sub((n - 1) / 2).abs().max() < 5 * ((n**2 - 1) / 12 / epochs) ** 0.5


@pytest.mark.parametrize("n", [2, 3])
def test_the_smallest_data_sets(n: int) -> None:
    sampler = EpochSampler(n, 2, 0)
    assert sampler.steps_per_epoch == 1
    assert sorted(sampler.rows(5).tolist()) == list(range(n))


# --- by class ---


def labels_of(sizes: list[int], seed: int, unlabelled: int = 0) -> torch.Tensor:
    """Labels 3, 6, 9, ... of classes of these sizes, and −1, in random order."""
    labels = torch.arange(1, len(sizes) + 1).mul(3).repeat_interleave(torch.tensor(sizes))
    labels = torch.cat([labels, torch.full((unlabelled,), -1)])
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


def label_sets(n: int, classes: int, seed: int) -> torch.Tensor:
    """(n, 3) up to three labels an item, some none, one sometimes given twice; each class has an item."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, classes, (n, 3), generator=generator)
    return torch.cat([labels, torch.stack([torch.arange(classes)] + [torch.full((classes,), -1)] * 2, 1)])


class_sizes = st.lists(st.integers(1, 30), min_size=2, max_size=12)


@settings(max_examples=120, deadline=None)
@given(
    data=st.data(),
    sizes=class_sizes,
    per_class=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 3),
    unlabelled=st.integers(0, 5),
)
def test_classes_by_items(
    data: st.DataObject, sizes: list[int], per_class: int, seed: int, epoch: int, unlabelled: int
) -> None:
    classes = data.draw(st.integers(1, len(sizes)))
    labels = labels_of(sizes, seed, unlabelled)
    sampler = ClassSampler(labels, classes, per_class, seed)
    chunks = [-(-size // per_class) for size in sizes]
    length = sampler.steps_per_epoch
    assert length == max(-(-sum(chunks) // classes), max(chunks))
    batches = [sampler.rows(step).view(per_class, classes) for step in range(epoch * length, (epoch + 1) * length)]
    seen = Counter(torch.stack(batches).flatten().tolist())
    assert set(seen) == set((labels >= 0).nonzero().flatten().tolist())
    size_of = dict(zip(range(3, 3 * len(sizes) + 3, 3), sizes, strict=True))
    for batch in batches:
        assert (labels[batch] == labels[batch[0]]).all()  # a column is a class
        assert len(set(labels[batch[0]].tolist())) == classes
        for column in batch.T:
            different, size = len(set(column.tolist())), size_of[int(labels[column[0]])]
            assert different == min(per_class, size)
            assert max(Counter(column.tolist()).values()) <= -(-per_class // size)  # evenly repeated
    # Further chunks are in proportion: a class that is not in every batch has at most its share, and one for the rest.
    turns = Counter(labels[torch.stack(batches)[:, 0]].flatten().tolist())
    free = [(turns[label], -(-size // per_class)) for label, size in size_of.items() if turns[label] < length]
    for more, own in free:
        assert more >= own
        assert all(more * other <= own * (fewer + 2) + other for fewer, other in free)


@pytest.mark.parametrize("make", [lambda labels: ClassSampler(labels, 3, 4, 7), lambda x: BalancedSampler(x, 8, 7)])
@pytest.mark.parametrize("labels", [labels_of([3, 9, 14, 1, 2], 1, 3), label_sets(20, 5, 2)])
def test_class_samplers_resume_at_any_step(
    make: Callable[[torch.Tensor], ClassSampler | BalancedSampler], labels: torch.Tensor
) -> None:
    state = torch.get_rng_state()
    straight = make(labels)
    steps = 4 * straight.steps_per_epoch
    expected = [straight.rows(step).clone() for step in range(steps)]
    for step in torch.randperm(steps, generator=torch.Generator().manual_seed(0)).tolist():
        assert torch.equal(make(labels).rows(step), expected[step])
        assert torch.equal(straight.rows(step), expected[step])
    assert torch.equal(make(labels.numpy()).rows(3), expected[3])  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(rows.dtype == torch.int64 for rows in expected)
    assert len({tuple(rows.tolist()) for rows in expected}) == steps


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40), classes=st.integers(2, 8), per_class=st.integers(1, 4))
def test_an_item_is_seen_under_each_of_its_labels(seed: int, n: int, classes: int, per_class: int) -> None:
    labels = label_sets(n, classes, seed)
    sampler = ClassSampler(labels, 2, per_class, seed)
    seen = set()
    for step in range(sampler.steps_per_epoch):
        for column in sampler.rows(step).view(per_class, 2).T:
            shared = set.intersection(*(set(labels[row].tolist()) - {-1} for row in column.tolist()))
            assert shared  # a class that all of them have
            seen |= {(int(row), label) for row in column for label in shared}
    assert seen >= {(row, label) for row, each in enumerate(labels.tolist()) for label in each if label >= 0}
    balanced = BalancedSampler(labels, 4, seed)
    members = {row for row, each in enumerate(labels.tolist()) if max(each) >= 0}
    assert balanced.n == len(members)
    assert set(balanced.rows(0).tolist()) <= members


def test_every_class_meets_every_other() -> None:
    sampler = ClassSampler(torch.arange(10).repeat_interleave(200), 2, 4, 0)
    labels = [sampler.rows(step)[:2] // 200 for step in range(sampler.steps_per_epoch)]
    met = Counter(frozenset(pair.tolist()) for pair in labels)
    assert len(labels) == 250
    expected = 250 / 45
    assert len(met) == 45  # without mixing it would be about 15
    assert sum((count - expected) ** 2 / expected for count in met.values()) < 90  # 45 expected of χ²


def test_further_chunks_are_drawn_anew_and_come_at_any_time() -> None:
    sampler = ClassSampler(torch.tensor([0] * 4 + [1] * 6), 2, 2, 0)  # class 0 fills two of three batches, and one more
    anew, disjoint = 0, 0
    for epoch in range(60):
        batches = [sampler.rows(3 * epoch + place).tolist() for place in range(3)]
        first, second, third = ({row for row in batch if row < 4} for batch in batches)
        anew += len({frozenset(first), frozenset(second), frozenset(third)}) == 3
        disjoint += not first & second
    assert 25 <= anew <= 55  # 4 of the 6 pairs are neither of the first two chunks: 40 expected
    assert 12 <= disjoint <= 42  # always if the further chunk is last, else 1 of 6: 27 expected


def test_a_label_given_twice_counts_once() -> None:
    labels = torch.tensor([[0, 0], [0, -1], [1, -1], [1, 1]])
    sampler = ClassSampler(labels, 2, 2, 0)
    assert sampler.steps_per_epoch == 1
    assert sorted(sampler.rows(0).tolist()) == [0, 1, 2, 3]
    assert BalancedSampler(labels, 4, 0).rows(5).sort().values.tolist() == [0, 1, 2, 3]


def test_places_in_the_epoch_are_uniform() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 3, 3, 4])
    sampler = ClassSampler(labels, 2, 2, 3)
    epochs, length = 400, sampler.steps_per_epoch
    assert length == 3
    rows = torch.stack([sampler.rows(step) for step in range(epochs * length)]).view(epochs, length, -1)
    for row in range(len(labels)):
        share = (rows == row).any(2).double().mean(0)
        assert share.sub(share.mean()).abs().max() < 5 * (0.25 / epochs) ** 0.5
    for kind in (0, 3):  # the items of a class are equally often the ones that fill a chunk
        counts = torch.bincount(rows.flatten(), minlength=8)[labels == kind].double()
        assert counts.sub(counts.mean()).abs().max() < 5 * counts.mean() ** 0.5


@settings(max_examples=120, deadline=None)
@given(
    sizes=class_sizes,
    batch_size=st.integers(2, 40),
    seed=st.integers(0, 2**32 - 1),
    unlabelled=st.integers(0, 5),
    epoch=st.integers(0, 5),
)
def test_balanced(sizes: list[int], batch_size: int, seed: int, unlabelled: int, epoch: int) -> None:
    labels = labels_of(sizes, seed, unlabelled)
    sampler = BalancedSampler(labels, batch_size, seed)
    n, length = sum(sizes), sampler.steps_per_epoch
    assert length == max(1, min(-(-n // batch_size), n // 2))
    batches = [sampler.rows(step) for step in range((epoch + 1) * length)]
    assert {len(batch) for batch in batches} <= {n // length, -(-n // length)}
    names = [3 * place for place in range(1, len(sizes) + 1)]

    def spread(rows: torch.Tensor) -> int:
        counts = Counter(labels[rows].tolist())
        return max(counts.values()) - min(counts[name] for name in names)

    for start in range(0, len(batches), length):
        one = torch.cat(batches[start : start + length])
        assert len(one) == n
        assert spread(one) <= 1
    assert spread(torch.cat(batches)) <= 1  # and over epochs
    assert all(spread(batch) <= 2 for batch in batches)
    drawn = torch.cat(batches)
    for name, size in zip(names, sizes, strict=True):
        counts = torch.bincount(drawn, minlength=len(labels))[labels == name]
        assert len(counts) == size
        assert counts.max() - counts.min() <= 1  # each gets its turn before any has another


def test_cycles_of_a_class_are_shuffled_anew() -> None:
    sampler = BalancedSampler(torch.tensor([0] * 4 + [1] * 96), 100, 5)
    few = [sampler.rows(epoch) for epoch in range(30)]
    counts = torch.stack([torch.bincount(rows, minlength=100) for rows in few])
    assert (counts[:, :4].sum(1) == 50).all()
    assert ((counts[:, :4] == 12) | (counts[:, :4] == 13)).all()
    extra = Counter(pair for row in counts[:, :4] for pair in combinations((row == 13).nonzero().flatten().tolist(), 2))
    assert len(extra) >= 5  # which two of the four have a 13th turn


def test_labels_that_cannot_be_sampled_by_class() -> None:
    for make in (lambda labels: ClassSampler(labels, 2, 2, 0), lambda labels: BalancedSampler(labels, 2, 0)):
        with pytest.raises(LikewiseError, match="the 5 items have only one label; sampling by class needs two"):
            make(torch.tensor([4, 4, 4, -1, -1]))
        with pytest.raises(LikewiseError, match="the 2 items have no label"):
            make(torch.tensor([-1, -1]))
        with pytest.raises(LikewiseError, match=r"labels are torch.float32; they must be integers"):
            make(torch.zeros(3))
        with pytest.raises(LikewiseError, match=r"labels \(1, 2, 3\) must be \(N,\), or \(N, L\)"):
            make(torch.zeros(1, 2, 3, dtype=torch.int64))
    with pytest.raises(LikewiseError, match=r"classes=4 per batch, but the items have only 3 labels; lower it to 3\."):
        ClassSampler(torch.tensor([0, 1, 2, 2]), 4, 2, 0)
    with pytest.raises(LikewiseError, match="per_class=0 must be at least 1"):
        ClassSampler(torch.tensor([0, 1]), 2, 0, 0)


def test_labels_from_items_may_be_read_only() -> None:
    labels = np.array([0, 1, 1, 0])
    labels.flags.writeable = False
    assert sorted(ClassSampler(labels, 2, 2, 0).rows(0).tolist()) == [0, 1, 2, 3]


# --- pairs and triplets ---


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 60),
    width=st.sampled_from([2, 3]),
    items=st.integers(1, 40),
    batch_size=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 3),
)
def test_every_tuple_once_an_epoch(count: int, width: int, items: int, batch_size: int, seed: int, epoch: int) -> None:
    tuples = torch.randint(items, (count, width), generator=torch.Generator().manual_seed(seed))
    sampler = PairSampler(tuples, batch_size, seed)
    length = sampler.steps_per_epoch
    assert length == -(-count // batch_size)
    steps = [sampler.tuples(step) for step in range(epoch * length, (epoch + 1) * length)]
    assert torch.equal(torch.cat([step.which for step in steps]).sort().values, torch.arange(count))
    assert max(len(step.which) for step in steps) - min(len(step.which) for step in steps) <= 1
    for number, (rows, local, which) in enumerate(steps, epoch * length):
        assert torch.equal(rows[local], tuples[which])
        assert rows.sort().values.tolist() == sorted(set(tuples[which].flatten().tolist()))
        assert torch.equal(sampler.rows(number), rows)
        again = PairSampler(tuples, batch_size, seed).tuples(number)
        assert all(torch.equal(x, y) for x, y in zip(again, (rows, local, which), strict=True))


@pytest.mark.parametrize(
    ("tuples", "message"),
    [
        (torch.zeros(3, 4, dtype=torch.int64), r"tuples \(3, 4\) must be \(M, 2\) or \(M, 3\)"),
        (torch.zeros(3, 2), "torch.float32"),
        (torch.zeros(0, 2, dtype=torch.int64), "not empty"),
        (torch.tensor([[0, -1]]), "must be 0 or more"),
    ],
)
def test_tuples_that_cannot_be(tuples: torch.Tensor, message: str) -> None:
    with pytest.raises(LikewiseError, match=message):
        PairSampler(tuples, 2, 0)


def test_a_batch_without_room_for_a_tuple_is_said_in_items() -> None:
    with pytest.raises(LikewiseError, match=r"needs room for at least one triplet \(3 items\); raise batch_size"):
        PairSampler(torch.tensor([[0, 1, 2]]), 0, 0)
    with pytest.raises(LikewiseError, match=r"needs room for at least one pair \(2 items\)"):
        PairSampler(torch.tensor([[0, 1]]), 0, 0)


@settings(max_examples=150, deadline=None)
@given(
    width=st.sampled_from([2, 3]),
    items=st.integers(3, 14),
    batch_size=st.integers(1, 12),
    count=st.integers(2, 12),
    steps=st.integers(1, 40),
    data=st.data(),
)
def test_the_first_step_of_few_items_is_the_one_a_loop_finds(
    width: int, items: int, batch_size: int, count: int, steps: int, data: st.DataObject
) -> None:
    one = st.permutations(range(items)).map(lambda order: tuple(order[:width]))
    tuples = data.draw(st.lists(one, min_size=1, max_size=60, unique_by=lambda each: (each[0], *sorted(each[1:]))))
    tuples = [each for each in tuples if width == 3 or each[::-1] not in tuples or each[0] < each[1]]  # each pair once
    sampler = PairSampler(torch.tensor(tuples), batch_size, 7)
    sizes = [len(sampler.rows(step)) for step in range(steps)]
    wanted = next(((step, size) for step, size in enumerate(sizes) if size < count), None)
    assert sampler.first_below(count, steps) == wanted


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    batch_size=st.integers(2, 20),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 3),
)
def test_every_query_once_an_epoch_with_all_its_items(
    lengths: list[int], batch_size: int, seed: int, epoch: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    items = len(lengths) + 13
    wanted = {q: (q + 1 + torch.randperm(items - 1, generator=generator)[:n]) % items for q, n in enumerate(lengths)}
    rows = torch.cat([torch.stack([torch.full_like(w, q), w], 1) for q, w in wanted.items()])
    rows = rows[torch.randperm(len(rows), generator=generator)]
    sampler = GradedSampler(rows, batch_size, seed)
    length = sampler.steps_per_epoch
    steps = [sampler.lists(step) for step in range(epoch * length, (epoch + 1) * length)]
    assert length <= max(1, 2 * -(-sum(min(n + 1, batch_size) for n in lengths) // batch_size))
    assert sampler.cut == sum(n + 1 > batch_size for n in lengths)
    queries = []
    for number, step in enumerate(steps, epoch * length):
        assert torch.equal(step.rows[step.places], rows[step.which])
        assert step.rows.sort().values.tolist() == sorted(set(rows[step.which].flatten().tolist()))
        assert sampler.least <= len(step.rows) <= batch_size
        for begin, end in zip(step.offsets[:-1].tolist(), step.offsets[1:].tolist(), strict=True):
            (query,) = set(rows[step.which[begin:end], 0].tolist())
            queries.append(query)
            listed = rows[step.which[begin:end], 1].tolist()
            assert len(listed) == len(set(listed)) == min(lengths[query], batch_size - 1)
            assert set(listed) <= set(wanted[query].tolist())
        assert torch.equal(sampler.rows(number), step.rows)
        again = GradedSampler(rows, batch_size, seed).lists(number)
        assert all(torch.equal(x, y) for x, y in zip(again, step, strict=True))
    assert sorted(queries) == list(range(len(lengths)))


def test_lists_come_in_other_company_and_long_ones_with_other_items() -> None:
    rows = torch.tensor([[q, 20 + i] for q in range(12) for i in range(3)] + [[12, 20 + i] for i in range(40)])
    sampler = GradedSampler(rows, 12, 0)
    steps = [[sampler.lists(e * sampler.steps_per_epoch + s) for s in range(sampler.steps_per_epoch)] for e in range(6)]
    company = [{frozenset(rows[step.which, 0].tolist()) for step in epoch} for epoch in steps]
    assert len({frozenset(each) for each in company}) > 1
    long = [step.which[rows[step.which, 0] == 12] for epoch in steps for step in epoch]
    assert len({tuple(sorted(which.tolist())) for which in long if len(which)}) > 1
    assert {len(which) for which in long} == {0, 11}
    assert sampler.cut == 1


@pytest.mark.parametrize(
    ("rows", "batch_size", "message"),
    [
        (torch.zeros(3, 3, dtype=torch.int64), 4, r"rows \(3, 3\) must be \(M, 2\) integers, query and item"),
        (torch.zeros(0, 2, dtype=torch.int64), 4, "not empty"),
        (torch.tensor([[0, -1]]), 4, "must be 0 or more"),
        (torch.tensor([[0, 1]]), 1, "needs room for a query and an item"),
    ],
)
def test_lists_that_cannot_be(rows: torch.Tensor, batch_size: int, message: str) -> None:
    with pytest.raises(LikewiseError, match=message):
        GradedSampler(rows, batch_size, 0)


def test_no_step_of_a_star_is_short() -> None:
    """A step of T pairs of one item with others needs T + 1 items."""
    star = torch.stack([torch.zeros(900, dtype=torch.int64), torch.arange(1, 901)], 1)
    sampler = PairSampler(star, 15, 0)
    assert sampler.first_below(16, 10 * sampler.steps_per_epoch) is None
    assert sampler.first_below(17, 10 * sampler.steps_per_epoch) == (0, 16)


@pytest.mark.parametrize("count", [6, 16])
def test_pairs_that_alone_tell_it_are_asked_of_no_epoch(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a ring with chords no item is in more than six pairs: no 15 items have 100 pairs, nor have any 5."""
    place = torch.arange(100_000)
    ring = torch.cat([torch.stack([place, (place + step) % 100_000], 1) for step in (1, 2, 5)])
    sampler = PairSampler(ring, 100, 0)
    monkeypatch.setattr(EpochSampler, "order", None)
    assert sampler.first_below(count, 200 * sampler.steps_per_epoch) is None
