"""Every knob of a run: frozen, keyword-only dataclasses, each field with a default and its reason.

This module imports neither torch nor anything heavy, so that ``likewise --help`` is quick.
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """How a view of an item is drawn. Names and ranges as in torchvision's transforms.

    Args:
        crop_scale: share of the area kept by the random resized crop; NPID's and MoCo's (0.2, 1).
        crop_ratio: aspect ratio of the crop, drawn log-uniformly; torchvision's default.
        flip: probability of a horizontal flip; set 0 for text, digits and faces' sides.
        rotation: degrees, drawn from ±rotation; 0 because photos have an upright.
        brightness: factor from 1 ± this; MoCo v2's 0.4.
        contrast: factor from 1 ± this; MoCo v2's 0.4.
        saturation: factor from 1 ± this; MoCo v2's 0.4.
        hue: shift in turns from ± this; MoCo v2's 0.1.
        jitter: probability that the four colour changes are applied at all; MoCo v2's 0.8.
        grayscale: probability of losing colour; 0.2 in NPID, MoCo and SimCLR.
        blur: probability of a Gaussian blur; 0 since it costs time and does not help at 32 px.
        blur_sigma: pixels, drawn uniformly; SimCLR's (0.1, 2).
        noise: vectors only: standard deviation of added noise, in units of each feature's own.
        dropout: vectors only: probability that a feature is set to its mean.
        mean: per channel, subtracted after scaling to [0, 1]; ImageNet's, which public weights expect.
        std: per channel, divided by; ImageNet's.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    rotation: float = 0.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter: float = 0.8
    grayscale: float = 0.2
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    noise: float = 0.1
    dropout: float = 0.1
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """What turns a view into a row on the unit sphere.

    Args:
        name: resnet-small (suits 2 CPU cores), resnet18, resnet50, mlp (vectors), timm:NAME, hf:NAME_OR_FOLDER.
        stem: small (3×3, no max-pool, for images up to about 64 px) or imagenet (7×7, stride 2, max-pool).
        head: what follows the backbone: none, linear (NPID, MoCo v1) or mlp (SimCLR, MoCo v2).
        dim: length of the embedding; NPID's accuracy stops growing at 128.
        hidden: width of the mlp encoder and of the mlp head.
        weights: a checkpoint or safetensors file to start the backbone from.
        allow: names (shell patterns) that may be missing from ``weights`` or unmatched in it.
    """

    name: str = "resnet-small"
    stem: Literal["small", "imagenet"] = "small"
    head: Literal["none", "linear", "mlp"] = "linear"
    dim: int = 128
    hidden: int = 512
    weights: str | None = None
    allow: tuple[str, ...] = field(default=())
