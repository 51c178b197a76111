"""The recipe: what pictures are like, and the settings that follow, without labels and under what the user sets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from likewise.config.overrides import dotted, flatten, settings_from
from likewise.data import Items
from likewise.methods import over_method
from likewise.model import Model, load
from likewise.training.fit import fit
from likewise.training.recipe import wants_recipe, with_recipe
from likewise.training.run_folder import read_config
from likewise.training.signs import Agreement, agreement
from likewise.training.traits import traits_of


def pictures(kind: str, n: int = 60, size: int = 16) -> Items:
    """Smooth random colours, as photos have; or bent strokes on white, all of which open to the right."""
    random = np.random.default_rng(0)
    if kind == "photos":
        coarse = random.uniform(0, 255, size=(n, 5, 5, 3))
        places = np.linspace(0, 3.999, size)
        low, share = places.astype(int), (places % 1)[:, None]
        down = coarse[:, low] * (1 - share[..., None]) + coarse[:, low + 1] * share[..., None]
        values = down[:, :, low] * (1 - share) + down[:, :, low + 1] * share
        values += random.normal(0, 6, size=values.shape)
    else:
        values = np.full((n, size, size, 3), 255.0)
        for row, picture in enumerate(values):
            top, height = random.integers(0, 4), random.integers(8, 12)
            picture[top : top + height, 3:5] = picture[top : top + 2, 3:13] = 20 * (row % 3)
    return Items(ids=tuple(map(str, range(n))), values=values.clip(0, 255).astype(np.uint8), kind="images", source=kind)


def test_traits_tell_drawings_from_photos_and_one_side_from_two() -> None:
    photos, drawings = traits_of(pictures("photos")), traits_of(pictures("drawings"))
    assert (photos.drawn, photos.grey, photos.two_sided) == (False, False, True)
    assert (drawings.drawn, drawings.grey, drawings.two_sided) == (True, True, False)
    assert drawings.copies > 0.5 > photos.copies
    assert "mirror images are not at home among them" in drawings.line()


def test_the_recipe_follows_the_traits_and_says_why() -> None:
    base = settings_from({"minutes": 3.0})
    photos = with_recipe(base, pictures("photos"), ["minutes"])
    drawings = with_recipe(base, pictures("drawings"), ["minutes"])
    assert (photos.settings.views.flip, photos.settings.views.crop_scale) == (0.5, (0.2, 1.0))
    assert (drawings.settings.views.flip, drawings.settings.views.crop_scale) == (0.0, (0.6, 1.0))
    assert (drawings.settings.views.hue, drawings.settings.views.grayscale) == (0.0, 0.0)
    assert (photos.settings.views.deform, drawings.settings.views.deform) == (0.0, 0.1)
    assert (photos.settings.encoder.pixels, drawings.settings.encoder.pixels) == (0.2, 0.2)
    assert {photos.settings.method, drawings.settings.method} == {"simclr"}
    assert (photos.settings.encoder.name, photos.settings.views.small_until) == ("resnet-fine", 1.0)
    assert (drawings.settings.encoder.name, drawings.settings.views.small_until) == ("resnet-small", 0.0)
    assert photos.settings.minutes == 3.0
    said = "\n".join(drawings.notes)
    assert "recipe: views.flip=0.0: a mirror image is another thing." in said
    assert "recipe: views.crop_scale=0.6,1.0: " in said


def test_coloured_drawings_differ_more_in_a_long_training() -> None:
    grey = pictures("drawings")
    coloured = replace(grey, values=grey.values * np.array([1, 1, 0], np.uint8))
    for items, minutes, wanted in (
        (coloured, 0.2, ((0.8, 1.0), 0.03)),
        (coloured, 0.4, ((0.5, 1.0), 0.08)),  # of 60 items: more than 0.3 seconds for each
        (grey, 0.4, ((0.6, 1.0), 0.1)),
    ):
        views = with_recipe(settings_from({"minutes": minutes}), items, ["minutes"]).settings.views
        assert (views.crop_scale, views.deform) == wanted


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"views.flip": 0.25}, {"views.flip": 0.25}),
        ({"views": {"flip": 0.25}, "batch_size": 32}, {"views.flip": 0.25, "batch_size": 32}),
        ({"method": "npid"}, {"method": "npid", "objective.kind": "auto", "optim.lr": 0.03, "batch_size": 128}),
        ({"objective": "circle", "dictionary": "batch"}, {"objective.kind": "circle", "method": "npid"}),
        ({"objective.temperature": 0.3}, {"method": "simclr", "objective.temperature": 0.3}),
        ({"optim.lr": 0.05}, {"optim.name": "muon", "optim.lr": 0.05}),
        ({"optim.name": "sgd"}, {"optim.name": "sgd", "optim.lr": 0.12, "optim.momentum": 0.9}),
    ],
)
def test_what_the_user_sets_stays(asked: dict[str, Any], kept: dict[str, Any]) -> None:
    settings = over_method({**asked, "minutes": 3.0})
    found = flatten(with_recipe(settings, pictures("drawings"), dotted({**asked, "minutes": 3.0})).settings)
    assert {name: found[name] for name in kept} == kept
    assert found["views.grayscale"] == 0.0


def test_the_grid_follows_the_size_and_the_encoder() -> None:
    photos = pictures("photos")
    for asked, own, wanted in (
        ({}, False, ("resnet-fine", 1.0)),
        ({"size": 96}, False, ("resnet-small", 0.7)),
        ({"size": 16}, False, ("resnet-small", 0.0)),
        ({"encoder.name": "resnet18"}, False, ("resnet18", 0.7)),
        ({"encoder.name": "timm:vit_tiny"}, False, ("timm:vit_tiny", 0.0)),
        ({}, True, ("resnet-small", 0.0)),  # the user's own backbone may take one size alone
    ):
        base = settings_from({**asked, "minutes": 3.0})
        found = with_recipe(base, photos, [*asked, "minutes"], own=own).settings
        assert (found.encoder.name, found.views.small_until) == wanted, asked


def test_vectors_get_an_encoder_for_vectors() -> None:
    items = Items(ids=("a", "b"), values=np.zeros((2, 3), np.float32), kind="vectors", source="v")
    assert with_recipe(settings_from({"minutes": 3.0}), items, ["minutes"]).settings.encoder.name == "mlp"


def test_no_label_is_read() -> None:
    items = pictures("drawings")
    settings = settings_from({"minutes": 3.0})
    labelled = [
        replace(items, labels=np.arange(60) % number, label_names=tuple(map(str, range(number)))) for number in (2, 30)
    ]
    found = [with_recipe(settings, each, ["minutes"]) for each in (items, *labelled)]
    assert found[0] == found[1] == found[2]


def test_epochs_keep_the_papers_recipe_and_minutes_take_that_of_the_items() -> None:
    for given, wanted in (
        ({"epochs": 3}, False),
        ({"minutes": 3.0}, True),
        ({"minutes": 3.0, "recipe": "paper"}, False),
        ({"epochs": 3, "recipe": "data"}, True),
    ):
        assert wants_recipe(settings_from(given)) == wanted


def test_the_sign_without_labels_tells_an_encoder_from_none() -> None:
    """An encoder that sees the picture finds it again; one that gives all the same row is worse than the pixels."""
    items, settings = (
        pictures("photos"),
        settings_from({"size": 16, "encoder.head_hidden": 8, "views.crop_scale": [0.5, 1.0]}),
    )
    model = Model.untrained(settings, items)
    found = agreement(model, items)
    assert found == agreement(model, items)
    assert 0 < found.raw <= 1
    for parameter in model.embedder.parameters():
        nn.init.zeros_(parameter)
    blind = agreement(model, items)
    assert (blind.raw, round(60 * blind.learned)) == (found.raw, 1)
    assert "the embedding is worse than no training" in blind.line()
    assert Agreement(0.9, 0.4).line() == (
        "without labels: a view finds the other view of its item for 90% of the items, by raw values 40%."
    )


def test_fit_writes_the_recipe_into_the_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"epochs": 1, "recipe": "data", "size": 16, "batch_size": 16, "encoder.head_hidden": 8, "encoder.dim": 4}
    model = fit(pictures("drawings"), out=tmp_path / "r", settings=more)
    said = capsys.readouterr().err
    assert "the items are grey drawings" in said
    saved = read_config(tmp_path / "r")
    assert (saved.method, saved.views.flip, saved.batch_size, saved.encoder.dim) == ("simclr", 0.0, 16, 4)
    rows = load(tmp_path / "r").features(pictures("drawings"))
    assert rows.shape == (60, 8)  # 4 learned numbers and 4 of coarse pixels
    assert torch.allclose(rows, model.features(pictures("drawings")), atol=1e-5)
    fit(pictures("drawings"), out=tmp_path / "r", resume=True)  # a resumed run keeps its own
    assert read_config(tmp_path / "r") == saved
