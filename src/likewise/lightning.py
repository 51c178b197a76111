"""The training of ``fit`` inside a Lightning Trainer: the same steps, bit for bit. Needs the extra ``lightning``.

Lightning loops, logs and saves. Batches, step, learning rate and state come from ``likewise.training``: Lightning's
accumulation, clipping and precision are not used, and there is no online kNN. See docs/distributed.md.

It works with Trainers of the package ``pytorch_lightning``, and with those of ``lightning`` if ``lightning.pytorch`` is
imported first.
"""

import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any

import torch
from torch import nn

from likewise.config.checks import check
from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.distributed import processes
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.model import Model
from likewise.training.batches import refuse_few
from likewise.training.fit import announce, prepare, say
from likewise.training.run import Run, begin
from likewise.training.session import Session
from likewise.training.step import Seen, train_step
from likewise.training.supervision import refuse_small_steps

MALICIOUS = ("2.6.2", "2.6.3")  # releases of April 2026, GHSA-w37p-236h-pfx3


def refuse_malicious() -> None:
    """Raises LikewiseError, before any code of Lightning runs, if a malicious release is installed."""
    for name in ("lightning", "pytorch-lightning"):
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue
        if installed in MALICIOUS:
            raise LikewiseError(
                f"{name} {installed} is a malicious release (GHSA-w37p-236h-pfx3): uninstall it, change the secrets "
                "that this machine could read, and install a later one."
            )


refuse_malicious()
try:
    if "lightning.pytorch" in sys.modules:  # the caller's; a Trainer takes modules of its own package alone
        from lightning.pytorch import LightningModule
        from lightning.pytorch.strategies import DDPStrategy
    else:
        from pytorch_lightning import LightningModule
        from pytorch_lightning.strategies import DDPStrategy
except ImportError as error:
    raise LikewiseError("likewise.lightning needs Lightning: pip install 'likewise[lightning]'.") from error


class SharedSteps(DDPStrategy):  # type: ignore[misc]
    """``Trainer(strategy=SharedSteps(), devices=2)``: Lightning's DDP for a step that sums gradients itself."""

    def configure_ddp(self) -> None:
        """Does nothing: DistributedDataParallel would average gradients that are summed already."""


class LikewiseModule(LightningModule):  # type: ignore[misc]
    """A run of ``fit`` as a LightningModule, for one process or, with the strategy SharedSteps, several.

    Its state is not in ``state_dict`` but in the checkpoint's entry ``likewise``: encoder, dictionary, optimizer, step
    and generators, as tensors, numbers, strings. ``ckpt_path`` continues from there bit for bit, also within an epoch.

    Args:
        settings: as in ``fit``; the device is the Trainer's.
        items: the training items; see ``likewise.open_items``.
        backbone: as in ``fit``.

    Raises LikewiseError on unusable settings, items, labels or relations. When training starts, it also raises on too
    few items for the processes, bank.sharded, a precision set in Lightning, a Trainer that would go on after the last
    epoch, and several processes without SharedSteps.
    """

    def __init__(self, settings: FitSettings, items: Items, *, backbone: nn.Module | None = None) -> None:
        super().__init__()
        other = sys.modules.get("lightning.pytorch")
        if other is not None and not isinstance(self, other.LightningModule):
            said = (
                "lightning.pytorch was imported after likewise.lightning, whose module is then for Trainers of "
                "pytorch_lightning alone; take one of these, or import lightning.pytorch first."
            )
            warnings.warn(said, LikewiseWarning, stacklevel=2)
        self.automatic_optimization = False
        prepared = prepare(check(settings), items, backbone)
        self.settings, self.items, self.relations, self.sampler, self.notes = prepared
        self.model = Model.untrained(self.settings, self.items, backbone=backbone)
        self._run: Run | None = None

    @property
    def run(self) -> Run:
        """The run that Lightning trains. Raises LikewiseError before training starts."""
        if self._run is None:
            raise LikewiseError("there is no run yet; Trainer.fit(module) starts one.")
        return self._run

    @property
    def session(self) -> Session:
        """The state of the run. Raises LikewiseError before training starts."""
        return self.run.session

    def setup(self, stage: str) -> None:
        """Builds the session on Lightning's device, after the processes are joined; prints the pre-flight's advice."""
        if self.settings.bank.sharded:
            raise LikewiseError("bank.sharded is not for Lightning's checkpoints; take likewise fit.")
        if self.settings.minutes is not None:
            raise LikewiseError("minutes are for likewise fit; Lightning has Trainer(max_time=...), or set epochs.")
        if self.trainer.precision != "32-true":
            raise LikewiseError(f"Trainer(precision={self.trainer.precision!r}): set likewise's own precision instead.")
        if self.trainer.world_size > 1 and not isinstance(self.trainer.strategy, SharedSteps):
            raise LikewiseError("several processes need Trainer(strategy=likewise.lightning.SharedSteps(), ...).")
        epochs, total = self.settings.epochs, self.settings.epochs * self.sampler.steps_per_epoch
        most = (self.trainer.max_epochs, self.trainer.max_steps)  # -1: no limit
        if stage == "fit" and not (0 <= most[0] <= epochs or 0 <= most[1] <= total):
            raise LikewiseError(
                f"Trainer(max_epochs={most[0]}, max_steps={most[1]}) would go on after the {epochs} epochs ({total} "
                f"steps) of the settings; set max_epochs={epochs}, or fewer."
            )
        refuse_few(self.settings, len(self.items))  # for so many processes
        refuse_small_steps(self.settings, self.sampler, total)
        if self._run is None:
            device = self.trainer.strategy.root_device
            self._run = begin(self.model, self.items, total, device, relations=self.relations, sampler=self.sampler)
            announce(self.model, self.items, total, self.notes, enabled=processes.rank() == 0)

    def train_dataloader(self) -> "Epochs":
        """The batches of ``fit``, from the session's step on."""
        return Epochs(self)

    def transfer_batch_to_device(self, batch: Seen, device: torch.device, dataloader_idx: int) -> Seen:
        """The unchanged batch, which is on its device already."""
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer of the session."""
        return self.session.optimizer

    def training_step(self, batch: Seen, batch_idx: int) -> None:
        """The step of ``fit``, at its learning rate; logs ``loss``, of the whole batch, and ``lr``."""
        session, optimizer = self.session, self.session.optimizer
        session.optimizer = self.optimizers()  # the same one, which lets Lightning count the steps
        try:
            with torch.random.fork_rng(devices=[session.device] if session.device.type == "cuda" else []):
                loss, _ = train_step(session, batch)
        finally:
            session.optimizer = optimizer
        self.log_dict({"loss": loss, "lr": session.rate}, prog_bar=True, batch_size=len(batch.ids))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the session's state."""
        checkpoint["likewise"] = self.session.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the session and prints changes of the data. Raises LikewiseError when the state does not fit."""
        changes = self.session.load_state_dict(checkpoint["likewise"])
        say([f"warning: {change}" for change in changes], enabled=processes.rank() == 0)

    def to_model(self) -> Model:
        """The model trained so far, to embed, index and save."""
        self.model.epoch = self.run.epoch
        return self.model


class Epochs:
    """This process' remaining batches of the current epoch."""

    def __init__(self, module: LikewiseModule) -> None:
        self.module = module

    def __len__(self) -> int:
        return self.module.sampler.steps_per_epoch

    def __iter__(self) -> Iterator[Seen]:
        run = self.module.run
        yield from islice(run.batches(), len(self) - run.session.step % len(self))
