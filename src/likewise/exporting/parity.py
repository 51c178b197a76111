"""Whether an exported model gives the rows of the model: both embed the same items, in batches of several sizes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.exporting.network import on_cpu, split_inputs
from likewise.exporting.runtime import Runner
from likewise.model import Layer, Model
from likewise.training.run_folder import training_items

ALLOWED = "1e-5"  # the largest difference between two numbers of unit rows
ITEMS = 222
_SIZES = (1, 2, 7, 64)  # of batches, in turn


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The items on which a model and its export are compared.

    Args:
        items: at most ``ITEMS``, evenly spread over those that were found.
        what: what they are, in words.
        why: why they are generated; empty for real items.
    """

    items: Items
    what: str
    why: str = ""


def sample_of(model: Model, items: Items | None = None) -> Sample:
    """Some of ``items``; of None, those that the model's run was trained on, or generated ones if they are gone."""
    why = "the model has no run folder"
    if items is None and model.run is not None:
        try:
            items = training_items(model.run, model.settings)
        except LikewiseError as error:
            why = str(error)
    if items is None:
        return Sample(items=_generated(model), what=f"{ITEMS} generated items", why=why)
    step = max(1, -(-len(items) // ITEMS))
    chosen = items.select(torch.arange(0, len(items), step))
    return Sample(items=chosen, what=f"{len(chosen):,} items of {chosen.source}")


def largest_difference(model: Model, run: Runner, items: Items, layer: Layer) -> float:
    """The largest difference between a number of a row by ``run`` and by ``Model.features``; NaN where one is NaN."""
    expected = on_cpu(model).features(items, layer=layer).numpy()
    found = np.concatenate(
        [
            run(*(each.numpy() for each in split_inputs(items.batch(torch.arange(start, stop)), model.blocks)))
            for start, stop in _batches(len(items))
        ]
    )
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")


def refuse_difference(difference: float, sample: Sample, what: str) -> None:
    """Raises LikewiseError when an export differs from its model."""
    if not difference <= float(ALLOWED):
        raise LikewiseError(
            f"{what} gives other rows than the model: they differ by up to {difference:.1e} on {sample.what}, and "
            f"{ALLOWED} is allowed; nothing is written."
        )


def _batches(count: int) -> Iterator[tuple[int, int]]:
    """Start and stop of each batch: of the sizes, the last again and again."""
    start = 0
    for place in range(count):
        if start >= count:
            return
        size = _SIZES[min(place, len(_SIZES) - 1)]
        yield start, min(start + size, count)
        start += size


def _generated(model: Model) -> Items:
    """Items of the model's kind that nobody has: noise."""
    random = np.random.default_rng(0)
    ids = tuple(f"generated {number}" for number in range(ITEMS))
    if model.kind == "images":
        size = model.settings.size
        pixels = random.integers(0, 256, (ITEMS, size, size, 3), dtype=np.uint8)
        return Items(ids=ids, values=pixels, kind="images", source="noise")
    assert model.vector_mean is not None
    assert model.vector_std is not None
    mean, std = model.vector_mean.numpy(), model.vector_std.numpy()
    rows = (mean + std * random.normal(size=(ITEMS, len(mean)))).astype(np.float32)
    for block in model.blocks:
        if block.kind == "image":
            rows[:, block.content] = random.integers(0, 256, (ITEMS, block.width))
        has = random.random(ITEMS) < 0.8
        rows[~has, block.content] = 0.0
        rows[:, block.stop] = has
    return Items(ids=ids, values=rows, kind="vectors", source="noise", blocks=tuple(model.blocks))
