"""Momentum encoder, BatchNorm groups, shuffled BatchNorm, gradient caching: each against its formula, by hand."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import likewise
from likewise.config.overrides import settings_from
from likewise.data import Items
from likewise.distributed.layout import Layout, lay_out
from likewise.encoders.embedder import arrange, by_view, embed_parts
from likewise.encoders.gradient_cache import GradientCache, normalises_batches
from likewise.encoders.momentum import Momentum, embed_shuffled
from likewise.errors import LikewiseError
from likewise.methods import METHODS
from likewise.model import Model
from likewise.objectives import Circle, InfoNCE
from likewise.training.batches import batches, build_sampler
from likewise.training.build import build_session, build_views
from likewise.training.decide import decide
from likewise.training.fit import fit
from likewise.training.step import gradients, train_step


def encoder(*, normalised: bool = True, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(6, 8), nn.BatchNorm1d(8)] if normalised else [nn.Linear(6, 8)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 4)).double()


def rows(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# Momentum


@pytest.mark.parametrize("m", [0.0, 0.9, 1.0])
def test_the_key_encoder_follows_by_equation_2(m: float) -> None:
    query = encoder()
    key = Momentum(query, m)
    before = {name: p.clone() for name, p in key.encoder.named_parameters()}
    with torch.no_grad():
        for p in query.parameters():
            p.add_(1.0)
    key.update(query)
    for name, p in key.encoder.named_parameters():
        torch.testing.assert_close(p, m * before[name] + (1 - m) * query.get_parameter(name))
        assert not p.requires_grad


def test_the_cosine_schedule_goes_from_m_to_1() -> None:
    key = Momentum(encoder(), 0.99, schedule="cosine")
    assert key.at(0.0) == pytest.approx(0.99)
    assert key.at(0.5) == pytest.approx(1 - 0.01 / 2)
    assert key.at(1.0) == pytest.approx(1.0)
    assert key.at(0.3) == pytest.approx(1 - 0.01 * (math.cos(math.pi * 0.3) + 1) / 2)
    assert Momentum(encoder(), 0.99).at(0.7) == 0.99


def test_running_statistics_are_its_own_or_follow() -> None:
    query = encoder()
    own, averaged = Momentum(query, 0.9), Momentum(query, 0.9, buffers="averaged")
    query(rows(16))
    for key in (own, averaged):
        key.update(query)
    assert torch.equal(own.encoder[1].running_mean, torch.zeros(8, dtype=torch.float64))  # type: ignore[index]
    torch.testing.assert_close(averaged.encoder[1].running_mean, 0.1 * query[1].running_mean)  # type: ignore[index]


def test_a_key_encoder_is_saved() -> None:
    key, other = Momentum(encoder(), 0.9), Momentum(nn.Sequential(*encoder().children()), 0.9)
    with torch.no_grad():
        key.encoder[0].weight.add_(1.0)  # type: ignore[index, operator]
    other.load_state_dict(key.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(key.buffers(), other.buffers(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(key.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Momentum(encoder(), 1.5), "momentum=1.5"),
        (lambda: Momentum(encoder(), 0.9, schedule="linear"), "schedule='linear'"),  # type: ignore[arg-type]
        (lambda: lay_out(0, 1), "a batch of 0 rows"),
        (
            lambda: Momentum(encoder()).update(encoder(normalised=False)),
            "6 weights and the encoder that it follows has 4",
        ),
        (
            lambda: Momentum(encoder()).update(encoder().float()),
            r"its weight 0.weight is .* torch.float64, and 0.weight",
        ),
        (lambda: Momentum(encoder()).bfloat16().update(encoder().bfloat16()), "fewer bits than float32"),
        (lambda: GradientCache(encoder(), [rows(4)]).backward(), r"no gradient yet: call loss.backward"),
        (lambda: GradientCache(encoder(), []), "at least one part"),
    ],
)
def test_misuse_is_one_sentence(make: object, message: str) -> None:
    with pytest.raises(LikewiseError, match=message):
        make()  # type: ignore[operator]


# Parts


def test_every_part_has_its_own_statistics_and_the_running_ones_are_the_mean() -> None:
    whole, alone = encoder(), [encoder(), encoder(), encoder()]
    parts = [rows(5, 1), rows(4, 2), rows(4, 3)]
    found = embed_parts(whole, parts)
    wanted = torch.cat([one(part) for one, part in zip(alone, parts, strict=True)])
    torch.testing.assert_close(found, wanted)
    for name in ("running_mean", "running_var"):
        mean = torch.stack([one[1].get_buffer(name) for one in alone]).mean(0)  # type: ignore[index, union-attr]
        torch.testing.assert_close(whole[1].get_buffer(name), mean)  # type: ignore[index, union-attr]
    assert int(whole[1].num_batches_tracked) == 1  # type: ignore[index, arg-type]
    embed_parts(whole, parts, keep=False)
    assert int(whole[1].num_batches_tracked) == 1  # type: ignore[index, arg-type]


@pytest.mark.parametrize("joint", [False, True])
def test_views_are_arranged_in_parts_and_found_again(joint: bool) -> None:
    views, groups = [rows(7, 1), rows(7, 2)], (3, 2, 2)
    parts = arrange(views, groups, joint=joint)
    assert [len(part) for part in parts] == ([6, 4, 4] if joint else [3, 2, 2, 3, 2, 2])
    for found, view in zip(by_view(torch.cat(parts), 2, groups, joint=joint), views, strict=True):
        assert torch.equal(found, view)


def test_the_layout_is_the_same_batch_for_any_number_of_processes() -> None:
    groups = (4, 4, 3, 3)
    for processes in (1, 2, 4):
        each = [Layout(groups, processes, rank) for rank in range(processes)]
        assert [size for one in each for size in one.own] == list(groups)
        covered = torch.cat([torch.arange(14)[one.rows] for one in each])
        assert torch.equal(covered, torch.arange(14))
        assert all(one.sizes == [len(torch.arange(14)[other.rows]) for other in each] for one in each)


def test_shuffled_keys_come_back_in_order_and_their_groups_are_mixed() -> None:
    key, x, layout = encoder(), rows(12), Layout((4, 4, 4))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(5))
    found = embed_shuffled(key, x, layout, order)
    wanted = torch.empty_like(found)
    for group in order.split(4):
        wanted[group] = encoder()(x[group])
    torch.testing.assert_close(found, wanted)
    assert not found.requires_grad
    still = torch.cat([encoder()(part) for part in x.split(4)])
    torch.testing.assert_close(embed_shuffled(encoder(), x, layout, None), still)
    assert float((found - still.detach()).abs().max()) > 0.01


# Gradient caching


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("objective", [InfoNCE(temperature=0.2), Circle(gamma=16.0)])
def test_cached_gradients_are_those_of_the_parts_together(normalised: bool, objective: nn.Module) -> None:
    """Dropout draws alike in both passes; and, without BatchNorm and dropout, parts are the whole batch."""
    ids, parts = torch.arange(12) // 2, list(rows(12).split([5, 4, 3]))
    plain, cached = encoder(normalised=normalised, dropout=0.3), encoder(normalised=normalised, dropout=0.3)

    torch.manual_seed(7)
    loss = objective(functional.normalize(embed_parts(plain, parts), dim=1), ids)
    loss.backward()
    after = torch.rand(1)

    torch.manual_seed(7)
    cache = GradientCache(cached, parts, grouped=normalised)
    again = objective(functional.normalize(cache.rows, dim=1), ids)
    again.backward()
    cache.backward()
    assert torch.equal(torch.rand(1), after)  # the generator ends where one pass leaves it
    torch.testing.assert_close(again, loss)
    for a, b in zip(plain.parameters(), cached.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-9, atol=1e-12)
    for a, b in zip(plain.buffers(), cached.buffers(), strict=True):
        torch.testing.assert_close(b, a)


def test_both_passes_run_in_the_runs_precision() -> None:
    """A step in bf16 with micro-batches: the gradients of the same step without, up to rounding, and not nothing."""
    settings = settings_from(
        {
            "encoder": {"name": "mlp", "hidden": 16, "dim": 8, "bn_groups": 2},
            "precision": "bf16",
            "batch_size": 32,
            "epochs": 1,
        },
        METHODS["simclr"].settings,
    )
    values = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
    items = Items(ids=tuple(map(str, range(32))), values=values, kind="vectors")
    found = []
    for micro_batches in (1, 2):
        own = replace(decide(settings, 32), micro_batches=micro_batches)
        model = Model.untrained(own, items)
        session = build_session(own, model.embedder, items, 1, torch.device("cpu"))
        session.train()
        dtypes = []
        model.embedder.backbone.register_forward_hook(lambda module, x, y, dtypes=dtypes: dtypes.append(y.dtype))
        train_step(session, next(batches(items, build_sampler(own, 32), build_views(model), session)))
        assert set(dtypes) == {torch.bfloat16}
        found.append(torch.cat([gradient.flatten() for gradient in gradients(session.embedder.parameters())]))
    assert float(found[0].norm()) > 0.01
    torch.testing.assert_close(found[1], found[0], rtol=0.02, atol=0.02 * float(found[0].abs().max()))


def test_without_batchnorm_and_dropout_parts_are_the_whole_batch() -> None:
    whole, cached, x, ids = encoder(normalised=False), encoder(normalised=False), rows(12), torch.arange(12) // 2
    InfoNCE()(functional.normalize(whole(x), dim=1), ids).backward()
    cache = GradientCache(cached, x.split(4))
    InfoNCE()(functional.normalize(cache.rows, dim=1), ids).backward()
    cache.backward()
    for a, b in zip(whole.parameters(), cached.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-9, atol=1e-12)


def test_a_replay_that_drew_anew_would_be_seen() -> None:
    """The test above can fail: with other dropout masks in the second pass the gradients differ."""
    parts, ids = list(rows(12).split(4)), torch.arange(12) // 2
    plain, cached = encoder(dropout=0.3), encoder(dropout=0.3)
    torch.manual_seed(7)
    InfoNCE()(functional.normalize(embed_parts(plain, parts), dim=1), ids).backward()
    torch.manual_seed(7)
    cache = GradientCache(cached, parts, grouped=True)
    cache.random = (cache.random[0], torch.get_rng_state(), None)  # where the first pass ended
    InfoNCE()(functional.normalize(cache.rows, dim=1), ids).backward()
    cache.backward()
    first = next(plain.parameters()).grad
    assert first is not None
    assert float((first - next(cached.parameters()).grad).abs().max()) > 1e-3  # type: ignore[operator]


def test_a_cache_of_its_own_refuses_batchnorm_in_train_mode() -> None:
    """Each part's statistics would not be the whole batch's; in eval mode, or as groups of their own, they need not."""
    parts = list(rows(12).split(4))
    said = "3 parts would change what is learned: the batch statistics of the whole batch.* set grouped=True"
    with pytest.raises(LikewiseError, match=said):
        likewise.GradientCache(encoder(), parts)
    for stays in (encoder().eval(), encoder(normalised=False)):
        assert GradientCache(stays, parts).rows.shape == (12, 4)
    assert GradientCache(encoder(), parts[:1]).rows.shape == (4, 4)
    untracked = nn.Sequential(nn.BatchNorm1d(6, track_running_stats=False)).double().eval()
    with pytest.raises(LikewiseError, match="3 parts would change what is learned"):
        GradientCache(untracked, parts)


def test_memory_of_a_cached_batch_is_that_of_a_part() -> None:
    """What autograd keeps at once, counted at its own hooks: a quarter of the whole with four parts."""

    def most_kept(parts: list[Tensor], cached: bool) -> int:
        model, kept, most = encoder(normalised=False), 0, 0

        class Saved:
            def __init__(self, tensor: Tensor) -> None:
                nonlocal kept, most
                self.tensor = tensor
                kept += tensor.numel()
                most = max(most, kept)

            def __del__(self) -> None:
                nonlocal kept
                kept -= self.tensor.numel()

        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
            if cached:
                cache = GradientCache(model, parts)
                cache.rows.sum().backward()
                cache.backward()
            else:
                embed_parts(model, parts).sum().backward()
        return most

    parts = list(rows(400).split(100))
    assert most_kept(parts, True) < 0.3 * most_kept(parts, False)


def test_batchnorm_is_found_wherever_it_is() -> None:
    assert normalises_batches(nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))))
    assert not normalises_batches(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.GroupNorm(1, 2)))


def test_a_key_encoder_that_could_not_move_is_refused() -> None:
    with pytest.raises(LikewiseError, match="weight has fewer bits than float32"):
        Momentum(nn.Linear(2, 2).bfloat16(), 0.999)
    key_encoder, encoder = Momentum(nn.Linear(2, 2), 0.9, schedule="cosine"), nn.Linear(2, 2)
    with pytest.raises(LikewiseError, match=r"cosine schedule needs update\(encoder, progress\)"):
        key_encoder.update(encoder)
    key_encoder.update(encoder, 1.0)


class Function(nn.Module):
    """BatchNorm that no layer's kind tells."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 16)

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(self.linear(x), None, None, training=True)


@pytest.mark.parametrize(
    ("make", "joined"),
    [
        (Function, True),
        (lambda: torch.jit.script(nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16))), True),
        (lambda: nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Dropout(0.5)), False),
        (lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 16))), False),
    ],
)
def test_batch_norm_that_is_no_layer_is_found_by_trying(
    make: Callable[[], nn.Module], joined: bool, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    values = {"micro_batches": 2, "batch_size": 20, "epochs": 1, "encoder.head": "linear", "encoder.centre": False}
    if not joined:
        fit(x, out=tmp_path, method="simclr", settings=values, backbone=make(), progress=False)
        return
    assert not normalises_batches(make())
    with pytest.raises(LikewiseError, match=r"micro_batches=2 would change .* rows interact in the encoder"):
        fit(x, out=tmp_path, method="simclr", settings=values, backbone=make(), progress=False)
