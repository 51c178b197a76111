"""Towers and their fusion against loops in float64; what a missing part and a frozen backbone do not change."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from likewise.blocks import Block, masked
from likewise.config.overrides import settings_from
from likewise.data import open_items
from likewise.encoders import build_embedder
from likewise.encoders.embedder import Embedder
from likewise.encoders.towers import LateFusion, Towers
from likewise.errors import LikewiseError
from likewise.model import Model, load
from likewise.training.fit import fit
from likewise.views import Share, Views
from likewise.views.parts import PartViews
from likewise.views.vectors import VectorViews, scales_of

SIZE, B = 8, 6
BLOCKS = (
    Block(name="image", kind="image", start=0, stop=192, size=SIZE),
    Block(name="audio", kind="vector", start=193, stop=198),
    Block(name="title", kind="words", start=199, stop=206),
)
HAS = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]])


def rows(dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """(B, D) items, some of which lack parts."""
    x = torch.randn(B, 207, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    for place, block in enumerate(BLOCKS):
        x[:, block.stop] = HAS[:, place].to(dtype)
    return masked(x, BLOCKS)


def encoder(fusion: str, head: str = "mlp") -> Embedder:
    torch.manual_seed(0)
    encoder = {"name": "towers", "fusion": fusion, "head": head, "hidden": 5, "head_hidden": 4, "dim": 3}
    settings = settings_from({"encoder": {**encoder, "centre": False}}).encoder
    return build_embedder(settings, vector_dim=207, blocks=BLOCKS).double().eval()


def layers(module: nn.Module, x: Tensor) -> Tensor:
    """Linear layers and ReLU, number by number."""
    for layer in module.children():
        if isinstance(layer, nn.Linear):
            x = torch.stack([(layer.weight[out] * x).sum() + layer.bias[out] for out in range(layer.out_features)])
        else:
            x = torch.stack([number if number > 0 else torch.zeros_like(number) for number in x])
    return x


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_fusion_is_its_formula(fusion: str) -> None:
    embedder, x = encoder(fusion), rows()
    towers = embedder.backbone
    assert isinstance(towers, Towers)
    found = []
    for row in x:
        features = []
        for block, tower in zip(BLOCKS, towers.towers, strict=True):
            content = row[block.content]
            if block.kind == "image":
                image = torch.stack([content[channel::3].reshape(SIZE, SIZE) for channel in range(3)])
                resnet = tower.get_submodule("1")
                features.append(resnet(image[None])[0] if row[block.stop] else torch.zeros(256, dtype=x.dtype))
            else:
                features.append(layers(tower, content) if row[block.stop] else torch.zeros(5, dtype=x.dtype))
        there = torch.stack([row[block.stop] for block in BLOCKS])
        if fusion == "early":
            out = layers(embedder.head, torch.cat([*features, there]))
        else:
            assert isinstance(embedder.head, LateFusion)
            out = torch.ones(3, dtype=x.dtype)
            for head, h, has in zip(embedder.head.heads, features, there, strict=True):
                out = out * (layers(head, h) if has else 1.0)
        found.append(out / out.square().sum().sqrt())
    assert torch.allclose(embedder(x), torch.stack(found), atol=1e-12)
    assert embedder.layers() == {"embedding": 3, "backbone": 256 + 5 + 5 + 3}


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_no_gradient_reaches_a_missing_part(fusion: str) -> None:
    embedder, x = encoder(fusion).train(), rows()
    for place, block in enumerate(BLOCKS):
        lacks = HAS[:, place] == 0
        embedder.zero_grad()
        wild = x.clone().requires_grad_()
        embedder(wild)[lacks][:, 0].sum().backward()  # of items without this part alone
        assert wild.grad is not None
        assert not wild.grad[lacks][:, block.content].any()
        weights = list(embedder.backbone.get_submodule(f"towers.{place}").parameters())
        assert all(
            weight.grad is not None and not weight.grad.any() for weight in weights
        )  # none is left out of a step


def test_missing_images_take_no_part_in_batch_statistics() -> None:
    embedder = encoder("early").train()
    other = deepcopy(embedder)
    x, lacks = rows(), HAS[:, 0] == 0
    embedder(x)
    other.backbone.get_submodule("towers.0")(x[~lacks][:, BLOCKS[0].content])
    for (name, mine), theirs in zip(embedder.backbone.named_buffers(), other.backbone.buffers(), strict=True):
        assert torch.equal(mine, theirs), name
    before = {name: buffer.clone() for name, buffer in embedder.named_buffers()}
    embedder(x[lacks]).sum().backward()  # a batch without images
    assert all(torch.equal(before[name], buffer) for name, buffer in embedder.named_buffers())


def test_the_only_image_of_a_batch_is_normalised_as_in_eval_mode() -> None:
    embedder, x = encoder("early"), rows()[[0, 2, 3]]
    alone = embedder.eval().features(x)
    before = {name: buffer.clone() for name, buffer in embedder.named_buffers()}
    assert torch.equal(embedder.train().features(x), alone)
    assert all(module.training for module in embedder.modules())
    assert all(torch.equal(before[name], buffer) for name, buffer in embedder.named_buffers())


def test_scales_are_those_of_the_items_that_have_the_part() -> None:
    x = rows(torch.float32, 1) * 7 + 3
    x[:, [block.stop for block in BLOCKS]] = HAS.float()
    x = masked(x, BLOCKS)
    x[:, 194] = 5.0 * HAS[:, 1]  # a number that never differs
    mean, std = scales_of(x, BLOCKS, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    for column in range(193, 198):
        values = np.array([row[column] for row, has in zip(x.tolist(), HAS.tolist(), strict=True) if has[1]])
        assert float(mean[column]) == pytest.approx(values.mean(), rel=1e-5)
        assert float(std[column]) == pytest.approx(values.std() or 1.0, rel=1e-5)
    assert mean[:6].tolist() == pytest.approx([25.5, 51.0, 76.5] * 2)
    assert std[:6].tolist() == pytest.approx([127.5, 63.75, 255.0] * 2)
    assert not mean[199:206].any()
    assert torch.equal(std[199:206], torch.full((7,), 7**-0.5))
    there = [block.stop for block in BLOCKS]
    assert not mean[there].any()
    assert (std[there] == 1).all()
    nobody = masked(x * 0.0, BLOCKS)
    assert torch.equal(scales_of(nobody, BLOCKS)[1][193:198], torch.ones(5))


def test_views_change_neither_what_is_missing_nor_what_says_so() -> None:
    x = rows(torch.float32)
    views = VectorViews(0.5, 0.3, torch.zeros(207), torch.ones(207), BLOCKS)
    seen, there = views(x, torch.Generator().manual_seed(0)), [block.stop for block in BLOCKS]
    assert torch.equal(seen[:, there], x[:, there])
    assert torch.equal(masked(seen, BLOCKS), seen)
    plain = VectorViews(0.5, 0.3, torch.zeros(207), torch.ones(207))(x, torch.Generator().manual_seed(0))
    plain[:, there] = x[:, there]
    plain[:, BLOCKS[0].content] = x[:, BLOCKS[0].content]  # images have views of their own
    assert torch.equal(seen, masked(plain, BLOCKS))  # the same random numbers


def test_a_part_is_seen_as_items_of_its_kind_are() -> None:
    settings = settings_from({"views.noise": 0.5, "views.dropout": 0.3}).views
    x = rows(torch.float32)
    x[:, BLOCKS[0].content] = torch.randint(0, 256, (B, 192)).float()
    x = masked(x, BLOCKS)
    mean, std = scales_of(x, BLOCKS, mean=settings.mean, std=settings.std)
    views, generator = PartViews(settings, mean, std, BLOCKS), torch.Generator().manual_seed(3)
    seen, other = views(x, generator), torch.Generator().manual_seed(3)
    vectors = VectorViews(0.5, 0.3, torch.zeros(207), torch.ones(207), BLOCKS)((x - mean) / std, other)
    assert torch.equal(seen[:, 192:], vectors[:, 192:])
    pixels = x[:, BLOCKS[0].content].view(B, SIZE, SIZE, 3).to(torch.uint8)
    images = Views(settings, SIZE)(pixels, other)
    for row in range(B):
        shown = seen[row, BLOCKS[0].content].view(SIZE, SIZE, 3).permute(2, 0, 1)
        assert torch.allclose(shown, images[row] if HAS[row, 0] else torch.zeros(()), atol=1e-6)
    half = views(x[2:5], torch.Generator().manual_seed(3), Share(B, slice(2, 5)))
    assert torch.allclose(half, seen[2:5], atol=1e-6)


def parts(count: int = 24) -> dict[str, object]:
    random = np.random.default_rng(0)
    return {
        "image": random.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8),
        "audio": random.normal(5, 3, size=(count // 2, 5)).astype(np.float32),
    }


SMALL = {"size": SIZE, "epochs": 2, "batch_size": 8, "knn_epochs": 0, "encoder.hidden": 4, "encoder.dim": 4}


def test_a_missing_part_is_zero_for_the_encoder_and_the_model_keeps_its_parts(tmp_path: Path) -> None:
    items = open_items(parts(), size=SIZE, cache=tmp_path, progress=False)
    model = fit(items, out=tmp_path / "run", settings=SMALL, progress=False)
    assert (model.settings.encoder.name, model.settings.encoder.head_hidden) == ("towers", 256)
    again = load(tmp_path / "run")
    assert again.blocks == items.blocks
    prepared = again.prepare(items.batch(range(24)))
    assert not prepared[12:, items.blocks[1].content].any()
    assert float(prepared[:12, items.blocks[1].content].mean()) == pytest.approx(0, abs=1e-4)
    whole = again.embed(items, progress=False)
    assert torch.allclose(whole.rows, model.embed(items, progress=False).rows, atol=1e-6)
    alone = again.embed({"image": parts()["image"]}, progress=False)
    assert torch.allclose(alone.rows[12:], whole.rows[12:], atol=1e-6)
    assert not torch.allclose(alone.rows[:12], whole.rows[:12], atol=1e-3)
    np.save(tmp_path / "one.npy", np.asarray(items.values)[3, items.blocks[1].content])
    index = again.index(items, progress=False)
    assert len(index.search(tmp_path / "one.npy", 3)) == 3
    for source, sentence in (
        (parts()["audio"], r"this model takes items of several parts \(image, audio\): give each by name, with --feat"),
        ({"sound": parts()["audio"]}, "the model has no part 'sound'"),
        (open_items({"audio": parts()["audio"]}, progress=False), "has other parts than this model"),
    ):
        with pytest.raises(LikewiseError, match=sentence):
            again.embed(source, progress=False)
    vectors = np.asarray(parts()["audio"])
    plain = Model.untrained(settings_from({"encoder.name": "mlp"}), open_items(vectors, progress=False))
    with pytest.raises(LikewiseError, match="this model was trained on vectors, not on parts by name"):
        plain.embed({"audio": vectors}, progress=False)
    twice = open_items({"a": vectors, "b": vectors}, progress=False)
    with pytest.raises(LikewiseError, match=r"one.npy can't be a query: the model has 2 parts of vectors"):
        Model.untrained(settings_from({"encoder.name": "towers"}), twice).embed_file(tmp_path / "one.npy")


def test_towers_and_late_fusion_are_for_parts(tmp_path: Path) -> None:
    vectors = np.asarray(parts()["audio"])
    for data, settings, sentence in (
        (
            vectors,
            {"encoder.name": "towers"},
            "encoder 'towers' does not fit the items, which are vectors of 5 numbers",
        ),
        (vectors, {"encoder.fusion": "late"}, "encoder.fusion=late is for items of several parts"),
        (
            {"a": vectors},
            {"encoder.name": "resnet18"},
            "'resnet18' does not fit the items, which are of several parts; u",
        ),
        ({"a": vectors}, {"encoder.fusion": "late", "encoder.head": "none"}, "late multiplies the outputs of heads"),
        (vectors, {"encoder.frozen": True, "encoder.head": "none"}, "encoder.frozen=true leaves nothing to learn"),
    ):
        with pytest.raises(LikewiseError, match=sentence):
            fit(data, out=tmp_path / "run", settings={**SMALL, **settings}, progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        ("images", {"encoder.bn_groups": 2, "method": "moco", "queue.size": 16}),
        ("images", {"method": "simclr", "optim.name": "lars", "encoder.head": "mlp-bn"}),
        ("parts", {"method": "simclr", "micro_batches": 2, "encoder.centre": False, "optim.name": "adamw"}),
        ("vectors", {"optim.name": "muon"}),
    ],
)
def test_a_frozen_backbone_keeps_every_bit(tmp_path: Path, data: str, settings: dict[str, object]) -> None:
    given = {"images": parts()["image"], "vectors": parts()["audio"], "parts": parts()}[data]
    chosen = {**SMALL, "encoder.frozen": True, **settings}
    model = fit(given, out=tmp_path / "run", settings=chosen, progress=False)
    items = open_items(given, size=SIZE, progress=False)
    start = Model.untrained(model.settings, items).embedder.state_dict()
    end = load(tmp_path / "run").embedder.state_dict()
    assert all(torch.equal(end[name], value) for name, value in start.items() if name.startswith("backbone."))
    assert any(not torch.equal(end[name], value) for name, value in start.items() if name.startswith("head."))


def test_frozen_weights_are_those_of_a_file(tmp_path: Path) -> None:
    images = parts()["image"]
    fit(images, out=tmp_path / "first", settings={**SMALL, "method": "simclr"}, progress=False)
    weights = {
        "encoder.weights": str(tmp_path / "first" / "model.safetensors"),
        "encoder.allow": ("head.*", "centre.*"),
    }
    chosen = {**SMALL, **weights, "encoder.frozen": True}
    model = fit(images, out=tmp_path / "second", settings=chosen, progress=False)
    first = load(tmp_path / "first")
    for name, value in first.embedder.backbone.state_dict().items():
        assert torch.equal(model.embedder.backbone.state_dict()[name], value), name
