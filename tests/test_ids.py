"""Ids, labels and row numbers: every integer dtype means the same, and what is wrong is said in one sentence."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from likewise import objectives as lw
from likewise.alike import as_ids, check_labels
from likewise.dictionaries import Batch, Fresh, MemoryBank, Proxies, Queue
from likewise.dictionaries.sharded import ShardedMemoryBank, sharded_weight
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.metrics import knn_accuracy, knn_classify, retrieval

INTEGERS = [getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)]
LABELS = torch.tensor([0, 1, 0, 2, 1, 2])


def unit(count: int, seed: int = 0) -> Tensor:
    rows = torch.randn(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(rows, dim=1)


def every_kind() -> dict[str, Callable[[Tensor], Tensor]]:
    """A call of each kind of part by the dtype of its ids."""
    z, keys = unit(6), unit(3, 1)
    softmax = lw.Softmax(3, 5).double()
    drawn = lw.SampledSoftmax(samples=4, temperature=0.2)

    def bank(ids: Tensor) -> Tensor:
        made = MemoryBank(3, 5, generator=torch.Generator().manual_seed(0)).double()
        made.update(z[:2], ids[[0, 3]])
        return made.rows

    def queue(ids: Tensor) -> Tensor:
        made = Queue(4, 5)
        made.update(z, ids)
        return made.ids

    def sampled(ids: Tensor) -> Tensor:
        torch.manual_seed(0)
        return drawn(z, ids, keys)

    return {
        "pairs": lambda ids: lw.InfoNCE()(z, ids),
        "keys": lambda ids: lw.SupCon()(z, ids, unit(6, 2), ids),
        "margin": lambda ids: lw.Margin(classes=3).double()(z, ids),
        "classes": lambda ids: softmax(z, ids),
        "keys of classes": lambda ids: softmax(z, ids, unit(3, 3), ids[[0, 1, 3]]),
        "bank objective": lambda ids: lw.NonParametricSoftmax()(z, ids, keys),
        "ids of its keys": lambda ids: lw.NonParametricSoftmax()(z, ids, keys, ids[[3, 1, 0]]),
        "sampled": sampled,
        "bank": bank,
        "queue": queue,
        "batch": lambda ids: Batch().keys(ids, Fresh(z, ids)).ids,
        "triplets": lambda ids: lw.Triplet()(*lw.from_triplets(z, ids[[0, 1, 3]][None])),
        "neighbours": lambda ids: knn_classify(z, unit(6, 4), ids, k=3),
    }


@pytest.mark.parametrize("kind", every_kind())
def test_every_integer_dtype_is_the_same(kind: str) -> None:
    call = every_kind()[kind]
    wanted = call(LABELS)
    for dtype in INTEGERS:
        torch.testing.assert_close(call(LABELS.to(dtype)), wanted, rtol=0, atol=0, msg=lambda m, d=dtype: f"{d}: {m}")
    for wrong in (torch.bool, torch.float32):
        with pytest.raises(LikewiseError, match="must be integers"):
            call(LABELS.to(wrong))


def test_ids_are_int64() -> None:
    assert as_ids("ids", LABELS) is LABELS
    assert as_ids("ids", np.array([3, 2], dtype=np.uint16)).dtype == torch.int64
    huge = torch.tensor([-1]).view(torch.uint64)
    with pytest.raises(LikewiseError, match="beyond 64 bits"):
        as_ids("ids", huge)


BANKS = [lambda: MemoryBank(4, 5), lambda: ShardedMemoryBank(4, 5)]


@pytest.mark.parametrize("make", BANKS, ids=["bank", "sharded"])
def test_a_bank_takes_its_row_by_ids_alone(make: Callable[[], MemoryBank]) -> None:
    bank, z = make(), unit(3).float()
    before = bank.rows.clone()
    for rows, ids, said in (
        (z, [0, -1, 2], r"ids\[1\] is -1, but there are 4 rows"),
        (z, [0, 1, 4], r"ids\[2\] is 4, but there are 4 rows"),
        (z[:1], [0, 1, 2], "don't fit a memory bank"),
        (z[:, :2], [0, 1, 2], "don't fit a memory bank"),
        (z, [[0], [1], [2]], "don't fit a memory bank"),
        (z[0], [0], "don't fit a memory bank"),
    ):
        with pytest.raises(LikewiseError, match=said):
            bank.update(rows, ids)
        assert torch.equal(bank.rows, before)


@pytest.mark.parametrize("make", BANKS, ids=["bank", "sharded"])
def test_of_a_repeated_id_the_mean_counts(make: Callable[[], MemoryBank]) -> None:
    bank, z = make(), unit(4).float()
    before = bank.rows.clone()
    bank.update(z, [2, 0, 2, 2])
    wanted = {0: z[1], 2: (z[0] + z[2] + z[3]) / 3}
    for row in range(4):
        new = functional.normalize((before[row] + wanted[row]) / 2, dim=0) if row in wanted else before[row]
        torch.testing.assert_close(bank.rows[row], new)


def test_a_sampled_bank_reads_no_other_row_for_a_query_without_an_item() -> None:
    bank = MemoryBank(4, 5, samples=3)
    keys = bank.keys([2, -1])
    assert keys.ids is not None
    assert keys.ids[:2].tolist() == [2, -1]
    with pytest.raises(LikewiseError, match=r"ids\[0\] is 4"):
        bank.keys([4])


@pytest.mark.parametrize("key_ids", [[5, 0, 1, 7], [-1, 0, 1, 2]], ids=["another id", "none"])
def test_the_own_key_is_left_out_whatever_its_id(key_ids: list[int]) -> None:
    """One label a row goes by sorted columns, several by masks, compiled by the whole matrix."""
    z, keys, ids, own = unit(3), unit(4, 1), torch.tensor([0, 1, 0]), torch.tensor([0, -1, 3])
    objective, names = lw.InfoNCE(reduction="none"), torch.tensor(key_ids)
    twice = ids[:, None].expand(-1, 2)
    found = objective(z, ids, keys, names, own=own)
    torch.testing.assert_close(found, objective(z, twice, keys, names, own=own))
    compiled = torch.compile(objective, fullgraph=True, backend="eager")
    torch.testing.assert_close(found, compiled(z, ids, keys, names, own=own))
    s = (z[0] @ keys.T / 0.1).exp()
    torch.testing.assert_close(found[0], -(s[1] / (s[1:].sum())).log())


ONE_HOT = functional.one_hot(LABELS)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lw.SupCon()(unit(6), ONE_HOT), r"pass ids\.argmax\(1\)"),
        (lambda: lw.InfoNCE()(unit(2), [0, 1], unit(6), ONE_HOT), r"pass key_ids\.argmax\(1\)"),
        (lambda: lw.Softmax(3, 5)(unit(6).float(), ONE_HOT), r"pass ids\.argmax\(1\)"),
        (lambda: lw.SupCon()(unit(2), [[0, 1], [1, 0]]), "zeros and ones"),
        (lambda: lw.SupCon()(unit(2), [[0, 1, 1], [1, 0, 0]]), "padded with -1"),
        (lambda: lw.InfoNCE()(unit(6), LABELS, unit(6), LABELS, own=[0, 1, 2, 3, 4, 6]), r"own\[5\] is 6, but"),
        (lambda: lw.InfoNCE()(unit(6), LABELS, unit(6), LABELS, own=[[0]] * 6), "one key row per query"),
        (lambda: lw.Triplet()(*lw.from_triplets(unit(6), [[0, 1, 2]]), own=[0]), "listed pairs say all"),
        (lambda: MemoryBank(-1, 128), "n=-1 must be at least 1"),
        (lambda: MemoryBank(3, 0), "dim=0 must be at least 1"),
        (lambda: MemoryBank(3, 4, samples=-1), "samples=-1 must be at least 1"),
        (lambda: MemoryBank(2.5, 4), "n=2.5 must be a whole number"),  # type: ignore[arg-type]
        (lambda: ShardedMemoryBank(0, 4), "n=0 must be at least 1"),
        (lambda: sharded_weight(3, -4), "dim=-4 must be at least 1"),
        (lambda: Queue(3, 0), "dim=0 must be at least 1"),
        (lambda: Queue(3, 4, ids_each=0), "ids_each=0 must be at least 1"),
        (lambda: Proxies(0), "count=0 must be at least 1"),
        (lambda: lw.ParametricSoftmax(0, 4), "n=0 must be at least 1"),
        (lambda: lw.Margin(classes=0), "classes=0 must be at least 1"),
        (lambda: lw.Softmax(-3, 4), "classes=-3 must be at least 1"),
    ],
)
def test_a_mistake_is_one_sentence(call: Callable[[], object], said: str) -> None:
    with pytest.raises(LikewiseError, match=said):
        call()


@pytest.mark.parametrize(
    "labels", [[[0, 0], [1, 1]], [[0, 1], [0, 0]], [[0, -1], [1, -1]], [[0], [1]], [[0, 2], [1, 0]]]
)
def test_labels_that_are_no_table_are_fine(labels: list[list[int]]) -> None:
    check_labels("ids", torch.tensor(labels))


# What is looked at, at every call


def raw_calls() -> dict[str, tuple[nn.Module, Callable[[nn.Module, float], object]]]:
    z, keys, ids = unit(6), unit(9, 1), torch.arange(6) // 2
    return {
        "queries": (lw.InfoNCE(), lambda loss, x: loss(x * z, ids)),
        "keys": (lw.InfoNCE(), lambda loss, x: loss(z, ids, x * keys)),
        "histogram": (lw.Histogram(), lambda loss, x: loss(x * z, ids)),
        "bank": (lw.NonParametricSoftmax(), lambda loss, x: loss(x * z, ids, keys)),
        "rows of a bank": (lw.NCE(noise=4), lambda loss, x: loss(z, ids, x * keys)),
        "sampled": (lw.SampledSoftmax(samples=4), lambda loss, x: loss(x * z, ids, keys)),
    }


@pytest.mark.parametrize("kind", raw_calls())
def test_raw_rows_are_said_once_at_any_call(kind: str) -> None:
    objective, call = raw_calls()[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(objective, 1.0)
    with pytest.warns(LikewiseWarning, match="not unit rows"):
        call(objective, 3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(objective, 3.0)


def test_keys_that_take_no_part_need_no_length() -> None:
    queue = Queue(8, 5, start="empty")
    z = unit(3).float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lw.InfoNCE().against(
            z, torch.arange(3), queue.keys(torch.arange(3), Fresh(unit(3, 1).float(), torch.arange(3)))
        )


def test_queries_as_their_own_keys_are_said() -> None:
    z = unit(6)
    for keys in (z, z.clone()):
        with pytest.warns(LikewiseWarning, match="the first 6 queries are keys too, so each is its own positive"):
            lw.InfoNCE()(z, LABELS, keys, LABELS)
    with pytest.warns(LikewiseWarning, match="the first 3 queries are keys too, so each is its own positive"):
        lw.InfoNCE()(z[2:5].clone(), LABELS[2:5], z, LABELS)
    for part in (slice(6), slice(2, 5)):
        with pytest.warns(LikewiseWarning, match="queries are keys too, and vote for themselves"):
            knn_accuracy(z[part].clone(), LABELS[part], z, LABELS, k=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lw.InfoNCE()(z, LABELS, z, LABELS, own=torch.arange(6))
        lw.InfoNCE()(*lw.from_pairs(z, [[0, 2], [0, 1], [2, 3]], [True, False, False]))
        knn_accuracy(z, LABELS, z, LABELS, k=1, query_ids=LABELS, key_ids=LABELS)
        same = unit(1).expand(3, -1)
        lw.InfoNCE()(torch.cat([z[:1], unit(1, 9)]), LABELS[:2], z, LABELS)  # one of the two is no key
        lw.InfoNCE()(same, LABELS[:3], same, LABELS[:3])  # an embedding that tells nothing apart


UNREADABLE = {
    "sparse": lambda rows: rows.to_sparse(),
    "on the device meta": lambda rows: rows.to("meta"),
    "quantised": lambda rows: torch.quantize_per_tensor(rows.float(), 0.1, 0, torch.qint32),
    "in the layout of mkldnn": lambda rows: rows.float().to_mkldnn(),
    "a nested tensor": lambda rows: torch.nested.nested_tensor(list(rows)),
}


def rows_are_given() -> dict[str, Callable[[Tensor], object]]:
    z, keys, ids = unit(3), unit(3, 1), torch.arange(3)
    return {
        "queries of pairs": lambda rows: lw.InfoNCE()(rows, ids),
        "keys of pairs": lambda rows: lw.InfoNCE()(z, ids, rows, ids),
        "queries of classes": lambda rows: lw.Softmax(3, 5)(rows, ids),
        "keys of classes": lambda rows: lw.Softmax(3, 5)(z, ids, rows),
        "queries of instances": lambda rows: lw.NonParametricSoftmax()(rows, ids, keys),
        "keys of instances": lambda rows: lw.NonParametricSoftmax()(z, ids, rows),
        "bank": lambda rows: MemoryBank(3, 5).update(rows, ids),
        "queue": lambda rows: Queue(3, 5).update(rows, ids),
        "views": lambda rows: lw.from_views(rows, rows),
        "pairs": lambda rows: lw.from_pairs(rows, [[0, 1]], [True]),
        "shares": lambda rows: lw.triplet_shares(rows, ids),
    }


@pytest.mark.filterwarnings("ignore:.*(torch.quantize|nested tensors).*:UserWarning")
@pytest.mark.parametrize("where", rows_are_given())
@pytest.mark.parametrize("kind", UNREADABLE)
def test_rows_that_hold_no_readable_values_are_refused(where: str, kind: str) -> None:
    with pytest.raises(LikewiseError, match=f"is {kind}.*dense"):
        rows_are_given()[where](UNREADABLE[kind](unit(3)))


@pytest.mark.parametrize("where", rows_are_given())
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool])
def test_rows_of_another_kind_of_number_are_refused(where: str, dtype: torch.dtype) -> None:
    """Of complex keys the real part was taken without an error."""
    with pytest.raises(LikewiseError, match=f"floating point, but is {dtype}"):
        rows_are_given()[where](unit(3).to(dtype))


@pytest.mark.filterwarnings("ignore:.*torch.quantize.*:UserWarning")
@pytest.mark.parametrize("kind", ["sparse", "on the device meta", "quantised"])
def test_ids_that_hold_no_readable_values_are_refused(kind: str) -> None:
    with pytest.raises(LikewiseError, match=f"ids of shape .* {kind}"):
        as_ids("ids", UNREADABLE[kind](torch.arange(3)))


def test_a_table_of_classes_is_refused_where_triplets_and_retrieval_are_measured() -> None:
    table = functional.one_hot(LABELS)
    with pytest.raises(LikewiseError, match="a column per class"):
        lw.triplet_shares(unit(6), table)
    with pytest.raises(LikewiseError, match="a column per class"):
        retrieval(unit(6), table)


def test_shares_of_triplets_say_that_the_keys_are_the_queries() -> None:
    z = unit(6)
    with pytest.warns(LikewiseWarning, match="the first 6 queries are keys too"):
        lw.triplet_shares(z, LABELS, z.clone(), LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lw.triplet_shares(z, LABELS)
        lw.triplet_shares(z, LABELS, unit(6, 1), LABELS)


@pytest.mark.parametrize("ids", [[2**70, 1], [2**63, 1], [2**70, 0.5], np.array([-(2**63) - 1, 1], dtype=object)])
def test_integers_of_too_many_bits_are_called_so(ids: object) -> None:
    with pytest.raises(LikewiseError, match="ids go beyond 64 bits with a sign; number them from 0"):
        as_ids("ids", ids)
