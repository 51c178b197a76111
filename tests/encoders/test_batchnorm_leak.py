"""The probe of shuffled BatchNorm: red without it, green with it, chance where there is none, and no trace."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from likewise.distributed.layout import Layout
from likewise.distributed.processes import shares
from likewise.encoders import MLP, Embedder, resnet_small
from likewise.encoders import batchnorm_leak as leak
from likewise.encoders.batchnorm_leak import Leak, bn_leak, verdict
from likewise.encoders.momentum import embed_shuffled
from likewise.errors import LikewiseError
from likewise.training import step

T, B, G = 6, 64, 4


def vectors_encoder(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return Embedder(MLP(16, 64), nn.Linear(64, 32), feature_dim=64, dim=32)


def images_encoder(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return Embedder(resnet_small(), nn.Linear(256, 32), feature_dim=256, dim=32, centre=True)


def without_batchnorm(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(16, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 32))


def views(
    item: tuple[int, ...], seed: int, *, noise: float = 0.2, brightness: float = 0.0, rows: int = B
) -> tuple[list[Tensor], list[Tensor]]:
    """T batches of random items (images are smooth) and two noisy views of each; ``brightness`` is of a whole group."""
    generator = torch.Generator().manual_seed(seed)
    first, second = [], []
    for _ in range(T):
        if len(item) == 3:
            coarse = torch.randn(rows, 3, 4, 4, generator=generator)
            x = functional.interpolate(coarse, size=item[1:], mode="bilinear")
        else:
            x = torch.randn(rows, *item, generator=generator)
        light = brightness * torch.randn(G, generator=generator).repeat_interleave(torch.tensor(shares(rows, G)))
        x = x + light.view(-1, *[1] * len(item))
        first.append(x + noise * torch.randn(x.shape, generator=generator))
        second.append(x + noise * torch.randn(x.shape, generator=generator))
    return first, second


def measured(encoder: nn.Module, batches: tuple[list[Tensor], list[Tensor]], *, shuffle: bool, groups: int = G) -> Leak:
    return bn_leak(
        encoder, encoder, *batches, groups=groups, shuffle=shuffle, generator=torch.Generator().manual_seed(7)
    )


CASES = {"vectors": (vectors_encoder, (16,)), "images": (images_encoder, (3, 16, 16))}


@pytest.mark.parametrize("brightness", [0.0, 1.0])  # 0: the groups differ by the chance of their draw alone
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", CASES)
def test_red_without_shuffling_and_green_with_it(kind: str, seed: int, brightness: float) -> None:
    build, item = CASES[kind]
    encoder, batches = build(seed), views(item, seed, brightness=brightness)
    red, green = measured(encoder, batches, shuffle=False), measured(encoder, batches, shuffle=True)
    assert red.chance == green.chance == 1 / (T * G)
    assert red.accuracy >= 0.9
    assert red.of_group >= 0.9
    assert green.of_group <= 1.5 / G  # a little above 1/G: a group shares more rows with one group of keys than another
    assert green.accuracy <= 1.5 / G  # not 1/(T · G): the batch shows in each of its groups
    assert verdict(red).startswith("leak: ")
    assert verdict(green).startswith("no leak")


def test_a_momentum_copy_has_the_same_signatures() -> None:
    query = vectors_encoder(0)
    key = copy.deepcopy(query)
    with torch.no_grad():
        for parameter in key.parameters():
            parameter += 0.1 * parameter.std(correction=0) * torch.randn(parameter.shape)
    first, second = views((16,), 0)
    found = bn_leak(query, key, first, second, groups=G, shuffle=False, generator=torch.Generator())
    assert found.accuracy >= 0.9


def test_it_watches_the_shuffling_of_the_training_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red, though asked to shuffle, when the code by which the training encodes its keys does not."""

    def forgetful(embedder: nn.Module, x: Tensor, layout: Layout, order: Tensor | None, *, keep: bool) -> Tensor:
        return embed_shuffled(embedder, x, layout, None, keep=keep)

    assert step.embed_shuffled is leak.embed_shuffled
    monkeypatch.setattr(leak, "embed_shuffled", forgetful)
    assert measured(vectors_encoder(0), views((16,), 0), shuffle=True).of_group >= 0.9


def test_one_group_leaks_whether_shuffled_or_not() -> None:
    for shuffle in (False, True):
        found = measured(vectors_encoder(0), views((16,), 0), shuffle=shuffle, groups=1)
        assert found.accuracy == found.of_batch >= 0.9
        assert found.of_group == 1.0
        assert "bn_groups above 1" in verdict(found)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("rows", [B, 30])  # 30: groups of 8, 8, 7 and 7, whose kernels round differently
def test_without_batchnorm_it_is_exactly_chance(shuffle: bool, rows: int) -> None:
    found = measured(without_batchnorm(0), views((16,), 0, rows=rows), shuffle=shuffle)
    assert found.accuracy == pytest.approx(1 / (T * G), abs=1e-12)
    assert found.of_batch == pytest.approx(1 / T, abs=1e-12)
    assert found.of_group == pytest.approx(1 / G, abs=1e-12)
    assert verdict(found).startswith("no leak: ")


class Rounding(nn.Module):
    """Kernels may round differently for other batches: here as a group's mean says, in float32's last bits."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + 1e-6 * x.mean(0))


def test_rounding_is_no_signature() -> None:
    found = measured(Rounding(), views((16,), 0), shuffle=False)
    assert found.accuracy == pytest.approx(1 / (T * G), abs=1e-12)


class Mean(nn.Module):
    """Adds the mean of its rows to each: the group's signature itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mean(0)


def test_the_bookkeeping_against_a_loop() -> None:
    """Signatures worked out by hand, for groups of uneven size, with the keys' true places followed row by row."""
    rows, groups = (7, 9, 6), 3
    generator = torch.Generator().manual_seed(0)
    first = [torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in rows]
    second = [batch + 0.3 * torch.randn(batch.shape, generator=generator, dtype=torch.float64) for batch in first]
    for shuffle in (False, True):
        found = bn_leak(
            Mean(), Mean(), first, second, groups=groups, shuffle=shuffle, generator=torch.Generator().manual_seed(3)
        )
        draw = torch.Generator().manual_seed(3)
        orders = [torch.randperm(n, generator=draw) if shuffle else torch.arange(n) for n in rows]
        probe = (first[0][:7] + first[1][:7]) / 2

        def centred(
            batches: Sequence[Tensor], orders: Sequence[Tensor], probe: Tensor
        ) -> tuple[dict[tuple[int, int], Tensor], list[dict[int, int]]]:
            means, places = {}, []
            for t, (batch, order) in enumerate(zip(batches, orders, strict=True)):
                place, start = {}, 0
                for g, size in enumerate(shares(len(batch), groups)):
                    chosen = order[start : start + size].tolist()
                    place |= dict.fromkeys(chosen, g)
                    means[t, g] = torch.cat([batch[chosen], probe]).mean(0)
                    start += size
                places.append(place)
            middle = torch.stack(list(means.values())).mean(0)
            return {name: mean - middle for name, mean in means.items()}, places

        query, home = centred(first, [torch.arange(n) for n in rows], probe)
        key, target = centred(second, orders, probe)
        right = {"accuracy": 0, "of_batch": 0, "of_group": 0}
        for t, n in enumerate(rows):
            for i in range(n):
                mine, wanted = query[t, home[t][i]], (t, target[t][i])
                score = {name: float(functional.cosine_similarity(mine, other, 0)) for name, other in key.items()}
                guess = max(score, key=lambda name: score[name])
                right["accuracy"] += guess == wanted
                right["of_batch"] += guess[0] == t
                right["of_group"] += max(((t, h) for h in range(groups)), key=lambda name: score[name]) == wanted
        for name, count in right.items():
            assert getattr(found, name) == pytest.approx(count / sum(rows)), (shuffle, name)


def test_it_leaves_no_trace() -> None:
    encoder = nn.Sequential(vectors_encoder(0), nn.Dropout(0.5))
    encoder[0].eval()
    encoder(torch.randn(4, 16)).sum().backward()
    before, random = copy.deepcopy(encoder), torch.get_rng_state()
    grads = [parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None]
    first, second = views((16,), 0)
    given = [batch.clone() for batch in [*first, *second]]
    measured(encoder, (first, second), shuffle=True)
    assert torch.equal(torch.get_rng_state(), random)
    for (name, module), old in zip(encoder.named_modules(), before.modules(), strict=True):
        assert module.training == old.training, name
    old_state = before.state_dict()
    assert all(torch.equal(value, old_state[name]) for name, value in encoder.state_dict().items())
    assert all(torch.equal(p.grad, old) for p, old in zip(encoder.parameters(), grads, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(given, [*first, *second], strict=True))


def test_the_same_generator_gives_the_same_number() -> None:
    encoder, batches = vectors_encoder(0), views((16,), 0)
    assert measured(encoder, batches, shuffle=True) == measured(encoder, batches, shuffle=True)


def test_impossible_batches_are_refused() -> None:
    first, second = views((16,), 0, rows=4)
    encoder, generator = vectors_encoder(0), torch.Generator()
    with pytest.raises(LikewiseError, match="needs at least 2 batches with two views each"):
        bn_leak(encoder, encoder, first[:1], second[:1], groups=2, shuffle=True, generator=generator)
    with pytest.raises(LikewiseError, match="needs at least 2 batches with two views each"):
        bn_leak(encoder, encoder, first, second[:-1], groups=2, shuffle=True, generator=generator)
    with pytest.raises(LikewiseError, match="4 rows can't be split into 5 groups"):
        bn_leak(encoder, encoder, first, second, groups=5, shuffle=True, generator=generator)


def test_verdicts_are_one_sentence_each() -> None:
    def leak(of_group: float, of_batch: float, *, groups: int = 4, shuffled: bool = True) -> Leak:
        chance = 1 / (8 * groups)
        accuracy = of_group * of_batch
        return Leak(
            accuracy=accuracy,
            chance=chance,
            of_batch=of_batch,
            of_group=of_group,
            batches=8,
            groups=groups,
            shuffled=shuffled,
        )

    assert "set key_encoder.shuffle" in verdict(leak(1.0, 1.0, shuffled=False))
    assert "use larger groups" in verdict(leak(0.7, 1.0))
    assert "harmless if" in verdict(leak(1.0, 1.0, groups=1))
    assert verdict(leak(0.3, 0.9)).startswith("no leak within a batch")
    assert verdict(leak(0.3, 0.15)).startswith("no leak: ")
    assert verdict(leak(1.0, 0.15, groups=1)).startswith("no leak: ")
    for told in (leak(1.0, 1.0), leak(0.3, 0.9), leak(0.3, 0.1)):
        assert verdict(told).endswith(".")
        assert "\n" not in verdict(told)
