"""Encoders: what turns a view of an item into a row on the unit sphere.

``build_embedder`` makes one from settings; ``load_weights`` starts it from a public checkpoint or a run.
"""

from likewise.encoders.build import KNOWN, build_embedder
from likewise.encoders.embedder import LAYERS, MLP, Embedder, ResNet, resnet18, resnet50, resnet_small
from likewise.encoders.weights import load_weights

__all__ = [
    "KNOWN",
    "LAYERS",
    "MLP",
    "Embedder",
    "ResNet",
    "build_embedder",
    "load_weights",
    "resnet18",
    "resnet50",
    "resnet_small",
]
