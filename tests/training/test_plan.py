"""What timed steps choose: the size of the pictures and of the batches, by a made-up speed."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.model import Model
from likewise.training import plan as module
from likewise.training.batches import choose_sampler
from likewise.training.candidates import of_views
from likewise.training.decide import decide
from likewise.training.fit import fit
from likewise.training.pace import Pace
from likewise.training.plan import Plan, Trial, plan
from likewise.training.recipe import with_recipe
from likewise.training.run import Run
from likewise.training.run_folder import read_config

CPU = torch.device("cpu")
SMALL = {"threads": 1, "precision": "fp32", "encoder.head_hidden": 8, "encoder.dim": 4, "batch_size": 32}


def drawings(n: int = 64, side: int = 32) -> Items:
    """Black strokes on white."""
    random, values = np.random.default_rng(0), np.full((n, 16, 16, 3), 255, np.uint8)
    for row, picture in enumerate(values):
        top = random.integers(0, 5)
        picture[top : top + 9, 3:5] = picture[top : top + 2, 3:13] = 20 * (row % 3)
    values = values.repeat(side // 16, 1).repeat(side // 16, 2)
    return Items(ids=tuple(map(str, range(n))), values=values, kind="images", source="drawings")


def speed(monkeypatch: pytest.MonkeyPatch, each: float, per_step: float = 0.0) -> list[tuple[int, int]]:
    """Steps of pictures of 32 px take ``each`` seconds for an item, larger ones more. Returns what is timed."""
    seen = list[tuple[int, int]]()

    def measure(run: Run, choices: list[int], limit: float = 0.0) -> Pace:
        settings = run.model.settings
        seen.append((settings.size, settings.batch_size))
        assert run.items.values.shape[1] == settings.size
        return Pace(per_step + each * settings.batch_size * (settings.size / 32) ** 2, choices[0], {})

    monkeypatch.setattr(module, "measure_pace", measure)
    return seen


def planned(
    settings: FitSettings, sizes: tuple[int, ...] = (), batches: tuple[int, ...] = (), tries: bool = False
) -> Plan:
    items = drawings()
    settings = decide(settings, len(items))
    trial = Trial(items, None, choose_sampler(settings, items), CPU, None)
    asked = ("precision",)
    return plan(settings, trial, began=time.monotonic(), asked=asked, sizes=sizes, batches=batches, tries=tries)


@pytest.mark.parametrize(
    ("passes", "size", "timed", "said"),
    [
        (90, 64, [32, 48, 64], "size=64: of 32, 48, 64 the largest with time to see every item 20 times."),
        (60, 48, [32, 48, 64], "size=48: of 32, 48, 64 the largest with time to see every item 20 times."),
        (30, 32, [32, 48], "size=32: a larger size, such as 48, leaves no time to see every item 20 times."),
        (10, 32, [32], "size=32: a larger size, such as 48, leaves no time to see every item 20 times."),
    ],
)
def test_the_size_is_the_largest_with_enough_passes(
    monkeypatch: pytest.MonkeyPatch, passes: int, size: int, timed: list[int], said: str
) -> None:
    seen = speed(monkeypatch, 3000.0 / (64 * passes))
    found = planned(settings_from({**SMALL, "minutes": 50.0}), sizes=(48, 64))
    assert [each for each, _ in seen] == timed
    assert found.settings.size == size
    assert said in found.notes
    assert abs(found.total * 32 / 64 - passes / (size / 32) ** 2) < 2


@pytest.mark.parametrize(
    ("steps", "batch", "note"),
    [(300, 32, False), (120, 16, True), (20, 8, True)],
)
def test_batches_become_smaller_where_few_steps_fit(
    monkeypatch: pytest.MonkeyPatch, steps: int, batch: int, note: bool
) -> None:
    seen = speed(monkeypatch, 3000.0 / (32 * steps) * 0.9, 3000.0 / steps * 0.1)  # a small batch is less efficient
    found = planned(settings_from({**SMALL, "minutes": 50.0}), batches=(16, 8))
    assert seen == [(32, 32), (32, batch)][: 1 + note]
    assert found.settings.batch_size == batch
    assert any(line.startswith(f"batch_size={batch}: ") for line in found.notes) == note
    assert abs(found.total - steps / (0.1 + 0.9 * batch / 32)) < 2
    assert found.settings.epochs == -(-found.total * batch // 64)


def test_nothing_else_is_timed_where_the_user_has_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = speed(monkeypatch, 1e-3)
    assert planned(settings_from({**SMALL, "minutes": 5.0})).settings.size == 32
    assert seen == [(32, 32)]


def test_the_recipe_leaves_open_what_is_not_set() -> None:
    base, items = settings_from({"minutes": 3.0}), drawings()
    for side, sizes in ((100, (48, 64)), (50, (48,)), (28, ()), (0, ())):
        found = with_recipe(base, items, ["minutes"], side=side)
        assert (found.sizes, found.batches) == (sizes, (128, 64))
        assert ("size=32: the pictures have 28 px themselves." in found.notes) == (side == 28)
    for name in ("size", "encoder.name", "method"):
        assert not with_recipe(base, items, ["minutes", name], side=100).sizes
    for name in ("batch_size", "method"):
        assert not with_recipe(base, items, ["minutes", name]).batches
    assert not with_recipe(base, items, ["minutes"], own=True, side=100).sizes


def test_of_tiny_coloured_drawings_every_pixel_is_kept() -> None:
    grey = drawings()
    coloured = replace(grey, values=grey.values * np.array([1, 1, 0], np.uint8))
    for items, side, dim in ((coloured, 16, 768), (coloured, 17, 256), (coloured, 0, 256), (grey, 16, 128)):
        assert with_recipe(settings_from({"minutes": 3.0}), items, ["minutes"], side=side).settings.encoder.dim == dim


@pytest.mark.parametrize(("side", "size"), [(64, 64), (48, 48), (16, 32)])
def test_pictures_are_opened_again_at_the_chosen_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], side: int, size: int
) -> None:
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "pictures").mkdir()
    for row, picture in enumerate(drawings(32, side).values):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{row}.png")
    speed(monkeypatch, 1e-6)
    monkeypatch.setattr(module, "PASSES", 0)
    monkeypatch.setattr(module, "TRY", 0.0)
    settings = {**SMALL, "minutes": 0.01}
    model = fit(tmp_path / "pictures", out=tmp_path / "r", settings=settings)
    assert model.settings.size == read_config(tmp_path / "r").size == size
    assert len(model.features(model.open(tmp_path / "pictures", progress=False))) == 32
    said = capsys.readouterr().err
    assert ("size=32: the pictures have 16 px themselves." in said) == (side == 16)
    fit(tmp_path / "pictures", out=tmp_path / "r", resume=True, progress=False)


def test_other_views_are_tried_where_enough_steps_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = list[tuple[int, int]]()

    def trained(run: Run, name: str, limit: float, *, progress: bool) -> Model | None:
        steps.append((run.session.total, run.model.settings.batch_size))
        return run.model if quick else None

    monkeypatch.setattr(module, "trained", trained)
    monkeypatch.setattr(module, "best_of", lambda found, models, items, device: (found[2].settings, ["taken: one."]))
    quick, settings = True, settings_from({**SMALL, "minutes": 50.0, "batch_size": 64, "views.small_until": 0.7})
    speed(monkeypatch, 3000.0 / (64 * 4000))  # 4,000 steps fit, so that each try has 160
    found = planned(settings, tries=True)
    assert steps == [(160, 64)] * 3
    assert "taken: one." in found.notes
    assert found.settings.views == replace(of_views(settings, ["precision"])[2].settings.views, small_until=0.7)
    steps.clear()
    quick = False
    slow = planned(settings, tries=True)
    assert (slow.settings.views, len(steps)) == (settings.views, 1)
    assert "other views are not compared: their steps take twice as long as those that were timed." in slow.notes
    steps.clear()
    speed(monkeypatch, 3000.0 / (64 * 2000))
    assert planned(settings, tries=True).settings.views == settings.views
    assert not steps
