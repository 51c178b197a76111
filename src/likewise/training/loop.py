"""The training loop: trains, watches the loss, logs, measures and saves."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.distributed import processes
from likewise.errors import Interrupted, LikewiseError
from likewise.metrics.neighbours import fair_k, knn_accuracy
from likewise.model import Model
from likewise.objectives import triplet_shares
from likewise.training.budget import Budget
from likewise.training.checkpoint import save_run
from likewise.training.health import Health, Watch, measure, verdict
from likewise.training.metrics_log import MetricsLog, NoLog
from likewise.training.pace import ThreadWatch
from likewise.training.progress import TrainingProgress
from likewise.training.run import Run
from likewise.training.session import Session
from likewise.training.step import Seen, train_step

# Ctrl-C and Ctrl-\, a closed terminal, a scheduler before it kills, and the limit of CPU time
STOPS = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
UNUSED = ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGPWR")  # these too, where no other part of the program handles them
CHECK_STEPS = 10  # steps between reads of the losses; reading every loss would stall an accelerator
LOG_STEPS = 200  # at most this many steps between two lines of the log
KEYS_SEEN = 4096  # the health check uses at most this many keys of a queue


def train(
    run: Run,
    folder: Path,
    *,
    budget: Budget | None = None,
    threads: ThreadWatch | None = None,
    progress: bool = True,
) -> None:
    """Trains ``run`` from its current step to its last, which follows from the time where there is a ``budget``.

    All processes train; the first one also measures, logs and saves. If one process is told to stop, all stop.
    Labels are read for measuring, and for training where alike=label.
    Raises Interrupted after one of ``STOPS`` (the state is saved). Raises LikewiseError on NaN, and when the last
    checkpoint can't be written.
    """
    session, first = run.session, processes.rank() == 0
    tensorboard = session.settings.tensorboard
    log = MetricsLog(folder, step=session.step, tensorboard=tensorboard) if first else NoLog()
    parameters = session.settings.objective.has()
    watch, saved_at = Watch(run.items.ids, folder, session.losses, parameters=parameters), time.monotonic()
    bar = TrainingProgress(session.total, done=session.step, enabled=progress)
    if budget is not None:
        budget.start(session.step)
    with bar, stop_on_signal() as stop, closing(log):
        for batch in run.batches():
            loss, queries = train_step(session, batch)
            watch.see(session.step, loss, batch.items)
            keep_to(budget, session, bar)
            due = what_is_due(run, stop.asked, saved_at)
            if due.read:  # before saving, so that NaN is never saved
                mean, speed = watch.flush(weights_are_fine=not due.kept or session.is_finite())
                status = f"epoch {(session.step - 1) // run.sampler.steps_per_epoch + 1} · loss {mean:.3f}"
                bar.update(session.step, f"{status} · {speed:,.0f} items/s")
            if due.logged:
                write_health(run, look(session, mean, queries, batch), speed, log, bar)
            if due.ends_epoch and first:
                write_knn(run, folder, log, bar)
            if due.logged:
                keep_speed(threads, speed, bar)
                watch.restart()  # after measuring, so that items/s counts training alone
            if due.saved:
                save(session, folder, bar, must=due.stops or session.step == session.total)
                saved_at = time.monotonic()
            if due.stops and session.step < session.total:
                said = f"Stopped at step {session.step} of {session.total}; everything is saved."
                raise Interrupted(said, stop.number)


def keep_speed(threads: ThreadWatch | None, speed: float, bar: TrainingProgress) -> None:
    """Lets ``threads`` look at the items/s, and tells what it changes."""
    said = None if threads is None else threads.see(speed)
    if said is not None:
        bar.say(said)


def keep_to(budget: Budget | None, session: Session, bar: TrainingProgress) -> None:
    """Counts the remaining steps anew if it is time to, and tells when the run becomes shorter or longer by a tenth."""
    if budget is None:
        return
    before = session.total
    session.seconds, now = budget.spent, budget.follow(session)
    if now is None:
        return
    bar.retarget(now)
    if abs(now - before) > 0.1 * before:
        why = "faster" if now > before else "slower"
        bar.say(f"the steps are {why} than before: {now:,} of them fit into the time, not {before:,}.")


class Due(NamedTuple):
    """The actions after a step. They are the same in all processes."""

    ends_epoch: bool
    read: bool  # read the losses back from the device
    logged: bool  # write a line of the log
    kept: bool  # weights may be written, to a checkpoint or as the best so far
    saved: bool  # write a checkpoint
    stops: bool  # stop after this step


def what_is_due(run: Run, stopping: bool, saved_at: float) -> Due:
    """The actions after the run's current step. Every process must call it; if one is ``stopping``, all stop."""
    session, step = run.session, run.session.step
    ends_epoch = step % run.sampler.steps_per_epoch == 0 or step == session.total
    late = processes.rank() == 0 and time.monotonic() - saved_at > session.settings.checkpoint_seconds
    if session.device.type == "cpu" or step % CHECK_STEPS == 0 or ends_epoch:  # this waits for the device
        stopping, late = processes.any_of([stopping, late], session.device)
    elif processes.size() > 1:
        stopping = late = False
    logged, kept = step % LOG_STEPS == 0 or ends_epoch, late or stopping or ends_epoch
    read, saved = logged or kept or step % CHECK_STEPS == 0, late or stopping or step == session.total
    return Due(ends_epoch, read, logged, kept, saved, stopping)


def write_health(run: Run, health: Health, speed: float, log: MetricsLog | NoLog, bar: TrainingProgress) -> None:
    """Logs the health of the step. After a quarter of the run it also warns of what looks wrong."""
    session = run.session
    warning = verdict(health) if session.step >= session.total // 4 else None
    bar.warn_once(warning)
    values = {"epoch": run.epoch, "lr": session.rate, "items_per_second": speed, **health.values()}
    with going_on(bar):
        log.write(session.step, values | session.log_values() | ({"verdict": warning.text} if warning else {}))


def write_knn(run: Run, folder: Path, log: MetricsLog | NoLog, bar: TrainingProgress) -> None:
    """Measures, prints and logs the online kNN accuracy if it is due in this epoch; keeps the best weights if asked."""
    session, epoch = run.session, round(run.epoch)
    due = knn_is_due(session.settings, epoch, last=session.step == session.total)
    score = online_knn(run.model, run.items) if due else None
    if score is None:
        return
    use = "by the training labels" if session.settings.by_label else "labels only measure here"
    bar.say(f"epoch {epoch}: kNN {score:.1%} ({use})")
    with going_on(bar):
        log.write(session.step, {"epoch": run.epoch, "knn": score})
        keep_best(session, run.model, score, run.epoch, folder)


def look(session: Session, loss: float, queries: Tensor, batch: Seen) -> Health:
    """The health of this process' rows. With labels also the share of all rows that have a positive and a negative.

    Every process must call it. It uses at most 4,096 keys of a queue.
    """
    rows = queries if session.settings.encoder.unit else functional.normalize(queries, dim=1)
    if not session.settings.by_label or not session.objective.of_pairs:
        return measure(loss, session.chance(len(batch.items)), rows)
    known, sizes = session.objective.triplet_margin(), batch.layout.sizes
    views = [processes.gather_constant(view, sizes) for view in torch.split(rows, sizes[batch.layout.rank])]
    everyone, ids = torch.cat(views), torch.cat([batch.ids] * len(views))
    keys, key_ids = session.dictionary.kept(KEYS_SEEN)
    chance = session.chance(len(batch.items))
    if known is None:
        return measure(loss, chance, rows, valid=triplet_shares(everyone, ids, keys, key_ids).valid)
    margin, kind = known
    shares = triplet_shares(everyone, ids, keys, key_ids, margin=margin, kind=kind)
    margin *= session.settings.loss_weight
    return measure(loss, chance, rows, valid=shares.valid, margin=margin, triplets=shares)


def knn_is_due(settings: FitSettings, epoch: int, *, last: bool) -> bool:
    """Whether to measure after this epoch: after every ``knn_epochs`` epochs and after the last."""
    return settings.knn_epochs > 0 and (epoch % settings.knn_epochs == 0 or last)


def online_knn(model: Model, items: Items) -> float | None:
    """Weighted kNN accuracy of at most ``knn_items`` items. An item is not its own neighbour.

    None without labels, or where an item has several. The items are the same every time. They are encoded again in eval
    mode, without augmentation.
    """
    if items.labels is None or len(items.label_names) < 2 or items.labels.ndim > 1:
        return None
    settings = model.settings
    known = torch.from_numpy(items.labels >= 0).nonzero().squeeze(1)
    if len(known) < 2:
        return None
    drawn = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(0))[: settings.knn_items]]
    subset = items.select(drawn.sort().values.numpy())
    rows, ids, labels = model.features(subset), torch.arange(len(subset)), torch.from_numpy(np.array(subset.labels))
    return knn_accuracy(rows, labels, rows, labels, k=fair_k(labels), query_ids=ids, key_ids=ids)


def keep_best(session: Session, model: Model, score: float, epoch: float, folder: Path) -> None:
    """Keeps the best score; with the setting ``keep_best`` also saves its weights in best.safetensors."""
    if score <= session.best[0]:
        return
    session.best = (score, epoch)
    if model.settings.keep_best:
        model.epoch = epoch
        model.save(folder / "best.safetensors")


def save(session: Session, folder: Path, bar: TrainingProgress, *, must: bool) -> None:
    """Writes the checkpoint. If this fails and ``must`` is False, it warns and training goes on."""
    with nullcontext() if must else going_on(bar):
        save_run(folder, session)


@contextmanager
def going_on(bar: TrainingProgress) -> Iterator[None]:
    """Turns a failed write (for example, a full disk) into a warning, so that the run goes on."""
    try:
        yield
    except (LikewiseError, OSError) as error:
        bar.say(f"warning: {error} Training goes on.")


@dataclass
class Stop:
    """Whether this process was asked to stop, and by which signal. Another process may have been asked instead."""

    asked: bool = False
    number: int = signal.SIGINT


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Yields a ``Stop`` that a signal asks for: the step ends and is saved. A second Ctrl-C stops at once.

    A signal that the process was told to ignore, as SIGHUP under nohup, stays ignored.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread can handle signals
        return
    known = {name: number for name, number in signal.Signals.__members__.items() if name in STOPS + UNUSED}
    before = {number: signal.getsignal(number) for number in known.values()}  # Windows lacks some
    for name, number in known.items():
        ignored = before[number] == signal.SIG_IGN and number != signal.SIGINT
        if ignored or before[number] is None or (name in UNUSED and before[number] != signal.SIG_DFL):
            del before[number]

    def handle(number: int, frame: FrameType | None) -> None:
        stop.asked, stop.number = True, number
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)
