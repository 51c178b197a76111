"""The momentum encoder: who encodes the keys that a queue keeps, and how (MoCo §§3.2, 3.3)."""

import math
from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn

from likewise.distributed import processes
from likewise.distributed.layout import Layout
from likewise.encoders.embedder import embed_parts
from likewise.errors import LikewiseError


class Momentum(nn.Module):
    """A copy of an encoder that follows it slowly: ``θ_k ← m θ_k + (1 − m) θ_q`` (MoCo eq. 2).

    The weights have no gradient. ``update`` is a line of the training step, before the keys are encoded, as in MoCo's
    Algorithm 1. BatchNorm's running statistics are the copy's own, from the keys it encodes, as in MoCo's code; or,
    with ``buffers="averaged"``, they follow the encoder's as the weights do; the keys are then to be encoded without
    moving them, as ``fit`` does. Weights and buffers are state, saved and restored.
    Cost: the encoder's memory once more; an update is one pass over the weights.
    Paper: He, Fan, Wu, Xie, Girshick, CVPR 2020, eq. 2; the cosine schedule: Chen, Xie, He, ICCV 2021 (MoCo v3).

    Args:
        encoder: what is followed; the copy starts as it is.
        momentum: m, in [0, 1]. 0 copies the encoder at each step (which the paper found to fail); 1 never moves.
        schedule: "constant", or "cosine": from m to 1 over the training.
        buffers: "own" or "averaged".

    Raises LikewiseError on other values, and on weights of fewer bits than float32.
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
        if not 0 <= momentum <= 1:
            raise LikewiseError(f"momentum={momentum} of the key encoder must be in [0, 1]; MoCo's is 0.999.")
        if schedule not in ("constant", "cosine") or buffers not in ("own", "averaged"):
            raise LikewiseError(
                f"key encoder: schedule={schedule!r} must be constant or cosine, buffers={buffers!r} own or averaged."
            )
        short = [name for name, x in encoder.named_parameters() if x.is_floating_point() and x.element_size() < 4]
        if short:
            raise LikewiseError(
                f"key encoder: {short[0]} has fewer bits than float32, so that small steps (m={momentum}) are rounded "
                "away; keep the weights in float32, and encode under torch.autocast."
            )
        self.momentum, self.schedule, self.buffers_rule = momentum, schedule, buffers
        self.encoder = deepcopy(encoder).requires_grad_(False)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"momentum={self.momentum}, schedule={self.schedule!r}, buffers={self.buffers_rule!r}"

    def at(self, progress: float) -> float:
        """m when the share ``progress`` of the training, from 0 to 1, is done."""
        if self.schedule == "constant":
            return self.momentum
        return 1 - (1 - self.momentum) * (1 + math.cos(math.pi * progress)) / 2

    @torch.no_grad()
    def update(self, encoder: nn.Module, progress: float | None = None) -> None:
        """Moves the copy towards ``encoder``. Raises LikewiseError without ``progress`` for a cosine schedule."""
        if progress is None:
            if self.schedule == "cosine":
                raise LikewiseError("the key encoder's cosine schedule needs update(encoder, progress), from 0 to 1.")
            progress = 0.0
        share = 1 - self.at(progress)
        torch._foreach_lerp_(list(self.encoder.parameters()), list(encoder.parameters()), share)
        if self.buffers_rule == "averaged":
            for mine, theirs in zip(self.encoder.buffers(), encoder.buffers(), strict=True):
                if mine.is_floating_point():
                    mine.lerp_(theirs, share)


@torch.no_grad()
def embed_shuffled(
    embedder: nn.Module, x: Tensor, layout: Layout, order: Tensor | None, *, keep: bool = True
) -> Tensor:
    """Shuffled BatchNorm (MoCo §3.3): keys whose groups are not their queries' groups.

    The rows of all processes change places by ``order``, are embedded in the layout's groups, and change back, so that
    a key's batch statistics tell nothing of which query it belongs to. Without ``order`` no row moves. No gradient.

    Args:
        embedder: the key encoder, in train mode.
        x: (b, ...), this process' rows.
        layout: of the batch.
        order: (B,) a permutation of the rows of all processes, the same on all of them; on the CPU or the device.
        keep: whether running statistics move.

    Returns:
        (B, D), the keys of all processes in the batch's order.

    Cost: across processes all views travel to all of them (B·item bytes), as in MoCo's code, and the keys back.
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
