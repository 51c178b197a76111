"""Runs of several real processes, started by torchrun as a user starts them: what they learn, and how they end."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml

from likewise.cli.main import main
from likewise.distributed.shard_files import load_sharded, saved_names
from likewise.model import load
from likewise.proof.fork_server import python
from likewise.training import loop
from likewise.training.checkpoint import load_checkpoint
from likewise.training.metrics_log import read_metrics
from likewise.training.session import Session
from likewise.training.step import Seen

STEPS, LIMIT = 9, 60.0  # three epochs of three steps; seconds that a start may take
SMALL = {
    "encoder": {"name": "mlp", "hidden": 16, "dim": 8},
    "epochs": 3,
    "batch_size": 16,  # 43 items: batches of 15, 14 and 14 rows, so two processes have 8 and 7 of the first
    "checkpoint_seconds": 0.0,  # after every step
}
RUNS: dict[str, dict[str, Any]] = {
    "moco": {"method": "moco", "queue.size": 37, "encoder.bn_groups": 2},
    "simclr": {"method": "simclr"},
    "npid": {"method": "npid", "objective.kind": "nce", "objective.noise": 24},
    "sharded": {"method": "npid", "objective.kind": "nonparametric-softmax", "bank.sharded": True},
    "weights": {"method": "npid", "objective.kind": "parametric", "bank.sharded": True},
}
SEVERAL = '''
"""Runs the jobs of a file one after the other; may kill one process, or let it wait for a signal, within a job."""

import json, os, signal, sys, time
from pathlib import Path

from likewise.distributed import processes
from likewise.cli.main import main
from likewise.training import loop

attempt, jobs = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), json.loads(Path(sys.argv[1]).read_text())
train_step = loop.train_step
worst = 0
with processes.joined("cpu"):
    for number, job in enumerate(jobs):
        def step(session, batch):
            if session.step == job["kill"] and attempt == number and processes.rank() == 1:
                print("killed in", job["arguments"], file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            if session.step == job["wait"] and processes.rank() == 1:
                Path(sys.argv[1]).with_suffix(".waits").touch()
                time.sleep(3)
            return train_step(session, batch)
        loop.train_step = step
        worst = max(worst, main(job["arguments"]))
sys.exit(worst)
'''


class Ended(NamedTuple):
    """How a start ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items, the settings of each run, and the script that does several runs."""
    folder = tmp_path_factory.mktemp("torchrun")
    np.save(folder / "items.npy", np.random.default_rng(0).normal(size=(43, 6)).astype(np.float32))
    (folder / "several.py").write_text(SEVERAL)
    for name, values in RUNS.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(SMALL | values))
    return folder


@pytest.fixture(scope="module")
def alone(place: Path) -> Path:
    """Every run by one process."""
    folder = place / "alone"
    for name in RUNS:
        assert main(fitting(place, name, folder)) == 0
    return folder


@pytest.fixture(scope="module")
def by_two(place: Path, alone: Path) -> tuple[Path, Ended]:
    """Every run by two processes, uninterrupted, after one of items that are not there."""
    folder = place / "two"
    nowhere = ["fit", str(place / "nowhere.npy"), *fitting(place, "npid", folder / "nowhere")[2:]]
    jobs = [job(nowhere), *(job(fitting(place, name, folder)) for name in RUNS)]
    return folder, several(place, jobs)


def fitting(place: Path, name: str, folder: Path) -> list[str]:
    """The command line of a run."""
    return ["fit", str(place / "items.npy"), "--out", str(folder / name), "--config", str(place / f"{name}.yaml")]


def job(arguments: Sequence[str], *, kill: int = -1, wait: int = -1) -> dict[str, Any]:
    """A run for the script: process 1 is killed at step ``kill``, or waits at step ``wait``."""
    return {"arguments": list(arguments), "kill": kill, "wait": wait}


ONE_NODE = ("--standalone", "--nproc-per-node", "2")


def start(arguments: Sequence[str], *, restarts: int = 0, nodes: Sequence[str] = ONE_NODE) -> "subprocess.Popen[str]":
    """Two processes, as torchrun starts them: ``python -m torch.distributed.run`` is torchrun."""
    torchrun = [*python(), "-m", "torch.distributed.run", "--no-python", *nodes]
    own_store = {} if nodes is ONE_NODE else {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return subprocess.Popen(
        [*torchrun, "--max-restarts", str(restarts), *python(), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **own_store},
    )


def end(process: "subprocess.Popen[str]", *, limit: float = LIMIT) -> Ended:
    """Waits for the end; one that does not come fails the test, and the processes are stopped."""
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun then ends its own
        out, err = process.communicate()
        pytest.fail(f"no end after {limit} s:\n{err}")
    return Ended(process.returncode, out, err)


def several(place: Path, jobs: Sequence[Mapping[str, Any]], *, restarts: int = 0) -> Ended:
    """Runs the jobs in one start, which is most of the time a small run takes."""
    (place / "jobs.json").write_text(json.dumps(jobs))
    arguments = [str(place / "several.py"), str(place / "jobs.json")]
    return end(start(arguments, restarts=restarts), limit=LIMIT * (1 + restarts))


def learned(run: Path) -> dict[str, Any]:
    """All that a run's checkpoint holds; of what is spread over processes all rows."""
    state = load_checkpoint(run / "checkpoint.pt")
    assert [path.name for path in run.glob("shards-*")] == ([state["shards"]] if state["shards"] else [])
    if state["shards"]:
        shards = run / state["shards"]
        state["shards"] = load_sharded(shards, saved_names(shards), len(state["item_ids"]))
    return state


def assert_close(a: Any, b: Any, where: str, *, exactly: bool = False) -> None:
    """The same but for float32's rounding of sums in another order; ``exactly``: to the last bit."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        tolerance = 0.0 if exactly or not a.is_floating_point() else 1e-4
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance / 10, msg=lambda text: f"{where}: {text}")
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_close(a[key], b[key], f"{where}/{key}", exactly=exactly)
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for place, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_close(x, y, f"{where}/{place}", exactly=exactly)
    elif isinstance(a, float) and not exactly:
        assert a == pytest.approx(b, rel=1e-4), where
    else:
        assert a == b, where


def assert_same_run(a: Path, b: Path, *, exactly: bool = False) -> None:
    """Weights, keys, momentum, generators and step; the saved model; and a log with each line once."""
    assert_close(learned(a), learned(b), a.name, exactly=exactly)
    assert_close(
        dict(load(a).embedder.state_dict()), dict(load(b).embedder.state_dict()), f"{a.name} model", exactly=exactly
    )
    logs = [[(line["step"], line["loss"]) for line in read_metrics(run)] for run in (a, b)]
    assert [step for step, _ in logs[0]] == [step for step, _ in logs[1]]
    assert_close([loss for _, loss in logs[0]], [loss for _, loss in logs[1]], f"{a.name} log", exactly=exactly)


def sentences(ended: Ended) -> list[str]:
    return [line for line in ended.err.splitlines() if line.startswith("likewise:")]


def test_two_processes_end_as_one_does_and_one_of_them_speaks(
    place: Path, alone: Path, by_two: tuple[Path, Ended]
) -> None:
    folder, ended = by_two
    assert len(sentences(ended)) == 2  # of the items that are not there, by each process
    assert all("nowhere.npy" in said for said in sentences(ended))
    assert "Traceback" not in ended.err.split("step 1/")[0]
    assert_speaks_once(ended, runs=5)
    for name in RUNS:
        assert_same_run(alone / name, folder / name)

    ended = end(start(["-m", "likewise", *fitting(place, "moco", folder / "by name")]))
    assert ended.code == 0, ended.err
    assert_speaks_once(ended, runs=1)
    assert_same_run(alone / "moco", folder / "by name" / "moco")


def test_two_nodes_end_as_one_process_does(place: Path, alone: Path) -> None:
    """Two torchruns of one process each, which meet where docs/distributed.md says: here on one machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    nodes = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-id", "two", "--rdzv-backend", "c10d"]
    nodes += ["--rdzv-endpoint", meeting, "--local-addr", "127.0.0.1"]
    command = ["-m", "likewise", *fitting(place, "moco", place / "nodes")]
    agents = [start(command, nodes=nodes), start(command, nodes=nodes)]
    try:
        ended = [end(agent) for agent in agents]
    finally:
        for agent in agents:
            agent.terminate()
    assert [each.code for each in ended] == [0, 0], ended
    assert sorted(each.err.count("43 vectors") for each in ended) == [0, 1]  # the first process alone speaks
    assert_same_run(alone / "moco", place / "nodes" / "moco")


def assert_speaks_once(ended: Ended, runs: int) -> None:
    lines = re.findall(r"^step (\d+)/", ended.err, re.MULTILINE)
    assert lines == [str(step) for step in range(1, STEPS + 1)] * runs
    assert ended.err.count("43 vectors") == runs
    assert len(re.findall(r"^Saved ", ended.out, re.MULTILINE)) == runs


def test_a_killed_process_is_started_again_and_nothing_is_lost(
    place: Path, alone: Path, by_two: tuple[Path, Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = by_two[0], place / "killed"
    half = fitting(place, "weights", place / "half")  # by one process, stopped at step 4; two go on
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stopping_at(4))
        assert main(half) == 130
    names = ["npid", "sharded", "weights", "moco"]
    kills = [0, 4, 5, 4]  # the first before its first checkpoint; MoCo's with a queue that has wrapped around
    jobs = [job(fitting(place, name, folder), kill=step) for name, step in zip(names, kills, strict=True)]
    ended = several(place, [*jobs, job([*half, "--resume"])], restarts=len(jobs))
    assert ended.code == 0, ended.err
    assert ended.err.count("killed in ") == len(jobs), ended.err
    for name in names:
        assert_same_run(whole / name, folder / name, exactly=True)
    assert_same_run(alone / "weights", place / "half" / "weights")


def stopping_at(step: int) -> Callable[[Session, Seen], tuple[torch.Tensor, torch.Tensor]]:
    """The training step, with Ctrl-C before one of them ends."""
    real = loop.train_step

    def train_step(session: Session, batch: Seen) -> tuple[torch.Tensor, torch.Tensor]:
        if session.step == step - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return real(session, batch)

    return train_step


def test_ctrl_c_saves_and_another_number_of_processes_goes_on(place: Path, alone: Path) -> None:
    folder = place / "stopped"
    arguments = fitting(place, "sharded", folder)
    (place / "jobs.json").write_text(json.dumps([job(arguments, wait=4)]))
    (place / "jobs.waits").unlink(missing_ok=True)
    process, begun = start([str(place / "several.py"), str(place / "jobs.json")], restarts=1), time.monotonic()
    while not (place / "jobs.waits").exists() and process.poll() is None and time.monotonic() < begun + LIMIT:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    ended = end(process)
    assert ended.code != 0
    assert [said for said in sentences(ended) if "Stopped at step 5 of 9; everything is saved." in said]
    assert "Continue with: the same torchrun command with --resume" in ended.err
    assert len(sentences(ended)) == 1
    assert learned(folder / "sharded")["step"] == 5
    assert main([*arguments, "--resume"]) == 0
    assert_same_run(alone / "sharded", folder / "sharded")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--optim.lrr", "0.1"], "Did you mean '--optim.lr'?"),
        (["--encoder.bn_groups", "3"], "can't be shared by 2 processes; use a multiple of 2"),
        (["--out", "alone/npid"], "already holds a run; add --resume to continue it, or name another --out."),
    ],
)
def test_a_mistake_is_a_sentence_and_leaves_nothing(given: list[str], sentence: str, place: Path, alone: Path) -> None:
    if given[0] == "--out":
        given = ["--out", str(place / given[1])]
    before = (alone / "npid" / "checkpoint.pt").read_bytes()
    ended = end(start(["-m", "likewise", *fitting(place, "npid", place / "mistaken"), *given]))
    assert ended.code != 0
    assert sentences(ended)
    assert all(sentence in said for said in sentences(ended)), ended.err
    assert not (place / "mistaken").exists()
    assert (alone / "npid" / "checkpoint.pt").read_bytes() == before
