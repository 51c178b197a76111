"""All the state of a run in one place: what is here is checkpointed, and nothing else matters."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from likewise.config.settings import FitSettings
from likewise.dictionaries import Dictionary
from likewise.distributed import processes
from likewise.encoders import Embedder
from likewise.encoders.momentum import Momentum
from likewise.errors import LikewiseError
from likewise.objectives.base import Objective
from likewise.training.supervision import Supervision, refuse_relabelled, said_of_change, supervision_from


class Roles(NamedTuple):
    """What the views of an item are for."""

    encoded: int  # how many views are encoded with gradient
    querying: int  # how many of these are queries
    joint: bool  # whether they share BatchNorm's statistics, and are all keys
    meet: bool  # whether a query is among the keys itself, or has a view there


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
        supervision: the labels, pairs or triplets that say which items are alike.
        device: where the training step runs.
        roles: of the views of an item.
        rows_add_up: whether the batch's loss is a sum over its queries, so that processes can share them.
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
    supervision: Supervision
    device: torch.device
    roles: Roles
    rows_add_up: bool
    step: int = 0
    best: tuple[float, float] = (0.0, 0.0)
    losses: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def train(self) -> None:
        """Train mode, everywhere."""
        for module in (cast(nn.Module, self.objective), *self.encoders()):
            module.train()

    def modules(self) -> dict[str, nn.Module]:
        """What every process holds alike beside the dictionary, by name."""
        modules = {"encoder": self.embedder, "objective": cast(nn.Module, self.objective)}
        return modules | ({} if self.key_encoder is None else {"key encoder": self.key_encoder})

    def encoders(self) -> list[nn.Module]:
        """What has BatchNorm statistics of its own."""
        return [self.embedder] + ([self.key_encoder.encoder] if self.key_encoder is not None else [])

    def chance(self) -> float | None:
        """The loss of an embedding that tells nothing apart; None where that is not known."""
        if self.settings.alike != "instance" and self.settings.dictionary != "proxies":
            return None  # a query may have several positives, or none
        others = self.roles.querying * (min(self.settings.batch_size, len(self.item_ids)) - 1)
        chance = self.objective.chance(self.dictionary.choices(others))
        return None if chance is None else self.settings.loss_weight * chance

    def log_values(self) -> dict[str, float | str]:
        """Numbers of the state worth a curve."""
        values: dict[str, float | str] = {}
        if self.key_encoder is not None:
            values["key_momentum"] = self.key_encoder.at(self.step / self.total)
        return values | self.objective.log_values()

    def is_finite(self) -> bool:
        """Whether the weights are numbers: a step can break them though its own loss was fine. Cost: one pass."""
        tensors = [*self.embedder.state_dict().values(), *self.objective.parameters(), *self.dictionary.parameters()]
        broken = not all(bool(tensor.isfinite().all()) for tensor in tensors)
        return not processes.any_of([broken], self.device)[0]  # a process may be the only one to hold a weight

    def shards(self) -> dict[str, Tensor]:
        """What is spread over the processes, by name: this one's rows. Nothing where every process holds all."""
        moments: dict[str, Tensor] = {}
        for weight in self.dictionary.parameters():  # the optimizer's, of the same rows
            moments |= self.optimizer.state.get(weight, {})
        return self.dictionary.shards() | moments

    def load_shards(self, shards: dict[str, Tensor]) -> None:
        """Restores ``shards()``."""
        self.dictionary.load_shards(shards)
        moments = {name: rows for name, rows in shards.items() if name not in self.dictionary.shards()}
        for weight in self.dictionary.parameters():
            self.optimizer.state[weight] = moments

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs, but for ``shards()``: tensors, numbers and strings only."""
        optimizer = self.optimizer.state_dict()
        last = len(optimizer["param_groups"][0]["params"]) - 1
        for place, _ in enumerate(self.dictionary.parameters()):  # a dictionary's come last, and are shards
            optimizer["state"].pop(last - place, None)
        return {
            "step": self.step,
            "total": self.total,
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
        before = supervision_from(state["taught"]) if "taught" in state else None  # None: of an older version
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
        said = [] if before is None else [said_of_change(before, self.supervision, saved_ids, self.item_ids)]
        return [sentence for sentence in (self._said_of_items(saved_ids), *said) if sentence]

    def _said_of_items(self, saved_ids: tuple[str, ...]) -> str:
        if saved_ids == self.item_ids:
            return ""
        came, went = (len(set(a).difference(b)) for a, b in ((self.item_ids, saved_ids), (saved_ids, self.item_ids)))
        if not came and not went:
            return ""
        goes_on = f" Training goes on after step {self.step} of {self.total}." * (self.step < self.total)
        return f"the items changed since the checkpoint: {came:,} came and {went:,} went.{goes_on}"

    def _restore_dictionary(
        self, state: dict[str, Any], saved_ids: tuple[str, ...], before: Supervision | None
    ) -> None:
        """Its keys follow their items by name, where they can."""
        changed = saved_ids != self.item_ids
        if changed and set(saved_ids).isdisjoint(self.item_ids):
            raise LikewiseError(
                f"none of the {len(self.item_ids):,} items is in the checkpoint, whose first is {saved_ids[0]!r}; "
                "take the run's data, or start anew."
            )
        if self.dictionary.bound:
            refuse_relabelled(before, self.supervision, saved_ids, self.item_ids, self.dictionary.bound)
        self.dictionary.restore(state)
        if changed:
            self.dictionary.follow(saved_ids, self.item_ids, self.generator)
