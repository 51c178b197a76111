"""Minutes: as many steps as fit, counted anew while the machine's speed changes; threads; runs that are made longer."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from likewise.cli.main import main
from likewise.data import Items
from likewise.errors import Interrupted, LikewiseError
from likewise.training import loop, pace
from likewise.training.budget import Budget
from likewise.training.checkpoint import CHECKPOINT, load_checkpoint
from likewise.training.fit import fit
from likewise.training.metrics_log import read_metrics
from likewise.training.pace import ThreadWatch, thread_choices, usable_cores
from likewise.training.run_folder import read_config
from likewise.training.session import Session

SMALL: dict[str, Any] = {
    **{"encoder.name": "mlp", "encoder.hidden": 8, "encoder.dim": 4, "batch_size": 8, "knn_epochs": 0},
    **{"method": "npid", "checkpoint_seconds": 1000.0, "threads": 1},
}


def vectors(n: int = 24) -> Items:
    rows = np.random.default_rng(0).normal(size=(n, 6)).astype(np.float32)
    return Items(ids=tuple(f"v{i}" for i in range(n)), values=rows, kind="vectors", source="vectors")


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    "seconds_of",
    [lambda t: 0.1, lambda t: 0.3, lambda t: 0.02, lambda t: 0.1 if t < 40 else 0.4, lambda t: 0.4 if t < 40 else 0.1],
    ids=["as planned", "slower", "faster", "slows down", "speeds up"],
)
@pytest.mark.parametrize("used", [0.0, 30.0])
def test_a_run_ends_in_its_time_whatever_the_speed(seconds_of: Callable[[float], float], used: float) -> None:
    clock, session = Clock(), SimpleNamespace(step=50, total=50 + 700, device=torch.device("cpu"))
    budget = Budget(seconds=100.0, used=used, clock=clock)
    budget.start(session.step)
    while session.step < session.total:
        clock.now += seconds_of(clock.now)
        session.step += 1
        budget.follow(cast(Session, session))
    assert budget.spent == used + clock.now
    assert 92 < budget.spent < 108


def test_a_run_whose_time_is_over_makes_no_more_steps_than_it_has() -> None:
    clock, session = Clock(), SimpleNamespace(step=0, total=3, device=torch.device("cpu"))
    budget = Budget(seconds=10.0, used=12.0, clock=clock)  # the preparation took longer than the run may
    budget.start(0)
    while session.step < session.total:
        clock.now += 1.0
        session.step += 1
        budget.follow(cast(Session, session))
    assert session.step <= 3


@pytest.mark.parametrize("early", [0.3, 0.7])
@pytest.mark.parametrize("slower", [1.0, 2.0])
def test_steps_that_are_faster_at_first_are_counted_as_such(early: float, slower: float) -> None:
    clock, session = Clock(), SimpleNamespace(step=0, total=0, device=torch.device("cpu"))
    budget = Budget(seconds=100.0, early=early, early_cost=0.25, clock=clock)
    session.total = first = budget.steps(100.0 / 0.1)
    budget.start(0)
    while session.step < session.total:
        clock.now += slower * (0.025 if session.step < early * session.total else 0.1)
        session.step += 1
        budget.follow(cast(Session, session))
    assert 92 < budget.spent < 108
    assert 0.9 < session.total / (first / slower) < 1.1
    assert abs(budget.work(0, first, first) - 1000) < 2


def test_minutes_choose_the_epochs_and_the_schedule_ends(tmp_path: Path) -> None:
    fit(vectors(), out=tmp_path / "first", settings={**SMALL, "epochs": 1}, progress=False)  # torch loads its parts
    model = fit(vectors(), out=tmp_path / "r", settings={**SMALL, "minutes": 0.05}, progress=False)
    saved, state = read_config(tmp_path / "r"), load_checkpoint(tmp_path / "r" / CHECKPOINT)
    assert saved == model.settings
    assert saved.minutes == 0.05
    assert state["step"] == state["total"] > 3
    assert saved.epochs == -(-state["step"] // 3)
    rates = [float(line["lr"]) for line in read_metrics(tmp_path / "r") if "lr" in line]
    assert rates[-1] < 0.05 * saved.optim.lr


def test_a_run_of_minutes_that_was_stopped_goes_on_to_its_own_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SMALL, "minutes": 10.0}
    step, count = loop.train_step, 0

    def stops(*given: Any) -> Any:
        nonlocal count
        count += 1
        stop.asked = count == 40
        return step(*given)

    stop = loop.Stop()

    monkeypatch.setattr(loop, "train_step", stops)
    monkeypatch.setattr(loop, "stop_on_signal", lambda: _Context(stop))
    with pytest.raises(Interrupted):
        fit(vectors(), out=tmp_path / "r", settings=settings, progress=False)
    state = load_checkpoint(tmp_path / "r" / CHECKPOINT)
    assert 0 < state["seconds"] < 600
    assert state["step"] < state["total"]
    monkeypatch.setattr(loop, "train_step", step)
    stop.asked = True  # at the first step
    with pytest.raises(Interrupted):
        fit(vectors(), out=tmp_path / "r", resume=True, progress=False)
    again = load_checkpoint(tmp_path / "r" / CHECKPOINT)
    assert again["total"] == state["total"]
    assert again["step"] == state["step"] + 1
    assert again["seconds"] > state["seconds"]


class _Context:
    def __init__(self, stop: loop.Stop) -> None:
        self.stop = stop

    def __enter__(self) -> loop.Stop:
        return self.stop

    def __exit__(self, *_: object) -> None:
        pass


def test_a_finished_run_gets_more_epochs_or_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r"
    fit(vectors(), out=out, settings={**SMALL, "epochs": 2}, progress=False)
    fit(vectors(), out=out, settings={"epochs": 4}, resume=True)
    said = capsys.readouterr().err
    assert "the run goes on from step 6 to step 12: the learning rate starts again at 0.015" in said
    assert load_checkpoint(out / CHECKPOINT)["step"] == 12
    assert read_config(out).epochs == 4
    assert [line["step"] for line in read_metrics(out)] == [3, 6, 9, 12]
    model = fit(vectors(), out=out, settings={"minutes": 0.05}, resume=True)
    assert "the run goes on from step 12 to step" in capsys.readouterr().err
    state = load_checkpoint(out / CHECKPOINT)
    assert state["step"] == state["total"] > 15
    assert (model.settings.minutes, model.settings.optim.lr) == (0.05, 0.03)
    fit(vectors(), out=out, settings={"epochs": 3}, resume=True)
    assert "are done already: nothing is trained." in capsys.readouterr().err


def test_more_epochs_from_the_beginning_are_as_before(tmp_path: Path) -> None:
    """A run that is not made longer depends on no clock."""
    runs = [fit(vectors(), out=tmp_path / name, settings={**SMALL, "epochs": 3}, progress=False) for name in "ab"]
    assert torch.equal(*(run.features(vectors()) for run in runs))


def test_minutes_and_epochs_together_are_refused_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "x.npy", "--out", str(tmp_path / "r"), "--minutes", "3", "--epochs", "4"]) == 2
    assert "--minutes and --epochs both say how long to train; leave one out." in capsys.readouterr().err


def test_a_later_word_wins_between_minutes_and_epochs(tmp_path: Path) -> None:
    for settings, minutes in (([{"minutes": 9.0}, {"epochs": 1}], None), ([{"epochs": 7}, {"minutes": 0.01}], 0.01)):
        model = fit(vectors(), out=tmp_path / str(minutes), settings=[SMALL, *settings], progress=False)
        assert model.settings.minutes == minutes


class Uncopied(nn.Linear):
    def __deepcopy__(self, _: object) -> "Uncopied":
        raise RuntimeError("no copies")


def test_ones_own_backbone_is_timed_as_a_copy(tmp_path: Path) -> None:
    settings = {**SMALL, "encoder.name": "resnet-small", "optim.lr": 1e-9}
    own = nn.Linear(6, 4)
    before = own.weight.clone()
    fit(vectors(), out=tmp_path / "r", settings={**settings, "epochs": 1}, backbone=own, progress=False)
    assert torch.allclose(own.weight, before)
    settings["minutes"] = 1
    with pytest.raises(LikewiseError, match=r"the backbone can't be copied .* \(RuntimeError: no copies\)"):
        fit(vectors(), out=tmp_path / "s", settings=settings, backbone=Uncopied(6, 4), progress=False)
    assert not (tmp_path / "s").exists()


# Threads


def test_the_quota_of_a_container_bounds_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/sys/fs/cgroup/cpu.max": "150000 100000"}
    monkeypatch.setattr(pace, "_read", lambda path: [files[path]] if path in files else [])
    monkeypatch.setattr(pace.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert usable_cores() == 2
    files["/sys/fs/cgroup/cpu.max"] = "max 100000"
    assert usable_cores() == 16
    files |= {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}
    assert usable_cores() == 16
    files["/sys/fs/cgroup/cpu/cpu.cfs_quota_us"] = "50000"
    assert usable_cores() == 1


def test_who_has_decided_about_threads_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(pace.torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(pace, "usable_cores", lambda: 3)
    for name in pace.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    assert thread_choices(0, cpu) == [3, 1]
    assert thread_choices(2, cpu) == [2]
    assert thread_choices(0, torch.device("meta")) == [4]
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert thread_choices(0, cpu) == [4]


def test_a_run_that_becomes_slow_tries_the_other_number_of_threads() -> None:
    for speed_of_one, kept in ((300.0, 1), (90.0, 4)):
        used = list[int]()
        watch = ThreadWatch([4, 1], used.append, threads=4)
        assert [watch.see(speed) for speed in (400.0, 390.0, 210.0)] == [None] * 3  # slower, but not by half
        assert not used
        watch.see(100.0)
        assert used == [1]
        said = watch.see(speed_of_one)
        assert (said is not None) == (kept == 1)
        assert (used[-1] if said is None else 1) == kept
    assert said is None
    watch.see(100.0)
    assert used == [1, 4]  # this is its speed now


def test_a_run_with_few_threads_looks_whether_the_machine_became_free() -> None:
    clock, used = Clock(), list[int]()
    watch = ThreadWatch([4, 1], used.append, threads=1, clock=clock)
    for minute, speed_of_four in ((0.5, 0.0), (1.1, 120.0), (2.0, 0.0), (3.2, 500.0)):
        clock.now = 60 * minute
        assert watch.see(100.0) is None
        if speed_of_four:  # after one minute, and after two more
            assert used.pop() == 4
            said = watch.see(speed_of_four)
            assert said == (
                None if speed_of_four < 125 else "with threads=4 the speed is 500 items/s; with 1 it was 100."
            )
    clock.now = 1e6
    watch.see(500.0)
    assert used == [1]  # back after the first look; after the second, more threads stay
