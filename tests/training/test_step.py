"""The training step against the papers' algorithms, written out by hand in float64: no module and no code of ours.

MoCo: He et al. 2020, Algorithm 1, with the shuffled BatchNorm of §3.3, also as its authors' symmetric CIFAR-10 recipe.
SimCLR: Chen et al. 2020, Algorithm 1. The session is a method's own, as ``fit`` builds it, but for small sizes.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from likewise.config.overrides import settings_from
from likewise.data import Items
from likewise.distributed.layout import lay_out
from likewise.distributed.processes import shares
from likewise.methods import METHODS
from likewise.model import Model
from likewise.training.batches import see
from likewise.training.build import build_session
from likewise.training.decide import decide
from likewise.training.samplers import stable_seed
from likewise.training.session import Session
from likewise.training.step import Seen, train_step

STEPS, TOTAL = 3, 7
N, B, G, K, D = 20, 13, 3, 17, 4  # items, of a batch, BatchNorm groups, keys of the queue, numbers of an embedding
LR, SGD_MOMENTUM, DECAY, SEED = 0.3, 0.9, 0.01, 5
NORMS = ("backbone.layers.1", "backbone.layers.4")
SMALL: dict[str, Any] = {
    "encoder": {"name": "mlp", "hidden": 6, "dim": D},
    "optim": {"name": "sgd", "lr": LR, "momentum": SGD_MOMENTUM, "weight_decay": DECAY, "schedule": "constant"},
    "batch_size": B,
    "seed": SEED,
}
MOCO = {"encoder.bn_groups": G, "queue.size": K, "key_encoder.momentum": 0.9, "key_encoder.schedule": "cosine"}

Weights = dict[str, Tensor]
Statistics = list[tuple[Tensor, Tensor]]  # of each BatchNorm layer: mean and unbiased variance


def session_of(method: str, **values: Any) -> Session:
    rows = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
    items = Items(ids=tuple(map(str, range(N))), values=rows, kind="vectors")
    settings = decide(settings_from({**SMALL, **values}, METHODS[method].settings), N)
    embedder = Model.untrained(settings, items).embedder.double()
    session = build_session(settings, embedder, items, TOTAL, torch.device("cpu"))
    session.dictionary.double()
    session.train()
    return session


def seen(session: Session, step: int) -> Seen:
    """Two views of 13 of the 20 items, so that the queue soon holds older keys of the items that come."""
    generator = torch.Generator().manual_seed(100 + step)
    ids = torch.randperm(N, generator=generator)[:B]
    views = [torch.randn(B, 5, generator=generator, dtype=torch.float64) for _ in range(2)]
    return see(session.settings, step, views, ids, lay_out(B, session.settings.encoder.bn_groups), ids)


# By hand


def normalised(x: Tensor, weights: Weights, name: str, statistics: Statistics) -> Tensor:
    """BatchNorm (Ioffe & Szegedy 2015, Algorithm 1) of these rows alone."""
    mean = x.sum(0) / len(x)
    var = ((x - mean) ** 2).sum(0) / len(x)
    statistics.append((mean.detach(), var.detach() * len(x) / (len(x) - 1)))
    return (x - mean) / (var + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def encode(weights: Weights, x: Tensor) -> tuple[Tensor, Statistics]:
    """The MLP with a linear head, or SimCLR's of two layers; unit rows."""
    statistics: Statistics = []
    x = normalised(x @ weights["backbone.layers.0.weight"].T, weights, NORMS[0], statistics).clamp(min=0)
    x = normalised(x @ weights["backbone.layers.3.weight"].T, weights, NORMS[1], statistics).clamp(min=0)
    if "head.weight" in weights:
        x = x @ weights["head.weight"].T + weights["head.bias"]
    else:
        x = (x @ weights["head.0.weight"].T + weights["head.0.bias"]).clamp(min=0)
        x = x @ weights["head.2.weight"].T + weights["head.2.bias"]
    return x / (x * x).sum(1, keepdim=True).sqrt(), statistics


class Learner:
    """Weights, running statistics and SGD's velocities of an encoder."""

    def __init__(self, session: Session) -> None:
        named = session.embedder.named_parameters()
        self.weights: Weights = {name: value.detach().clone().requires_grad_() for name, value in named}
        self.running = {name: (torch.zeros(6).double(), torch.ones(6).double()) for name in NORMS}
        self.velocities = dict[str, Tensor]()
        self.gradients = dict[str, Tensor]()

    def move_statistics(self, parts: Sequence[Statistics]) -> None:
        """BatchNorm's default pace of 0.1, towards the mean over the parts."""
        for layer, name in enumerate(NORMS):
            old, count = self.running[name], len(parts)
            means, variances = sum(part[layer][0] for part in parts), sum(part[layer][1] for part in parts)
            self.running[name] = (0.9 * old[0] + 0.1 * means / count, 0.9 * old[1] + 0.1 * variances / count)

    def descend(self, loss: Tensor) -> None:
        """SGD with momentum and weight decay, of all weights."""
        found = torch.autograd.grad(loss, list(self.weights.values()))
        self.gradients = dict(zip(self.weights, found, strict=True))
        for name, gradient in self.gradients.items():
            pull = gradient + DECAY * self.weights[name].detach()
            before = self.velocities.get(name)
            self.velocities[name] = pull if before is None else SGD_MOMENTUM * before + pull
            moved = self.weights[name].detach() - LR * self.velocities[name]
            self.weights[name] = moved.requires_grad_()


class Moco:
    """Algorithm 1, a step a call."""

    def __init__(self, session: Session, *, shuffle: bool, buffers: str, symmetric: bool) -> None:
        self.query, self.key = Learner(session), Learner(session)
        self.shuffle, self.buffers, self.symmetric = shuffle, buffers, symmetric
        self.rows = session.dictionary.get_buffer("rows").clone()
        self.ids, self.pointer = [-1] * K, 0

    def step(self, number: int, views: Sequence[Tensor], ids: list[int]) -> Tensor:
        m = 1 - (1 - 0.9) * (1 + math.cos(math.pi * number / TOTAL)) / 2
        for name, weight in self.key.weights.items():
            self.key.weights[name] = (m * weight + (1 - m) * self.query.weights[name]).detach()
        if self.buffers == "averaged":
            for name, old in self.key.running.items():
                pairs = zip(old, self.query.running[name], strict=True)
                mean, var = (m * mine + (1 - m) * theirs for mine, theirs in pairs)
                self.key.running[name] = (mean, var)

        queries, parts = [], []
        for view in views[: 2 if self.symmetric else 1]:
            encoded = [encode(self.query.weights, group) for group in view.split(shares(B, G))]
            queries.append(torch.cat([rows for rows, _ in encoded]))
            parts += [statistics for _, statistics in encoded]
        self.query.move_statistics(parts)
        keys = {place: self.encode_keys(number, place, views[place]) for place in ((0, 1) if self.symmetric else (1,))}

        losses = []
        for place, rows in enumerate(queries):
            for i, q in enumerate(rows):
                positive = q @ keys[1 - place][i] / 0.07
                older = [key for key, owner in zip(self.rows, self.ids, strict=True) if owner != ids[i]]
                negatives = [q @ key / 0.07 for key in older]
                losses.append(-torch.log(positive.exp() / (positive.exp() + sum(n.exp() for n in negatives))))
        loss = sum(losses, torch.zeros(())) / len(losses)
        self.query.descend(loss)

        for place in keys:
            for owner, key in zip(ids, keys[place], strict=True):
                self.rows[self.pointer], self.ids[self.pointer] = key, owner
                self.pointer = (self.pointer + 1) % K
        return loss

    def encode_keys(self, number: int, place: int, view: Tensor) -> Tensor:
        """Shuffle, encode in groups, shuffle back (§3.3)."""
        order = torch.arange(B)
        if self.shuffle:
            seed = stable_seed(SEED, f"shuffle {place}", number)
            order = torch.randperm(B, generator=torch.Generator().manual_seed(seed))
        keys, parts = torch.zeros(B, D, dtype=torch.float64), []
        for group in order.split(shares(B, G)):
            rows, statistics = encode(self.key.weights, view[group])
            keys[group] = rows.detach()
            parts.append(statistics)
        if self.buffers == "own":
            self.key.move_statistics(parts)
        return keys


def nt_xent(z: Tensor) -> Tensor:
    """SimCLR's Algorithm 1: rows i and i + B are the views of one item, τ = 0.5."""
    count, losses = len(z) // 2, []
    for i in range(2 * count):
        others = {k: (z[i] @ z[k] / 0.5).exp() for k in range(2 * count) if k != i}
        losses.append(-torch.log(others[(i + count) % (2 * count)] / sum(others.values())))
    return sum(losses, torch.zeros(())) / len(losses)


# Beside the training step


def close(found: Tensor, wanted: Tensor, name: str) -> None:
    assert found.dtype == torch.float64
    found, wanted = found.detach(), wanted.detach()
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9, msg=lambda text: f"{name}: {text}")


def assert_same_encoder(encoder: torch.nn.Module, learner: Learner) -> None:
    for name, weight in encoder.named_parameters():
        close(weight, learner.weights[name], name)
        if weight.grad is not None:
            close(weight.grad, learner.gradients[name], f"gradient of {name}")
    for name, (mean, var) in learner.running.items():
        close(encoder.get_buffer(f"{name}.running_mean"), mean, f"{name} mean")
        close(encoder.get_buffer(f"{name}.running_var"), var, f"{name} var")


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("buffers", ["own", "averaged"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_moco_is_algorithm_1(shuffle: bool, buffers: str, symmetric: bool) -> None:
    choices = {"key_encoder.shuffle": shuffle, "key_encoder.buffers": buffers, "symmetric": symmetric}
    session = session_of("moco", **MOCO, **choices)
    assert session.key_encoder is not None
    by_hand = Moco(session, shuffle=shuffle, buffers=buffers, symmetric=symmetric)
    for step in range(STEPS):
        batch = seen(session, step)
        loss, _ = train_step(session, batch)
        close(loss, by_hand.step(step, batch.views, batch.ids.tolist()), f"loss {step}")
        assert_same_encoder(session.embedder, by_hand.query)
        assert_same_encoder(session.key_encoder.encoder, by_hand.key)
        close(session.dictionary.get_buffer("rows"), by_hand.rows, f"queue {step}")
        assert session.dictionary.get_buffer("ids").tolist() == by_hand.ids
        assert int(session.dictionary.get_buffer("pointer")) == by_hand.pointer
    assert set(by_hand.ids) & set(seen(session, STEPS - 1).ids.tolist())  # older keys of a batch's own items were met


def test_simclr_is_algorithm_1() -> None:
    session = session_of("simclr")
    by_hand = Learner(session)
    for step in range(STEPS):
        batch = seen(session, step)
        loss, _ = train_step(session, batch)
        z, statistics = encode(by_hand.weights, torch.cat(list(batch.views)))  # one BatchNorm over the 2B views
        wanted = nt_xent(z)
        by_hand.move_statistics([statistics])
        by_hand.descend(wanted)
        close(loss, wanted, f"loss {step}")
        assert_same_encoder(session.embedder, by_hand)


def test_shuffling_changes_the_keys_and_only_between_several_groups() -> None:
    def enqueued(groups: int, shuffle: bool) -> Tensor:
        session = session_of("moco", **{**MOCO, "encoder.bn_groups": groups, "key_encoder.shuffle": shuffle})
        train_step(session, seen(session, 0))
        return session.dictionary.get_buffer("rows")[:B]

    assert float((enqueued(G, True) - enqueued(G, False)).norm(dim=1).min()) > 0.01
    assert torch.equal(enqueued(1, True), enqueued(1, False))


def test_the_key_encoders_statistics_are_its_own_or_averaged() -> None:
    """Own ones follow the keys from the first step on; averaged ones follow the encoder's of the step before."""
    for buffers in ("own", "averaged"):
        session, name = session_of("moco", **MOCO, **{"key_encoder.buffers": buffers}), f"{NORMS[0]}.running_mean"
        assert session.key_encoder is not None
        train_step(session, seen(session, 0))
        mine, theirs = (encoder.get_buffer(name).clone() for encoder in (session.key_encoder.encoder, session.embedder))
        assert bool(mine.any()) == (buffers == "own")
        assert not torch.equal(mine, theirs)
        train_step(session, seen(session, 1))
        if buffers == "averaged":
            m = session.key_encoder.at(1 / TOTAL)
            close(session.key_encoder.encoder.get_buffer(name), (1 - m) * theirs, name)
