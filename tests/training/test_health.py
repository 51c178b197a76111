"""What a person is told: verdicts, NaN with its step and items, the log, the learning rate; and a run that is well."""

import json
import math
import signal
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from likewise.config.overrides import settings_from
from likewise.config.settings import OptimSettings
from likewise.data import Items
from likewise.distributed.layout import Layout
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.methods import METHODS
from likewise.model import Model
from likewise.model import load as load_model
from likewise.objectives import TripletShares, triplet_shares
from likewise.training import loop
from likewise.training.build import build_session
from likewise.training.checkpoint import load_checkpoint, save_checkpoint
from likewise.training.decide import decide
from likewise.training.fit import fit
from likewise.training.health import Watch, measure, verdict
from likewise.training.metrics_log import MetricsLog, read_metrics
from likewise.training.progress import TrainingProgress
from likewise.training.samplers import EpochSampler
from likewise.training.step import Seen, learning_rate

SETTINGS: dict[str, Any] = {
    "encoder": {"name": "mlp", "hidden": 32, "dim": 16},
    "objective.noise": 32,
    "epochs": 3,
    "batch_size": 16,
    "checkpoint_seconds": 0.0,
    "knn_epochs": 0,
}


def vectors(n: int = 64, *, copies: bool = False) -> Items:
    rows = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    if copies:
        rows[:] = rows[0]
    return Items(ids=tuple(f"v{i}" for i in range(n)), values=rows, kind="vectors", source="vectors")


def unit_rows(n: int, dim: int, spread: float = 1.0) -> torch.Tensor:
    """Rows around one point: ``spread`` 0 puts all there, infinity is the whole sphere."""
    noise = torch.randn(n, dim, generator=torch.Generator().manual_seed(0))
    centre = torch.zeros(dim)
    centre[0] = math.sqrt(dim)
    return nn.functional.normalize(centre + spread * noise, dim=1)


# Verdicts


@pytest.mark.parametrize(("n", "dim"), [(2, 2), (2, 128), (4, 2), (8, 3), (128, 2), (128, 16), (16, 128), (256, 128)])
@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_batch_of_any_shape_is_not_flagged(n: int, dim: int, seed: int) -> None:
    rows = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    if n > 2:
        rows -= rows.mean(0)  # as centred embeddings are
    elif dim == 2:
        rows = torch.eye(2)
    assert verdict(measure(3.0, 5.0, nn.functional.normalize(rows, dim=1))) is None


@pytest.mark.parametrize(("n", "dim"), [(2, 128), (16, 2), (16, 128), (256, 64)])
def test_planted_collapse_is_flagged(n: int, dim: int) -> None:
    to_a_point = measure(3.0, 5.0, unit_rows(n, dim, spread=1e-4))
    found = verdict(to_a_point)
    assert found is not None
    assert found.kind == "collapse"
    assert f"effective rank 1.0 of {min(n, dim)}" in found.text
    assert "lower optim.lr" in found.text.lower()


def test_a_narrow_cone_is_flagged_though_its_rank_is_high() -> None:
    health = measure(3.0, 5.0, unit_rows(256, 128, spread=0.09))
    assert health.rank > 5
    found = verdict(health)
    assert found is not None
    assert found.kind == "collapse"


def test_collapse_to_a_line_is_flagged_though_the_rows_spread() -> None:
    signs = torch.tensor([1.0, -1.0]).repeat(32)[:, None]
    line = signs * nn.functional.normalize(torch.ones(1, 64), dim=1)
    health = measure(3.0, 5.0, line)
    assert health.spread == pytest.approx(1)  # half at each end: the spread alone says all is well
    found = verdict(health)
    assert found is not None
    assert found.kind == "collapse"


@pytest.mark.parametrize(
    ("loss", "kind"),
    [(5.0, "chance"), (4.95, "chance"), (5.2, "chance"), (5.5, "worse than chance"), (4.5, None), (0.1, None)],
)
def test_chance_level(loss: float, kind: str | None) -> None:
    found = verdict(measure(loss, 5.0, unit_rows(64, 16, spread=100)))
    assert (found.kind if found else None) == kind
    if kind == "chance":
        assert found is not None
        assert "nothing learned yet" in found.text
        assert f"{loss:.3f}" in found.text


def test_a_warning_is_said_once_and_again_after_it_went_away(capsys: pytest.CaptureFixture[str]) -> None:
    bad = verdict(measure(5.0, 5.0, unit_rows(64, 16, spread=100)))
    worse = verdict(measure(3.0, 5.0, unit_rows(64, 16, spread=1e-3)))
    with TrainingProgress(10) as bar:
        for warning in (bad, bad, worse, worse, None, worse):
            bar.warn_once(warning)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning:")]
    assert ["nothing learned" in line for line in said] == [True, False, False]


def test_a_run_on_copies_of_one_item_is_told_that_it_collapsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**SETTINGS, "views": {"noise": 0.0, "dropout": 0.0}, "encoder.centre": False}
    fit(vectors(copies=True), out=tmp_path / "run", settings=settings)
    last = read_metrics(tmp_path / "run")[-1]
    assert str(last["verdict"]).startswith("collapse")
    assert float(last["effective_rank"]) == pytest.approx(1, abs=1e-3)
    assert "warning: collapse" in capsys.readouterr().err


def test_a_run_that_learns_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {
        **{name: value for name, value in SETTINGS.items() if name != "objective.noise"},
        "objective.kind": "nonparametric-softmax",
        "objective.temperature": 0.1,
        "views": {"noise": 0.1, "dropout": 0.0},
        "epochs": 40,
        "optim.lr": 0.3,
        "checkpoint_seconds": 1e9,
    }
    fit(vectors(), out=tmp_path / "run", settings=settings)
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == list(range(4, 161, 4))
    assert float(lines[-1]["chance"]) == pytest.approx(math.log(64))
    assert float(lines[-1]["loss"]) < 0.6 * math.log(64)
    assert float(lines[-1]["loss"]) < 0.7 * float(lines[0]["loss"])
    assert [line for line in lines if "verdict" in line and float(line["epoch"]) > 20] == []
    assert 3 < float(lines[-1]["effective_rank"]) <= 16
    assert "collapse" not in capsys.readouterr().err


# NaN


class Breaks(nn.Module):
    """A backbone that gives NaN in training for batches that hold a marked item, from its second batch on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.batches = nn.Linear(8, 8), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.linear(x)
        if self.training:
            self.batches += 1
            if self.batches == 6:
                rows = rows * float("nan")
        return rows


def test_nan_stops_the_run_with_step_and_items_and_is_never_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(LikewiseError) as caught:
        fit(vectors(), out=tmp_path / "run", settings=SETTINGS, backbone=Breaks(), progress=False)
    report = json.loads((tmp_path / "run/nan.json").read_text())
    assert report["step"] == 6
    sampler = EpochSampler(64, 16, 0)
    names = [f"v{row}" for row in sampler.rows(5).tolist()]
    assert report["items"] == names
    text = str(caught.value)
    assert "nan at step 6" in text
    assert ", ".join(names[:3]) in text
    assert "lower optim.lr" in text
    saved = load_checkpoint(tmp_path / "run/checkpoint.pt")
    assert saved["step"] == 5
    assert_finite(saved)
    assert not (tmp_path / "run/model.safetensors").exists()
    assert all(math.isfinite(float(line["loss"])) for line in read_metrics(tmp_path / "run"))


def test_the_first_of_several_bad_steps_is_the_one_that_is_named(tmp_path: Path) -> None:
    watch = Watch([f"v{i}" for i in range(20)], tmp_path, [])
    for step, value in ((1, 2.0), (2, math.inf), (3, math.nan)):
        watch.see(step, torch.tensor(value), torch.arange(step * 4, step * 4 + 4))
    with pytest.raises(LikewiseError, match="the loss became inf at step 2, on a batch with v8, v9, v10"):
        watch.flush()


def test_weights_that_break_while_the_loss_is_fine_are_not_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = nn.Linear(8, 8)
    steps = 0

    def poison(grad: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return grad * math.inf if steps == 12 else grad  # the last step: no later loss would tell

    assert backbone.weight.register_hook(poison)
    with pytest.raises(LikewiseError, match="a weight became NaN or infinite at step 12"):
        fit(vectors(), out=tmp_path / "run", settings=SETTINGS, backbone=backbone, progress=False)
    saved = load_checkpoint(tmp_path / "run/checkpoint.pt")
    assert saved["step"] == 11
    assert_finite(saved)
    assert not (tmp_path / "run/model.safetensors").exists()


def assert_finite(saved: dict[str, Any]) -> None:
    for part in ("embedder", "objective", "dictionary"):
        for name, value in saved[part].items():
            if isinstance(value, torch.Tensor):
                assert bool(value.isfinite().all()), f"{part}.{name}"


# The log


def test_going_back_drops_later_lines_and_a_line_cut_off(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, step=0, tensorboard=False)
    for step in (2, 4, 4, 6, 8):
        log.write(step, {"loss": step / 2})
    with log.path.open("a") as file:
        file.write('{"step": 10, "lo')
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 4, 4, 6, 8]
    log = MetricsLog(tmp_path, step=6, tensorboard=False)
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 4, 4, 6]
    log.write(8, {"loss": 0.5, "verdict": "fine"})
    assert [json.loads(text)["loss"] for text in log.path.read_text().splitlines()] == [1, 2, 2, 3, 0.5]
    MetricsLog(tmp_path, step=0, tensorboard=False)
    assert read_metrics(tmp_path) == []


def test_a_kill_while_the_log_is_shortened_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MetricsLog(tmp_path, step=0, tensorboard=False)
    log.write(1, {"loss": 1.0})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        MetricsLog(tmp_path, step=1, tensorboard=False)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1]


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_has_the_log_and_a_resumed_run_hides_what_came_after(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, step=0, tensorboard=True)
    for step in (2, 4, 6):
        log.write(step, {"loss": step * 0.5, "verdict": "chance"})
    before_closing = read_events(tmp_path / "tensorboard")  # a killed run closes nothing
    assert before_closing == {"loss": [(2, 1.0), (4, 2.0), (6, 3.0)]}
    log.close()
    resumed = MetricsLog(tmp_path, step=4, tensorboard=True)
    resumed.write(6, {"loss": 9.0})
    resumed.close()
    assert read_events(tmp_path / "tensorboard") == {"loss": [(2, 1.0), (4, 2.0), (6, 9.0)]}


def test_a_run_writes_tensorboard_where_asked(tmp_path: Path) -> None:
    fit(
        vectors(),
        out=tmp_path / "run",
        settings={**SETTINGS, "tensorboard": True, "objective.kind": "nce"},
        progress=False,
    )
    losses = [(line["step"], line["loss"]) for line in read_metrics(tmp_path / "run")]
    events = read_events(tmp_path / "run/tensorboard")
    assert [step for step, _ in events["loss"]] == [step for step, _ in losses]
    np.testing.assert_allclose([value for _, value in events["loss"]], [float(value) for _, value in losses], rtol=1e-6)
    assert {"lr", "chance", "effective_rank", "spread", "log_z", "items_per_second"} <= set(events)


# The learning rate


def test_cosine_starts_at_the_rate_and_ends_near_zero() -> None:
    optim = OptimSettings(lr=0.2)
    rates = [learning_rate(optim, step, 100) for step in range(100)]
    expected = 0.2 * 0.5 * (1 + np.cos(np.pi * np.arange(100) / 100))
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_steps_drop_at_the_papers_epochs() -> None:
    optim = OptimSettings(lr=0.03, schedule="steps")  # 120 and 160 of 200
    rates = [learning_rate(optim, epoch * 7, 200 * 7) for epoch in range(200)]
    np.testing.assert_allclose(rates, [0.03] * 120 + [0.003] * 40 + [0.0003] * 40, rtol=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "steps", "constant"])
def test_warm_up_rises_evenly_to_the_rate_and_joins_the_schedule(schedule: Any) -> None:
    optim = OptimSettings(lr=1.0, schedule=schedule, warmup=0.1, milestones=(0.5,))
    rates = [learning_rate(optim, step, 100) for step in range(100)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert rates[10] == pytest.approx(1.0)
    later = {"cosine": 0.5 * (1 + math.cos(math.pi * 0.5)), "steps": 0.1, "constant": 1.0}[schedule]
    assert rates[55] == pytest.approx(later)


def test_the_loop_trains_at_these_rates_and_logs_mean_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    losses: list[float] = []
    original = loop.train_step

    def spy(session: Any, *rest: Any) -> Any:
        loss, queries = original(session, *rest)
        seen.append(session.rate)
        losses.append(float(loss))
        return loss, queries

    monkeypatch.setattr(loop, "train_step", spy)
    fit(vectors(), out=tmp_path / "run", settings={**SETTINGS, "optim.warmup": 0.25}, progress=False)
    optim = OptimSettings(warmup=0.25)
    assert seen == [learning_rate(optim, step, 12) for step in range(12)]
    lines = read_metrics(tmp_path / "run")
    assert [line["lr"] for line in lines] == [seen[3], seen[7], seen[11]]
    np.testing.assert_allclose([float(line["loss"]) for line in lines], np.reshape(losses, (3, 4)).mean(1))


# What there is to learn from, where labels train


def of_classes(classes: int, n: int = 48) -> tuple[np.ndarray, list[str]]:
    return np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32), [str(row % classes) for row in range(n)]


SUPERVISED: dict[str, Any] = {
    "encoder": {"name": "mlp", "hidden": 16, "dim": 8},
    "epochs": 2,
    "batch_size": 16,
    "sampler.per_class": 2,
    "knn_epochs": 0,
}


def test_the_rows_of_all_processes_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """ClassSampler lays a batch out item by item: of four processes each has one item of a class."""
    rows = unit_rows(32, 8, spread=100)
    labels = torch.arange(8).repeat(4)
    monkeypatch.setattr(loop.processes, "gather_constant", lambda view, sizes: rows)
    settings = METHODS["facenet"].settings
    settings = decide(settings_from({"encoder": SUPERVISED["encoder"]}, settings), 48)
    model = Model.untrained(settings, vectors(48))
    session = build_session(settings, model.embedder, vectors(48), 10, torch.device("cpu"))
    layout = Layout((8, 8, 8, 8), 4, 1)
    health = loop.look(session, 0.1, rows[8:16], Seen([], labels, layout, torch.arange(32)))
    assert health.valid == 1.0
    assert health.triplets is not None
    assert health.triplets == triplet_shares(rows, labels)


@pytest.mark.parametrize("method", ["facenet", "margin", "circle", "histogram", "angular"])
def test_batches_without_positives_are_said_whatever_the_objective(method: str, tmp_path: Path) -> None:
    settings = {**SUPERVISED, "sampler.kind": "instance", "epochs": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LikewiseWarning)
        fit(of_classes(40), out=tmp_path / "run", method=method, settings=settings, progress=False)
        fit(of_classes(8), out=tmp_path / "well", method=method, settings=SUPERVISED, progress=False)
    lines = read_metrics(tmp_path / "run")
    assert float(lines[-1]["valid_anchors"]) < 0.5
    assert any("have a positive and a negative" in str(line.get("verdict")) for line in lines)
    assert {line["valid_anchors"] for line in read_metrics(tmp_path / "well")} == {1.0}


def test_the_keys_of_a_queue_count(tmp_path: Path) -> None:
    settings = {**SUPERVISED, "sampler.kind": "instance", "dictionary": "queue", "queue.size": 64, "batch_size": 8}
    fit(of_classes(16), out=tmp_path / "run", method="facenet", settings=settings, progress=False)
    lines = read_metrics(tmp_path / "run")
    assert float(lines[-1]["valid_anchors"]) == 1.0
    assert not any("of their label" in str(line.get("verdict")) for line in lines)


def test_a_loss_at_the_margin_by_chance_is_not_stuck() -> None:
    """Of the few active triplets the mean may be the margin; where all items are the same, all are active."""
    few, all_of_them = TripletShares(1.0, 0.1, 0.2), TripletShares(1.0, 1.0, 0.2)
    health = replace(measure(0.2, None, unit_rows(64, 16, spread=100)), margin=0.2, valid=1.0)
    assert verdict(replace(health, triplets=few)) is None
    said = verdict(replace(health, triplets=all_of_them))
    assert said is not None
    assert said.kind == "margin"


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("infonce", "lower optim.lr or raise objective.temperature and start again."),
        ("circle", "lower optim.lr or lower objective.gamma and start again."),
        ("contrastive", "lower optim.lr and start again."),
    ],
)
def test_the_advice_after_nan_names_settings_that_the_objective_has(kind: str, advice: str, tmp_path: Path) -> None:
    parameters = settings_from({"objective": kind}).objective.has()
    watch = Watch(["a", "b"], tmp_path, [], parameters=parameters)
    watch.see(1, torch.tensor(math.nan), torch.arange(2))
    with pytest.raises(LikewiseError) as caught:
        watch.flush()
    assert str(caught.value).endswith(advice)


def test_nothing_new_leaves_the_mean_as_it_was(tmp_path: Path) -> None:
    watch = Watch(["a", "b"], tmp_path, [])
    for step, loss in ((1, 2.0), (2, 4.0)):
        watch.see(step, torch.tensor(loss), torch.arange(2))
    assert watch.flush()[0] == watch.flush()[0] == 3.0


def test_one_labelled_item_has_no_neighbour_to_be_judged_by() -> None:
    items = replace(vectors(8), labels=np.array([1, *[-1] * 7]), label_names=("a", "b"))
    assert loop.online_knn(Model.untrained(settings_from(SETTINGS), items), items) is None


def test_the_best_weights_stay_where_a_later_score_is_no_better(tmp_path: Path) -> None:
    items, settings = vectors(8), settings_from(SETTINGS | {"keep_best": True})
    model = Model.untrained(settings, items)
    session = build_session(decide(settings, 8), model.embedder, items, 10, torch.device("cpu"))
    for epoch, score in ((1.0, 0.5), (2.0, 0.5), (3.0, 0.4)):
        loop.keep_best(session, model, score, epoch, tmp_path)
    assert session.best == (0.5, 1.0)
    assert load_model(tmp_path / "best.safetensors").epoch == 1.0


def test_a_thread_that_is_not_the_main_one_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def held() -> tuple[bool, bool]:
        with loop.stop_on_signal() as stop:
            return stop.asked, signal.getsignal(signal.SIGTERM) is before

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(held).result() == (False, True)


def test_numbers_that_float32_cannot_compute_with_are_refused_before_training(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    rows[:, 1] *= 3e38 / abs(rows[:, 1]).max()
    with pytest.raises(LikewiseError, match=r"^feature 1 of .* goes up to 3e\+38, and float32 .*; divide the data by"):
        fit(rows, out=tmp_path / "run", settings={"encoder.name": "mlp", "epochs": 1}, progress=False)


def test_a_checkpoint_that_cannot_be_written_says_what_is_left(tmp_path: Path) -> None:
    with pytest.raises(LikewiseError, match=r"\(No such file or directory\); there is no checkpoint yet\. Check"):
        save_checkpoint(tmp_path / "missing" / "checkpoint.pt", {})
