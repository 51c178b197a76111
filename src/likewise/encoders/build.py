"""Builds the encoder that the settings describe: a named backbone, a head, and optional start weights."""

from copy import deepcopy
from functools import partial
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

from likewise.blocks import Blocks
from likewise.config.settings import EncoderSettings
from likewise.encoders.embedder import MLP, Embedder, ResNet, resnet18, resnet50, resnet_fine, resnet_small
from likewise.encoders.towers import LateFusion, Towers
from likewise.encoders.weights import load_weights
from likewise.errors import LikewiseError, closest

KNOWN: Final = (
    *("resnet-small", "resnet-fine", "resnet18", "resnet50", "mlp", "towers", "timm:NAME", "hf:NAME_OR_FOLDER"),
)


def build_embedder(
    settings: EncoderSettings,
    *,
    vector_dim: int | None = None,
    blocks: Blocks = (),
    backbone: nn.Module | None = None,
    example: Tensor | None = None,
) -> Embedder:
    """Builds the encoder that the settings describe. Random weights come from torch's global generator.

    Args:
        settings: the encoder's settings. ``weights`` are loaded into the backbone; the head always starts at random.
        vector_dim: D where the items are vectors; None for images.
        blocks: of items of several parts, which are vectors: the columns of each part.
        backbone: any module to use instead of ``settings.name``; it maps a batch to (B, F).
        example: a small batch, as the backbone will get it. It is needed to find F of a backbone from outside this
            library: the backbone runs once in eval mode, and no state, gradient or random state changes.

    Raises:
        LikewiseError: the name is unknown, or encoder, weights or backbone do not fit.
    """
    if backbone is None:
        backbone = _named_backbone(settings, vector_dim, blocks)
    feature_dim = _feature_dim(backbone, settings, example)
    if settings.weights is not None:
        load_weights(backbone, settings.weights, allow=settings.allow)
    if settings.pixels and vector_dim is not None:
        raise LikewiseError("encoder.pixels is for images, and the items are vectors; leave it out.")
    head, dim = _fused(settings, backbone) if settings.fusion == "late" else _head(settings, feature_dim)
    made = partial(
        Embedder,
        feature_dim=feature_dim,
        dim=dim,
        centre=settings.centre,
        unit=settings.unit,
        pixels=settings.pixels,
        frozen=settings.frozen,
    )
    query = made(deepcopy(backbone), deepcopy(head)) if settings.apart else None
    return made(backbone, head, query=query)


def _named_backbone(settings: EncoderSettings, vector_dim: int | None, blocks: Blocks) -> nn.Module:
    name = settings.name
    if (name in ("mlp", "towers")) != (vector_dim is not None) or (name == "towers" and not blocks):
        what = "images" if vector_dim is None else f"vectors of {vector_dim} numbers"
        fit = "for example resnet-small" if vector_dim is None else "mlp"
        what, fit = ("of several parts", "towers") if blocks else (what, fit)
        raise LikewiseError(f"encoder {name!r} does not fit the items, which are {what}; use {fit}.")
    if name == "towers":
        return Towers(blocks, settings.hidden)
    if vector_dim is not None:
        return MLP(vector_dim, settings.hidden)
    if name == "resnet-small":
        return resnet_small(settings.stem)
    if name == "resnet-fine":
        return resnet_fine(settings.stem)
    if name == "resnet18":
        return resnet18(settings.stem)
    if name == "resnet50":
        return resnet50(settings.stem)
    family, _, model = name.partition(":")
    if family in ("timm", "hf") and model:
        from likewise.encoders.external import hf_backbone, timm_backbone

        return timm_backbone(model) if family == "timm" else hf_backbone(model, allow=settings.allow)
    raise LikewiseError(f"there is no encoder {name!r}.{closest(name, KNOWN, cutoff=0)} Known: {', '.join(KNOWN)}.")


def _head(settings: EncoderSettings, feature_dim: int) -> tuple[nn.Module, int]:
    """The head that ``settings.head`` names, and the length of its output."""
    if settings.head == "none":
        return nn.Identity(), feature_dim
    if settings.head == "linear":
        return nn.Linear(feature_dim, settings.dim), settings.dim
    hidden = settings.head_hidden or feature_dim
    if settings.head == "mlp-bn":
        widths = (feature_dim, hidden, hidden, settings.dim)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1]), settings.dim
    return nn.Sequential(nn.Linear(feature_dim, hidden), nn.ReLU(), nn.Linear(hidden, settings.dim)), settings.dim


def _fused(settings: EncoderSettings, towers: nn.Module) -> tuple[nn.Module, int]:
    """A head for each part, with the product of their outputs, and its length."""
    if not isinstance(towers, Towers):
        raise LikewiseError("encoder.fusion=late is for items of several parts, and encoder towers; leave it out.")
    *widths, _ = towers.widths
    return LateFusion(towers.widths, [_head(settings, width)[0] for width in widths]), settings.dim


def _feature_dim(backbone: nn.Module, settings: EncoderSettings, example: Tensor | None) -> int:
    """F: this library's backbones declare it; ``probe`` finds it for others."""
    if isinstance(backbone, ResNet | MLP | Towers):
        return backbone.feature_dim
    name = type(backbone).__name__ if ":" not in settings.name else settings.name
    if example is None:
        raise LikewiseError(
            f"the output length of the backbone {name} is not known; pass example=, a small batch as it will get it."
        )
    return probe(backbone, example, name=name)


def probe(backbone: nn.Module, example: Tensor, *, name: str) -> int:
    """F of any module, from one forward pass on ``example`` in eval mode. The module's state does not change.

    Raises:
        LikewiseError: the pass fails, or its output is not one row per item.
    """
    modes = [(module, module.training) for module in backbone.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in backbone.buffers()]
    backbone.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = backbone(example)
    except Exception as error:
        raise LikewiseError(
            f"the backbone {name} fails on a batch of shape {tuple(example.shape)}: {str(error).strip()[:300]}"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
        for buffer, before in buffers:
            buffer.data.copy_(before)
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != len(example):
        returned = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise LikewiseError(
            f"the backbone {name} must return one row per item, shape ({len(example)}, F), but returned {returned}; "
            "flatten or pool its output."
        )
    return output.shape[1]
