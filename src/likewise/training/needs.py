"""An estimate of the memory that a run needs, before anything of it is allocated."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from likewise.blocks import Block, Blocks
from likewise.config.objective_table import AUTO, objective
from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.distributed import processes
from likewise.encoders import build_embedder
from likewise.errors import LikewiseError
from likewise.text import in_words
from likewise.training.build import pick_device

FLOAT = 4  # bytes
TOLD = 10**9  # a run that needs more is told so


class Need(NamedTuple):
    """One part of the memory of a run."""

    what: str
    size: int  # bytes
    settings: str  # what makes it smaller


def needs(
    settings: FitSettings,
    n: int,
    *,
    vector_dim: int | None = None,
    blocks: Blocks = (),
    classes: int = 0,
    backbone: nn.Module | None = None,
    parts: int = 1,
) -> list[Need]:
    """The memory that one process of a run needs, the largest part first.

    Weights count three times: with their gradient and momentum. Left out: activations, the data, and the interpreter.

    Args:
        settings: of the run.
        n: number of items.
        vector_dim: D where the items are vectors; None for images.
        blocks: of items of several parts: the columns of each part.
        classes: number of labels.
        backbone: the user's own; None builds the one of the settings without memory (on PyTorch's meta device).
        parts: number of processes that share the rows of a sharded dictionary.
    """
    weights, dim = _encoder(settings, vector_dim, blocks, backbone)
    all_needs = _needs(settings, n, weights, dim, classes, parts)
    return sorted((need for need in all_needs if need.size), key=lambda need: -need.size)


def _needs(s: FitSettings, n: int, weights: int, dim: int, classes: int, parts: int) -> Iterator[Need]:
    knobs = "encoder.name, encoder.dim, encoder.hidden or encoder.head_hidden"
    yield Need("the encoder's weights, gradients and momentum", 3 * FLOAT * weights, knobs)
    if s.source_of_keys == "queue":
        yield Need("the key encoder", FLOAT * weights, knobs)
        yield Need("the queue", (FLOAT * dim + 8) * s.queue.size, "queue.size or encoder.dim")
    share = parts if s.bank.sharded else 1
    if s.source_of_keys == "bank":
        yield Need("the memory bank", FLOAT * dim * -(-n // share), "encoder.dim, or set bank.sharded")
    row = None if s.objective.kind == AUTO else objective(s.objective.kind)
    if row is not None and row.draws:
        drawn = s.batch_size * int(s.objective.number(row.draws, 0))
        yield Need("the drawn negatives of a step", 3 * FLOAT * drawn, f"objective.{row.draws} or batch_size")
    if row is not None and row.keys == "own":
        rows = classes if row.level == "class" else -(-n // share)
        yield Need("the proxies, with gradients and momentum", 3 * FLOAT * dim * rows, "encoder.dim")


def _encoder(s: FitSettings, vector_dim: int | None, blocks: Blocks, backbone: nn.Module | None) -> tuple[int, int]:
    """Number of weights, and D. A backbone of another library counts as nothing: its size is known once it is there."""
    own = 0 if backbone is None else sum(weight.numel() for weight in backbone.parameters())
    if backbone is not None or ":" in s.encoder.name:
        return own, s.encoder.dim
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        embedder = build_embedder(replace(s.encoder, weights=None), vector_dim=vector_dim, blocks=blocks)
    return sum(weight.numel() for weight in embedder.parameters()), embedder.dim


def memory_at_hand(device: torch.device) -> int | None:
    """Bytes that a process can still allocate: of the GPU, or of the machine and its container. None if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = [_meminfo(), _cgroup(Path("/sys/fs/cgroup"), "memory.max", "memory.current")]
    known = [size for size in free if size is not None]
    return min(known) if known else None


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if os.name == "posix" else None


def _cgroup(folder: Path, most: str, used: str) -> int | None:
    try:
        limit, taken = (int((folder / name).read_text(encoding="utf-8")) for name in (most, used))
        return max(0, limit - taken)
    except (OSError, ValueError):  # no limit reads "max"
        return None


def check_memory(settings: FitSettings, items: Items, backbone: nn.Module | None = None) -> list[str]:
    """One line with the estimate where it is above a gigabyte. Raises LikewiseError if the memory does not suffice."""
    parts = needs(
        settings,
        len(items),
        vector_dim=items.values.shape[1] if items.kind == "vectors" else None,
        blocks=items.blocks,
        classes=len(items.label_names),
        backbone=backbone,
        parts=processes.size(),
    )
    refuse_too_large(parts, pick_device(settings.device))
    total = sum(need.size for need in parts)
    if total < TOLD:
        return []
    shares = ", ".join(f"{need.what} {in_words(need.size)}" for need in parts if need.size >= total / 100)
    return [f"memory: at least {in_words(total)}, beside data and activations: {shares}."]


def check_memory_unseen(settings: FitSettings) -> None:
    """Raises LikewiseError if the memory does not suffice for any data: encoder and queue, before the data are read."""
    if settings.encoder.fusion == "late":  # the items, which choose the encoder, are not seen yet
        settings = replace(settings, encoder=replace(settings.encoder, name="towers"))
    vector_dim = 1 if settings.encoder.name in ("mlp", "towers") else None
    blocks = [Block(name="any", kind="vector", start=0, stop=1)]
    refuse_too_large(needs(settings, 0, vector_dim=vector_dim, blocks=blocks), pick_device(settings.device))


def refuse_too_large(parts: Sequence[Need], device: torch.device) -> None:
    """Raises LikewiseError, with the largest part and its settings, if they do not fit into the memory at hand.

    The processes of one machine share its memory; each has a GPU of its own.
    """
    free, sharing = memory_at_hand(device), processes.here() if device.type == "cpu" else 1
    total = sharing * sum(need.size for need in parts)
    if free is None or total <= free:
        return
    most, several = parts[0], f" in {sharing} processes" * (sharing > 1)
    raise LikewiseError(
        f"this run needs at least {in_words(total)} of memory{several}, but {in_words(free)} are free. The largest "
        f"part is {most.what}: {in_words(sharing * most.size)}; lower {most.settings}."
    )
