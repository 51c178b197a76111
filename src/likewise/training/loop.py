"""The training loop: a plain one, on one screen, with everything it does in sight."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.data.pair_files import Pairs, Triplets
from likewise.dictionaries import Queue
from likewise.distributed import processes
from likewise.errors import Interrupted, LikewiseError
from likewise.metrics import knn_accuracy
from likewise.model import Model
from likewise.objectives import Histogram, triplet_shares
from likewise.objectives.base import PairObjective
from likewise.training.batches import ViewFunction, batches, choose_sampler
from likewise.training.build import learning_rate
from likewise.training.checkpoint import save_run
from likewise.training.health import Health, Watch, measure, verdict
from likewise.training.metrics_log import MetricsLog, NoLog
from likewise.training.progress import TrainingProgress
from likewise.training.session import Session
from likewise.training.step import Seen, train_step

CHECK_STEPS = 10  # losses are read back every so many steps: reading each would stall an accelerator
LOG_STEPS = 200  # and logged at least every so many
KEYS_SEEN = 4096  # of a queue, when the health is measured


def train(
    session: Session,
    model: Model,
    items: Items,
    views: ViewFunction,
    folder: Path,
    *,
    relations: Pairs | Triplets | None = None,
    progress: bool = True,
) -> None:
    """Runs ``session`` from its step to the end of the last epoch of ``model.settings``.

    Of several processes all train, and the first one measures, logs and saves; a stop of one stops all.
    Raises Interrupted after Ctrl-C (state saved) and LikewiseError on NaN or when the last checkpoint can't be
    written. Labels are read to measure, and to train where alike=label; ``relations`` where pairs or triplets say it.
    """
    settings, total = model.settings, session.total
    sampler = choose_sampler(settings, items, relations)
    per_epoch, first = sampler.steps_per_epoch, processes.rank() == 0
    log = MetricsLog(folder, step=session.step, tensorboard=settings.tensorboard) if first else NoLog()
    watch = Watch(items.ids, folder, session.losses)
    session.train()
    saved_at = time.monotonic()
    with TrainingProgress(total, done=session.step, enabled=progress) as bar, stop_on_signal() as stop, closing(log):
        for batch in batches(items, sampler, views, session, relations):
            rate = learning_rate(settings.optim, session.step, total)
            for group in session.optimizer.param_groups:
                group["lr"] = rate
            loss, queries = train_step(session, batch)
            step = session.step
            watch.see(step, loss, batch.items)

            ends_epoch, due = step % per_epoch == 0, first and time.monotonic() - saved_at > settings.checkpoint_seconds
            stopping = stop.is_set()
            if session.device.type == "cpu" or step % CHECK_STEPS == 0 or ends_epoch:  # asking waits for the device
                stopping, due = processes.any_of([stopping, due], session.device)
            elif processes.size() > 1:
                stopping = due = False
            logs, saves = step % LOG_STEPS == 0 or ends_epoch, due or stopping or ends_epoch
            if logs or saves or step % CHECK_STEPS == 0:  # before any save: NaN is never saved
                mean, speed = watch.flush(weights_are_fine=not saves or session.is_finite())
                bar.update(step, f"epoch {(step - 1) // per_epoch + 1} · loss {mean:.3f} · {speed:,.0f} items/s")
            if logs:
                health = look(session, mean, queries, batch)
                warning = verdict(health) if step >= total // 4 else None
                bar.warn_once(warning)
                values = {"epoch": step / per_epoch, "lr": rate, "items_per_second": speed, **health.values()}
                with going_on(bar):
                    log.write(step, values | session.log_values() | ({"verdict": warning.text} if warning else {}))
            if ends_epoch and first and knn_is_due(settings, step // per_epoch):
                score = online_knn(model, items)
                if score is not None:
                    use = "by the labels it is taught" if settings.alike == "label" else "labels only measure here"
                    bar.say(f"epoch {step // per_epoch}: kNN {score:.1%} ({use})")
                    with going_on(bar):
                        log.write(step, {"epoch": step / per_epoch, "knn": score})
                        keep_best(session, model, score, step / per_epoch, folder)
            if logs:
                watch.restart()  # after measuring, which is not training and stays out of items/s
            if due or stopping or step == total:
                save(session, folder, bar, must=stopping or step == total)
                saved_at = time.monotonic()
            if stopping and step < total:
                raise Interrupted(f"Stopped at step {step} of {total}; everything is saved.")


def look(session: Session, loss: float, queries: Tensor, batch: Seen) -> Health:
    """The health of this process' rows; with labels also how many rows of all processes have what to learn from.

    Every process must call it. Of a queue 4,096 keys are looked at.
    """
    rows = queries if session.settings.encoder.unit else functional.normalize(queries, dim=1)
    if session.settings.alike != "label" or not isinstance(session.objective, PairObjective | Histogram):
        return measure(loss, session.chance(), rows)
    known, queue, sizes = session.margin(), session.dictionary, batch.layout.sizes
    views = [processes.gather_constant(view, sizes) for view in torch.split(rows, sizes[batch.layout.rank])]
    everyone, ids = torch.cat(views), torch.cat([batch.ids] * len(views))
    keys: tuple[Tensor | None, Tensor | None] = (None, None)
    if isinstance(queue, Queue):
        some = slice(min(KEYS_SEEN, int(queue.filled)))
        keys = queue.rows[some], queue.ids[some]
    if known is None:
        return measure(loss, session.chance(), rows, valid=triplet_shares(everyone, ids, *keys).valid)
    margin, kind = known
    shares = triplet_shares(everyone, ids, *keys, margin=margin, kind=kind)
    margin *= session.settings.loss_weight
    return measure(loss, session.chance(), rows, valid=shares.valid, margin=margin, triplets=shares)


def knn_is_due(settings: FitSettings, epoch: int) -> bool:
    """Whether this epoch is measured: every ``knn_epochs``, and the last."""
    return settings.knn_epochs > 0 and (epoch % settings.knn_epochs == 0 or epoch == settings.epochs)


def online_knn(model: Model, items: Items) -> float | None:
    """Weighted kNN accuracy among at most ``knn_items`` of the items, each left out of its own neighbours.

    None without labels, or with several an item. The items are re-encoded in eval mode without augmentation, the same
    ones every time.
    """
    if items.labels is None or len(items.label_names) < 2 or items.labels.ndim > 1:
        return None
    settings = model.settings
    known = torch.from_numpy(items.labels >= 0).nonzero().squeeze(1)
    if len(known) < 2:
        return None
    some = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(0))[: settings.knn_items]]
    subset = items.select(some.sort().values.numpy())
    rows, ids, labels = model.features(subset), torch.arange(len(subset)), torch.from_numpy(np.array(subset.labels))
    k, tau = min(200, max(1, len(subset) // 10)), settings.objective.vote_temperature
    return knn_accuracy(rows, labels, rows, labels, k=k, temperature=tau, query_ids=ids, key_ids=ids)


def keep_best(session: Session, model: Model, score: float, epoch: float, folder: Path) -> None:
    """Remembers the best score; with ``keep_best`` also its weights, in best.safetensors."""
    if score <= session.best[0]:
        return
    session.best = (score, epoch)
    if model.settings.keep_best:
        model.epoch = epoch
        model.save(folder / "best.safetensors")


def save(session: Session, folder: Path, bar: TrainingProgress, *, must: bool) -> None:
    """Writes the checkpoint; when it can't be and it is not the last, says so and goes on."""
    with nullcontext() if must else going_on(bar):
        save_run(folder, session)


@contextmanager
def going_on(bar: TrainingProgress) -> Iterator[None]:
    """A disk that is full for now does not end the run: says what could not be written, and goes on."""
    try:
        yield
    except (LikewiseError, OSError) as error:
        bar.say(f"warning: {error} Training goes on.")


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Yields an event that Ctrl-C or SIGTERM sets, so that the step ends and is saved; a second one stops."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals belong to the main thread
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)
