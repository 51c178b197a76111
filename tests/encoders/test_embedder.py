"""Encoders: shapes, unit rows, names and initial values, against what torchvision and the papers state."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from likewise.config.checks import check
from likewise.config.overrides import settings_from
from likewise.config.settings import EncoderSettings, FitSettings
from likewise.encoders import MLP, Embedder, build_embedder, resnet18, resnet50, resnet_fine, resnet_small
from likewise.encoders.embedder import CoarsePixels, ResNet, coarse
from likewise.errors import LikewiseError
from likewise.methods import METHODS

Shapes = dict[str, tuple[int, ...]]


def _norm(name: str, width: int) -> Shapes:
    vectors = {f"{name}.{entry}": (width,) for entry in ("weight", "bias", "running_mean", "running_var")}
    return vectors | {f"{name}.num_batches_tracked": ()}


def _expected(counts: tuple[int, ...], *, expansion: int, first: int, stem: int) -> Shapes:
    """torchvision's keys and shapes without fc, spelled out from its layout; 1×1-3×3-1×1 blocks if expansion is 4."""
    shapes: Shapes = {"conv1.weight": (first, 3, stem, stem)} | _norm("bn1", first)
    inputs = first
    for stage, count in enumerate(counts):
        width = first * 2**stage
        outputs = width * expansion
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            if expansion == 4:
                kernels = [(width, inputs, 1, 1), (width, width, 3, 3), (outputs, width, 1, 1)]
            else:
                kernels = [(width, inputs, 3, 3), (outputs, width, 3, 3)]
            for i, kernel in enumerate(kernels, start=1):
                shapes |= {f"{name}.conv{i}.weight": kernel} | _norm(f"{name}.bn{i}", kernel[0])
            if block == 0 and (stage > 0 or inputs != outputs):
                shapes |= {f"{name}.downsample.0.weight": (outputs, inputs, 1, 1)}
                shapes |= _norm(f"{name}.downsample.1", outputs)
            inputs = outputs
    return shapes


@pytest.mark.parametrize(
    ("network", "expected", "parameters", "entries"),
    [
        # 11,689,512 and 25,557,032 are torchvision's documented totals, fc is 512·1000+1000 and 2048·1000+1000;
        # the small stem replaces 64·3·7·7 weights by 64·3·3·3. Entries: torchvision's 122 and 320, less the two of fc.
        (resnet18("imagenet"), _expected((2, 2, 2, 2), expansion=1, first=64, stem=7), 11_689_512 - 513_000, 120),
        (resnet18("small"), _expected((2, 2, 2, 2), expansion=1, first=64, stem=3), 11_176_512 - 7_680, 120),
        (resnet50("imagenet"), _expected((3, 4, 6, 3), expansion=4, first=64, stem=7), 25_557_032 - 2_049_000, 318),
        (resnet50("small"), _expected((3, 4, 6, 3), expansion=4, first=64, stem=3), 23_508_032 - 7_680, 318),
        (resnet_small("small"), _expected((1, 1, 1), expansion=1, first=64, stem=4), 1_226_368, 54),
        (resnet_fine("small"), _expected((1, 1, 1), expansion=1, first=64, stem=4), 1_226_368, 54),
    ],
)
def test_names_and_shapes_are_torchvisions(network: ResNet, expected: Shapes, parameters: int, entries: int) -> None:
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert found == expected
    assert len(found) == entries
    assert sum(value.numel() for value in network.parameters()) == parameters


def test_a_few_names_as_torchvision_prints_them() -> None:
    names = set(resnet50("imagenet").state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.downsample.0.weight", "layer1.0.conv3.weight"} <= names
    assert {"layer3.5.bn2.num_batches_tracked", "layer4.2.bn3.bias", "layer2.0.downsample.1.running_var"} <= names
    assert not any(name.startswith(("fc", "avgpool", "maxpool")) for name in names)


def test_initial_values_are_torchvisions() -> None:
    torch.manual_seed(0)
    network = resnet18("imagenet")
    weight = network.layer3[0].conv2.weight  # 256 outputs × 9: fan-out 2304, gain √2
    assert weight.std().item() == pytest.approx((2 / 2304) ** 0.5, rel=0.01)
    strided = network.layer2[0].downsample[0].weight  # 1×1: fan-out 128, whatever the fan-in of 64
    assert strided.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()


def _reference(x: Tensor, state: dict[str, Tensor], *, convolutions: int, pool: bool, stride: int) -> Tensor:
    """ResNet in eval mode from its state dict, one functional call after the other."""
    f = nn.functional

    def norm(y: Tensor, name: str) -> Tensor:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return f.batch_norm(y, mean, var, state[f"{name}.weight"], state[f"{name}.bias"])

    def conv(y: Tensor, name: str, step: int) -> Tensor:
        kernel = state[f"{name}.weight"]
        padding = kernel.shape[-1] // 2 if kernel.shape[-1] % 2 else (kernel.shape[-1] - step) // 2  # of patches
        return f.conv2d(y, kernel, stride=step, padding=padding)

    x = norm(conv(x, "conv1", stride), "bn1").relu()
    x = f.max_pool2d(x, 3, 2, 1) if pool else x
    for stage in range(1, 5):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in state:
            name = f"layer{stage}.{block}"
            step = 2 if stage > 1 and block == 0 else 1
            y = x
            for i in range(1, convolutions + 1):
                here = step if i == (2 if convolutions == 3 else 1) else 1  # v1.5: the bottleneck's 3×3 strides
                y = norm(conv(y, f"{name}.conv{i}", here), f"{name}.bn{i}")
                y = y.relu() if i < convolutions else y
            if f"{name}.downsample.0.weight" in state:
                x = norm(conv(x, f"{name}.downsample.0", step), f"{name}.downsample.1")
            x = (x + y).relu()
            block += 1
    return x.flatten(2).mean(2)


@pytest.mark.parametrize(
    ("network", "convolutions", "pool", "stride"),
    [
        (resnet18("small"), 2, False, 1),
        (resnet18("imagenet"), 2, True, 2),
        (resnet50("imagenet"), 3, True, 2),
        (resnet_small("small"), 2, False, 4),
        (resnet_small("imagenet"), 2, True, 2),
        (resnet_fine("small"), 2, False, 2),
    ],
)
def test_forward_agrees_with_functional_calls(network: ResNet, convolutions: int, pool: bool, stride: int) -> None:
    torch.manual_seed(1)
    for name, buffer in network.named_buffers():  # so that a forgotten or swapped BatchNorm shows
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 17, 17)
    expected = _reference(x, network.state_dict(), convolutions=convolutions, pool=pool, stride=stride)
    found = network.eval()(x)
    assert found.shape == (2, network.feature_dim)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5)


def test_small_stem_keeps_the_pixels() -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    networks = {"small": resnet18(), "imagenet": resnet18("imagenet"), "4×4": resnet_small(), "fine": resnet_fine()}
    for kind, network in networks.items():
        network.layer1.register_forward_pre_hook(lambda _, x, kind=kind: shapes.update({kind: x[0].shape[2:]}))
        network.eval()(torch.zeros(1, 3, 32, 32))
    assert shapes == {"small": (32, 32), "imagenet": (8, 8), "4×4": (8, 8), "fine": (16, 16)}


def test_mlp_is_linear_norm_relu_twice() -> None:
    torch.manual_seed(0)
    mlp = MLP(5, 7)
    x = torch.randn(11, 5, dtype=torch.float64)
    mlp = mlp.double()
    expected = x
    for value in mlp.parameters():
        if value.ndim == 2:
            y = expected @ value.T
            expected = ((y - y.mean(0)) / (y.var(0, unbiased=False) + 1e-5).sqrt()).clamp(min=0)
    torch.testing.assert_close(mlp(x), expected)
    assert mlp.feature_dim == 7
    assert [tuple(p.shape) for p in mlp.parameters() if p.ndim == 2] == [(7, 5), (7, 7)]


@pytest.mark.parametrize(
    ("head", "dim", "layers"),
    [("none", 64, []), ("linear", 16, [(16, 64)]), ("mlp", 16, [(32, 64), (16, 32)])],
)
def test_heads(head: Any, dim: int, layers: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    settings = EncoderSettings(name="mlp", head=head, dim=16, hidden=64, head_hidden=32)
    embedder = build_embedder(settings, vector_dim=10)
    assert (embedder.feature_dim, embedder.dim) == (64, dim)
    assert [tuple(p.shape) for p in embedder.head.parameters() if p.ndim == 2] == layers
    assert embedder.layers() == {"embedding": dim, "backbone": 64}
    x = torch.randn(8, 10)
    embedder.eval()
    y = embedder.features(x)
    for i, (weight, bias) in enumerate(zip(*[iter(embedder.head.parameters())] * 2, strict=True)):
        y = (y.relu() if i else y) @ weight.T + bias
    expected = y / y.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(embedder(x), expected)
    torch.testing.assert_close(embedder.embed(x), expected)
    torch.testing.assert_close(embedder.embed(x, "backbone"), embedder.backbone(x))


def test_a_head_of_width_0_is_as_wide_as_the_backbone() -> None:
    """SimCLR's head, paper and code, whatever the backbone: 512 on a ResNet-18."""
    for name in ("simclr", "simclr-repo"):
        settings = replace(METHODS[name].settings.encoder, name="mlp", hidden=24, dim=6)
        head = build_embedder(settings, vector_dim=10).head
        widths = [tuple(p.shape) for p in head.parameters() if p.ndim == 2]
        assert widths == [(24, 24)] * (1 if name == "simclr" else 2) + [(6, 24)]
    assert FitSettings().encoder.head_hidden == 512
    with pytest.raises(LikewiseError, match=r"'encoder.head_hidden' is -1; it must be a whole number from 0"):
        check(settings_from({"encoder.head_hidden": -1}))


@pytest.mark.parametrize("centre", [True, False])
def test_centre(centre: bool) -> None:
    torch.manual_seed(0)
    embedder = build_embedder(EncoderSettings(name="mlp", dim=6, centre=centre), vector_dim=10)
    x = torch.randn(32, 10) + 3
    y = embedder.head(embedder.backbone(x))
    if centre:
        y = (y - y.mean(0)) / (y.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(embedder(x), y / y.square().sum(1, keepdim=True).sqrt())
    names = {name for name in embedder.state_dict() if name.startswith("centre")}
    assert names == ({"centre.running_mean", "centre.running_var", "centre.num_batches_tracked"} if centre else set())


def test_coarse_pixels_join_the_rows_of_eval_mode_alone() -> None:
    """The cosine of two rows is that of the learned parts and that of scaled principal components, as numpy has it."""
    images = torch.randn(40, 3, 32, 32, generator=torch.Generator().manual_seed(0)).cumsum(3)
    plain, joined = (
        build_embedder(settings_from({"encoder": {"dim": 8, "pixels": share}}).encoder) for share in (0.0, 0.3)
    )
    plain.load_state_dict(joined.state_dict(), strict=False)
    assert joined.pixels is not None
    joined.pixels.fit(coarse(images))
    assert torch.equal(joined(images), plain(images))
    joined.eval(), plain.eval()
    pixels = images.view(40, 3, 16, 2, 16, 2).mean((3, 5)).flatten(1).double().numpy()
    centred = pixels - pixels.mean(0)
    _, singular, components = np.linalg.svd(centred / 40**0.5, full_matrices=False)
    numbers = centred @ components[:8].T / singular[:8] ** 0.5  # the root of a standard deviation
    numbers /= np.linalg.norm(numbers, axis=1, keepdims=True)
    rows, learned = joined(images), plain(images)
    assert rows.shape == (40, joined.layers()["embedding"]) == (40, 16)
    wanted = 0.7 * (learned @ learned.T).double() + 0.3 * torch.from_numpy(numbers @ numbers.T)
    assert torch.allclose((rows @ rows.T).double(), wanted, atol=1e-5)


def test_few_or_equal_pictures_have_coarse_pixels_too() -> None:
    for images in (torch.zeros(3, 3, 8, 8), torch.randn(2, 3, 8, 8)):
        pixels = CoarsePixels(1000)
        pixels.fit(coarse(images))
        rows = pixels(torch.randn(5, 3, 8, 8))
        assert rows.shape == (5, 1000)
        assert rows.isfinite().all()


def test_vectors_have_no_pixels() -> None:
    with pytest.raises(LikewiseError, match=r"encoder\.pixels is for images"):
        build_embedder(settings_from({"encoder": {"name": "mlp", "pixels": 0.5}}).encoder, vector_dim=4)


def test_unknown_layer_lists_both() -> None:
    embedder = build_embedder(EncoderSettings(name="mlp"), vector_dim=4)
    with pytest.raises(LikewiseError, match=r"no layer 'fc'.*embedding, backbone"):
        embedder.embed(torch.zeros(2, 4), "fc")


def test_rows_are_float32_units_under_autocast() -> None:
    torch.manual_seed(0)
    embedder = build_embedder(EncoderSettings())
    x = torch.randn(8, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        rows = embedder(x)
        assert embedder.features(x).dtype == torch.bfloat16  # so autocast was on
        assert embedder.embed(x, "backbone").dtype == torch.float32
    assert rows.dtype == torch.float32
    assert (rows.norm(dim=1) - 1).abs().max() < 1e-6


def test_zero_rows_stay_finite() -> None:
    embedder = Embedder(nn.Identity(), nn.Identity(), feature_dim=3, dim=3)
    x = torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0]], requires_grad=True)
    rows = embedder(x)
    (rows * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert rows.tolist() == [[0, 0, 0], pytest.approx([0.6, 0.8, 0.0])]
    assert x.grad is not None
    assert x.grad.isfinite().all()


class _Users(nn.Module):
    """A user's module with BatchNorm, Dropout, a frozen part and a counter that runs in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.frozen = nn.BatchNorm1d(6).eval()
        self.drop = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))
        self.fc = nn.Linear(6, 9)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        noise = torch.rand(1)
        return self.fc(self.drop(self.frozen(self.norm(x)))) + 0 * noise


def test_any_module_is_probed_without_a_trace() -> None:
    torch.manual_seed(0)
    module = _Users()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    embedder = build_embedder(EncoderSettings(head="none"), backbone=module, example=torch.randn(4, 6))
    assert embedder.backbone is module
    assert (embedder.feature_dim, embedder.dim) == (9, 9)
    assert module.training
    assert module.drop.training
    assert not module.frozen.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in module.parameters())


def test_the_probe_draws_no_random_numbers() -> None:
    module, example = _Users(), torch.randn(4, 6)
    torch.manual_seed(3)
    build_embedder(EncoderSettings(head="none"), backbone=module, example=example)
    after = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(3))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv2d(3, 4, 3), r"Conv2d must return one row per item, shape \(2, F\), but returned \(2, 4, 6, 6\)"),
        (nn.Flatten(0), r"Flatten must return .* returned \(384,\)"),
        (nn.Linear(5, 4), r"Linear fails on a batch of shape \(2, 3, 8, 8\): mat1 and mat2"),
        (nn.LSTM(8, 4), "LSTM fails"),
    ],
)
def test_unfit_module_is_refused(module: nn.Module, message: str) -> None:
    module.train()
    with pytest.raises(LikewiseError, match=message):
        build_embedder(EncoderSettings(), backbone=module, example=torch.zeros(2, 3, 8, 8))
    assert module.training


def test_any_module_needs_an_example() -> None:
    with pytest.raises(LikewiseError, match=r"Flatten is not known; pass example="):
        build_embedder(EncoderSettings(), backbone=nn.Flatten())
    assert build_embedder(EncoderSettings(), backbone=resnet_small()).feature_dim == 256


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnet-18",
            r"no encoder 'resnet-18'\. Did you mean 'resnet18'\? Known: resnet-small, resnet-fine, resnet18, resnet50",
        ),
        ("resnetsmall", "Did you mean 'resnet-small'"),
        ("hf:", "Did you mean 'hf:NAME_OR_FOLDER'"),
        ("", "no encoder ''"),
    ],
)
def test_unknown_name_is_answered_with_the_closest(name: str, message: str) -> None:
    with pytest.raises(LikewiseError, match=message):
        build_embedder(EncoderSettings(name=name))


def test_kind_of_items_and_encoder_must_agree() -> None:
    with pytest.raises(LikewiseError, match="'mlp' does not fit the items, which are images"):
        build_embedder(EncoderSettings(name="mlp"))
    with pytest.raises(
        LikewiseError, match="'resnet18' does not fit the items, which are vectors of 5 numbers; use mlp"
    ):
        build_embedder(EncoderSettings(name="resnet18"), vector_dim=5)


@pytest.mark.parametrize("name", ["resnet-small", "resnet-fine", "resnet18", "resnet50"])
def test_named_encoders_build_and_learn(name: str) -> None:
    torch.manual_seed(0)
    embedder = build_embedder(EncoderSettings(name=name, dim=8))
    x = torch.randn(4, 3, 16, 16)
    (embedder(x) @ torch.randn(8)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in embedder.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in embedder.backbone.parameters())


def test_exports_whole() -> None:
    embedder = build_embedder(EncoderSettings(dim=8)).eval()
    x = torch.randn(3, 3, 32, 32)
    program = torch.export.export(embedder, (x,), dynamic_shapes=({0: torch.export.Dim("B", min=2)},))
    more = torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(program.module()(more), embedder(more))


def test_import_needs_torch_and_numpy_only() -> None:
    heavy = ("safetensors", "transformers", "timm", "torchvision", "sklearn", "matplotlib", "PIL", "pyarrow")
    code = f"import sys, likewise.encoders; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
