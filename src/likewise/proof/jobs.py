"""Trains a few steps in fresh processes and returns everything that was learned, for ``verify`` to compare."""

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist

from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.data.pair_files import Relations
from likewise.distributed import processes
from likewise.errors import LikewiseError
from likewise.files import atomic_write
from likewise.model import Model
from likewise.proof.fork_server import python
from likewise.training.batches import refuse_few
from likewise.training.checkpoint import load_run, save_run
from likewise.training.run import Run, begin
from likewise.training.session import Session
from likewise.training.step import train_step

STEPS = 5  # an epoch has three steps
GRACE = 10.0  # seconds that the other processes have, after one has died, to notice the closed connection and end


@dataclass(frozen=True, kw_only=True)
class Job:
    """A few steps of training, in one process or divided among several.

    Args:
        settings: the settings of the run.
        items: the training items.
        relations: the pairs, triplets or graded relevance that say which items are alike; None where there are none.
        backbone: a user's own module; the job trains a copy.
        stop: the step to stop at.
        total: number of steps of the whole run, for schedules.
        double: whether to train in float64, where rounding can't hide a mistake.
        jolted: whether to change the last bits of the first weights.
        resumes: the folder of the checkpoint to continue from.
        killed: the folder for the checkpoint at step ``stop``; one step later SIGKILL ends the process.
    """

    settings: FitSettings
    items: Items
    relations: Relations | None = None
    backbone: nn.Module | None = None
    stop: int = STEPS
    total: int = STEPS
    double: bool = True
    jolted: bool = False
    resumes: Path | None = None
    killed: Path | None = None


class Learned(NamedTuple):
    """The result of a job: tensors by name, and the hash of the state after each step."""

    values: dict[str, Tensor]
    hashes: list[str]


class Unlearned(NamedTuple):
    """A job without a result, and the reason.

    ``refused``: likewise refuses to build such a run. ``killed``: SIGKILL ended the process before the time limit.
    """

    reason: str
    refused: bool
    killed: bool = False


class Refused(LikewiseError):
    """likewise refuses to build the run. A run that fails later, in loading, training or saving, is broken instead."""


Running = subprocess.Popen[bytes]
Results = dict[str, list[Learned | Unlearned]]


def train_job(job: Job) -> Learned:
    """Runs the job in this process on the CPU, then restores torch's default dtype and random state."""
    with _floats(torch.float64 if job.double else torch.float32), torch.random.fork_rng(devices=[]):
        run = _begun(job)
        session = run.session
        if job.resumes is not None:
            load_run(job.resumes, session)
        if job.jolted:
            _jolt(session)
        losses, hashes = [], []
        for batch in run.batches():
            if session.step == job.stop + (job.killed is not None):
                break
            seen = [view.to(torch.get_default_dtype()) for view in batch.views]
            losses.append(train_step(session, batch._replace(views=seen))[0])
            hashes.append(state_hash(session))
            if job.killed is not None and session.step == job.stop:
                save_run(job.killed, session)
        if job.killed is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return Learned({"loss": torch.stack(losses), **all_learned(session)}, hashes)


def _begun(job: Job) -> Run:
    """The run before its first step. Raises Refused if likewise refuses its settings."""
    try:
        refuse_few(job.settings, len(job.items))
        with _floats(torch.float32):  # a user's backbone is made in float32
            model = Model.untrained(job.settings, job.items, backbone=deepcopy(job.backbone))
        if job.double:
            model.embedder.double()
        return begin(model, job.items, job.total, torch.device("cpu"), relations=job.relations)
    except LikewiseError as error:
        raise Refused(str(error)) from error


def all_learned(session: Session) -> dict[str, Tensor]:
    """The last gradients, the weights and buffers, and the dictionary, under the names ``kind.module.name``."""
    learned = {f"dictionary.{name}": rows for name, rows in kept(session).items()}
    for module, part in session.modules().items():
        for name, weight in part.named_parameters():
            learned[f"weights.{module}.{name}"] = weight.detach()
            if weight.grad is not None:
                learned[f"gradients.{module}.{name}"] = weight.grad
        learned |= {f"weights.{module}.{name}": buffer for name, buffer in part.named_buffers()}
    return {name: value.clone() for name, value in learned.items()}


def kept(session: Session) -> dict[str, Tensor]:
    """The dictionary's tensors by name; of a sharded dictionary the rows of all processes."""
    own = {**dict(session.dictionary.named_parameters()), **dict(session.dictionary.named_buffers())}
    if not session.settings.bank.sharded:
        return {name: rows.detach() for name, rows in own.items()}
    return {name: processes.gather_constant(rows) for name, rows in own.items()}


def state_hash(session: Session) -> str:
    """A hash of the bytes that must be equal in every process: dictionary, encoder, key encoder and objective."""
    digest = hashlib.blake2b(digest_size=16)
    tensors = list(kept(session).values())
    for module in session.modules().values():
        tensors += [*module.parameters(), *module.buffers()]
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _jolt(session: Session) -> None:
    """Changes the last one or two bits of every weight. This shows how much training magnifies rounding."""
    generator = torch.Generator().manual_seed(0)
    for weight in session.embedder.parameters():
        jolts = torch.rand(weight.shape, generator=generator) - 0.5
        weight.mul_(1 + 4 * torch.finfo(weight.dtype).eps * jolts)
    if session.key_encoder is not None:
        session.key_encoder.encoder.load_state_dict(session.embedder.state_dict())


@contextmanager
def _floats(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def started(place: Path, jobs: Mapping[str, Job], *, count: int = 1, limit: float) -> Iterator[Callable[[], Results]]:
    """Starts ``count`` fresh processes that run ``jobs`` in turn; yields a function that waits for their results.

    The processes start from a command, not as forks of this process, so this works in a notebook and in any script.
    They are killed after ``limit`` seconds and at the end of the block.
    """
    place.mkdir()
    (place / "jobs").write_bytes(pickle.dumps(dict(jobs)))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    code = "import sys; from likewise.proof.jobs import work; work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))"
    running, deadline = list[subprocess.Popen[bytes]](), time.monotonic() + limit

    def wait() -> Results:
        in_time = _wait(running, deadline)
        late = "" if in_time else f"no end within {limit:.0f} s: the processes wait for each other, or are very slow"
        codes = [process.returncode for process in running]
        return {name: [_result(place, name, rank, late, code) for rank, code in enumerate(codes)] for name in jobs}

    try:
        for rank in range(count):
            with (place / f"output {rank}").open("wb") as output:
                command = [*python(), "-c", code, str(place), str(rank), str(count)]
                running.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
        yield wait
    finally:
        _kill(running)


def _wait(running: Sequence[Running], deadline: float) -> bool:
    """Waits until all processes have ended; kills the others some time after one has failed.

    Returns False if the deadline passes first; all processes are then killed.
    """
    while any(process.poll() is None for process in running):
        if time.monotonic() > deadline:
            _kill(running)
            return False
        if any(process.poll() for process in running):
            for process in running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE)
            _kill(running)
        time.sleep(0.02)
    return True


def _kill(running: Sequence[Running]) -> None:
    for process in running:
        process.kill()
        process.wait()


def _result(place: Path, name: str, rank: int, late: str, code: int) -> Learned | Unlearned:
    path = place / f"{name} {rank}.pt"
    if path.exists():
        saved = torch.load(path, weights_only=True)
        return Unlearned(*saved) if isinstance(saved[0], str) else Learned(*saved)
    lines = (place / f"output {rank}").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    reason = late or f"a process ended early: {lines[-1] if lines else 'it printed nothing'}"
    return Unlearned(reason, False, code == -signal.SIGKILL and not late)


def work(folder: str, rank: int, count: int) -> None:
    """Runs one of the processes of ``started``."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    place = Path(folder)
    jobs: dict[str, Job] = pickle.loads((place / "jobs").read_bytes())
    if count > 1:
        dist.init_process_group("gloo", init_method=f"file://{place / 'meet'}", rank=rank, world_size=count)
    for name, job in jobs.items():
        path = place / f"{name} {rank}.pt"
        try:
            learned = train_job(job)
            with atomic_write(path) as file:
                torch.save(tuple(learned), file)
        except Exception as error:  # a user's encoder may raise anything
            first_line = next(iter(str(error).splitlines()), "")
            message = str(error) if isinstance(error, LikewiseError) else f"{type(error).__name__}: {first_line}"
            torch.save((message, isinstance(error, Refused)), path)
            if count > 1:
                sys.exit(1)  # the other processes would wait for this one in the next job
    if count > 1:
        dist.destroy_process_group()
