"""The backbone of a model in the layout of transformers or timm."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from likewise.encoders.embedder import BasicBlock, ResNet
from likewise.encoders.external import PooledTransformer
from likewise.errors import LikewiseError
from likewise.exporting.description import instead_for, of_layer, of_timm, stages_of
from likewise.exporting.program import package
from likewise.model import Layer, Model

Write = Callable[[Model, Layer, Path, Mapping[str, str]], None]  # the last are the metadata of the weights
_BILINEAR = 2  # as Pillow counts its filters
_RESNETS: dict[tuple[tuple[int, ...], str], str] = {
    ((2, 2, 2, 2), "basic"): "resnet18",
    ((3, 4, 6, 3), "bottleneck"): "resnet50",
}


def write_transformers(model: Model, layer: Layer, folder: Path, metadata: Mapping[str, str]) -> None:
    """Writes config.json, model.safetensors and preprocessor_config.json, which ``AutoModel`` reads.

    Raises:
        LikewiseError: transformers is missing, or has no model that computes what the backbone does.
    """
    backbone = of_layer(model, layer).backbone
    if isinstance(backbone, PooledTransformer):
        made: Any = backbone.model
    else:
        config = _resnet_config(backbone)
        transformers = package("transformers", to="hf", extra="hf")
        made = transformers.ResNetModel(transformers.ResNetConfig(**config))
        made.load_state_dict({_transformers_name(name): value for name, value in backbone.state_dict().items()})
    made.save_pretrained(folder)
    _write_json(folder / "preprocessor_config.json", _processor(model))


def write_timm(model: Model, layer: Layer, folder: Path, metadata: Mapping[str, str]) -> None:
    """Writes config.json and model.safetensors, which ``timm.create_model("local-dir:...")`` reads.

    Raises:
        LikewiseError: timm is missing, or has no model that computes what the backbone does.
    """
    embedder, views, size = of_layer(model, layer), model.settings.views, model.settings.size
    name = _timm_name(embedder.backbone, model.settings.encoder.name)
    package("timm", to="timm", extra="timm")
    config = {"architecture": name, "num_classes": 0, "num_features": embedder.feature_dim}
    pixels = {"input_size": [3, size, size], "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center"}
    scale: dict[str, object] = {"mean": list(views.mean), "std": list(views.std), "num_classes": 0}
    _write_json(folder / "config.json", {**config, "pretrained_cfg": {**pixels, **scale}})
    weights = {key: value.cpu().contiguous().clone() for key, value in embedder.backbone.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(weights, dict(metadata)))


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _processor(model: Model) -> dict[str, object]:
    """What transformers' image processors do to get to the size of the run: the shorter side, then the centre."""
    size, views = model.settings.size, model.settings.views
    resized = {"do_resize": True, "size": {"shortest_edge": size}, "resample": _BILINEAR}
    cropped = {"do_center_crop": True, "crop_size": {"height": size, "width": size}, "do_convert_rgb": True}
    scaled: dict[str, object] = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    scaled |= {"image_mean": list(views.mean), "image_std": list(views.std)}
    return {"image_processor_type": "BitImageProcessor", **resized, **cropped, **scaled}


def _resnet_config(backbone: nn.Module) -> dict[str, Any]:
    """A backbone as the configuration of transformers' ResNet. Raises LikewiseError that names what it can't hold."""
    network = _with_large_stem(backbone, "transformers")
    stages = [list(stage.children()) for stage in stages_of(network)]
    kind = _kind(network)
    return {
        "embedding_size": network.conv1.out_channels,
        "hidden_sizes": [_width(stage[0]) for stage in stages],
        "depths": [len(stage) for stage in stages],
        "layer_type": kind,
    }


def _timm_name(backbone: nn.Module, encoder: str) -> str:
    """The architecture in timm. Raises LikewiseError that names what timm does not have."""
    if of_timm(backbone):
        return encoder.removeprefix("timm:").partition(".")[0]
    network = _with_large_stem(backbone, "timm")
    depths = tuple(len(list(stage.children())) for stage in stages_of(network))
    found = _RESNETS.get((depths, _kind(network)))
    if found is None:
        raise LikewiseError(
            f"layer 'backbone' has {len(depths)} stages of {', '.join(map(str, depths))} blocks, and timm has no such "
            f"ResNet; {instead_for(backbone)}."
        )
    return found


def _with_large_stem(backbone: nn.Module, library: str) -> ResNet:
    if not isinstance(backbone, ResNet):
        raise LikewiseError(
            f"layer 'backbone' ({type(backbone).__name__}) has no counterpart in {library}; {instead_for(backbone)}."
        )
    if not isinstance(backbone.maxpool, nn.MaxPool2d):
        side, stride = backbone.conv1.kernel_size[0], backbone.conv1.stride[0]
        raise LikewiseError(
            f"layer 'backbone.conv1', {side} × {side} with stride {stride}, has no place in the ResNet of {library}, "
            f"which begins with 7 × 7, stride 2 and a max-pool; {instead_for(backbone)}, or train with "
            "--encoder.stem imagenet."
        )
    return backbone


def _kind(network: ResNet) -> str:
    return "basic" if isinstance(next(network.layer1.children()), BasicBlock) else "bottleneck"


def _width(block: nn.Module) -> int:
    """The channels that a residual block gives."""
    norms = [layer for name, layer in block.named_children() if name.startswith("bn")]
    last: Tensor = norms[-1].weight  # type: ignore[assignment]
    return len(last)


def _transformers_name(name: str) -> str:
    """The name of a weight of ``ResNet`` in transformers' ResNetModel."""
    head, _, rest = name.partition(".")
    if head in ("conv1", "bn1"):
        return f"embedder.embedder.{_OPERATION[head[:2]]}.{rest}"
    block, layer, rest = rest.split(".", 2)
    path = f"encoder.stages.{int(head[-1]) - 1}.layers.{block}"
    if layer == "downsample":
        place, _, rest = rest.partition(".")
        return f"{path}.shortcut.{('convolution', 'normalization')[int(place)]}.{rest}"
    return f"{path}.layer.{int(layer[-1]) - 1}.{_OPERATION[layer[:2]]}.{rest}"


_OPERATION = {"co": "convolution", "bn": "normalization"}
