"""Embeds items with the weights in this folder. It needs torch, safetensors, numpy and pillow, and not likewise.

    from embed import load, read_picture
    rows = load(".")(np.stack([read_picture(path, 32) for path in paths]))

embedding.json says which layers the network has, and how its inputs are scaled.
Letters in shapes: B items, S side of a picture in pixels, D numbers of a vector, F features, K numbers of a row.
"""

import hashlib
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torch import Tensor

__all__ = ["hash_words", "load", "read_picture"]

FAR = 1e9  # standard deviations of a number of a vector


def read_picture(path: str, size: int) -> "np.ndarray[Any, Any]":
    """A picture as the model takes it: uint8 (size, size, 3), upright, its central square, alpha over white."""
    file = Image.open(path)
    if file.mode[0] in "IF" or ";16" in str(file.tile):
        raise ValueError(f"{path} has more than 8 bits for each colour; bring it to 8 bits first")
    file.draft("RGB", (2 * size, 2 * size))  # a large JPEG is decoded at a fraction of its size
    image = ImageOps.exif_transpose(file)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    if image.size != (size, size):
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image)


def hash_words(text: "str | list[str]", width: int) -> "np.ndarray[Any, Any]":
    """A text, or a list of words, as the model takes it: float32 (width,) of length 1."""
    if isinstance(text, str):
        words = re.findall(r"\w+", unicodedata.normalize("NFC", text).casefold())
    else:
        words = [unicodedata.normalize("NFC", word).strip() for word in text]
    row: np.ndarray[Any, Any] = np.zeros(width, np.float32)
    for word in words:
        number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        row[number % 2**63 % width] += -1 if number >> 63 else 1
    row /= max(np.sqrt(np.square(row).sum()), 1e-30)
    return row


def load(folder: Any = ".") -> Any:
    """The model in a folder: a function from uint8 (B, S, S, 3) or float32 (B, D) to unit rows, float32 (B, K).

    A model of items of several parts takes one array for each part, in the order of embedding.json, and last bool
    (B, parts): which parts an item has.
    """
    folder = Path(folder)
    about = json.loads((folder / "embedding.json").read_text(encoding="utf-8"))
    weights = load_file(folder / about["weights"])
    backbone = _backbone(about["backbone"], weights, folder)

    @torch.inference_mode()
    def embed(*inputs: Any) -> Any:
        x = _scaled([torch.as_tensor(np.ascontiguousarray(each)) for each in inputs], about, weights)
        rows = backbone(x)
        if about["head"] is not None:
            rows = _head(about, weights, rows, x)
        rows = F.normalize(rows.float(), dim=1)
        if x.ndim == 2:  # vectors, which may be far from all that were seen: NaN instead of numbers that overflowed
            rows = torch.where(x.abs().amax(1, keepdim=True) <= FAR, rows, torch.nan)
        return rows.numpy()

    return embed


def _scaled(inputs: "list[Tensor]", about: Any, w: "dict[str, Tensor]") -> Tensor:
    """The inputs minus their mean, divided by their standard deviation; what an item lacks is 0."""
    if about["inputs"][0]["name"] == "images":
        mean, std = (torch.tensor(about[name]).view(3, 1, 1) for name in ("mean", "std"))
        return (inputs[0].permute(0, 3, 1, 2).float() - 255 * mean) / (255 * std)
    if len(inputs) == 1:
        return (inputs[0] - w["input.mean"]) / w["input.std"]
    columns, has, start = [], inputs[-1], 0
    for place, content in enumerate(inputs[:-1]):
        content = content.flatten(1).float()
        stop = start + content.shape[1]
        content = (content - w["input.mean"][start:stop]) / w["input.std"][start:stop]
        columns += [torch.where(has[:, [place]], content, 0.0), has[:, [place]].float()]
        start = stop + 1
    return torch.cat(columns, 1)


def _backbone(kind: Any, w: "dict[str, Tensor]", folder: Path) -> Any:
    """The network before the head: the scaled inputs -> (B, F)."""
    if kind["name"] == "resnet":
        return lambda x: _resnet(kind, w, "backbone.", x)
    if kind["name"] == "layers":
        return lambda x: _layers(kind["layers"], w, x)
    if kind["name"] == "towers":
        return lambda x: _towers(kind["towers"], w, x)
    if kind["name"] == "transformers":
        from transformers import AutoModel

        model = AutoModel.from_pretrained(folder).eval()
        return lambda x: _mean(model(pixel_values=x).last_hidden_state)
    import timm

    return timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()


def _mean(hidden: Tensor) -> Tensor:
    """The mean over positions, (B, F, H, W), or over tokens, (B, T, F)."""
    return hidden.mean((2, 3)) if hidden.ndim == 4 else hidden.mean(1)


def _layers(layers: Any, w: "dict[str, Tensor]", x: Tensor) -> Tensor:
    """Layers one after the other: each is "relu", or linear or norm (BatchNorm) and the name of its weights."""
    for layer in layers:
        if layer[0] == "linear":
            x = F.linear(x, w[layer[1] + ".weight"], w.get(layer[1] + ".bias"))
        else:
            x = _norm(w, layer[1], x) if layer[0] == "norm" else F.relu(x)
    return x


def _norm(w: "dict[str, Tensor]", name: str, x: Tensor) -> Tensor:
    """BatchNorm with the statistics of the training."""
    mean, var = w[name + ".running_mean"], w[name + ".running_var"]
    return F.batch_norm(x, mean, var, w.get(name + ".weight"), w.get(name + ".bias"), eps=1e-5)


def _resnet(kind: Any, w: "dict[str, Tensor]", name: str, x: Tensor) -> Tensor:
    """A ResNet: a stem, stages of residual blocks, and the mean over positions."""
    stem = kind["stem"]
    x = F.conv2d(x, w[name + "conv1.weight"], stride=stem["stride"], padding=stem["padding"])
    x = F.relu(_norm(w, name + "bn1", x))
    x = F.max_pool2d(x, 3, 2, 1) if stem["pool"] else x
    for stage, strides in enumerate(kind["strides"], 1):
        for number, stride in enumerate(strides):
            x = _block(w, f"{name}layer{stage}.{number}.", x, stride, kind["strided"])
    return _mean(x)


def _block(w: "dict[str, Tensor]", name: str, x: Tensor, stride: int, strided: int) -> Tensor:
    """Two or three convolutions, of which the one numbered ``strided`` has the stride, and a shortcut."""
    y, number = x, 1
    while f"{name}conv{number}.weight" in w:
        kernel = w[f"{name}conv{number}.weight"]
        y = F.relu(y) if number > 1 else y
        y = F.conv2d(y, kernel, stride=stride if number == strided else 1, padding=kernel.shape[-1] // 2)
        y, number = _norm(w, f"{name}bn{number}", y), number + 1
    if f"{name}downsample.0.weight" in w:
        x = _norm(w, name + "downsample.1", F.conv2d(x, w[name + "downsample.0.weight"], stride=stride))
    return F.relu(y + x)


def _towers(towers: Any, w: "dict[str, Tensor]", x: Tensor) -> Tensor:
    """A tower for each part, the features one after the other, and last which parts are there."""
    features, has = [], []
    for tower in towers:
        content, there = x[:, tower["start"] : tower["stop"]], x[:, [tower["stop"]]] > 0
        if "resnet" in tower:
            pixels = content.view(len(x), tower["size"], tower["size"], 3).permute(0, 3, 1, 2)
            content = _resnet(tower["resnet"], w, tower["weights"], pixels)
        else:
            content = _layers(tower["layers"], w, content)
        features.append(torch.where(there, content, 0.0))
        has.append(there.float())
    return torch.cat(features + has, 1)


def _head(about: Any, w: "dict[str, Tensor]", features: Tensor, x: Tensor) -> Tensor:
    """The layers after the backbone, the L2 norm, and the coarse pixels beside the row, where the model has them."""
    head = about["head"]
    if "product" in head:
        *parts, has = torch.split(features, [*head["widths"], len(head["widths"])], 1)
        rows = torch.ones(1)
        for place, (layers, part) in enumerate(zip(head["product"], parts, strict=True)):
            rows = rows * torch.where(has[:, [place]] > 0, _layers(layers, w, part), 1.0)
    else:
        rows = _layers(head["layers"], w, features)
    if about["centre"]:
        rows = F.batch_norm(rows, w["centre.running_mean"], w["centre.running_var"], eps=1e-5)
    rows, share = F.normalize(rows, dim=1, eps=1e-6), about["pixels"]
    if not share:
        return rows
    pixels = (F.adaptive_avg_pool2d(x, 16).flatten(1) - w["pixels.mean"]) @ w["pixels.basis"]
    pixels = F.normalize(pixels, dim=1, eps=1e-6)
    return torch.cat(((1 - share) ** 0.5 * rows, share**0.5 * pixels), 1)
