"""2N steps ≡ N + a stop + N, bit for bit, whatever the stop is: Ctrl-C, kill -9 at any moment, a full disk."""

import json
import os
import resource
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from likewise.cli.main import main
from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.errors import Interrupted, LikewiseError
from likewise.model import load
from likewise.proof.fork_server import python
from likewise.training import checkpoint, loop
from likewise.training.checkpoint import load_checkpoint, save_checkpoint
from likewise.training.fit import fit
from likewise.training.loop import STOPS, UNUSED, stop_on_signal
from likewise.training.metrics_log import read_metrics


def over(settings: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """``values`` over ``settings``; another kind of objective begins with its own defaults."""
    other = "objective.kind" in values
    return {name: value for name, value in settings.items() if not (other and name.startswith("objective."))} | values


VECTORS: dict[str, Any] = {
    "encoder": {"name": "mlp", "hidden": 16, "dim": 8},
    "objective.kind": "nce",
    "objective.noise": 24,
    "epochs": 4,
    "batch_size": 12,  # 40 items: 4 steps an epoch, 16 in all
    "checkpoint_seconds": 0.0,  # after every step
    "knn_epochs": 2,
}
IMAGES: dict[str, Any] = {
    **VECTORS,
    "encoder": {"name": "resnet-small", "dim": 8},
    "size": 16,
    "epochs": 2,
    "batch_size": 14,  # 40 items: 3 steps an epoch
    "views": {"rotation": 10.0, "blur": 0.5},
}


def vectors(n: int = 40) -> Items:
    rows = np.random.default_rng(0).normal(size=(n, 6)).astype(np.float32)
    return Items(
        ids=tuple(f"v{i}" for i in range(n)),
        values=rows,
        kind="vectors",
        labels=(rows[:, 0] > 0).astype(np.int64),
        label_names=("low", "high"),
        source="vectors",
    )


def images(n: int = 40) -> Items:
    pixels = np.random.default_rng(1).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    return Items(ids=tuple(f"i{i}" for i in range(n)), values=pixels, kind="images", source="images")


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, through dicts and lists."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(type(a) is type(b) and a == b)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def metrics(folder: Path) -> list[dict[str, float | str]]:
    lines = read_metrics(folder)
    return [{key: value for key, value in line.items() if key != "items_per_second"} for line in lines]


def assert_same_run(a: Path, b: Path) -> None:
    """Weights, bank, log Z, momentum, generators, names, best, step, logs and the model: all of it."""
    one, two = load_checkpoint(a / "checkpoint.pt"), load_checkpoint(b / "checkpoint.pt")
    assert list(one) == list(two)
    for key in one:
        assert same(one[key], two[key]), key
    assert metrics(a) == metrics(b)
    assert same(dict(load(a).embedder.state_dict()), dict(load(b).embedder.state_dict()))


class Killed(BaseException):
    """What no handler of the program catches."""


def stop_after(monkeypatch: pytest.MonkeyPatch, saves: int) -> None:
    """Ends the process, as far as the program can tell, right after checkpoint number ``saves``."""
    done = 0
    original = save_checkpoint

    def count(path: Path, state: dict[str, Any]) -> None:
        nonlocal done
        original(path, state)
        done += 1
        if done == saves:
            raise Killed

    monkeypatch.setattr(checkpoint, "save_checkpoint", count)


OBJECTIVES: dict[str, dict[str, Any]] = {
    "nce, ema": {"objective.log_z": "ema"},
    "nce, first, per example": {"objective.log_z": "first", "objective.draw": "per-example"},
    "nce, exact, proximal": {
        "objective.log_z": "exact",
        "objective.positive_in_noise": False,
        "objective.proximal": 5.0,
        "bank.momentum": 0.0,
    },
    "softmax": {"objective.kind": "nonparametric-softmax", "objective.proximal": 1.0, "optim.schedule": "steps"},
    "parametric": {"objective.kind": "parametric", "optim.nesterov": True, "optim.warmup": 0.3},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_resumed_equals_uninterrupted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOG_STEPS", 3)  # also lines, and means of losses, within an epoch
    settings = over(VECTORS, OBJECTIVES[name])
    fit(vectors(), out=tmp_path / "whole", settings={**settings, "checkpoint_seconds": 1e9}, progress=False)
    for stop in (1, 4, 6, 15):
        out = tmp_path / f"stopped{stop}"
        with monkeypatch.context() as patch:
            stop_after(patch, stop)
            with pytest.raises(Killed):
                fit(vectors(), out=out, settings=settings, progress=False)
        assert load_checkpoint(out / "checkpoint.pt")["step"] == stop
        fit(vectors(), out=out, resume=True, progress=False)
        assert_same_run(tmp_path / "whole", out)


PICTURES: dict[str, dict[str, Any]] = {
    "nce": {"objective.kind": "nce"},
    "softmax": {"objective.kind": "nonparametric-softmax"},
    "muon, fine, half the side": {"optim.name": "muon", "encoder.name": "resnet-fine", "views.small_until": 0.5},
}


@pytest.mark.parametrize("name", PICTURES)
def test_resumed_equals_uninterrupted_on_images(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = over(IMAGES, PICTURES[name])
    fit(images(), out=tmp_path / "whole", settings={**settings, "checkpoint_seconds": 1e9}, progress=False)
    for stop in (2, 3):
        out = tmp_path / f"stopped{stop}"
        with monkeypatch.context() as patch:
            stop_after(patch, stop)
            with pytest.raises(Killed):
                fit(images(), out=out, settings=settings, progress=False)
        fit(images(), out=out, resume=True, progress=False)
        assert_same_run(tmp_path / "whole", out)


def test_several_stops_and_a_stop_before_the_first_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(vectors(), out=tmp_path / "whole", settings=VECTORS, progress=False)
    out = tmp_path / "stopped"

    def fail(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_checkpoint", fail)
        with pytest.raises(Killed):
            fit(vectors(), out=out, settings=VECTORS, progress=False)
    assert not (out / "checkpoint.pt").exists()
    for stop in (2, 3, 4):
        with monkeypatch.context() as patch:
            stop_after(patch, stop)
            with pytest.raises(Killed):
                fit(vectors(), out=out, resume=True, progress=False)
    assert load_checkpoint(out / "checkpoint.pt")["step"] == 9
    fit(vectors(), out=out, resume=True, progress=False)
    assert_same_run(tmp_path / "whole", out)


def test_random_numbers_of_ones_own_backbone_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def backbone() -> nn.Module:
        torch.manual_seed(5)
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5))

    def run(out: str, *, resume: bool = False) -> None:
        fit(vectors(), out=tmp_path / out, settings=VECTORS, backbone=backbone(), resume=resume, progress=False)

    run("whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(Killed):
            run("stopped")
    run("stopped", resume=True)
    one, two = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "stopped"))
    assert same(one, two)


# Real processes. One script imports torch once and forks: a child trains and dies, another goes on with its run.

FORKS = """
import json, os, signal, sys, time, torch
import torch._dynamo  # what a first step imports, once for all children
import likewise.data.cache, likewise.data.sources, likewise.training.fit
from likewise.cli.main import main
from likewise.training import checkpoint, loop

torch.set_num_threads(1)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def on_call(number, action, original):
    calls = 0
    def count(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == number:
            action(*arguments)
        return original(*arguments, **named)
    return count

class Half:
    # Dies in the middle of a file.
    def __init__(self, file, room):
        self.file, self.room = file, room
    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            self.file.write(bytes(data)[: len(data) // 2])
            self.file.flush()
            die()
        return self.file.write(data)
    def flush(self):
        self.file.flush()

def half_written(path, state, original=checkpoint.save_checkpoint):
    if state["step"] == 6:
        save = torch.save
        checkpoint.torch.save = lambda values, file: save(values, Half(file, 5000))
    original(path, state)

def patch(moment):
    if moment == "before the first checkpoint":
        checkpoint.save_checkpoint = die
    elif moment == "after a checkpoint":
        checkpoint.save_checkpoint = on_call(8, die, checkpoint.save_checkpoint)  # step 8 is in the log, seven on disk
    elif moment == "half written":
        checkpoint.save_checkpoint = half_written
    elif moment == "before the rename":
        os.replace = on_call(9, die, os.replace)
    elif moment == "in the log":
        loop.MetricsLog.write = on_call(2, lambda log, *_: (log.path.open("a").write('{"step": 8, "lo'), die()),
                                        loop.MetricsLog.write)
    elif moment == "before the model":
        from likewise.model import Model
        Model.save = die

def child(arguments, moment=None):
    process = os.fork()
    if process == 0:
        patch(moment)
        code = 99
        try:
            code = main(arguments)
        finally:
            os._exit(code)
    return process

def result(process):
    status = os.waitpid(process, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

data, config, folder, *moments = sys.argv[1:]
codes = {"whole": [result(child(["fit", data, "--out", folder + "/whole", "--config", config]))]}
for moment in moments:
    out = folder + "/" + moment
    process = child(["fit", data, "--out", out, "--config", config], moment)
    if moment.startswith("any time"):
        until = time.time() + 60
        while not os.path.exists(out + "/checkpoint.pt") and time.time() < until:
            time.sleep(0.001)
        time.sleep(float(moment.split()[-1]))
        os.kill(process, signal.SIGKILL)
    codes[moment] = [result(process), result(child(["fit", data, "--out", out, "--resume"]))]
print(json.dumps(codes))
"""

MOMENTS = (
    "before the first checkpoint",
    "after a checkpoint",
    "half written",
    "before the rename",
    "in the log",
    "before the model",
    "any time 0.01",
    "any time 0.04",
)


def environment(tmp: Path) -> dict[str, str]:
    return {**os.environ, "LIKEWISE_CACHE": str(tmp / "cache")}


def write_inputs(tmp: Path, settings: dict[str, Any]) -> tuple[str, str]:
    np.save(tmp / "data.npy", vectors().values)
    (tmp / "settings.yaml").write_text(json.dumps(settings))  # JSON is YAML
    return str(tmp / "data.npy"), str(tmp / "settings.yaml")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[int]]]:
    """A folder with a whole run and one that was killed at each moment and resumed; the exit codes."""
    tmp = tmp_path_factory.mktemp("killed")
    command = [*python(), "-c", FORKS, *write_inputs(tmp, VECTORS), str(tmp), *MOMENTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment(tmp), check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return tmp, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9(killed: tuple[Path, dict[str, list[int]]], moment: str) -> None:
    folder, codes = killed
    assert codes["whole"] == [0]
    died, resumed = codes[moment]
    assert died == -signal.SIGKILL or (moment.startswith("any time") and died == 0)
    assert resumed == 0
    assert_same_run(folder / "whole", folder / moment)
    assert [entry.name for entry in (folder / moment).iterdir() if ".tmp-" in entry.name] == []


def test_ctrl_c_saves_says_how_to_resume_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path / "cache"))
    data, config = write_inputs(tmp_path, {**VECTORS, "epochs": 120, "checkpoint_seconds": 1e9, "knn_epochs": 0})
    out = tmp_path / "a run"  # a space: the command must be quoted
    process = subprocess.Popen(
        [*python(), "-m", "likewise", "fit", data, "--out", str(out), "--config", config],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    )
    until = time.monotonic() + 60
    while len(read_metrics(out)) < 3 and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    last = said.splitlines()[-1]
    step = load_checkpoint(out / "checkpoint.pt")["step"]
    assert f"Stopped at step {step} of 480; everything is saved." in last
    assert 0 < step < 480
    assert not (out / "model.safetensors").exists()

    command = shlex.split(last.partition("Continue with: ")[2])
    assert command[:2] == ["likewise", "fit"]
    assert main(command[1:]) == 0
    assert main(["fit", data, "--out", str(tmp_path / "whole"), "--config", config]) == 0
    capsys.readouterr()
    assert_same_run(tmp_path / "whole", out)


@pytest.mark.parametrize("name", STOPS + UNUSED)
def test_schedulers_and_closed_terminals_stop_as_ctrl_c_does(name: str) -> None:
    number = signal.Signals[name]
    before = signal.getsignal(number)
    with stop_on_signal() as stop:
        signal.raise_signal(number)
        assert (stop.asked, stop.number) == (True, number)
    assert signal.getsignal(number) == before


def test_a_timer_of_the_user_stays_the_users() -> None:
    rung = list[int]()
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        with stop_on_signal() as stop:
            signal.raise_signal(signal.SIGALRM)
        assert rung == [signal.SIGALRM]
        assert not stop.asked
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As SIGHUP is under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_in_python_is_interrupted_and_the_handlers_come_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    sent = []

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training and not sent:
                sent.append(os.kill(os.getpid(), signal.SIGTERM))
            result: torch.Tensor = self.linear(x)
            return result

    with pytest.raises(Interrupted, match=r"Stopped at step 1 of 16; everything is saved") as stopped:
        fit(
            vectors(),
            out=tmp_path / "run",
            settings={**VECTORS, "checkpoint_seconds": 1e9},
            backbone=Backbone(),
            progress=False,
        )
    assert stopped.value.number == signal.SIGTERM
    assert load_checkpoint(tmp_path / "run/checkpoint.pt")["step"] == 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# A full disk


def limit_files(size: int) -> None:
    """Lets this process write files up to ``size`` bytes: beyond, the system refuses as it does on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize("frees_up", [True, False])
def test_full_disk_keeps_the_last_good_checkpoint(
    frees_up: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path / "cache"))
    data, config = write_inputs(tmp_path, VECTORS)
    assert main(["fit", data, "--out", str(tmp_path / "whole"), "--config", config]) == 0
    out = str(tmp_path / "run")
    capsys.readouterr()
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[0]

    def save(path: Path, state: dict[str, Any]) -> None:
        if state["step"] == 6:
            limit_files(6000)  # the log still fits, a checkpoint does not
        if state["step"] == 11 and frees_up:
            limit_files(unlimited)
        save_checkpoint(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_checkpoint", save)
        try:
            code = main(["fit", data, "--out", out, "--config", config])
        finally:
            limit_files(unlimited)
    said = capsys.readouterr().err
    assert said.count("warning: could not write") == (5 if frees_up else 10)
    assert "File too large" in said
    assert "the last good checkpoint is kept" in said
    assert "Traceback" not in said
    assert not list(Path(out).glob(".*tmp-*"))
    if frees_up:
        assert code == 0
    else:
        assert code == 2
        assert said.splitlines()[-1].startswith(f"likewise: could not write {out}/checkpoint.pt")
        assert load_checkpoint(Path(out) / "checkpoint.pt")["step"] == 5
        assert main(["fit", data, "--out", out, "--resume"]) == 0
        capsys.readouterr()
    assert_same_run(tmp_path / "whole", Path(out))


def no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", ["fsync", "log"])
def test_no_space_anywhere_in_the_middle_does_not_end_the_run(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def views_of(fail_at: set[int]) -> Callable[[Path, dict[str, Any]], None]:
        def save(path: Path, state: dict[str, Any]) -> None:
            with monkeypatch.context() as patch:
                if state["step"] in fail_at:
                    patch.setattr(os, "fsync", no_space)
                save_checkpoint(path, state)

        return save

    with monkeypatch.context() as patch:
        if where == "fsync":
            patch.setattr(checkpoint, "save_checkpoint", views_of({3, 4}))
        else:
            patch.setattr(loop.MetricsLog, "write", no_space)
        model = fit(vectors(), out=tmp_path / "run", settings=VECTORS)
    said = capsys.readouterr().err
    assert said.count("No space left on device") == (2 if where == "fsync" else 6)  # 4 epochs and 2 measurements
    fit(vectors(), out=tmp_path / "whole", settings=VECTORS, progress=False)
    assert same(dict(model.embedder.state_dict()), dict(load(tmp_path / "whole").embedder.state_dict()))


def test_a_model_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("likewise.model.to_safetensors", no_space)
        with pytest.raises(LikewiseError, match=r"could not write .*model.safetensors \(No space left on device\)"):
            fit(vectors(), out=tmp_path / "run", settings=VECTORS, progress=False)
    fit(vectors(), out=tmp_path / "run", resume=True, progress=False)  # nothing left to train: the model is written
    assert load(tmp_path / "run").epoch == 4


# Data that changed


def capture(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Makes ``fit`` end where training would begin, and keeps the session it would begin with."""
    seen: list[Any] = []

    def stop(run: Any, *_: object, **__: object) -> None:
        seen.append(run.session)
        raise Killed

    monkeypatch.setattr("likewise.training.fit.train", stop)
    return seen


def test_shuffled_and_grown_data_finds_its_rows_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(Killed):
            fit(vectors(), out=tmp_path / "run", settings=VECTORS, progress=False)
    saved = load_checkpoint(tmp_path / "run/checkpoint.pt")
    old = dict(zip(saved["item_ids"], saved["dictionary"]["rows"], strict=True))
    order = np.random.default_rng(2).permutation(44)
    grown = vectors(44).select(order)
    with monkeypatch.context() as patch:
        seen = capture(patch)
        with pytest.raises(Killed):
            fit(grown, out=tmp_path / "run", resume=True, progress=False)
    rows = seen[0].dictionary.rows
    assert rows.shape == (44, 8)
    for row, name in enumerate(grown.ids):
        if name in old:
            assert torch.equal(rows[row], old[name]), name
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(44))
    assert same(seen[0].generator.get_state(), saved["generator"])
    fit(grown, out=tmp_path / "run", resume=True, progress=False)  # and it trains to the end
    assert load_checkpoint(tmp_path / "run/checkpoint.pt")["item_ids"] == list(grown.ids)


def test_other_pictures_under_the_same_names_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, run = images().values, tmp_path / "run"
    for place, first in {"a": 0, "b": 8, "moved": 0}.items():
        (tmp_path / place / "photos").mkdir(parents=True)
        for row in range(8):
            Image.fromarray(pixels[first + row]).save(tmp_path / place / f"photos/{row}.png")
    monkeypatch.chdir(tmp_path / "a")
    fit("photos", out=run, settings={**IMAGES, "cache": str(tmp_path / "cache"), "batch_size": 4}, progress=False)
    told = (run / "data.json").read_bytes()
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(
        LikewiseError, match=r"b.photos holds other items than .*a.photos, .* \(such as '0\.png'\); give"
    ):
        fit("photos", out=run, resume=True, settings={"epochs": 9}, progress=False)
    assert (run / "data.json").read_bytes() == told
    monkeypatch.chdir(tmp_path / "moved")  # the same pictures, one of them retouched
    Image.fromarray(pixels[9]).save("photos/3.png")
    fit("photos", out=run, resume=True, settings={"epochs": 3})
    assert "warning: items such as '3.png' have other content than the run had." in capsys.readouterr().err


def test_a_folder_that_grew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = images().values

    def write(names: dict[str, int]) -> None:
        for name, row in names.items():
            Image.fromarray(pixels[row]).save(folder / name)

    write({f"{row:02}.png": row for row in range(12)})
    settings = {**IMAGES, "cache": str(tmp_path / "cache"), "batch_size": 6}
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Killed):
            fit(folder, out=tmp_path / "run", settings=settings, progress=False)
    saved = load_checkpoint(tmp_path / "run/checkpoint.pt")
    write({"00-first.png": 30, "05b.png": 31})  # among the others in the order of names
    (folder / "03.png").unlink()
    with monkeypatch.context() as patch:
        seen = capture(patch)
        with pytest.raises(Killed):
            fit(folder, out=tmp_path / "run", resume=True, progress=False)
    names = list(seen[0].item_ids)
    assert names[:2] == ["00-first.png", "00.png"]
    assert "03.png" not in names
    for name in set(names) & set(saved["item_ids"]):
        now, then = (
            seen[0].dictionary.rows[names.index(name)],
            saved["dictionary"]["rows"][saved["item_ids"].index(name)],
        )
        assert torch.equal(now, then), name


def test_items_that_came_and_went_are_said_and_too_few_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        with pytest.raises(Killed):
            fit(vectors(), out=out, settings=VECTORS, progress=False)
    step, total = (load_checkpoint(out / "checkpoint.pt")[name] for name in ("step", "total"))
    assert 8 < step < total
    before = (out / "checkpoint.pt").read_bytes()
    message = f"was at step {step} of {total}, but with epochs=4 on these 4 items it has only . steps"
    with pytest.raises(LikewiseError, match=message):
        fit(vectors().select(np.arange(4)), out=out, resume=True, progress=False)
    assert (out / "checkpoint.pt").read_bytes() == before
    fit(vectors(44).select(np.arange(1, 44)), out=out, resume=True)
    said = capsys.readouterr().err
    assert (
        f"the items changed since the checkpoint: 4 were added and 1 removed. Training continues after step {step} of"
        in said
    )
    about = (out / "data.json").read_bytes()
    fit(vectors(), out=out, resume=True)  # finished: what it was trained on stays
    said = capsys.readouterr().err
    assert "1 were added and 4 removed.\n" in said
    assert "steps of the run are done already: nothing is trained." in said
    assert (out / "data.json").read_bytes() == about


def test_other_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = "none of the 40 items is in the checkpoint, whose first is 'v0'"
    ids = tuple(f"w{i}" for i in range(40))
    for name, values, message, first in (
        ("bank", {"objective.kind": "nce"}, none, "w0"),
        ("weights", {"objective.kind": "parametric"}, none, "w0"),
        (
            "one weight",
            {"objective.kind": "parametric"},
            "the items changed .* has a weight per item; start a new run",
            "v0",
        ),
        (
            "spread",
            {"objective.kind": "nonparametric-softmax", "bank.sharded": True},
            "the items changed .* can't follow them",
            "v0",
        ),
        ("queue", {"objective.kind": "infonce", "dictionary": "queue"}, none, "w0"),
        ("batch", {"objective.kind": "infonce", "dictionary": "batch"}, none, "w0"),
    ):
        with monkeypatch.context() as patch:
            stop_after(patch, 2)
            with pytest.raises(Killed):
                fit(vectors(), out=tmp_path / name, settings=over(VECTORS, values), progress=False)
        before = (tmp_path / name / "checkpoint.pt").read_bytes()
        other = replace(vectors(), ids=(first, *ids[1:]))
        with pytest.raises(LikewiseError, match=message):
            fit(other, out=tmp_path / name, resume=True, progress=False)
        assert (tmp_path / name / "checkpoint.pt").read_bytes() == before


# Checkpoints that can't be used


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {shlex.quote(str(self.path))}",)


def break_checkpoint(how: str, path: Path, flag: Path) -> None:
    whole = path.read_bytes()
    if how == "cut off":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(3000))
    elif how == "code in it":
        torch.save({"format": checkpoint.FORMAT, "step": Evil(flag)}, path)
    elif how == "bare pickle":
        torch.save(Evil(flag), path, _use_new_zipfile_serialization=False)
    elif how == "another program's":
        torch.save({"state_dict": {}}, path)
    elif how == "parts missing":
        torch.save({"format": checkpoint.FORMAT, "step": 3, "item_ids": list(vectors().ids)}, path)
    elif how == "another encoder":
        state = load_checkpoint(path)
        state["embedder"] = {name: value[..., :1] for name, value in state["embedder"].items() if value.ndim}
        save_checkpoint(path, state)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut off", "not a readable checkpoint"),
        ("empty", "not a readable checkpoint"),
        ("noise", "not a readable checkpoint"),
        ("code in it", "not a readable checkpoint"),
        ("bare pickle", "not a readable checkpoint"),
        ("another program's", "not written by this version of likewise"),
        ("parts missing", "does not fit this run"),
        ("another encoder", "does not fit this run"),
    ],
)
def test_unusable_checkpoints_are_one_sentence_and_run_no_code(
    how: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path / "cache"))
    data, config = write_inputs(tmp_path, VECTORS)
    out, flag = tmp_path / "run", tmp_path / "it ran"
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Killed):
            main(["fit", data, "--out", str(out), "--config", config])
    capsys.readouterr()
    break_checkpoint(how, out / "checkpoint.pt", flag)
    assert main(["fit", data, "--out", str(out), "--resume"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert len([line for line in said if line.startswith("likewise:")]) == 1
    assert not flag.exists()


def test_resuming_nothing_a_finished_run_or_with_other_settings(tmp_path: Path) -> None:
    with pytest.raises(LikewiseError, match="holds no run to resume"):
        fit(vectors(), out=tmp_path / "none", resume=True, progress=False)
    settings: FitSettings = settings_from({**VECTORS, "epochs": 1})
    out = tmp_path / "run"
    fit(vectors(), out=out, settings=settings, progress=False)
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(LikewiseError, match="already holds a run; add --resume"):
        fit(vectors(), out=out, settings=settings, progress=False)
    fit(vectors(), out=out, resume=True, progress=False)  # nothing to do, and no harm done
    assert (out / "model.safetensors").read_bytes() == before
    with pytest.raises(LikewiseError, match=r"keeps its saved settings, but optim.lr was 0.03 and is now 0.5"):
        fit(vectors(), out=out, settings={"optim.lr": 0.5}, resume=True, progress=False)
    for value in (128, 7):  # the method's default too
        with pytest.raises(LikewiseError, match=f"keeps its saved settings, but batch_size was .* and is now {value}"):
            fit(vectors(), out=out, settings={"batch_size": value}, resume=True, progress=False)
    with pytest.raises(LikewiseError, match="but method was 'npid' and is now 'moco'"):
        fit(vectors(), out=out, method="moco", resume=True, progress=False)
    (out / "checkpoint.pt").unlink()
    with pytest.raises(LikewiseError, match=r"finished model but no checkpoint.pt to continue from"):
        fit(vectors(), out=out, resume=True, progress=False)
    (out / "model.safetensors").unlink()
    whole = (out / "config.yaml").read_text()
    part = whole.replace("batch_size:", "#").replace("  lr:", "  #")
    for text, said in (("", "holds no settings"), ("{}", "method is missing"), (part, "batch_size is missing")):
        (out / "config.yaml").write_text(text)
        with pytest.raises(LikewiseError, match=f"config.yaml is damaged: .*{said}"):
            fit(vectors(), out=out, resume=True, progress=False)
    (out / "cells.jsonl").write_text("")
    with pytest.raises(LikewiseError, match="holds a comparison; name another --out"):
        fit(vectors(), out=out, progress=False)
