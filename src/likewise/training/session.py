"""All the state of a run in one place: what is here is checkpointed, and nothing else matters."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from likewise.config import FitSettings, ObjectiveSettings, OptimSettings
from likewise.data import Items
from likewise.dictionaries import MemoryBank
from likewise.encoders import Embedder
from likewise.errors import LikewiseError
from likewise.objectives import NCE, NonParametricSoftmax, ParametricSoftmax

Objective = NCE | NonParametricSoftmax | ParametricSoftmax


@dataclass(kw_only=True)
class Session:
    """A run in memory.

    Args:
        embedder: what is trained.
        objective: the loss; its parameters and buffers (log Z) are part of the state.
        bank: the dictionary, one row per item; None where the keys are the objective's own parameters.
        optimizer: over embedder and objective.
        generator: the bank's first rows and those of items that came later, on the CPU.
        noise_generator: NCE's noise, on the device.
        item_ids: names of the items, in row order.
        step: steps done.
        best: the best online accuracy so far and its epoch, when labels exist.
        losses: of the steps since the last logged mean, so that a resumed run logs the same one.
    """

    embedder: Embedder
    objective: Objective
    bank: MemoryBank | None
    optimizer: torch.optim.SGD
    generator: torch.Generator
    noise_generator: torch.Generator
    item_ids: tuple[str, ...]
    step: int = 0
    best: tuple[float, float] = (0.0, 0.0)
    losses: list[float] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Where the training step runs."""
        return next(self.embedder.parameters()).device

    def log_values(self) -> dict[str, float | str]:
        """Numbers of the state worth a curve."""
        return {"log_z": float(self.objective.log_z)} if isinstance(self.objective, NCE) else {}

    def is_finite(self) -> bool:
        """Whether the weights are numbers: a step can break them though its own loss was fine. Cost: one pass."""
        tensors = [*self.embedder.state_dict().values(), *self.objective.parameters()]
        return all(bool(tensor.isfinite().all()) for tensor in tensors)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs: tensors, numbers and strings only."""
        return {
            "step": self.step,
            "best": list(self.best),
            "losses": list(self.losses),
            "item_ids": list(self.item_ids),
            "embedder": self.embedder.state_dict(),
            "objective": self.objective.state_dict(),
            "bank": self.bank.state_dict() if self.bank is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "noise_generator": self.noise_generator.get_state(),
            "torch_generator": torch.get_rng_state(),
            "device_generator": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores ``state_dict()``. A data set that changed since finds its bank rows again by name.

        Raises LikewiseError when no item is known, when items changed but the objective has a weight per item, and when
        the state is of another encoder or kind of device.
        """
        try:
            self._restore(state)
        except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
            raise LikewiseError(
                f"the checkpoint does not fit this run ({type(error).__name__}: {str(error).splitlines()[0]}): it was "
                "made with another encoder, kind of item or device; resume with the same, or start anew."
            ) from error

    def _restore(self, state: dict[str, Any]) -> None:
        saved_ids = tuple(state["item_ids"])
        if self.bank is not None:
            self.bank.rows = state["bank"]["rows"].to(self.device)
            self.bank.set_extra_state(list(saved_ids))
            if saved_ids != self.item_ids and not self.bank.rebind(self.item_ids, generator=self.generator):
                raise LikewiseError(
                    f"none of the {len(self.item_ids):,} items is in the checkpoint, whose first is {saved_ids[0]!r}; "
                    "resume with the data of the run, or start anew."
                )
        elif saved_ids != self.item_ids:
            raise LikewiseError(
                "the items changed since the checkpoint, and the parametric softmax has a weight per item; start anew."
            )
        self.embedder.load_state_dict(state["embedder"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.noise_generator.set_state(state["noise_generator"])
        torch.set_rng_state(state["torch_generator"])
        if state["device_generator"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["device_generator"], self.device)
        self.step, self.best = state["step"], (state["best"][0], state["best"][1])
        self.losses[:] = state["losses"]


def build_session(settings: FitSettings, embedder: Embedder, items: Items, device: torch.device) -> Session:
    """A fresh run over ``items``: objective, dictionary and optimizer as the settings say."""
    generator = torch.Generator().manual_seed(settings.seed + 1)
    noise_generator = torch.Generator(device).manual_seed(settings.seed + 2)
    embedder = embedder.to(device)
    embedder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions: 1.2–1.6× on a CPU
    objective = build_objective(settings.objective, len(items), embedder.dim, noise_generator).to(device)
    bank = None
    if not isinstance(objective, ParametricSoftmax):
        bank = MemoryBank(
            len(items), embedder.dim, momentum=settings.bank.momentum, item_ids=items.ids, generator=generator
        ).to(device)
    optim = settings.optim
    optimizer = torch.optim.SGD(
        [*embedder.parameters(), *objective.parameters()],
        lr=optim.lr,
        momentum=optim.momentum,
        weight_decay=optim.weight_decay,
        nesterov=optim.nesterov,
        fused=True,  # one pass over the weights
    )
    return Session(
        embedder=embedder,
        objective=objective,
        bank=bank,
        optimizer=optimizer,
        generator=generator,
        noise_generator=noise_generator,
        item_ids=items.ids,
    )


def build_objective(settings: ObjectiveSettings, n: int, dim: int, generator: torch.Generator) -> Objective:
    """The objective named by ``settings.kind``; auto, which ``config.decide`` replaces in a run, is NCE here."""
    if settings.kind == "parametric":
        return ParametricSoftmax(n, dim, scale=1 / settings.temperature)
    if settings.kind == "softmax":
        return NonParametricSoftmax(temperature=settings.temperature, proximal=settings.proximal)
    return NCE(
        temperature=settings.temperature,
        noise=settings.noise,
        draw=settings.noise_draw,
        positive_in_noise=settings.positive_in_noise,
        log_z=settings.log_z,
        log_z_decay=settings.log_z_decay,
        proximal=settings.proximal,
        generator=generator,
    )


def learning_rate(optim: OptimSettings, step: int, total: int) -> float:
    """The rate of step ``step`` of ``total``: a pure function, so there is no scheduler state to lose."""
    progress = step / total
    if progress < optim.warmup:
        return optim.lr * (step + 1) / max(1.0, optim.warmup * total)
    if optim.schedule == "cosine":
        after = (progress - optim.warmup) / max(1e-12, 1 - optim.warmup)
        return optim.lr * 0.5 * (1 + math.cos(math.pi * after))
    if optim.schedule == "steps":
        return optim.lr * 0.1 ** sum(progress >= milestone for milestone in optim.milestones)
    return optim.lr


def train_step(session: Session, seen: Tensor, rows: Tensor, bf16: bool) -> tuple[Tensor, Tensor]:
    """One step of any method: a query looks up its key in a dictionary.

    ``seen`` is a batch of views, ``rows`` (B,) the items' ids. Returns the loss and the queries (B, D), detached.
    """
    with torch.autocast(session.device.type, torch.bfloat16, enabled=bf16):
        queries = session.embedder(seen)  # (B, D) unit rows
    if session.bank is not None:
        loss = session.objective(queries, rows, session.bank.rows)
    else:
        loss = session.objective(queries, rows)
    session.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    session.optimizer.step()
    if session.bank is not None:
        session.bank.update(rows, queries)
    session.step += 1
    return loss.detach(), queries.detach()
