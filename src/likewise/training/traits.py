"""What pictures are like, told from their pixels alone: colours, flat areas, mirror images and near copies."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from likewise.data import Items

SAMPLE = 1000  # items that are looked at
SMALL = 16  # side of the pictures that are compared with each other
GREY = 0.02  # the mean difference between the largest and the smallest channel, of 1
FLAT = 0.008  # the largest difference of a channel between neighbours in a flat area, of 1: 2 of 255
DRAWN = 0.25  # share of flat neighbours: photos have about 0.1, emoji and game textures 0.4, digits and letters 0.8
NATURAL = 0.4  # share of mirror images that are at home: photos have 0.5, textures, emoji and letters 0.05 to 0.25
COPY = 0.999  # cosine of centred pixels


class Traits(NamedTuple):
    """What a sample of pictures is like. No label is read."""

    colour: float  # mean difference between the largest and the smallest channel, from 0 to 1
    flat: float  # share of neighbouring pixels of one colour
    mirrored: float  # share whose mirror image is as near to another picture as the picture itself is
    copies: float  # share with a nearly equal other picture

    @property
    def grey(self) -> bool:
        """Whether the pictures have no colours."""
        return self.colour < GREY

    @property
    def drawn(self) -> bool:
        """Whether they have large flat areas, as drawings, digits and logos do and photos do not."""
        return self.flat > DRAWN

    @property
    def two_sided(self) -> bool:
        """Whether a mirror image could be one of them, as with most photos, and not with letters."""
        return self.mirrored > NATURAL

    def line(self) -> str:
        """The traits in words."""
        return (
            f"{'grey' if self.grey else 'coloured'} {'drawings' if self.drawn else 'photos'} ({self.flat:.0%} of "
            f"neighbouring pixels are equal); mirror images are {'' if self.two_sided else 'not '}at home among them "
            f"({self.mirrored:.0%}); {self.copies:.0%} have a near copy"
        )


def sample_of(items: Items) -> Tensor:
    """Up to 1,000 rows of the items, evenly spread, the same each time."""
    return torch.arange(0, len(items), max(1, len(items) // SAMPLE))[:SAMPLE]


def traits_of(items: Items) -> Traits:
    """Looks at a sample of images: the same rows each time. Cost: about a second."""
    pictures = items.batch(sample_of(items)).permute(0, 3, 1, 2).float() / 255  # (N, 3, S, S)
    colour = float((pictures.amax(1) - pictures.amin(1)).mean())
    flat = float(((pictures[..., 1:] - pictures[..., :-1]).abs().amax(1) < FLAT).float().mean())
    small = functional.interpolate(pictures, size=(SMALL, SMALL), mode="area")
    centred = small - small.mean(0)
    near, near_mirrored = _nearest_other(centred, centred), _nearest_other(centred.flip(3), centred)
    return Traits(
        colour=colour,
        flat=flat,
        mirrored=float((near_mirrored >= near).float().mean()),
        copies=float((near > COPY).float().mean()),
    )


def _nearest_other(queries: Tensor, pictures: Tensor) -> Tensor:
    """(N,) cosine of each query to the nearest picture that is not in its own row."""
    q, k = (functional.normalize(x.flatten(1), dim=1) for x in (queries, pictures))
    return (q @ k.T).fill_diagonal_(-1.0).amax(1)
