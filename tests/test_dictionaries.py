"""The memory bank: its update, its names, its state."""

import pytest
import torch
from torch.nn import functional

from likewise.dictionaries import MemoryBank
from likewise.errors import LikewiseError


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
    bank.update(ids, queries)
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
