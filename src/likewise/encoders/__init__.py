"""Encoders turn a view of an item into an embedding, a row on the unit sphere.

``build_embedder`` makes an encoder from settings; ``load_weights`` loads weights of a public checkpoint or a run.
"""

from likewise.encoders.build import KNOWN, build_embedder
from likewise.encoders.embedder import LAYERS, MLP, Embedder, ResNet, resnet18, resnet50, resnet_fine, resnet_small
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
    "resnet_fine",
    "resnet_small",
]
