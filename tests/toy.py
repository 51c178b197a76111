"""Small made-up data and values that several test files share."""

import numpy as np

from likewise.config.values import Scalar, Value


def clusters(classes: int = 12, each: int = 9, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors whose class is in a few of many directions, the others much louder: raw neighbours hardly know it."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 4))
    labels = np.repeat(np.arange(classes), each)
    quiet = centres[labels] + 0.15 * random.normal(size=(len(labels), 4))
    loud = random.normal(size=(len(labels), 12))
    return np.concatenate([quiet, loud], 1).astype(np.float32), labels


def another(value: Value, default: Scalar) -> Scalar:
    """A value that is not the default."""
    if value.choices:
        return next(choice for choice in value.choices if choice != default)
    if value.kind is bool:
        return not default
    if value.kind is int:
        return 7
    return 0.375 if default != 0.375 else 0.25
