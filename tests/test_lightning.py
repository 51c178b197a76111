"""Lightning's loop around our step learns what ``fit`` learns, bit for bit, through a stop too, and shared by two."""

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

import likewise.lightning
from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.lightning import LikewiseModule
from likewise.methods import METHODS
from likewise.proof.fork_server import python
from likewise.training.checkpoint import load_checkpoint
from likewise.training.fit import fit

SMALL: dict[str, Any] = {
    "encoder": {"name": "mlp", "hidden": 16, "dim": 8},
    "epochs": 3,
    "batch_size": 16,  # 43 items: 3 steps an epoch, of 15, 14 and 14 rows
    "device": "cpu",
    "knn_epochs": 0,
}
RUNS: dict[str, dict[str, Any]] = {
    "moco": {"method": "moco", "queue.size": 37, "encoder.bn_groups": 2, "optim.warmup": 0.3},
    "simclr": {"method": "simclr"},
    "nce": {"method": "npid", "objective.kind": "nce", "objective.noise": 24},
}
TAUGHT: dict[str, dict[str, Any]] = {
    "labels": {"method": "circle", "batch_size": 20},
    "pairs": {"method": "contrastive", "alike": "pairs", "relations": "pairs.csv"},
}
SHARED = """
import sys
from pathlib import Path

import torch

sys.path.insert(0, sys.argv[1])
from test_lightning import module, trainer
from likewise.lightning import SharedSteps

torch.set_num_threads(1)
folder = Path(sys.argv[2])
for name in ("moco", "nce"):
    run = trainer(folder, strategy=SharedSteps(process_group_backend="gloo"), devices=2)
    learner = module(name)
    run.fit(learner)
    assert run.world_size == 2
    run.save_checkpoint(folder / f"{name}.ckpt")
"""


def items() -> Items:
    rows = np.random.default_rng(0).normal(size=(43, 6)).astype(np.float32)
    return Items(ids=tuple(f"v{i}" for i in range(43)), values=rows, kind="vectors", source="vectors")


def settings(name: str, **more: Any) -> FitSettings:
    return settings_from({**SMALL, **RUNS[name], **more}, METHODS[RUNS[name]["method"]].settings)


def module(name: str, **more: Any) -> LikewiseModule:
    return LikewiseModule(settings(name, **more), items())


def trainer(folder: Path, *, strategy: Any = "auto", devices: int = 1, **more: Any) -> Trainer:
    """A Trainer without what it would otherwise write and print."""
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"enable_checkpointing": False, "default_root_dir": folder, "accelerator": "cpu", "max_epochs": 3}
    return Trainer(**(quiet | more), strategy=strategy, devices=devices)


def fitted(name: str, folder: Path) -> dict[str, Any]:
    """The last checkpoint of ``fit``, but for what it keeps of its own measuring."""
    fit(items(), out=folder, settings=settings(name), progress=False)
    return learned(load_checkpoint(folder / "checkpoint.pt"))


def learned(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in ("format", "shards", "best", "losses")}


def assert_close(a: Any, b: Any, where: str = "", *, tolerance: float = 0.0) -> None:
    """The same, through dicts and lists; to the last bit, unless there is a tolerance."""
    if isinstance(a, torch.Tensor):
        bound = tolerance if a.is_floating_point() else 0.0
        torch.testing.assert_close(a, b, rtol=bound, atol=bound / 10, msg=lambda text: f"{where}: {text}")
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_close(a[key], b[key], f"{where}/{key}", tolerance=tolerance)
    else:
        assert a == b, where


@pytest.mark.parametrize("name", RUNS)
def test_equals_fit_bit_for_bit_and_goes_on_from_the_middle_of_an_epoch(name: str, tmp_path: Path) -> None:
    expected = fitted(name, tmp_path / "fit")
    whole = module(name)
    run = trainer(tmp_path)
    run.fit(whole)
    assert run.global_step == 9
    assert float(run.callback_metrics["loss"]) > 0
    assert_close(learned(whole.session.state_dict()), expected)
    assert whole.to_model().epoch == 3
    rows = whole.to_model().features(items())
    assert rows.shape == (43, 8)

    saves = ModelCheckpoint(tmp_path, every_n_train_steps=5, save_last=False)  # in the second epoch
    trainer(tmp_path, callbacks=[saves], enable_checkpointing=True, max_steps=5).fit(module(name))
    path = saves.best_model_path
    state = torch.load(path, weights_only=True)  # tensors, numbers and strings alone
    assert state["likewise"]["step"] == state["global_step"] == 5
    again, run = module(name), trainer(tmp_path)
    run.fit(again, ckpt_path=path, weights_only=True)
    assert run.global_step == 9
    assert_close(learned(again.session.state_dict()), expected)


@pytest.mark.parametrize("name", TAUGHT)
def test_labels_and_pairs_teach_as_in_fit_and_it_is_said_when_they_changed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = np.arange(43) % 5
    labels[7] = -1  # left out, where labels teach
    known = replace(items(), labels=labels, label_names=tuple("abcde"))
    pairs = [(f"v{i}", f"v{(i + 5 * (i % 3)) % 43}", int(i % 3 > 0)) for i in range(1, 43) if i % 3 or i < 30]
    pairs = [(a, b if a != b else "v0", alike) for a, b, alike in pairs]
    Path("pairs.csv").write_text("a,b,alike\n" + "".join(f"{a},{b},{alike}\n" for a, b, alike in pairs))
    chosen = settings_from({**SMALL, **TAUGHT[name]}, METHODS[TAUGHT[name]["method"]].settings)
    fit(known, out=tmp_path / "fit", settings=chosen, progress=False)
    learner = LikewiseModule(chosen, known)
    run = trainer(tmp_path)
    run.fit(learner)
    assert_close(learned(learner.session.state_dict()), learned(load_checkpoint(tmp_path / "fit" / "checkpoint.pt")))
    run.save_checkpoint(tmp_path / "it.ckpt")
    labels[[0, 1]] = labels[[1, 0]]
    Path("pairs.csv").write_text("a,b,alike\nv1,v2,1\nv2,v3,0\nv1,v4,0\n")
    capsys.readouterr()
    again = LikewiseModule(chosen, replace(known, labels=labels))
    trainer(tmp_path).fit(again, ckpt_path=tmp_path / "it.ckpt", weights_only=True)
    said = capsys.readouterr().err
    assert "warning: " in said
    assert "changed since the checkpoint" in said


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(SHARED)
    torchrun = [*python(), "-m", "torch.distributed.run", "--no-python", "--standalone", "--nproc_per_node", "2"]
    ended = subprocess.run(
        [*torchrun, *python(), str(tmp_path / "shared.py"), str(Path(__file__).parent), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("43 vectors") == ended.stderr.count("advice: items=43") == 2  # by the first one of two
    for name in ("moco", "nce"):
        state = torch.load(tmp_path / f"{name}.ckpt", weights_only=True)["likewise"]
        assert_close(learned(state), fitted(name, tmp_path / name), tolerance=1e-4)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_epochs": 4}, "max_epochs=4, max_steps=-1"),
        ({"max_epochs": None}, "max_epochs=1000, max_steps=-1"),
        ({"max_epochs": -1, "max_steps": 10}, "max_epochs=-1, max_steps=10"),
        ({"max_epochs": 2}, ""),
        ({"max_epochs": -1, "max_steps": 9}, ""),
    ],
)
def test_a_trainer_does_not_go_on_after_the_last_epoch(limits: dict[str, Any], said: str, tmp_path: Path) -> None:
    """It would be given empty epochs."""
    learner = module("simclr")
    if said:
        with pytest.raises(LikewiseError, match=said + r"\) would go on after the 3 epochs \(9 steps\)"):
            trainer(tmp_path, **limits).fit(learner)
    else:
        trainer(tmp_path, **limits).fit(learner)
        assert learner.session.step == (6 if limits["max_epochs"] == 2 else 9)


def test_malicious_releases_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    likewise.lightning.refuse_malicious()
    monkeypatch.setattr("likewise.lightning.version", lambda name: "2.6.3" if name == "lightning" else "2.6.6")
    with pytest.raises(LikewiseError, match=r"^lightning 2\.6\.3 is a malicious release"):
        likewise.lightning.refuse_malicious()


class Random(Callback):
    """Torch's own generator, before and after each step."""

    def __init__(self) -> None:
        self.states = list[bytes]()

    def on_train_batch_start(self, *_: Any) -> None:
        self.states.append(torch.get_rng_state().numpy().tobytes())

    def on_train_batch_end(self, *_: Any) -> None:
        self.states.append(torch.get_rng_state().numpy().tobytes())


def test_a_step_leaves_torchs_random_numbers_and_the_optimizer_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, learner = Random(), module("simclr")
    trainer(tmp_path, callbacks=[watch]).fit(learner)
    assert len(watch.states) == 18
    assert len(set(watch.states)) == 1

    learner = module("moco")
    monkeypatch.setattr("likewise.lightning.train_step", lambda session, batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path).fit(learner)
    assert type(learner.session.optimizer) is torch.optim.SGD  # not Lightning's, which counts


def test_the_pre_flight_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learner = module("moco")
    trainer(tmp_path, max_epochs=1).fit(learner)
    trainer(tmp_path, max_epochs=1).fit(learner)
    said = capsys.readouterr().err
    assert said.count("43 vectors") == 1
    assert "advice: items=43" in said


@pytest.mark.parametrize("order", ["first", "later"])
def test_the_package_lightning_is_served_where_it_is_imported_first(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Trainer takes modules of its own package alone, whose names and classes are the other's over again."""
    pytorch, strategies = ModuleType("lightning.pytorch"), ModuleType("lightning.pytorch.strategies")
    pytorch.LightningModule = type("LightningModule", (torch.nn.Module,), {})  # type: ignore[attr-defined]
    strategies.DDPStrategy = type("DDPStrategy", (), {})  # type: ignore[attr-defined]
    for imported in (ModuleType("lightning"), pytorch, strategies):
        monkeypatch.setitem(sys.modules, imported.__name__, imported)
    if order == "later":
        with pytest.warns(LikewiseWarning, match=r"was imported after likewise\.lightning.*or import .* first\."):
            module("simclr")
        return
    spec = spec_from_file_location("anew", likewise.lightning.__file__)
    assert spec is not None
    assert spec.loader is not None
    anew = module_from_spec(spec)
    spec.loader.exec_module(anew)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner = anew.LikewiseModule(settings("simclr"), items())
    assert isinstance(learner, pytorch.LightningModule)
    assert issubclass(anew.SharedSteps, strategies.DDPStrategy)


def test_what_does_not_go_together_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LikewiseError, match="set likewise's own precision"):
        trainer(tmp_path, precision="bf16-mixed").fit(module("simclr"))
    with pytest.raises(LikewiseError, match=r"bank.sharded is not for Lightning's"):
        trainer(tmp_path).fit(
            module("moco", **{"objective": "nonparametric-softmax", "dictionary": "bank", "bank.sharded": True})
        )
    with pytest.raises(LikewiseError, match=r"there is no run yet; Trainer.fit\(module\) starts one"):
        module("simclr").to_model()
    with pytest.raises(LikewiseError, match=r"43 items do not fill micro_batches=44 parts"):
        trainer(tmp_path).fit(module("simclr", micro_batches=44, batch_size=64))
    monkeypatch.setattr(Trainer, "world_size", 2)
    with pytest.raises(LikewiseError, match="several processes need Trainer"):
        trainer(tmp_path).fit(module("simclr"))
