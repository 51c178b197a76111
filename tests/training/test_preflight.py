"""Pre-flight: every check speaks where it should and not beside it, and its advice, taken, leaves nothing to say."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from likewise.config.checks import check
from likewise.config.overrides import flatten, settings_from
from likewise.config.settings import FitSettings
from likewise.errors import LikewiseError
from likewise.methods import METHODS, OF_ITEMS
from likewise.training.decide import decide
from likewise.training.fit import fit
from likewise.training.pace import emulates_bf16
from likewise.training.preflight import CHECKS, HARM, START_LEFT, Advice, _start_left, preflight
from likewise.training.samplers import EpochSampler

MOCO: dict[str, Any] = {
    "dictionary": "queue",
    "queue.size": 1024,
    "key_encoder.momentum": 0.99,
    "encoder.bn_groups": 8,
}  # 128 a batch: 16 rows a group
BATCH: dict[str, Any] = {"dictionary": "batch"}
SECOND: dict[str, Any] = {"dictionary": "batch", "batch.keys": "second"}


def steps_of(s: FitSettings, n: int) -> int:
    smallest = 2 * max(s.encoder.bn_groups, s.micro_batches)
    return s.epochs * EpochSampler(n, s.batch_size, 0, smallest=smallest).steps_per_epoch


def advised(s: FitSettings, n: int, processes: int = 1) -> list[Advice]:
    e = s.encoder
    batch_norm = e.centre or e.head == "mlp-bn" or not e.name.startswith(("timm:", "hf:"))
    return preflight(s, n, steps_of(s, n), processes=processes, batch_norm=batch_norm)


def advice_on(values: dict[str, Any], n: int = 5000, processes: int = 1) -> dict[str, object]:
    return {advice.setting: advice.better for advice in advised(check(settings_from(values)), n, processes)}


RED_AND_GREEN: list[tuple[dict[str, Any], int, dict[str, object]]] = [
    ({}, 64, {}),
    ({}, 63, {"items": None}),
    ({**MOCO, "queue.size": 40}, 63, {"items": None}),
    # K against n
    (MOCO, 5000, {}),
    ({**MOCO, "queue.size": 4999}, 5000, {}),
    ({**MOCO, "queue.size": 5000}, 5000, {"queue.size": 1024}),
    ({**MOCO, "queue.size": 65_536}, 50_000, {"queue.size": 8192}),
    ({**MOCO, "queue.size": 128}, 50_000, {}),
    ({**MOCO, "queue.size": 127}, 50_000, {"queue.size": 8192}),
    ({**MOCO, "queue.size": 128, "symmetric": True}, 50_000, {"queue.size": 8192}),
    ({**MOCO, "queue.size": 63, "batch_size": 48, "encoder.bn_groups": 3}, 5000, {"queue.size": 1024}),
    ({**MOCO, "queue.size": 64, "batch_size": 48, "encoder.bn_groups": 3}, 5000, {}),
    ({**MOCO, "queue.size": 300, "epochs": 400}, 300, {"queue.size": 128, "encoder.bn_groups": 6}),
    ({"dictionary": "bank", "queue.size": 10**6}, 5000, {}),  # no queue there
    # drawn negatives against n
    ({"bank.samples": 4999}, 5000, {}),
    ({"bank.samples": 5000}, 5000, {"bank.samples": 0}),
    ({"bank.samples": 63}, 5000, {"bank.samples": 4096}),
    ({"bank.samples": 63}, 4000, {"bank.samples": 0}),
    ({"objective.kind": "nce", "objective.noise": 4999}, 5000, {}),
    ({"objective.kind": "nce", "objective.noise": 5000}, 5000, {"objective.kind": "nonparametric-softmax"}),
    ({"objective.kind": "nonparametric-softmax"}, 5000, {}),
    ({"objective.noise": 20_000}, 15_000, {"objective.kind": "nonparametric-softmax"}),  # auto: nce
    ({"objective.kind": "nce", "objective.noise": 63}, 5000, {"objective.noise": 4096}),
    ({"objective.kind": "nce", "objective.noise": 63}, 4096, {"objective.kind": "nonparametric-softmax"}),
    (
        {"bank.samples": 20_000, "objective.noise": 30_000},
        15_000,
        {"bank.samples": 0, "objective.kind": "nonparametric-softmax"},
    ),
    # momentum against steps: 40 steps an epoch
    ({**MOCO, "key_encoder.momentum": 0.999, "epochs": 116}, 5000, {}),
    ({**MOCO, "key_encoder.momentum": 0.999, "epochs": 115}, 5000, {"key_encoder.momentum": 0.995}),
    ({**MOCO, "key_encoder.momentum": 1.0, "epochs": 20}, 5000, {"key_encoder.momentum": 0.975}),
    ({**MOCO, "key_encoder.momentum": 0.0}, 5000, {"key_encoder.momentum": 0.997}),
    ({**MOCO, "key_encoder.momentum": 0.9}, 5000, {}),
    ({**MOCO, "key_encoder.momentum": 0.89}, 50_000, {"key_encoder.momentum": 0.999}),
    ({**MOCO, "key_encoder.momentum": 0.999, "key_encoder.schedule": "cosine", "epochs": 232}, 5000, {}),
    (
        {**MOCO, "key_encoder.momentum": 0.999, "key_encoder.schedule": "cosine", "epochs": 228},
        5000,
        {"key_encoder.momentum": 0.997},
    ),
    ({"key_encoder.momentum": 0.0}, 5000, {}),  # no key encoder there
    ({"bank.momentum": 0.97}, 5000, {}),
    ({"bank.momentum": 0.98}, 5000, {"bank.momentum": 0.5}),
    ({"epochs": 7}, 5000, {}),
    ({"epochs": 6}, 5000, {"bank.momentum": 0.46}),
    ({"bank.momentum": 0.98, "objective.kind": "parametric"}, 5000, {}),  # no bank there
    # rows of BatchNorm's groups: batches of 126 or 125 of 5,000
    ({**MOCO, "encoder.bn_groups": 9, "queue.size": 2048}, 50_000, {"encoder.bn_groups": 8}),
    ({"encoder.bn_groups": 8}, 5000, {}),
    ({"encoder.bn_groups": 9}, 5000, {"encoder.bn_groups": 8}),
    ({"encoder.bn_groups": 9, "encoder.name": "timm:vit_tiny", "encoder.centre": False}, 5000, {}),
    ({**BATCH, "encoder.bn_groups": 16}, 5000, {}),  # both views of an item are in its group
    ({**BATCH, "encoder.bn_groups": 17}, 5000, {"encoder.bn_groups": 16}),
    ({"batch_size": 16, "optim.lr": 0.01}, 64, {}),
    ({"batch_size": 15, "optim.lr": 0.01}, 5000, {"batch_size": 32}),
    ({**BATCH, "encoder.bn_groups": 32, "micro_batches": 32}, 5000, {"encoder.bn_groups": 16, "micro_batches": 16}),
    ({**BATCH, "encoder.bn_groups": 20, "micro_batches": 5}, 5000, {"encoder.bn_groups": 15}),
    # shuffled keys need somewhere to go
    ({**MOCO, "encoder.bn_groups": 1}, 50_000, {"encoder.bn_groups": 8}),
    ({**MOCO, "encoder.bn_groups": 1, "batch_size": 100}, 50_000, {"encoder.bn_groups": 6}),
    ({**MOCO, "encoder.bn_groups": 1, "batch_size": 512, "optim.lr": 0.1}, 51_200, {"encoder.bn_groups": 8}),
    ({**MOCO, "encoder.bn_groups": 1, "key_encoder.shuffle": False}, 50_000, {}),
    ({**MOCO, "encoder.bn_groups": 1, "encoder.name": "hf:x", "encoder.centre": False}, 50_000, {}),
    ({**MOCO, "encoder.bn_groups": 1, "batch_size": 31, "optim.lr": 0.01}, 5000, {"key_encoder.shuffle": False}),
    # few steps
    ({"epochs": 5, "bank.momentum": 0.0}, 5000, {}),
    ({"epochs": 4, "bank.momentum": 0.0}, 5000, {"epochs": 20}),
    ({"epochs": 199, "batch_size": 500, "optim.lr": 0.1}, 500, {"epochs": 200}),
    ({"epochs": 200, "batch_size": 500, "optim.lr": 0.1}, 500, {}),
    ({"optim.warmup": 0.3}, 5000, {}),
    ({"optim.warmup": 0.31}, 5000, {"optim.warmup": 0.1}),
    # few negatives in the batch
    ({**BATCH, "batch_size": 34}, 50_000, {}),
    ({**BATCH, "batch_size": 33}, 50_000, {"batch_size": 64}),  # batches of 32 and 33
    ({**SECOND, "batch_size": 66}, 50_000, {}),
    ({**SECOND, "batch_size": 65}, 50_000, {"batch_size": 128}),
    ({**MOCO, "queue.size": 512, "symmetric": True, "batch_size": 250}, 500, {"batch_size": 125, "queue.size": 256}),
    # the rate of another batch
    ({"batch_size": 511}, 50_000, {}),
    ({"batch_size": 512}, 51_200, {"optim.lr": 0.12}),
    ({"batch_size": 32}, 51_200, {"optim.lr": 0.0075}),
    ({"batch_size": 512, "optim.lr": 0.031}, 51_200, {}),
    ({"batch_size": 512, "optim.name": "lars"}, 51_200, {}),
    # temperature against the encoder's precision
    ({"objective.temperature": 0.02, "precision": "bf16"}, 5000, {}),
    ({"objective.temperature": 0.019, "precision": "bf16"}, 5000, {"precision": "fp32"}),
    ({"objective.temperature": 0.001}, 5000, {}),
    ({**BATCH, "objective.kind": "circle", "precision": "bf16"}, 5000, {}),
]


@pytest.mark.parametrize(("values", "n", "expected"), RED_AND_GREEN)
def test_what_is_advised(values: dict[str, Any], n: int, expected: dict[str, object]) -> None:
    assert advice_on(values, n) == expected


@pytest.mark.parametrize(
    ("groups", "processes", "better"),
    [(1, 4, None), (4, 4, None), (6, 4, 4), (3, 4, 4), (6, 5, 5), (3, 8, 8), (3, 16, 1)],
)
def test_groups_are_shared_by_whole_processes(groups: int, processes: int, better: int | None) -> None:
    found = advice_on({"encoder.bn_groups": groups}, processes=processes)
    assert found == ({} if better is None else {"encoder.bn_groups": better})


def test_shuffled_keys_get_a_multiple_of_the_processes() -> None:
    values = {**MOCO, "encoder.bn_groups": 1, "batch_size": 512, "optim.lr": 0.1}
    assert advice_on(values, 50_000, processes=3) == {"encoder.bn_groups": 6}
    assert advice_on(values, 50_000, processes=16) == {"encoder.bn_groups": 16}
    assert advice_on(values, 50_000, processes=64) == {"key_encoder.shuffle": False}


# MoCo's own queue of 65,536 keys holds more than CIFAR-10's 50,000 items; its CIFAR-10 recipe has 4,096.
DOCUMENTED = {"moco": {"queue.size": 8192}, "moco-v2": {"queue.size": 8192}}


@pytest.mark.parametrize("method", OF_ITEMS)
def test_the_methods_defaults_suit_fifty_thousand_items(method: str) -> None:
    s = replace(METHODS[method].settings, epochs=200)
    found = preflight(s, 50_000, steps_of(s, 50_000))
    assert {advice.setting: advice.better for advice in found} == DOCUMENTED.get(method, {})
    s, n = replace(s, method=method), 1_281_167
    assert preflight(s, n, steps_of(s, n)) == []


def test_npid_suits_five_thousand_items() -> None:
    s = METHODS["npid"].settings
    assert preflight(s, 5000, steps_of(s, 5000)) == []


@st.composite
def runs(draw: st.DrawFn) -> tuple[FitSettings, int, int]:
    """Any settings that ``check`` and the layout over processes take, or would but for the number of groups."""
    n = draw(st.one_of(st.integers(2, 300), st.integers(300, 60_000)))
    batch_size = draw(st.one_of(st.integers(2, 64), st.sampled_from([100, 128, 256, 500, 512, 1024, 4096])))
    dictionary = draw(st.sampled_from(["bank", "queue", "batch"]))
    groups = min(draw(st.sampled_from([1, 1, 2, 3, 6, 8, 16, 64])), batch_size // 2)
    values = {
        "method": draw(st.sampled_from(OF_ITEMS)),
        "dictionary": dictionary,
        "epochs": draw(st.one_of(st.integers(1, 12), st.integers(12, 1000))),
        "batch_size": batch_size,
        "queue.size": draw(st.one_of(st.integers(1, 300), st.sampled_from([1024, 4096, 65_536]))),
        "batch.keys": draw(st.sampled_from(["both", "second"])),
        "bank.momentum": draw(st.sampled_from([0.0, 0.5, 0.9, 0.99])),
        "bank.samples": draw(st.sampled_from([0, 0, 10, 1000, 30_000])),
        "objective.kind": draw(
            st.sampled_from(["auto", "nce", "nonparametric-softmax", "infonce", "parametric-softmax", "circle"])
        ),
        "objective.noise": draw(st.sampled_from([1, 100, 4096, 30_000])),
        "objective.temperature": draw(st.sampled_from([0.001, 0.02, 0.07, 0.5])),
        "precision": draw(st.sampled_from(["fp32", "bf16"])),
        "symmetric": draw(st.booleans()),
        "key_encoder.momentum": draw(st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0])),
        "key_encoder.schedule": draw(st.sampled_from(["constant", "cosine"])),
        "key_encoder.shuffle": draw(st.booleans()),
        "encoder.name": draw(st.sampled_from(["resnet-small", "timm:vit_tiny_patch16_224"])),
        "encoder.centre": draw(st.booleans()),
        "encoder.bn_groups": groups,
        "micro_batches": draw(st.sampled_from([1, 1, groups])) if dictionary == "batch" else 1,
        "optim.warmup": draw(st.sampled_from([0.0, 0.1, 0.9])),
        "optim.lr": draw(st.sampled_from([0.03, 0.06, 1.0])),
    }
    for name in ("objective.noise", "objective.temperature"):  # what the kind does not have
        if name.partition(".")[2] not in settings_from({"objective": values["objective.kind"]}).objective.has():
            del values[name]
    for name in ("symmetric", "objective.kind", "bank.samples"):  # what does not go together goes back to its default
        try:
            check(settings_from(values))
        except LikewiseError:
            del values[name]
    return check(settings_from(values)), n, draw(st.sampled_from([1, 1, 2, 3, 8]))


@settings(max_examples=250, deadline=None)
@given(runs())
@example((check(settings_from({"bank.samples": 20_000, "objective.noise": 10})), 20_000, 1))  # then auto is nce
def test_all_advice_taken_leaves_none(run: tuple[FitSettings, int, int]) -> None:
    before, n, processes = run
    found = advised(before, n, processes)
    if n < 64:
        assert [(advice.setting, advice.better) for advice in found] == [("items", None)]
        return
    names = [advice.setting for advice in found]
    assert len(set(names)) == len(names)
    assert names == sorted(names, key=HARM.index)
    knobs = flatten(before) | flatten(decide(before, n))
    for advice in found:
        assert advice.now == knobs[advice.setting]
        assert advice.better is not None
        assert advice.better != advice.now
        line = advice.line()
        assert line.removeprefix("if you follow the other advice, ").startswith(f"{advice.setting}=")
        assert f"; consider --{advice.setting} " in line
        assert line.endswith(".")
        assert "\n" not in line
    after = check(settings_from({advice.setting: advice.better for advice in found}, before))
    assert advised(after, n, processes) == []


def test_a_line_is_a_plain_sentence() -> None:
    s = settings_from({**MOCO, "queue.size": 65_536})
    (advice,) = preflight(s, 50_000, steps_of(s, 50_000))
    assert advice.line().startswith("queue.size=65536 holds more keys than the 50,000 items: ")
    assert advice.line().endswith("; consider --queue.size 8192.")
    assert Advice("key_encoder.shuffle", True, False, "x").line() == (
        "key_encoder.shuffle=true x; consider --key_encoder.shuffle false."
    )
    assert Advice("items", 5, None, "are few").line() == "items=5 are few."


def test_reasons_are_those_of_the_run_as_it_is() -> None:
    """What rests on other advice says so: 14 steps of 28 or 29 items in 8 groups, not those of a longer run."""
    s = settings_from({"epochs": 2, "batch_size": 32}, METHODS["moco"].settings)
    lines = {advice.setting: advice.line() for advice in advised(s, 200)}
    momentum = lines["key_encoder.momentum"]
    assert momentum.startswith("key_encoder.momentum=0.999 averages over 1,000 steps of 14: at the end 99% of the key")
    assert momentum.endswith("; consider --key_encoder.momentum 0.901 along with the other advice.")
    assert lines["key_encoder.shuffle"].startswith(
        "if you follow the other advice, key_encoder.shuffle=true does nothing"
    )
    assert lines["encoder.bn_groups"].startswith("encoder.bn_groups=8 leaves BatchNorm 3 rows per group")
    s = settings_from({"batch_size": 32}, METHODS["simclr"].settings)
    assert (
        "for batches of 512, but your batches have 32;" in {x.setting: x.line() for x in advised(s, 5000)}["optim.lr"]
    )


def test_nothing_is_said_of_batch_norm_where_ones_own_backbone_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
    for name, norm, says in (("layer", nn.LayerNorm(16), False), ("batch", nn.BatchNorm1d(16), True)):
        values = {"epochs": 1, "batch_size": 20, "queue.size": 40, "encoder.head": "linear", "encoder.centre": False}
        backbone = nn.Sequential(nn.Linear(6, 16), norm, nn.ReLU())
        fit(x, out=tmp_path / name, method="moco", settings=values, backbone=backbone)
        said = capsys.readouterr().err
        assert ("leaves BatchNorm 2 rows per group" in said) == says
        assert ("key_encoder.shuffle" in said) == says


def test_the_most_harmful_comes_first() -> None:
    s = settings_from({**MOCO, "queue.size": 10_000, "key_encoder.momentum": 1.0, "optim.warmup": 0.9})
    names = [advice.setting for advice in preflight(s, 5000, 8000)]
    assert names == ["key_encoder.momentum", "queue.size", "optim.warmup"]
    assert len(CHECKS) == 13


@pytest.mark.parametrize(("momentum", "steps"), [(0.0, 7), (0.9, 20), (0.999, 3000), (1.0, 50)])
@pytest.mark.parametrize("cosine", [False, True])
def test_what_is_left_of_the_start_is_the_product_of_the_momenta(momentum: float, steps: int, cosine: bool) -> None:
    product = 1.0
    for step in range(steps):
        share = (1 + math.cos(math.pi * step / steps)) / 2 if cosine else 1.0
        product *= 1 - (1 - momentum) * share
    assert _start_left(momentum, steps, cosine=cosine) == pytest.approx(product, rel=0.06, abs=START_LEFT / 100)


@pytest.mark.parametrize(
    ("machine", "capability", "device", "slow"),
    [
        ("x86_64", "AVX2", "cpu", True),
        ("AMD64", "DEFAULT", "cpu", True),
        ("x86_64", "AVX512", "cpu", False),
        ("arm64", "DEFAULT", "cpu", False),
        ("x86_64", "AVX2", "cuda", False),
    ],
)
def test_bf16_that_a_cpu_emulates_is_said(
    machine: str, capability: str, device: str, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured on such a machine: 80 images/s in bf16, 815 in fp32."""
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert emulates_bf16(torch.device(device)) == slow


def test_a_batch_of_few_classes_is_not_called_too_small() -> None:
    """What is known of views of one item does not hold where labels teach."""
    values = {"batch_size": 40, "sampler.per_class": 4, "epochs": 60}
    labels = settings_from(values, METHODS["facenet"].settings)
    views = settings_from({"batch_size": 20, "encoder.bn_groups": 1, "epochs": 60}, METHODS["simclr"].settings)
    assert "batch_size" not in {advice.setting for advice in preflight(labels, n=400, steps=600)}
    assert "batch_size" in {advice.setting for advice in preflight(views, n=400, steps=600)}
