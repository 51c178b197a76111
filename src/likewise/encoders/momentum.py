"""The momentum encoder, which encodes the keys of a queue, and shuffled BatchNorm (MoCo §§3.2, 3.3)."""

import math
from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn

from likewise.distributed import processes
from likewise.distributed.layout import Layout
from likewise.encoders.embedder import embed_parts
from likewise.errors import LikewiseError, number


class Momentum(nn.Module):
    """A copy of an encoder that follows it slowly: ``θ_k ← m θ_k + (1 − m) θ_q`` (MoCo eq. 2).

    The weights have no gradient. The training step calls ``update`` before it encodes the keys, as in MoCo's
    Algorithm 1. With ``buffers="own"`` BatchNorm's running statistics come from the keys that the copy encodes, as in
    MoCo's code. With ``buffers="averaged"`` they follow the encoder's statistics as the weights do; the keys must then
    be encoded without updating the statistics, as ``fit`` does. Checkpoints save the weights and buffers.
    Departures: none with the defaults; MoCo has neither ``schedule="cosine"`` nor ``buffers="averaged"``.
    Cost: memory for a second encoder; an update is one pass over the weights.
    Paper: He, Fan, Wu, Xie, Girshick, CVPR 2020, eq. 2; the cosine schedule: Chen, Xie, He, ICCV 2021 (MoCo v3).

    Args:
        encoder: the encoder to follow; the copy starts with its weights.
        momentum: m, in [0, 1]. 0 copies the encoder at each step (this fails in the paper); 1 never changes the copy.
        schedule: "constant", or "cosine": from m to 1 over the training.
        buffers: "own" or "averaged".

    Raises:
        LikewiseError: a value outside its range, or weights with fewer bits than float32.
    """

    encoder: nn.Module

    def __init__(
        self,
        encoder: nn.Module,
        momentum: float = 0.999,
        *,
        schedule: Literal["constant", "cosine"] = "constant",
        buffers: Literal["own", "averaged"] = "own",
    ) -> None:
        super().__init__()
        if not 0 <= number("momentum", momentum) <= 1:
            raise LikewiseError(f"momentum={momentum} of the key encoder must be in [0, 1]; MoCo's is 0.999.")
        if schedule not in ("constant", "cosine") or buffers not in ("own", "averaged"):
            raise LikewiseError(
                f"key encoder: schedule={schedule!r} must be constant or cosine, buffers={buffers!r} own or averaged."
            )
        _refuse_short(encoder, momentum)
        self.momentum, self.schedule, self.buffers_rule = momentum, schedule, buffers
        self.encoder = deepcopy(encoder).requires_grad_(False)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"momentum={self.momentum}, schedule={self.schedule!r}, buffers={self.buffers_rule!r}"

    def at(self, progress: float) -> float:
        """m at ``progress``, the share of the training that is done, from 0 to 1."""
        if self.schedule == "constant":
            return self.momentum
        return 1 - (1 - self.momentum) * (1 + math.cos(math.pi * progress)) / 2

    @torch.no_grad()
    def update(self, encoder: nn.Module, progress: float | None = None) -> None:
        """Moves the copy towards ``encoder``.

        Raises LikewiseError if a cosine schedule gets no ``progress``, if ``encoder`` is not built like the copy, and
        if the weights have fewer bits than float32.
        """
        if progress is None:
            if self.schedule == "cosine":
                raise LikewiseError("the key encoder's cosine schedule needs update(encoder, progress), from 0 to 1.")
            progress = 0.0
        _refuse_other(self.encoder, encoder)
        _refuse_short(self.encoder, self.momentum)
        share = 1 - self.at(progress)
        torch._foreach_lerp_(list(self.encoder.parameters()), list(encoder.parameters()), share)
        if self.buffers_rule == "averaged":
            for mine, theirs in zip(self.encoder.buffers(), encoder.buffers(), strict=True):
                if mine.is_floating_point():
                    mine.lerp_(theirs, share)


def _refuse_short(encoder: nn.Module, momentum: float) -> None:
    """Raises LikewiseError on weights with fewer bits than float32."""
    for name, x in encoder.named_parameters():
        if x.is_floating_point() and x.element_size() < 4:
            raise LikewiseError(
                f"key encoder: {name} has fewer bits than float32, so rounding loses small steps (m={momentum}); "
                "keep the weights in float32, and encode under torch.autocast."
            )


def _refuse_other(mine: nn.Module, theirs: nn.Module) -> None:
    """Raises LikewiseError unless both have the same weights and buffers, by number, shape and dtype. O(layers)."""
    given: object = theirs
    if not isinstance(given, nn.Module):
        raise LikewiseError(f"key encoder: the encoder that it follows must be a torch.nn.Module, not {given!r}.")
    for what, ours, others in (
        ("weight", [*mine.named_parameters()], [*theirs.named_parameters()]),
        ("buffer", [*mine.named_buffers()], [*theirs.named_buffers()]),
    ):
        if len(ours) != len(others):
            raise LikewiseError(
                f"key encoder: it has {len(ours)} {what}s and the encoder that it follows has {len(others)}; give the "
                "encoder that it was made from."
            )
        for (name, x), (other, y) in zip(ours, others, strict=True):
            if x.shape != y.shape or x.dtype != y.dtype:
                raise LikewiseError(
                    f"key encoder: its {what} {name} is {tuple(x.shape)} {x.dtype}, and {other} of the encoder that it "
                    f"follows is {tuple(y.shape)} {y.dtype}; give the encoder that it was made from."
                )


@torch.no_grad()
def embed_shuffled(
    embedder: nn.Module, x: Tensor, layout: Layout, order: Tensor | None, *, keep: bool = True
) -> Tensor:
    """Shuffled BatchNorm (MoCo §3.3): encodes keys in other BatchNorm groups than their queries.

    It shuffles the rows of all processes by ``order``, embeds them in the groups of the layout, and restores their
    order. So the batch statistics of a key do not reveal its query. Without ``order`` it does not shuffle. The keys
    have no gradient.

    Args:
        embedder: the key encoder, in train mode.
        x: (b, ...), this process' rows.
        layout: the layout of the batch.
        order: (B,) a permutation of the rows of all processes, the same in all of them; on the CPU or the device.
        keep: whether to update running statistics.

    Returns:
        (B, D), the keys of all processes in the order of the batch.

    Cost: with several processes every process receives all views (B·item bytes), as in MoCo's code, and all keys.
    """
    several, mine = layout.count > 1, layout.rows
    if order is not None:
        x = (processes.gather_rows(x, layout.sizes) if several else x)[order[mine].to(x.device)]
    keys = embed_parts(embedder, torch.split(x, list(layout.own)), keep=keep)
    if several:
        keys = processes.gather_rows(keys, layout.sizes)
    if order is None:
        return keys
    restored = torch.empty_like(keys)
    restored[order.to(keys.device)] = keys
    return restored
