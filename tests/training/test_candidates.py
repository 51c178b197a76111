"""Other views are tried in short trainings, and compared by signs that need no label."""

import pytest
import torch
from torch import nn

from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.model import Model
from likewise.training import candidates as module
from likewise.training.candidates import OWN, Candidate, best_of, choose, of_views, trained
from likewise.training.decide import decide
from likewise.training.run import begin
from likewise.training.signs import Signs, signs_of

CPU = torch.device("cpu")
SMALL = {"size": 16, "encoder.head_hidden": 8, "encoder.dim": 4, "batch_size": 16, "views.crop_scale": [0.8, 1.0]}


def pictures(n: int = 40) -> Items:
    values = torch.randint(0, 256, (n, 4, 4, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    large = values.repeat_interleave(4, 1).repeat_interleave(4, 2).numpy()
    return Items(ids=tuple(map(str, range(n))), values=large, kind="images", source="pictures")


def untrained(settings: FitSettings, items: Items) -> Model:
    torch.manual_seed(0)
    return Model.untrained(settings, items, backbone=nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8)))


def test_views_are_milder_and_stronger_but_for_what_is_asked() -> None:
    settings = settings_from({"views.crop_scale": [0.6, 1.0], "views.rotation": 10.0, "views.hue": 0.0})
    names, found = zip(*of_views(settings, ["minutes"]), strict=True)
    assert names == (OWN, "milder views", "stronger views")
    assert [each.views.crop_scale[0] for each in found] == pytest.approx([0.6, 0.8, 0.32])
    assert [each.views.rotation for each in found] == pytest.approx([10, 5, 17])
    assert [(each.views.hue, each.views.flip) for each in found] == [(0.0, 0.5)] * 3
    assert of_views(settings_from({"views.crop_scale": [0.3, 0.9]}), [])[2].settings.views.crop_scale == (0.08, 0.9)
    kept = of_views(settings, ["views.rotation"])[1].settings.views
    assert (kept.rotation, kept.brightness) == (10.0, 0.2)
    assert of_views(settings, ["views"]) == [Candidate(OWN, settings)]


def test_signs_look_at_the_views_of_all_and_tell_a_blind_embedding() -> None:
    items, settings = pictures(), settings_from(SMALL)
    sees, blind = untrained(settings, items), untrained(settings, items)
    for parameter in blind.embedder.parameters():
        nn.init.zeros_(parameter)
    stronger = untrained(of_views(settings, [])[2].settings, items)
    none, one, other = signs_of([blind, sees, stronger], items)
    assert none.agreement < 0.1 < one.agreement
    assert one == signs_of([blind, sees, stronger], items)[1]
    assert one == other  # the weights are the same, and each sees the views of both
    assert signs_of([sees], items)[0] != one


@pytest.mark.parametrize(
    ("signs", "place"),
    [
        ([(0.5, 20.0), (0.4, 30.0), (0.3, 40.0)], 0),
        ([(0.5, 20.0), (0.52, 20.0), (0.3, 40.0)], 0),  # hardly more
        ([(0.5, 20.0), (0.6, 19.0), (0.7, 18.0)], 2),
        ([(0.5, 20.0), (0.6, 19.0), (0.7, 2.0)], 1),  # the last one has collapsed
        ([(0.5, 20.0), (float("nan"), 20.0)], 0),
    ],
)
def test_another_is_taken_where_it_agrees_clearly_more(signs: list[tuple[float, float]], place: int) -> None:
    assert choose([Signs(*each) for each in signs]) == place


def test_what_is_taken_is_said_with_the_signs_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    items, settings = pictures(), decide(settings_from(SMALL), 40)
    candidates = of_views(settings, ["minutes"])
    runs = [begin(untrained(each.settings, items), items, 12, CPU) for each in candidates]
    models = [trained(run, "views", 100.0, progress=False) for run in runs]
    assert [run.session.step for run in runs] == [12] * 3
    late = begin(untrained(settings, items), items, 12, CPU)
    assert (trained(late, "views", 0.0, progress=False), late.session.step) == (None, 10)
    assert [model.settings for model in models] == [each.settings for each in candidates]
    fixed = [Signs(0.3, 9.0), Signs(0.5, 8.0), Signs(0.2, 9.0)]
    monkeypatch.setattr(module, "signs_of", lambda models, items: fixed)
    taken, lines = best_of(candidates, models, items, CPU)
    assert taken == candidates[1].settings
    assert lines[0] == f"tried: {OWN}: 30.0% of the views find their item, effective rank 9.0."
    assert lines[-1].startswith("taken: milder views: ")
