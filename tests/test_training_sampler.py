"""Which rows a step sees: every row once an epoch, and nothing but (n, batch size, seed, step) decides."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.training.sampler import EpochSampler


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
