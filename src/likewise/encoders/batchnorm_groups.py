"""Encoding a batch in parts: BatchNorm groups, shuffled BatchNorm, and large batches in little memory.

Whatever an encoder does across the rows of a batch, it does within a part; BatchNorm's running statistics move by the
mean over the parts. So groups of BatchNorm need no BatchNorm of their own kind, and any encoder can have them.

Dimension legend: B rows of the batch over all processes, G groups, D dimensions.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from likewise.distributed import processes
from likewise.distributed.layout import Layout


def embed_parts(embedder: nn.Module, parts: Sequence[Tensor], *, keep: bool = True) -> Tensor:
    """Embeds each part by itself and concatenates: several (b, ...) → (Σ b, D).

    Running statistics end at the mean of where each part alone would have moved them; or stay, if not ``keep``.
    """
    if len(parts) == 1 and keep:
        rows: Tensor = embedder(parts[0])
        return rows
    statistics, moved = running_statistics(embedder), list[dict[str, Tensor]]()
    rows = torch.cat([embed_aside(embedder, part, statistics, moved) for part in parts])
    if keep:
        settle(statistics, moved)
    return rows


def arrange(views: Sequence[Tensor], groups: Sequence[int], *, joint: bool) -> list[Tensor]:
    """The parts that are encoded by themselves: every view's groups, or (``joint``) every group with all its views."""
    split = [torch.split(view, list(groups)) for view in views]
    if joint:
        return [torch.cat(views_of_group) for views_of_group in zip(*split, strict=True)]
    return [part for parts in split for part in parts]


def by_view(rows: Tensor, count: int, groups: Sequence[int], *, joint: bool) -> list[Tensor]:
    """The rows of each of ``count`` views, from the rows of the parts that ``arrange`` made."""
    if not joint:
        return list(rows.chunk(count))
    parts = torch.split(rows, [count * size for size in groups])
    return [torch.cat(view) for view in zip(*(part.chunk(count) for part in parts), strict=True)]


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
    """Whether, in train mode, a row's embedding depends on others by what no layer of a known kind does.

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


def running_statistics(embedder: nn.Module) -> dict[str, Tensor]:
    """The buffers that forward passes move, by name: BatchNorm's."""
    return {
        f"{name}.{key}" if name else key: buffer
        for name, module in embedder.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for key, buffer in module.named_buffers(recurse=False)
    }


def embed_aside(
    embedder: nn.Module, part: Tensor, statistics: dict[str, Tensor], moved: list[dict[str, Tensor]] | None = None
) -> Tensor:
    """Embeds a part while ``statistics`` stay; where they would have gone is appended to ``moved``."""
    copies = {name: buffer.clone() for name, buffer in statistics.items()}
    rows: Tensor = torch.func.functional_call(embedder, copies, (part,))
    if moved is not None:
        moved.append(copies)
    return rows


@torch.no_grad()
def settle(statistics: dict[str, Tensor], moved: Sequence[dict[str, Tensor]]) -> None:
    """Moves the running statistics to the mean of ``moved``; counters to their largest."""
    for name, buffer in statistics.items():
        ends = torch.stack([copies[name] for copies in moved])
        buffer.copy_(ends.mean(0) if buffer.is_floating_point() else ends.amax(0))


def average_statistics(embedder: nn.Module) -> None:
    """Running statistics of several groups a batch become their mean over the processes; they stay equal everywhere."""
    processes.add_up((x for x in running_statistics(embedder).values() if x.is_floating_point()), mean=True)


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
    mine = layout.rows
    if order is not None:
        x = processes.gather_rows(x, layout.sizes)[order[mine].to(x.device)]
    keys = processes.gather_rows(embed_parts(embedder, torch.split(x, list(layout.own)), keep=keep), layout.sizes)
    if order is None:
        return keys
    restored = torch.empty_like(keys)
    restored[order.to(keys.device)] = keys
    return restored
