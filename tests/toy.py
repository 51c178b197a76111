"""Small made-up data and values that several test files share."""

import numpy as np
import torch
from torch.nn import functional

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


def likes(users: int = 60, items: int = 80, groups: int = 6, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Interactions and content. Users like the items of a group, and the content says the group, within noise.

    Returns the lines of a file with the columns user, item, rating, time, of which 4 and more are likes; and the
    content, float32 (items, groups + 6), of the items i00, i01, ...
    """
    random = np.random.default_rng(seed)
    group = np.arange(items) % groups
    lines = ["user,item,rating,time"]
    for user in range(users):
        mine = np.flatnonzero(group == user % groups)
        other = np.flatnonzero(group != user % groups)
        taken = [*random.permutation(mine)[:9].tolist(), *random.permutation(other)[:3].tolist()]
        lines += [
            f"u{user:02},i{item:02},{2 if place == 11 else 5},{100 * place + user}" for place, item in enumerate(taken)
        ]
    content = np.concatenate([np.eye(groups)[group], 0.6 * random.normal(size=(items, 6))], 1)
    return lines, content.astype(np.float32)


def unit_clusters(n: int, seed: int = 0) -> torch.Tensor:
    """(n, 16) rows of length 1 around 30 centres, which are the same for every seed."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(30, 16, generator=torch.Generator().manual_seed(99))
    rows = centres[torch.randint(30, (n,), generator=random)] + 0.5 * torch.randn(n, 16, generator=random)
    return functional.normalize(rows, dim=1)


def year_and_colour(n: int) -> dict[str, list[int] | list[str]]:
    """Metadata of n items: a year that one in a hundred has, and a colour that one in fifty has."""
    colours = ["red" if number % 50 == 0 else "blue" for number in range(n)]
    return {"year": [1900 + number % 100 for number in range(n)], "colour": colours}
