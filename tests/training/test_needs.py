"""The estimate of a run's memory, against what the run then holds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import likewise as lw
from likewise.config.checks import check
from likewise.config.overrides import settings_from
from likewise.data import Items, open_items
from likewise.errors import LikewiseError
from likewise.model import Model
from likewise.training import needs as module
from likewise.training.fit import prepare
from likewise.training.needs import check_memory, memory_at_hand, needs
from likewise.training.run import begin

SMALL = {"encoder": {"name": "mlp", "hidden": 24, "dim": 8}, "epochs": 1, "batch_size": 8}


def vectors(n: int = 24) -> Items:
    values = np.random.default_rng(0).normal(size=(n, 6)).astype(np.float32)
    return open_items((values, np.arange(n) % 3), progress=False)


def held(tensors: object) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"dictionary": "queue", "queue.size": 40, "objective": "infonce"},
        {"dictionary": "batch", "objective": "infonce", "encoder.head": "mlp"},
        {"objective": "parametric-softmax"},
        {"objective": "arcface", "alike": "label", "dictionary": "proxies"},
    ],
)
def test_the_estimate_is_what_the_run_holds(more: dict[str, object]) -> None:
    settings, items, relations, sampler, _ = prepare(check(settings_from({**SMALL, **more})), vectors())
    session = begin(
        Model.untrained(settings, items), items, 3, torch.device("cpu"), relations=relations, sampler=sampler
    ).session
    trained = [*session.embedder.parameters(), *session.objective.parameters()]  # type: ignore[attr-defined]
    kept = session.dictionary.state_dict()  # type: ignore[attr-defined]
    rows = held(tensor for name, tensor in kept.items() if name in ("rows", "ids"))
    keys = 0 if session.key_encoder is None else held(session.key_encoder.encoder.parameters())
    parts = needs(check(settings_from({**SMALL, **more})), len(items), vector_dim=6, classes=3)
    assert parts == needs(settings, len(items), vector_dim=6, classes=3)  # as well before auto is decided
    assert sum(need.size for need in parts) == 3 * held(trained) + rows + keys
    assert [need.size for need in parts] == sorted((need.size for need in parts), reverse=True)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"encoder.dim": 10**9}, "the encoder's weights, gradients and momentum: "),
        ({"encoder.hidden": 10**8}, "lower encoder.name, encoder.dim, encoder.hidden or encoder.head_hidden."),
        (
            {"method": "moco", "encoder.bn_groups": 1, "queue.size": 10**11},
            "the queue: 4.0 TB; lower queue.size",
        ),
    ],
)
def test_a_run_that_no_memory_holds_is_refused_before_the_data_are_read(
    more: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(LikewiseError, match=r"this run needs at least .* of memory, but .* are free") as error:
        lw.fit(tmp_path / "nothing", out=tmp_path / "run", settings={**SMALL, **more})
    assert said in str(error.value)
    assert not (tmp_path / "run").exists()


def test_the_bank_and_a_users_backbone_count_once_the_items_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "memory_at_hand", lambda device: 2_000)
    settings = check(settings_from(SMALL))
    drawn = needs(settings_from({**SMALL, "objective": "nce", "objective.noise": 5_000_000}), 24, vector_dim=6)
    assert drawn[0] == ("the drawn negatives of a step", 480_000_000, "objective.noise or batch_size")
    with pytest.raises(LikewiseError, match="needs at least 12,960 bytes of memory, but 2,000 bytes are free"):
        check_memory(settings, vectors())
    with pytest.raises(LikewiseError, match=r"the memory bank: 3,200 bytes; lower encoder\.dim, or set bank\.sharded"):
        check_memory(settings, vectors(100), nn.Linear(6, 3))
    monkeypatch.setattr(module, "memory_at_hand", lambda device: None)
    assert check_memory(settings, vectors()) == []
    monkeypatch.setattr(module, "TOLD", 5_000)
    assert check_memory(settings, vectors()) == [
        "memory: at least 12,960 bytes, beside data and activations: the encoder's weights, gradients and momentum "
        "12,192 bytes, the memory bank 768 bytes."
    ]


def test_the_memory_at_hand_is_that_of_the_machine_or_its_container(tmp_path: Path) -> None:
    free = memory_at_hand(torch.device("cpu"))
    assert free is not None
    assert 10**6 < free < 10**14
    (tmp_path / "most").write_text("5000\n")
    (tmp_path / "used").write_text("1200\n")
    assert module._cgroup(tmp_path, "most", "used") == 3800
    (tmp_path / "most").write_text("max\n")
    assert module._cgroup(tmp_path, "most", "used") is None
