"""The whole state of a run in one place. The checkpoint saves it; a resumed run needs nothing else."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from likewise.config.settings import FitSettings
from likewise.data.items import as_id
from likewise.dictionaries import Dictionary
from likewise.distributed import processes
from likewise.encoders import Embedder
from likewise.encoders.momentum import Momentum
from likewise.errors import LikewiseError
from likewise.objectives.interface import Objective
from likewise.text import quoted
from likewise.training.supervision import Supervision, describe_change, refuse_relabelled, saved_supervision


class Roles(NamedTuple):
    """The roles of an item's views in a step."""

    encoded: int  # number of views encoded with gradient
    querying: int  # number of these that are queries
    joint: bool  # whether the views share BatchNorm statistics and all are keys
    meet: bool  # whether the keys include the query itself, or a view that is also a query


@dataclass(kw_only=True)
class Session:
    """The state of a run in memory.

    Args:
        settings: all settings; none is left on auto.
        total: number of steps of the whole run.
        embedder: the model that is trained.
        key_encoder: the momentum encoder of a queue's keys; None where the embedder encodes the keys.
        objective: the loss; its parameters and buffers (log Z) are part of the state.
        dictionary: the source of the keys.
        optimizer: updates embedder, objective and dictionary.
        generator: draws the first rows of bank, queue or weights, and the rows of new items; on the CPU.
        noise_generator: draws NCE's noise and the bank's samples; on the device.
        item_ids: names of the items, in row order.
        supervision: the labels or relations that say which items are alike.
        device: where the training step runs.
        roles: the roles of an item's views.
        rows_add_up: whether the batch's loss is a sum over its queries, so that processes can divide them.
        step: number of steps done.
        seconds: of the training so far, where the run has a budget of time.
        best: the best online accuracy so far and its epoch, when labels exist.
        losses: losses of the steps since the last logged mean, so that a resumed run logs the same mean.
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
    supervision: Supervision
    device: torch.device
    roles: Roles
    rows_add_up: bool
    step: int = 0
    seconds: float = 0.0
    best: tuple[float, float] = (0.0, 0.0)
    losses: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def train(self) -> None:
        """Sets every module to train mode."""
        for module in (cast(nn.Module, self.objective), *self.encoders()):
            module.train()

    def modules(self) -> dict[str, nn.Module]:
        """Modules, by name, that are equal in all processes; without the dictionary."""
        modules = {"encoder": self.embedder, "objective": cast(nn.Module, self.objective)}
        return modules | ({} if self.key_encoder is None else {"key encoder": self.key_encoder})

    def encoders(self) -> list[nn.Module]:
        """The encoders: each has its own BatchNorm statistics."""
        return [self.embedder] + ([self.key_encoder.encoder] if self.key_encoder is not None else [])

    def chance(self, items: int) -> float | None:
        """The loss of an embedding that can't distinguish the items of a batch; None where it is not known.

        Args:
            items: of the batch, in all processes.
        """
        if self.settings.alike != "instance" and self.settings.dictionary != "proxies":
            return None  # a query may have several positives, or none
        others = self.roles.querying * (items - 1)
        chance = self.objective.chance(self.dictionary.choices(others))
        return None if chance is None else self.settings.loss_weight * chance

    def log_values(self) -> dict[str, float | str]:
        """Values of the state for the log."""
        values: dict[str, float | str] = {}
        if self.key_encoder is not None:
            values["key_momentum"] = self.key_encoder.at(self.step / self.total)
        return values | self.objective.log_values()

    def is_finite(self) -> bool:
        """Whether all weights are finite. A step can make a weight infinite although its loss is finite.

        Cost: one pass over the weights.
        """
        tensors = [*self.embedder.state_dict().values(), *self.objective.parameters(), *self.dictionary.parameters()]
        broken = not all(bool(tensor.isfinite().all()) for tensor in tensors)
        return not processes.any_of([broken], self.device)[0]  # a sharded weight is in one process only

    def shards(self) -> dict[str, Tensor]:
        """This process' rows of the sharded state, by name. Empty where nothing is sharded."""
        moments: dict[str, Tensor] = {}
        for weight in self.dictionary.parameters():  # the optimizer's state of the same rows
            moments |= self.optimizer.state.get(weight, {})
        return self.dictionary.shards() | moments

    def load_shards(self, shards: dict[str, Tensor]) -> None:
        """Restores ``shards()``."""
        self.dictionary.load_shards(shards)
        moments = {name: rows for name, rows in shards.items() if name not in self.dictionary.shards()}
        for weight in self.dictionary.parameters():
            self.optimizer.state[weight] = moments

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs except ``shards()``: tensors, numbers and strings only."""
        optimizer = self.optimizer.state_dict()
        last = len(optimizer["param_groups"][0]["params"]) - 1
        for place, _ in enumerate(self.dictionary.parameters()):  # the last ones; they are shards
            optimizer["state"].pop(last - place, None)
        return {
            "step": self.step,
            "total": self.total,
            "seconds": self.seconds,
            "best": list(self.best),
            "losses": list(self.losses),
            "item_ids": list(self.item_ids),
            "taught": self.supervision.state_dict(),
            "embedder": self.embedder.state_dict(),
            "objective": self.objective.state_dict(),
            "dictionary": self.dictionary.state(),
            "key_encoder": self.key_encoder.state_dict() if self.key_encoder is not None else None,
            "optimizer": optimizer,
            "generator": self.generator.get_state(),
            "noise_generator": self.noise_generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        """Restores ``state_dict()``. If the data changed, bank rows follow their items by name.

        Returns one sentence for each change of the items or the supervision.

        Raises LikewiseError when the checkpoint knows none of the items; when items changed but the objective has a
        weight per item; when too few items are left for another step; when labels changed but proxies or a queue's keys
        refer to them; and when the state is of another encoder or kind of device.
        """
        try:
            return self._restore(state)
        except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
            raise LikewiseError(
                f"the checkpoint does not fit this run ({type(error).__name__}: {str(error).splitlines()[0]}): it was "
                "made with another encoder, kind of item or device; resume with the same, or start a new run."
            ) from error

    def _restore(self, state: dict[str, Any]) -> list[str]:
        saved_ids = tuple(map(as_id, state["item_ids"]))
        if self.settings.minutes is None and self.total <= state["step"] < state.get("total", 0):
            per_epoch = max(1, self.total // self.settings.epochs)
            raise LikewiseError(
                f"the run was at step {state['step']} of {state['total']}, but with epochs={self.settings.epochs} on "
                f"these {len(self.item_ids):,} items it has only {self.total} steps, so none is left; take at least "
                f"--epochs {state['step'] // per_epoch + 1}, use the data of the run, or start a new run."
            )
        before = saved_supervision(state["taught"]) if "taught" in state else None  # older versions saved none
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
        if self.settings.minutes is not None:  # the clock has set the number of steps
            self.total, self.seconds = state["total"], state.get("seconds", 0.0)
        changes = [self._describe_items(saved_ids)]
        if before is not None:
            changes.append(describe_change(before, self.supervision, saved_ids, self.item_ids))
        return [change for change in changes if change]

    def _describe_items(self, saved_ids: tuple[str, ...]) -> str:
        if saved_ids == self.item_ids:
            return ""
        came, went = (len(set(a).difference(b)) for a, b in ((self.item_ids, saved_ids), (saved_ids, self.item_ids)))
        if not came and not went:
            return ""
        goes_on = f" Training continues after step {self.step} of {self.total}." * (self.step < self.total)
        return f"the items changed since the checkpoint: {came:,} were added and {went:,} removed.{goes_on}"

    def _restore_dictionary(
        self, state: dict[str, Any], saved_ids: tuple[str, ...], before: Supervision | None
    ) -> None:
        """Restores the dictionary. If the items changed, its keys follow them by name."""
        changed = saved_ids != self.item_ids
        if changed and set(saved_ids).isdisjoint(self.item_ids):
            raise LikewiseError(
                f"none of the {len(self.item_ids):,} items is in the checkpoint, whose first is "
                f"{quoted(saved_ids[0])}; use the data of the run, or start a new run."
            )
        if self.dictionary.bound:
            refuse_relabelled(before, self.supervision, saved_ids, self.item_ids, self.dictionary.bound)
        self.dictionary.restore(state)
        if changed:
            self.dictionary.follow(saved_ids, self.item_ids, self.generator)
