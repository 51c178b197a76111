"""A large batch in little memory: the gradient of the whole batch from its parts; and which encoders can't have it."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from likewise.encoders.embedder import embed_aside, embed_parts, running_statistics, settle
from likewise.errors import LikewiseError


class GradientCache:
    """Encodes parts one at a time, with the gradient of all of them together (Gao et al. 2021, "GradCache").

    First all rows are encoded without keeping what their gradient needs; the loss of all rows then gives each row's
    gradient; then every part is encoded again, the same random numbers drawn (dropout), and sent back. Memory is that
    of one part, time one more forward pass. It is the full batch's gradient where the parts do not depend on one
    another, which BatchNorm's statistics over the whole batch would make them.

    Args:
        embedder: what encodes, its parameters with gradient.
        parts: several (b, ...).
        grouped: whether every part is to have BatchNorm statistics of its own.

    Attributes:
        rows: (Σ b, D), for the loss; call ``backward`` after the loss's.

    Raises:
        LikewiseError: several parts that are not ``grouped``, and BatchNorm in train mode. It is told by the layers'
            kinds: BatchNorm as a function or in TorchScript is not seen (``fit`` tries it: ``joins_rows_unseen``).
    """

    def __init__(self, embedder: nn.Module, parts: Sequence[Tensor], *, grouped: bool = False) -> None:
        if len(parts) > 1 and not grouped and normalises_batches(embedder, as_it_is=True):
            raise in_parts_refused(f"{len(parts)} parts", "say grouped=True where each is to have its own")
        self.embedder, self.parts, self.grouped = embedder, parts, grouped
        self.random = _random_state(parts[0].device)
        with torch.no_grad():
            rows = embed_parts(embedder, parts, keep=False)
        self.rows = rows.detach().requires_grad_()

    def __repr__(self) -> str:
        first = tuple(self.parts[0].shape)
        return f"GradientCache(parts={len(self.parts)}, the first {first}, grouped={self.grouped})"

    def backward(self) -> None:
        """Sends the gradient of ``rows`` through the encoder, part by part."""
        assert self.rows.grad is not None
        after = _random_state(self.parts[0].device)
        _set_random_state(self.random)
        statistics, moved = running_statistics(self.embedder), list[dict[str, Tensor]]()
        for part, grad in zip(self.parts, torch.split(self.rows.grad, [len(part) for part in self.parts]), strict=True):
            torch.autograd.backward(embed_aside(self.embedder, part, statistics, moved), grad)
        settle(statistics, moved)
        _set_random_state(after)


def in_parts_refused(what: str, advice: str) -> LikewiseError:
    """Why an encoder with BatchNorm is not run part by part, and what to do."""
    return LikewiseError(
        f"{what} would change what is learned: BatchNorm's statistics of the whole batch can't be had in parts; "
        f"{advice}, or take an encoder without BatchNorm (and encoder.centre=false)."
    )


def normalises_batches(module: nn.Module, *, as_it_is: bool = False) -> bool:
    """Whether a row's embedding depends on the other rows of its batch: whether there is BatchNorm in it.

    With ``as_it_is``: in the mode that its layers are in, else in train mode.
    """
    return any(
        isinstance(part, nn.modules.batchnorm._BatchNorm)
        and (part.training or part.running_mean is None or not as_it_is)
        for part in module.modules()
    )


@torch.no_grad()
def joins_rows_unseen(embedder: nn.Module, rows: Tensor) -> bool:
    """True if, in train mode, rows interact other than through a known BatchNorm or dropout layer.

    Such as BatchNorm as a function, or in TorchScript. Half of ``rows`` (b, ...) is embedded by itself, by a copy whose
    dropout and BatchNorm layers are off. False where its outputs change by themselves, since nothing is told by them.
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
