"""Exported folders give the model's rows without likewise; a changed scale fails; what can't be exported is named."""

import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.utils import validate_repo_id
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import likewise as lw
from likewise.blocks import Blocks
from likewise.cli.main import main
from likewise.config.overrides import settings_from
from likewise.config.settings import EncoderSettings
from likewise.data import Items, open_items, read_image
from likewise.data.words import hashed
from likewise.encoders import ResNet, resnet18, resnet50
from likewise.encoders.embedder import Bottleneck
from likewise.errors import LikewiseError
from likewise.evaluation.scores import EVALUATION, save_scores
from likewise.exporting import formats, program, runtime
from likewise.exporting.card import _slug, python
from likewise.exporting.formats import FORMATS
from likewise.exporting.licences import header_of
from likewise.exporting.network import Network, inputs_of, split_inputs
from likewise.exporting.parity import largest_difference, sample_of
from likewise.exporting.plain import hash_words, read_picture
from likewise.exporting.program import traced
from likewise.exporting.runtime import runner, torch_runner
from likewise.methods import METHODS, over_method
from likewise.metrics import Score
from likewise.model import Layer, Model

RANDOM = np.random.default_rng(0)
WITHOUT_LIKEWISE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "likewise":
            raise ImportError("likewise can't be imported here")
sys.meta_path.insert(0, Refuse())
import os, numpy
for folder in sys.argv[1:]:
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.modules.pop("embed", None)
    names = {}
    exec(compile(open("card.py", encoding="utf-8").read(), "card.py", "exec"), names)
    numpy.save("rows.npy", names["rows"])
    sys.path.pop(0)
assert "likewise" not in sys.modules
"""


def model_of(items: Items, **encoder: Any) -> Model:
    """An untrained model whose BatchNorm has statistics that change something. "bottleneck" is a small ResNet-50."""
    small, backbone = {"widths": (8, 8, 16), "strides": (1, 2, 2), "stem_width": 8}, None
    if encoder.get("name") == "bottleneck":
        backbone = ResNet(Bottleneck, (1, 2, 1), stem=encoder["stem"], **small)
        encoder = {"stem": encoder["stem"]}
    settings = settings_from({f"encoder.{name}": value for name, value in encoder.items()})
    model = Model.untrained(settings, items, backbone=backbone)
    generator = torch.Generator().manual_seed(0)
    for layer in model.embedder.modules():
        if isinstance(layer, _BatchNorm):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
    model.embedder.eval()
    return model


@pytest.fixture(scope="module")
def images() -> Items:
    pixels = RANDOM.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    return open_items(pixels, size=32, progress=False)


@pytest.fixture(scope="module")
def vectors() -> Items:
    return open_items((5 + 3 * RANDOM.normal(size=(30, 6))).astype(np.float32), progress=False)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Items:
    """Items of three parts, each of which some items lack."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "photos").mkdir()
    for number in range(20):
        pixels = RANDOM.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"i{number}.png")
    sound = {"id": [f"i{number}" for number in range(5, 30)], **{name: RANDOM.normal(size=25) for name in "ab"}}
    pd.DataFrame(sound).to_csv(folder / "sound.csv", index=False)
    title = {"id": [f"i{number}" for number in range(2, 30)], "title": [f"red blue {n}" for n in range(28)]}
    pd.DataFrame(title).to_csv(folder / "title.csv", index=False)
    sources = {"photo": folder / "photos", "sound": folder / "sound.csv", "title": folder / "title.csv"}
    return open_items({name: str(path) for name, path in sources.items()}, size=32, words=16, progress=False)


@pytest.fixture(scope="module")
def exported(
    images: Items, vectors: Items, parts: Items, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Model, Layer, Path]]:
    """Folders of each format and of each kind of items, by name."""
    wanted: list[tuple[str, Items, Layer, dict[str, Any]]] = [
        ("onnx", images, "embedding", {"pixels": 0.3}),
        ("torch", images, "embedding", {"name": "resnet-fine", "head": "mlp-bn"}),
        ("safetensors", images, "embedding", {"pixels": 0.3, "head": "mlp"}),
        ("safetensors", images, "backbone", {"name": "bottleneck", "stem": "small"}),
        ("hf", images, "embedding", {"name": "resnet-small", "stem": "imagenet", "pixels": 0.3}),
        ("torch", vectors, "query", {"name": "mlp", "apart": True}),
        ("safetensors", vectors, "embedding", {"name": "mlp", "head": "none", "centre": False}),
        ("onnx", parts, "embedding", {"name": "towers", "fusion": "late"}),
        ("torch", parts, "backbone", {"name": "towers"}),
        ("safetensors", parts, "embedding", {"name": "towers", "fusion": "late", "head": "mlp-bn"}),
        ("safetensors", parts, "query", {"name": "towers", "apart": True}),
    ]
    folder, made = tmp_path_factory.mktemp("exported"), {}
    for to, items, layer, encoder in wanted:
        model = model_of(items, **encoder)
        name = f"{to}-{items.noun}-{layer}"
        done = lw.export(model, to=to, out=folder / name, layer=layer, data=items, progress=False)
        assert done.difference <= 1e-5
        assert f"on {len(items)} items of " in str(done)
        made[name] = (model, layer, done.folder)
    return made


def words_in(blocks: Blocks) -> list[str]:
    return [block.name for block in blocks if block.kind == "words"]


def test_the_python_of_a_card_gives_the_models_rows_where_likewise_is_not(
    exported: dict[str, tuple[Model, Layer, Path]], tmp_path: Path
) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(RANDOM.integers(0, 256, (45, 61, 3), dtype=np.uint8)).save(picture)
    for model, _, folder in exported.values():
        card = (folder / "README.md").read_text(encoding="utf-8")
        code = card.partition("```python\n")[2].partition("```")[0]
        assert code.strip() == python(model, FORMATS[folder.name.partition("-")[0]])
        (folder / "card.py").write_text(code, encoding="utf-8")
        (folder / "picture.png").write_bytes(picture.read_bytes())
    folders = [str(folder) for _, _, folder in exported.values()]
    here = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", WITHOUT_LIKEWISE, *folders], capture_output=True, text=True, env=here)
    assert done.returncode == 0, done.stderr
    pixels = read_image(picture, 32)
    for model, layer, folder in exported.values():
        items: Any = pixels[None]
        if model.kind == "vectors":
            items = np.zeros((1, 6 if not model.blocks else model.blocks[-1].stop + 1), np.float32)
        if model.blocks:
            photo, _, title = model.blocks
            items[0, photo.content] = pixels.reshape(-1)
            items[0, title.content] = hashed(["some words"], title.width)[0][0]
            items[0, [block.stop for block in model.blocks]] = 1
            items = Items(ids=("a",), values=items, kind="vectors", blocks=model.blocks)
        expected = model.embed(items, layer=layer, progress=False).rows.numpy()
        assert np.abs(np.load(folder / "rows.npy") - expected).max() <= 1e-5, folder.name


def test_a_folder_holds_the_files_of_its_format(exported: dict[str, tuple[Model, Layer, Path]]) -> None:
    for name, (_, _, folder) in exported.items():
        written = {file.name for file in folder.iterdir()} - {"card.py", "picture.png", "rows.npy", "__pycache__"}
        assert written == {"README.md", "embedding.json", *FORMATS[name.partition("-")[0]].files}, name
        assert len({file.stat().st_mode for file in folder.iterdir() if file.name in written}) == 1


@pytest.mark.parametrize("to", ["onnx", "torch", "safetensors"])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(
    to: str, images: Items, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(lw.LikewiseError, match=r"can't write .*/e: No space left on device; choose another --out\.$"):
        lw.export(model_of(images), to=to, out=tmp_path / "e", data=images, progress=False)
    assert not list(tmp_path.iterdir())


def test_weights_that_one_onnx_file_cant_hold_are_refused(images: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "LIMIT", 10_000)
    with pytest.raises(lw.LikewiseError, match=r"the weights have .* GB, and one ONNX file holds at most 2 GB; use"):
        program.as_onnx(Network(model_of(images)), (), {})


def test_a_card_says_what_the_folder_is(exported: dict[str, tuple[Model, Layer, Path]]) -> None:
    model, _, folder = exported["onnx-images-embedding"]
    _, header, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    about = yaml.safe_load(header)
    assert ModelCard((folder / "README.md").read_text(encoding="utf-8")).data.to_dict() == about
    assert about["license"] == "unknown"
    assert about["library_name"] == "onnx"
    assert about["pipeline_tag"] == "image-feature-extraction"
    for word in ("npid", "resnet-small", model.weights_hash, "hf upload USER/onnx-images-embedding .", "Not measured"):
        assert word in text, word
    stamp = json.loads((folder / "embedding.json").read_text(encoding="utf-8"))["stamp"]
    assert stamp["model"] == model.weights_hash


def test_the_header_of_a_card_is_one_that_the_hub_takes() -> None:
    assert header_of("Apache-2.0") == {"license": "apache-2.0"}
    assert header_of("Acme_1.0") == {"license": "other", "license_name": "acme-1.0"}
    for name in ("small--onnx", "Fotos für Oma..", "-a-", "x" * 200, "照片", "a_b.c"):
        validate_repo_id(f"USER/{_slug(name)}")
        assert re.fullmatch(r"[A-Za-z0-9._-]+", _slug(name))


def test_an_onnx_file_is_whole_and_takes_batches_of_any_size(
    exported: dict[str, tuple[Model, Layer, Path]], images: Items
) -> None:
    model, _, folder = exported["onnx-images-embedding"]
    assert {path.name for path in folder.iterdir()} >= {"model.onnx", "README.md", "embedding.json"}
    file = onnx.load(folder / "model.onnx", load_external_data=False)
    onnx.checker.check_model(file, full_check=True)
    assert not any(tensor.external_data for tensor in file.graph.initializer)
    assert {each.key: each.value for each in file.metadata_props}["model"] == model.weights_hash
    assert str(Path(lw.__file__).parent).encode() not in (folder / "model.onnx").read_bytes()
    run, pixels = FORMATS["onnx"].opened(folder), np.resize(images.values, (64, 32, 32, 3))
    rows = run(pixels)
    for count in (1, 2, 7, 64):
        np.testing.assert_allclose(run(pixels[:count]), rows[:count], atol=1e-6)
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-6


@pytest.mark.parametrize(("to", "field"), [("onnx", "mean"), ("torch", "std"), ("safetensors", "std")])
def test_another_scale_of_pictures_fails_and_leaves_nothing(
    to: str, field: str, images: Items, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(images)
    form = FORMATS[to]

    def tampered(model: Model, *rest: Any) -> None:
        views = model.settings.views
        values = getattr(views, field)
        other = replace(views, **{field: (values[0] + 0.002, *values[1:])})
        form.write(Model(model.embedder, replace(model.settings, views=other), kind="images"), *rest)

    monkeypatch.setitem(formats.FORMATS, to, replace(form, write=tampered))
    with pytest.raises(lw.LikewiseError, match=rf"--to {to} gives other rows than the model: they differ by up to"):
        lw.export(model, to=to, out=tmp_path / "out", data=images, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_changed_scale_in_the_description_is_seen(
    exported: dict[str, tuple[Model, Layer, Path]], images: Items, tmp_path: Path
) -> None:
    model, layer, folder = exported["safetensors-images-embedding"]
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    about = json.loads((tmp_path / "embedding.json").read_text(encoding="utf-8"))
    about["mean"][1] += 0.002
    (tmp_path / "embedding.json").write_text(json.dumps(about), encoding="utf-8")
    opened = FORMATS["safetensors"].opened
    assert largest_difference(model, opened(folder), images, layer) <= 1e-5
    assert largest_difference(model, opened(tmp_path), images, layer) > 1e-5


@pytest.mark.parametrize("kind", ["png", "jpeg", "cmyk", "alpha", "palette", "grey", "turned"])
def test_the_cards_picture_is_likewises(kind: str, tmp_path: Path) -> None:
    y, x = np.mgrid[0:301, 0:403]
    waves = [127 + 120 * np.sin(x / 17 + k) * np.cos(y / 23 - k) for k in range(3)]
    image = Image.fromarray(np.stack(waves, 2).astype(np.uint8))
    path = tmp_path / ("a.jpg" if kind in ("jpeg", "turned", "cmyk") else "a.png")
    if kind == "alpha":
        image.putalpha(Image.fromarray(((x + y) % 256).astype(np.uint8)))
    image = image.convert({"palette": "P", "grey": "L", "cmyk": "CMYK"}.get(kind, image.mode))
    exif = Image.Exif()
    exif[0x0112] = 6 if kind == "turned" else 1
    image.save(path, exif=exif)
    for size in (24, 45, 100, 301):  # of a JPEG, a quarter, 3/8 if that were not left out, a half and the whole
        np.testing.assert_array_equal(read_picture(str(path), size), read_image(path, size))


def test_the_cards_picture_is_refused_where_it_would_be_another(tmp_path: Path) -> None:
    for number, pixels in enumerate((np.full((9, 9), 40000, np.uint16), np.full((9, 9), 0.5, np.float32))):
        path = tmp_path / f"{number}.tif"
        Image.fromarray(pixels).save(path)
        with pytest.raises(ValueError, match="has more than 8 bits for each colour; bring it to 8 bits first"):
            read_picture(str(path), 9)


def test_the_cards_words_are_likewises() -> None:
    texts: list[Any] = ["Crème brûlée, 2 x", "Cre\u0301me", ["a b", " c "], "the the a"]
    rows, _, _ = hashed(texts, 32)
    for text, row in zip(texts, rows, strict=True):
        np.testing.assert_allclose(hash_words(text, 32), row, atol=1e-7)


@pytest.mark.parametrize("installed", [True, False])
def test_the_runner_gives_the_models_rows(
    installed: bool, vectors: Items, parts: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = vectors if installed else parts
    model = model_of(items, name="mlp" if installed else "towers")
    before = {name: value.clone() for name, value in model.embedder.state_dict().items()}
    if not installed:
        monkeypatch.setattr(runtime, "NEEDED", ("no_such_package",))
    run = runner(model)
    assert largest_difference(model, run, items, "embedding") <= 1e-5
    one = run(*(each[:1].numpy() for each in split_inputs(items.batch([3, 4]), items.blocks)))
    assert one.shape == (1, 128)
    for name, value in model.embedder.state_dict().items():
        assert torch.equal(value, before[name])


def test_vectors_that_are_far_from_the_training_have_no_row(vectors: Items, tmp_path: Path) -> None:
    model = model_of(vectors, name="mlp")
    width = vectors.values.shape[1]
    good = np.asarray(vectors.values[:1])
    run = runner(model)
    folders = {to: lw.export(model, to=to, out=tmp_path / to, progress=False).folder for to in ("torch", "safetensors")}
    readers = [FORMATS[to].opened(folder) for to, folder in folders.items()]
    for number in (1e20, 1e30, 3e38, np.inf, np.nan):
        batch = np.concatenate((good, np.full((1, width), number, np.float32)))
        for read in readers:
            rows = read(batch)
            assert np.isnan(rows[1]).all()
            np.testing.assert_allclose(rows[:1], run(good), atol=1e-5)
        with pytest.raises(LikewiseError, match="item 1 of the batch has no finite row"):
            run(batch)


DEFAULTS = {name: over_method({"method": name}) for name in METHODS}
ENCODERS = {settings.encoder: name for name, settings in DEFAULTS.items() if not settings.of_words}


@pytest.mark.parametrize("encoder", ENCODERS, ids=ENCODERS.values())
def test_the_encoder_of_every_method_is_exported(encoder: EncoderSettings, images: Items, parts: Items) -> None:
    items = parts if encoder.name == "towers" else images
    model = model_of(items, **{field.name: getattr(encoder, field.name) for field in fields(encoder)})
    graph = traced(Network(model), inputs_of(model))
    assert largest_difference(model, torch_runner(graph.module()), items, "embedding") <= 1e-5


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


class Own(nn.Module):
    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first, self.middle = nn.Conv2d(3, 4, 4, 4), middle

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.middle(self.first(x)).mean((2, 3))
        return y


def test_a_backbone_of_ones_own_is_exported_from_python(images: Items, tmp_path: Path) -> None:
    model = Model.untrained(settings_from({}), images, backbone=Own(nn.ReLU()))
    assert lw.export(model, to="torch", out=tmp_path / "a", data=images, progress=False).difference < 1e-5
    with pytest.raises(
        lw.LikewiseError, match=r"'backbone' \(Own\) is built by code of its own.*; use --to onnx or torch\.$"
    ):
        lw.export(model, to="safetensors", out=tmp_path / "b", data=images, progress=False)


def test_a_layer_that_cant_be_exported_is_named(images: Items, tmp_path: Path) -> None:
    model = Model.untrained(settings_from({}), images, backbone=Own(nn.Sequential(nn.ReLU(), Branching())))
    with pytest.raises(lw.LikewiseError, match=r"layer 'backbone\.middle\.1', a Branching, can't be exported: "):
        lw.export(model, out=tmp_path / "a", data=images, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("to", "name", "stem", "refused"),
    [
        ("hf", "mlp", "small", "layer 'backbone' (MLP) has no counterpart in transformers; use --to onnx, torch or"),
        ("hf", "resnet-small", "small", "layer 'backbone.conv1', 4 × 4 with stride 4, has no place in the ResNet of"),
        (
            "timm",
            "resnet18",
            "small",
            "layer 'backbone.conv1', 3 × 3 with stride 1, has no place in the ResNet of timm",
        ),
        ("timm", "resnet-small", "imagenet", "layer 'backbone' has 3 stages of 1, 1, 1 blocks, and timm has no such"),
        ("timm", "resnet18", "imagenet", ""),
        ("hf", "bottleneck", "imagenet", ""),
    ],
)
def test_only_what_a_library_has_is_exported_for_it(
    to: str,
    name: str,
    stem: str,
    refused: str,
    images: Items,
    vectors: Items,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = ModuleType("timm")  # a stand-in, for timm needs torchvision; it loads as timm does, by torchvision's names
    vars(module)["create_model"] = loaded_as_timm
    monkeypatch.setitem(sys.modules, "timm", module)
    items = vectors if name == "mlp" else images
    model = model_of(items, name=name, stem=stem)
    if refused:
        with pytest.raises(lw.LikewiseError, match=re.escape(refused)):
            lw.export(model, to=to, out=tmp_path / "e", data=items, progress=False)
        assert not list(tmp_path.iterdir())
    else:
        assert lw.export(model, to=to, out=tmp_path / "e", data=items, progress=False).difference < 1e-5
        assert {"config.json", "model.safetensors", "head.safetensors"} <= {p.name for p in (tmp_path / "e").iterdir()}


def loaded_as_timm(name: str, *, pretrained: bool, num_classes: int) -> nn.Module:
    """What ``timm.create_model`` gives for a local folder."""
    folder = Path(name.removeprefix("local-dir:"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (pretrained, num_classes, config["num_classes"]) == (True, 0, 0)
    network = {"resnet18": resnet18, "resnet50": resnet50}[config["architecture"]]("imagenet")
    assert config["num_features"] == network.feature_dim
    assert config["pretrained_cfg"]["mean"] == [0.485, 0.456, 0.406]
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network


def test_the_processor_of_transformers_gives_what_likewise_gives(
    exported: dict[str, tuple[Model, Layer, Path]], images: Items
) -> None:
    model, _, folder = exported["hf-images-embedding"]
    import transformers

    pixels = images.batch([0, 1])
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    found = processor([Image.fromarray(each.numpy()) for each in pixels], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(found, model.prepare(pixels), atol=1e-5, rtol=0)


def test_generated_items_are_said_to_be(vectors: Items) -> None:
    sample = sample_of(model_of(vectors, name="mlp"))
    assert sample.what == "222 generated items"
    assert sample.why == "the model has no run folder"


@pytest.fixture(scope="module")
def run(images: Items, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose training items are a file."""
    folder = tmp_path_factory.mktemp("run")
    np.save(folder / "items.npy", images.values)
    lw.fit(str(folder / "items.npy"), out=folder / "m", settings=settings_from({"epochs": 1, "knn_epochs": 0}))
    return folder / "m"


def test_the_command_compares_on_the_training_items(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = lw.load(run)
    protocol = {**model.protocol("embedding"), "train": "items.npy", "train_path": "/home/me/items.npy"}
    save_scores(run / EVALUATION, [Score(name="learned/knn", value=0.75, std=None, protocol=protocol)])
    words = ["export", str(run), "--to", "safetensors", "--out", str(tmp_path / "e"), "--license", "cc-by-4.0"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "on 30 items of " in out
    card = (tmp_path / "e" / "README.md").read_text(encoding="utf-8")
    assert "| weighted kNN, all labels | 75.0 |" in card
    assert '"train": "items.npy"' in card
    assert "/home/me" not in card
    assert 'license: "cc-by-4.0"' in card
    assert "| items | 30 |" in card
    assert main(words) == 0  # an export is replaced
    save_scores(run / EVALUATION, [Score(name="learned/knn", value=0.75, protocol={**protocol, "model": "other"})])
    assert main([*words[:-3], str(tmp_path / "f")]) == 2
    assert "was made with another model than the run has now" in capsys.readouterr().err
    (run / EVALUATION).unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--to", "onxx"],
            "--to onxx is no format. Did you mean 'onnx'? It must be onnx, torch, safetensors, hf, timm.",
        ),
        (["--to", "word2vec"], "--to word2vec is for runs of words"),
        (["--layer", "query"], "this model has no layer 'query'; its layers are embedding, backbone."),
        (["--licence", "a b"], "--licence 'a b' is no identifier; write one such as apache-2.0"),
        (["--key", "id"], "--key, --image and --columns need --data"),
        (["--data", "nowhere"], "nowhere does not exist"),
    ],
)
def test_mistakes_get_a_sentence(
    words: list[str], sentence: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "--out", str(tmp_path / "e"), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_other_files_and_missing_packages_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert main(["export", str(run), "--out", str(tmp_path / "mine")]) == 2
    assert (
        "mine holds what no export wrote, such as 'thesis.txt'; name a new folder with --out."
        in capsys.readouterr().err
    )
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", str(run), "--out", str(tmp_path / "e")]) == 2
    assert "needs onnxscript, which is not installed: pip install 'likewise[export]'." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
