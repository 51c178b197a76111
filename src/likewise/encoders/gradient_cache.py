"""Gradient caching: the gradient of a large batch, part by part in little memory; and checks of the encoder for it."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from likewise.encoders.embedder import embed_aside, embed_parts, running_statistics, settle
from likewise.errors import LikewiseError


class GradientCache:
    """Encodes parts one at a time, and gives the gradient of the whole batch (Gao et al. 2021, "GradCache").

    First it encodes all rows without a graph. The loss then gives the gradient of each row. Last it encodes every part
    again, with the same random numbers (dropout), and runs the backward pass of the part. The gradient equals that of
    the full batch if the rows of different parts do not interact in the encoder, as they do in BatchNorm over the whole
    batch.
    Cost: the memory of one part, and the time of one more forward pass.
    Paper: Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, 2021.

    Args:
        embedder: the encoder; its parameters have gradient.
        parts: several (b, ...).
        grouped: whether each part uses its own batch statistics.

    Attributes:
        rows: (Σ b, D), for the loss; call ``backward`` after the backward pass of the loss.

    Raises:
        LikewiseError: several parts that are not ``grouped``, with BatchNorm in train mode. Only BatchNorm layers are
            recognised, not BatchNorm as a function or in TorchScript (``fit`` tests for it with ``joins_rows_unseen``).
    """

    def __init__(self, embedder: nn.Module, parts: Sequence[Tensor], *, grouped: bool = False) -> None:
        if not isinstance(parts, (list, tuple)) or not all(isinstance(part, Tensor) for part in parts):
            raise LikewiseError(
                "a gradient cache needs the parts of a batch as a list of tensors, such as x.split(64)."
            )
        if not len(parts):
            raise LikewiseError("a gradient cache needs at least one part of a batch, such as x.split(64).")
        if len(parts) > 1 and not grouped and normalises_batches(embedder, as_it_is=True):
            raise in_parts_refused(f"{len(parts)} parts", "set grouped=True if each part has its own statistics")
        self.embedder, self.parts, self.grouped = embedder, parts, grouped
        self.random = _random_state(parts[0].device)
        with torch.no_grad():
            rows = embed_parts(embedder, parts, keep=False)
        self.rows = rows.detach().requires_grad_()

    def __repr__(self) -> str:
        first = tuple(self.parts[0].shape)
        return f"GradientCache(parts={len(self.parts)}, the first {first}, grouped={self.grouped})"

    def backward(self) -> None:
        """Runs the backward pass of the encoder from the gradient of ``rows``, part by part.

        Raises LikewiseError before the backward pass of a loss of ``rows``.
        """
        if self.rows.grad is None:
            raise LikewiseError(
                "the cached rows have no gradient yet: call loss.backward() of a loss of cache.rows, then "
                "cache.backward()."
            )
        after = _random_state(self.parts[0].device)
        _set_random_state(self.random)
        statistics, moved = running_statistics(self.embedder), list[dict[str, Tensor]]()
        for part, grad in zip(self.parts, torch.split(self.rows.grad, [len(part) for part in self.parts]), strict=True):
            torch.autograd.backward(embed_aside(self.embedder, part, statistics, moved), grad)
        settle(statistics, moved)
        _set_random_state(after)


def in_parts_refused(what: str, advice: str) -> LikewiseError:
    """The error for an encoder with BatchNorm that would run part by part."""
    return LikewiseError(
        f"{what} would change what is learned: the batch statistics of the whole batch can't be computed in parts; "
        f"{advice}, or use an encoder without BatchNorm (and encoder.centre=false)."
    )


def normalises_batches(module: nn.Module, *, as_it_is: bool = False) -> bool:
    """Whether ``module`` has BatchNorm layers that use batch statistics, so that rows depend on each other.

    With ``as_it_is`` each layer is judged in its current mode, otherwise in train mode.
    """
    return any(
        isinstance(part, nn.modules.batchnorm._BatchNorm)
        and (part.training or part.running_mean is None or not as_it_is)
        for part in module.modules()
    )


@torch.no_grad()
def joins_rows_unseen(embedder: nn.Module, rows: Tensor) -> bool:
    """True if rows interact, in train mode, other than through a known BatchNorm or dropout layer.

    An example is BatchNorm as a function or in TorchScript. The test copies the encoder, sets its dropout and BatchNorm
    layers to eval mode, embeds all ``rows`` (b, ...), then half of them, and compares. It returns False if two equal
    calls give different outputs, because it can't decide then.
    """
    copy = deepcopy(embedder).train()
    for part in copy.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._BatchNorm):
            part.eval()
    with torch.random.fork_rng(devices=[rows.device] if rows.device.type == "cuda" else []):
        whole, half, again = copy(rows), copy(rows[: len(rows) // 2]), copy(rows)
    rounding = 0.01 * float(whole.std())
    if not torch.allclose(whole, again, rtol=0, atol=rounding):
        return False
    return not torch.allclose(whole[: len(half)], half, rtol=0, atol=rounding)


def _random_state(device: torch.device) -> tuple[torch.device, Tensor, Tensor | None]:
    return device, torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(state: tuple[torch.device, Tensor, Tensor | None]) -> None:
    device, cpu, cuda = state
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state(cuda, device)
