"""All the state of a run in one place: what is here is checkpointed, and nothing else matters."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from likewise.config.settings import FitSettings
from likewise.dictionaries import Batch, MemoryBank, Proxies, Queue
from likewise.dictionaries.sharded import ShardedMemoryBank, ShardedProxies
from likewise.distributed import processes
from likewise.encoders import Embedder
from likewise.encoders.momentum import Momentum
from likewise.errors import LikewiseError
from likewise.kernels.numerics import Distance
from likewise.objectives import (
    NCE,
    Histogram,
    InfoNCE,
    LiftedStructure,
    Mined,
    NonParametricSoftmax,
    ParametricSoftmax,
    Triplet,
)
from likewise.objectives.base import ClassObjective, InstanceObjective, PairObjective
from likewise.objectives.sharded import ShardedSoftmax
from likewise.training.supervision import Taught, refuse_relabelled, said_of_change, taught_before

Objective = PairObjective | Histogram | ClassObjective | InstanceObjective | ShardedSoftmax
Dictionary = MemoryBank | Queue | Batch | Proxies | ShardedMemoryBank | ShardedProxies


@dataclass(kw_only=True)
class Session:
    """A run in memory.

    Args:
        settings: every choice, none left on auto.
        total: steps of the whole run.
        embedder: what is trained.
        key_encoder: who encodes the keys of a queue; None where the encoder itself does.
        objective: the loss; its parameters and buffers (log Z) are part of the state.
        dictionary: where the keys come from.
        optimizer: over embedder and objective.
        generator: the first rows of bank, queue or weights, and those of items that came later, on the CPU.
        noise_generator: NCE's noise and the bank's samples, on the device.
        item_ids: names of the items, in row order.
        taught: what says which items are alike.
        step: steps done.
        best: the best online accuracy so far and its epoch, when labels exist.
        losses: of the steps since the last logged mean, so that a resumed run logs the same one.
    """

    settings: FitSettings
    total: int
    embedder: Embedder
    key_encoder: Momentum | None
    objective: Objective
    dictionary: Dictionary
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    noise_generator: torch.Generator
    item_ids: tuple[str, ...]
    taught: Taught
    step: int = 0
    best: tuple[float, float] = (0.0, 0.0)
    losses: list[float] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Where the training step runs."""
        return next(self.embedder.parameters()).device

    def precision(self) -> torch.autocast:
        """What the encoder runs in: bf16, or as it is."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    @property
    def rows_add_up(self) -> bool:
        """Whether the batch's loss is a sum over its queries, so that processes can share them."""
        if self.settings.alike in ("pairs", "triplets"):  # their ends are anywhere
            return False
        if isinstance(self.objective, Mined):
            return not self.objective.draws  # else all see all queries, to draw alike
        if isinstance(self.objective, LiftedStructure):
            return self.objective.generalised
        return not isinstance(self.objective, NCE | Histogram)  # NCE's log Z is the whole batch's

    def train(self) -> None:
        """Train mode, everywhere."""
        for module in (self.objective, *self.encoders()):
            module.train()

    def encoders(self) -> list[nn.Module]:
        """What has BatchNorm statistics of its own."""
        return [self.embedder] + ([self.key_encoder.encoder] if self.key_encoder is not None else [])

    def gradients(self) -> list[Tensor]:
        """Those that the processes add up, in one order: all but of weights that are spread over them."""
        parameters = [*self.embedder.parameters(), *self.objective.parameters()]
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    def whole_loss(self, share: Tensor) -> Tensor:
        """The batch's loss from this process' share, detached."""
        return processes.sum_over(share.detach()) / (1 if self.rows_add_up else processes.size())

    def chance(self) -> float | None:
        """The loss of an embedding that tells nothing apart; None where that is not known."""
        scale, objective, choices = self.settings.loss_weight, self.objective, self.settings
        if isinstance(objective, ClassObjective):
            return scale * objective.chance(len(objective.proxies))
        if choices.alike != "instance":
            return None
        if isinstance(objective, NCE | NonParametricSoftmax | ParametricSoftmax | ShardedSoftmax):
            return scale * objective.chance(len(self.item_ids))
        if not isinstance(objective, InfoNCE):
            return None
        n = len(self.item_ids)
        in_batch = choices.views_querying * (min(choices.batch_size, n) - 1)
        negatives = {
            "bank": choices.bank.samples or n - 1,
            "queue": choices.queue.size + in_batch * choices.queue.own_batch,
        }
        return scale * math.log1p(negatives.get(choices.dictionary, in_batch))

    def margin(self) -> tuple[float, Distance] | None:
        """The margin of a triplet loss and its distance: the loss where all items are the same; None for others."""
        objective = self.objective.objective if isinstance(self.objective, Mined) else self.objective
        if not isinstance(objective, Triplet) or objective.soft:
            return None
        return objective.margin, objective.distance

    def log_values(self) -> dict[str, float | str]:
        """Numbers of the state worth a curve."""
        values: dict[str, float | str] = {}
        if isinstance(self.objective, NCE):
            values["log_z"] = float(self.objective.log_z)
        if self.key_encoder is not None:
            values["key_momentum"] = self.key_encoder.at(self.step / self.total)
        if isinstance(self.objective, Mined):
            values |= {"active": float(self.objective.active), "stage": float(self.objective.stage)}
        return values

    def is_finite(self) -> bool:
        """Whether the weights are numbers: a step can break them though its own loss was fine. Cost: one pass."""
        tensors = [*self.embedder.state_dict().values(), *self.objective.parameters(), *self.dictionary.parameters()]
        broken = not all(bool(tensor.isfinite().all()) for tensor in tensors)
        return not processes.any_of([broken], self.device)[0]  # a process may be the only one to hold a weight

    def shards(self) -> dict[str, Tensor]:
        """What is spread over the processes, by name: this one's rows. Nothing where every process holds all."""
        if isinstance(self.dictionary, ShardedMemoryBank):
            return {"rows": self.dictionary.rows}
        if isinstance(self.dictionary, ShardedProxies):
            moments = self.optimizer.state.get(self.dictionary.weight, {})  # the optimizer's, of the same rows
            return {"weight": self.dictionary.weight.detach(), **moments}
        return {}

    def load_shards(self, shards: dict[str, Tensor]) -> None:
        """Restores ``shards()``."""
        if isinstance(self.dictionary, ShardedMemoryBank):
            self.dictionary.rows.copy_(shards["rows"])
        if isinstance(self.dictionary, ShardedProxies):
            with torch.no_grad():
                self.dictionary.weight.copy_(shards.pop("weight"))
            self.optimizer.state[self.dictionary.weight] = shards

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs, but for ``shards()``: tensors, numbers and strings only."""
        optimizer, dictionary = self.optimizer.state_dict(), self.dictionary.state_dict()
        if self.settings.bank.sharded:
            dictionary = {}
            if isinstance(self.dictionary, ShardedProxies):  # its weight is the optimizer's last
                optimizer["state"].pop(len(self.optimizer.param_groups[0]["params"]) - 1, None)
        return {
            "step": self.step,
            "total": self.total,
            "best": list(self.best),
            "losses": list(self.losses),
            "item_ids": list(self.item_ids),
            "taught": self.taught.state_dict(),
            "embedder": self.embedder.state_dict(),
            "objective": self.objective.state_dict(),
            "dictionary": dictionary,
            "key_encoder": self.key_encoder.state_dict() if self.key_encoder is not None else None,
            "optimizer": optimizer,
            "generator": self.generator.get_state(),
            "noise_generator": self.noise_generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        """Restores ``state_dict()``. A data set that changed since finds its bank rows again by name.

        Returns sentences where there are other items, and other labels, pairs or triplets teach, from here on.

        Raises LikewiseError when no item is known, when items changed but the objective has a weight per item, when
        so few are left that no step is, when labels changed but proxies or a queue's keys are known by them, and when
        the state is of another encoder or kind of device.
        """
        try:
            return self._restore(state)
        except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
            raise LikewiseError(
                f"the checkpoint does not fit this run ({type(error).__name__}: {str(error).splitlines()[0]}): it was "
                "made with another encoder, kind of item or device; resume with the same, or start anew."
            ) from error

    def _restore(self, state: dict[str, Any]) -> list[str]:
        saved_ids = tuple(state["item_ids"])
        if self.total <= state["step"] < state.get("total", 0):
            raise LikewiseError(
                f"the run was at step {state['step']} of {state['total']}, but on these {len(self.item_ids):,} items "
                f"it has {self.total} steps only, so none would be left; take the run's data, or start anew."
            )
        before = taught_before(state["taught"]) if "taught" in state else None  # None: of an older version
        self._restore_dictionary(state["dictionary"], saved_ids, before)
        if self.key_encoder is not None:
            self.key_encoder.load_state_dict(state["key_encoder"])
        self.embedder.load_state_dict(state["embedder"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.noise_generator.set_state(state["noise_generator"])
        self.step, self.best = state["step"], (state["best"][0], state["best"][1])
        self.losses[:] = state["losses"]
        said = [] if before is None else [said_of_change(before, self.taught, saved_ids, self.item_ids)]
        return [sentence for sentence in (self._said_of_items(saved_ids), *said) if sentence]

    def _said_of_items(self, saved_ids: tuple[str, ...]) -> str:
        if saved_ids == self.item_ids:
            return ""
        came, went = (len(set(a).difference(b)) for a, b in ((self.item_ids, saved_ids), (saved_ids, self.item_ids)))
        if not came and not went:
            return ""
        goes_on = f" Training goes on after step {self.step} of {self.total}." * (self.step < self.total)
        return f"the items changed since the checkpoint: {came:,} came and {went:,} went.{goes_on}"

    def _restore_dictionary(self, state: dict[str, Any], saved_ids: tuple[str, ...], before: Taught | None) -> None:
        """A bank's or queue's keys follow their items by name; a weight per item can't, nor rows that are spread."""
        changed = saved_ids != self.item_ids
        if changed and self.settings.bank.sharded:
            raise LikewiseError(
                "the items changed since the checkpoint, and rows spread over processes (bank.sharded) can't "
                "follow them; take the run's data, or start anew."
            )
        by_label = self.settings.alike == "label"
        if changed and isinstance(self.dictionary, Proxies) and not by_label:
            raise LikewiseError(
                "the items changed since the checkpoint, and the parametric softmax has a weight per item; start anew."
            )
        if changed and set(saved_ids).isdisjoint(self.item_ids):
            raise LikewiseError(
                f"none of the {len(self.item_ids):,} items is in the checkpoint, whose first is {saved_ids[0]!r}; "
                "take the run's data, or start anew."
            )
        if by_label and isinstance(self.dictionary, Proxies | Queue):
            proxies, kind = isinstance(self.dictionary, Proxies), self.settings.objective.kind
            bound = f"proxies of {kind}" if proxies else "queue's keys"
            refuse_relabelled(before, self.taught, saved_ids, self.item_ids, bound)
        if by_label and isinstance(self.dictionary, Queue) and state["ids"].shape != self.dictionary.ids.shape:
            raise LikewiseError(
                "an item has more labels, or none has as many, as at the checkpoint, and the queue's keys were kept "
                "with so many; take the run's data, or start anew."
            )
        if self.settings.bank.sharded:
            return
        if isinstance(self.dictionary, MemoryBank):
            self.dictionary.rows = state["rows"].to(self.device)
            self.dictionary.set_extra_state(list(saved_ids))
            if changed:
                self.dictionary.rebind(self.item_ids, generator=self.generator)
            return
        self.dictionary.load_state_dict(state)
        if changed and isinstance(self.dictionary, Queue) and not by_label:  # else ids are labels, which are the same
            self.dictionary.rename(saved_ids, self.item_ids)
