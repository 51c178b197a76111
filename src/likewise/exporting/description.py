"""The layers of an embedder as plain values: with these and the weights ``plain.load`` computes the same rows."""

from typing import Any

import torch
from torch import Tensor, nn

from likewise.encoders.embedder import MLP, BasicBlock, Bottleneck, Embedder, ResNet
from likewise.encoders.external import PooledTransformer
from likewise.encoders.synced_batchnorm import SyncedBatchNorm
from likewise.encoders.towers import LateFusion, Towers
from likewise.errors import LikewiseError
from likewise.exporting.network import inputs_of, scaling
from likewise.model import Layer, Model

Description = dict[str, Any]
_LAYERS = {
    nn.Linear: "linear",
    nn.BatchNorm1d: "norm",
    nn.SyncBatchNorm: "norm",
    SyncedBatchNorm: "norm",
    nn.ReLU: "relu",
}


def described_inputs(model: Model, layer: Layer) -> Description:
    """The layer, the inputs and the scaling: all that is told of a format that holds its layers itself."""
    about: Description = {"layer": layer, "dim": model.width(layer)}
    about["inputs"] = [{"name": each.name, "shape": each.shape, "dtype": each.dtype} for each in inputs_of(model)]
    if model.kind == "images":
        about |= {"mean": list(model.settings.views.mean), "std": list(model.settings.views.std)}
    return about


def described(model: Model, layer: Layer) -> Description:
    """What ``plain.load`` reads beside the weights, except for where the backbone comes from."""
    about, embedder = described_inputs(model, layer), of_layer(model, layer)
    if layer == "backbone":
        return {**about, "head": None}
    centre = isinstance(embedder.centre, nn.modules.batchnorm._BatchNorm)
    return {**about, "head": _head(embedder.head), "centre": centre, "pixels": embedder.share}


def of_layer(model: Model, layer: Layer) -> Embedder:
    """The embedder that gives a layer. Raises LikewiseError when the model does not have it."""
    model.width(layer)
    return model.embedder.query if layer == "query" and model.embedder.query is not None else model.embedder


def weights_of(model: Model, layer: Layer, *, backbone: bool) -> dict[str, Tensor]:
    """The weights of a layer by the names of a run, and the scaling of vectors; without ``backbone`` the rest alone."""
    embedder = of_layer(model, layer)
    parts = ("backbone.",) * backbone + ("head.", "centre.", "pixels.") * (layer != "backbone")
    found = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in embedder.state_dict().items()
        if name.startswith(parts) and not name.endswith("num_batches_tracked")
    }
    if model.kind == "vectors":
        mean, std = scaling(model)
        found |= {"input.mean": mean.clone(), "input.std": std.clone()}
    return found


def backbone_of(backbone: nn.Module) -> Description:
    """A backbone of this library. Raises LikewiseError that names a layer which is described by its code alone."""
    if isinstance(backbone, ResNet):
        return {"name": "resnet", **_resnet(backbone)}
    if isinstance(backbone, MLP):
        return {"name": "layers", "layers": layers_of(backbone.layers, "backbone.layers")}
    if isinstance(backbone, Towers):
        towers = list[Description]()
        for place, (block, tower) in enumerate(zip(backbone.blocks, backbone.towers, strict=True)):
            name, about = f"backbone.towers.{place}", {"start": block.start, "stop": block.stop}
            if block.kind == "image":
                image = next(layer for layer in tower.modules() if isinstance(layer, ResNet))
                towers.append({**about, "size": block.size, "weights": f"{name}.1.", "resnet": _resnet(image)})
            else:
                towers.append({**about, "layers": layers_of(tower, name)})
        return {"name": "towers", "towers": towers}
    raise LikewiseError(
        f"layer 'backbone' ({type(backbone).__name__}) is built by code of its own, which a file of weights does not "
        f"hold; {instead_for(backbone)}."
    )


def instead_for(backbone: nn.Module) -> str:
    """Which formats hold a backbone, for the sentence that refuses another one."""
    to = ["onnx", "torch"]
    to += ["safetensors"] * isinstance(backbone, ResNet | MLP | Towers)
    to += ["hf"] * isinstance(backbone, PooledTransformer) + ["timm"] * of_timm(backbone)
    return f"use --to {', '.join(to[:-1])} or {to[-1]}"


def layers_of(module: nn.Module, name: str) -> list[list[str]]:
    """The layers of a chain, each with the name of its weights. Raises LikewiseError on any other layer."""
    if isinstance(module, nn.Sequential):
        return [layer for place, child in module.named_children() for layer in layers_of(child, f"{name}.{place}")]
    if isinstance(module, nn.Identity):
        return []
    if type(module) not in _LAYERS:
        raise LikewiseError(f"layer {name!r} ({type(module).__name__}) can't be described; use --to onnx or torch.")
    kind = _LAYERS[type(module)]
    return [[kind] if kind == "relu" else [kind, name]]


def _head(head: nn.Module) -> Description:
    if isinstance(head, LateFusion):
        parts = [layers_of(part, f"head.heads.{place}") for place, part in enumerate(head.heads)]
        return {"product": parts, "widths": list(head.widths[:-1])}
    return {"layers": layers_of(head, "head")}


def _resnet(network: ResNet) -> Description:
    stem = {"stride": network.conv1.stride[0], "padding": network.conv1.padding[0]}
    blocks = [list(stage.children()) for stage in stages_of(network)]
    return {
        "stem": {**stem, "pool": isinstance(network.maxpool, nn.MaxPool2d)},
        "strides": [[stride_of(block) for block in stage] for stage in blocks],
        "strided": 1 if isinstance(blocks[0][0], BasicBlock) else 2,
    }


def stages_of(network: ResNet) -> list[nn.Module]:
    """The stages, three or four."""
    stages = (network.layer1, network.layer2, network.layer3, network.layer4)
    return [stage for stage in stages if not isinstance(stage, nn.Identity)]


def stride_of(block: nn.Module) -> int:
    """The stride of a residual block."""
    assert isinstance(block, BasicBlock | Bottleneck)
    return block.conv1.stride[0] * block.conv2.stride[0]


def of_timm(backbone: nn.Module) -> bool:
    """Whether timm has made a backbone."""
    return type(backbone).__module__.startswith("timm.")
