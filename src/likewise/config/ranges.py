"""The range of every number among the settings. Imports no torch.

A range ends where no run makes sense, not where a run is unwise: the pre-flight advises on that.
"""

from collections.abc import Mapping
from typing import Any

from likewise.config.values import NOT_NEGATIVE, Value
from likewise.errors import LikewiseError

SHARE = Value(least=0, most=1)
COLOUR = Value(least=0, most=100)
PIXELS = Value(above=0, most=4096)
MANY = 10**12  # more than any run has of anything

POSITIVE = Value(above=0, most=1e30)  # a factor in a measure; float32 holds it
MOST_SEEDS = 10_000  # trainings or draws that are repeated


def whole(least: int, most: int = MANY) -> Value:
    """A whole number from ``least`` to ``most``."""
    return Value(kind=int, least=least, most=most)


# A setting of several values has the range of each.
RANGES: Mapping[str, Value] = {
    "size": whole(8, 4096),
    "words": whole(1, 10**6),
    "max_megapixels": Value(above=0, most=1e6),
    "views.crop_scale": Value(above=0, most=1),
    "views.crop_ratio": Value(least=0.001, most=1000),
    "views.flip": SHARE,
    "views.rotation": Value(least=0, most=180),
    "views.deform": SHARE,
    "views.brightness": COLOUR,
    "views.contrast": COLOUR,
    "views.saturation": COLOUR,
    "views.hue": Value(least=0, most=0.5),
    "views.jitter": SHARE,
    "views.grayscale": SHARE,
    "views.blur": SHARE,
    "views.blur_sigma": PIXELS,
    "views.small_until": SHARE,
    "views.noise": Value(least=0, most=1e6),
    "views.dropout": SHARE,
    "views.mean": Value(least=-1e6, most=1e6),
    "views.std": Value(least=1e-6, most=1e6),
    "encoder.dim": whole(2),
    "encoder.pixels": Value(least=0, below=1),
    "encoder.hidden": whole(1),
    "encoder.head_hidden": whole(0),
    "encoder.bn_groups": whole(1),
    "loss_weight": Value(above=0, most=1e9),
    "bank.momentum": Value(least=0, below=1),
    "bank.samples": whole(0, 10**7),
    "queue.size": whole(1),
    "negatives.at": NOT_NEGATIVE,
    "sampler.per_class": whole(1),
    "sampler.per_pair": whole(1),
    "clusters.level": whole(0),
    "clusters.levels": whole(1),
    "clusters.largest": Value(above=0, most=1),
    "key_encoder.momentum": SHARE,
    "vocabulary.least": whole(1),
    "vocabulary.most": whole(2, 10**8),
    "vocabulary.subsample": SHARE,
    "vocabulary.phrases": whole(0, 9),
    "vocabulary.phrase_score": NOT_NEGATIVE,
    "window.size": whole(1, 1000),
    "noise.samples": whole(1, 10**6),
    "noise.shared": whole(1, 10**6),
    "noise.power": Value(least=0, most=10),
    "optim.lr": Value(above=0, most=1e9),
    "optim.momentum": Value(least=0, below=1),
    "optim.weight_decay": Value(least=0, most=1e9),
    "optim.milestones": SHARE,
    "optim.warmup": Value(least=0, below=1),
    "epochs": whole(1),
    "minutes": Value(above=0, most=1e6),
    "threads": whole(0, 4096),
    "batch_size": whole(2),
    "micro_batches": whole(1),
    "seed": whole(0, 2**32 - 1),
    "checkpoint_seconds": Value(least=0, most=1e9),
    "knn_epochs": whole(0),
    "knn_items": whole(10),
}

RISING = ("views.crop_scale", "views.crop_ratio", "views.blur_sigma", "optim.milestones")  # each value ≥ the one before


def check_numbers(settings: Mapping[str, Any]) -> None:
    """Raises LikewiseError, with the range, on the first number, by dotted name, that is out of its range."""
    for name, value in settings.items():
        allowed, several = RANGES.get(name), value if isinstance(value, tuple) else (value,)
        if allowed is not None and not all(map(allowed.holds, several)):
            each = ", each" if isinstance(value, tuple) else ""
            raise LikewiseError(f"setting {name!r} is {value}; it must be {allowed.words()}{each}.")
        if name in RISING and list(several) != sorted(several):
            raise LikewiseError(f"setting {name!r} is {value}; it must be in rising order.")
