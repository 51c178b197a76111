"""Small made-up data that several test files train on."""

import numpy as np


def clusters(classes: int = 12, each: int = 9, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors whose class is in a few of many directions, the others much louder: raw neighbours hardly know it."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 4))
    labels = np.repeat(np.arange(classes), each)
    quiet = centres[labels] + 0.15 * random.normal(size=(len(labels), 4))
    loud = random.normal(size=(len(labels), 12))
    return np.concatenate([quiet, loud], 1).astype(np.float32), labels
