"""Files that version 0.1.0 wrote before settings carried a kind and its own parameters: they still mean the same.

``older/*.yaml`` are its config.yaml files; ``older/stopped`` is a run that was stopped at step 6 of 9, and
``older/whole`` what the same training ended with when it was not.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import likewise as lw
from likewise.config.checks import check
from likewise.config.overrides import as_dict, flatten, settings_from
from likewise.config.yaml_file import read_settings_file
from likewise.methods import METHODS
from likewise.training.decide import decide
from likewise.training.fit import fit

OLDER = Path(__file__).parent / "older"
MEANT: dict[str, dict[str, Any]] = {
    "npid": {"objective.kind": "auto", "objective.temperature": 0.07, "objective.noise": 4096, "bank.momentum": 0.5},
    "softmax": {"objective.kind": "nonparametric-softmax", "objective.temperature": 0.3, "objective.proximal": 0.5},
    "nce": {
        **{"objective.kind": "nce", "objective.noise": 64, "objective.draw": "per-example", "objective.log_z": "first"},
        **{"objective.log_z_decay": 0.9, "objective.positive_in_noise": False, "objective.temperature": 0.07},
    },
    "parametric": {"objective.kind": "parametric-softmax", "objective.scale": 10.0},
    "moco-symmetric": {"objective.kind": "infonce", "objective.temperature": 0.1, "loss_weight": 2.0},
    "simclr-repo": {"objective.kind": "infonce", "objective.temperature": 0.5, "loss_weight": 2.0},
    "circle": {"objective.kind": "circle", "objective.gamma": 128.0, "objective.margin": 0.4},
    "contrastive": {"objective.kind": "contrastive", "objective.negative_margin": 0.7},
    "margin": {
        **{"objective.kind": "margin", "objective.alpha": 0.2, "negatives.count": 3, "negatives.least": 0.4},
        **{"negatives.policies": ("distance-weighted",), "negatives.most": 1.4},
    },
    "facenet": {
        **{"objective.kind": "triplet", "objective.margin": 0.25, "negatives.margin": 0.3},
        **{"negatives.policies": ("inside-margin", "hard"), "negatives.at": (5.0,)},
    },
    "lifted": {"objective.kind": "lifted-structure", "objective.margin": 1.0},
    "ms": {"objective.kind": "multi-similarity", "negatives.epsilon": 0.2},
    "arcface": {"objective.kind": "arcface", "objective.scale": 32.0, "objective.margin": 0.5},
    "cosface": {"objective.kind": "am-softmax", "objective.scale": 64.0, "objective.margin": 0.35},
    "sphereface": {"objective.kind": "a-softmax", "objective.margin": 3, "objective.mix": 5.0},
    "l2": {"objective.kind": "l2-softmax", "objective.alpha": 12.0},
    "class-softmax": {"objective.kind": "softmax", "objective.bias": False},
    "circle-class": {"objective.kind": "circle-classifier", "objective.gamma": 64.0, "objective.margin": 0.2},
}


@pytest.mark.parametrize("name", MEANT)
def test_an_older_file_means_the_same(name: str) -> None:
    settings = check(settings_from(read_settings_file(OLDER / f"{name}.yaml")))
    decided = decide(settings, 100_000)
    known = flatten(settings) if settings.objective.kind == "auto" else flatten(decided)
    assert {setting: known.get(setting) for setting in MEANT[name]} == MEANT[name]
    assert decide(settings_from(as_dict(decided)), 5) == decided  # and what is written now is read as it is
    if name in METHODS:  # the other settings are the method's, as they were
        mine, today = flatten(decided), flatten(decide(METHODS[name].settings, 100_000))
        others = [each for each in today if not each.startswith(("objective.", "negatives."))]
        assert {each: mine[each] for each in others} == {each: today[each] for each in others}


@pytest.mark.parametrize(
    ("name", "line", "other"),
    [
        ("circle", "  kind: circle\n", "  other: 1\n"),
        ("circle", "kind: circle", "kind: null"),
        ("circle", "kind: circle", "kind: [circle]"),
        ("parametric", "temperature: 0.1", "temperature: 0"),
        ("facenet", "  - inside-margin\n  - hard\n", ""),
    ],
)
def test_an_older_file_that_was_damaged_is_one_sentence(name: str, line: str, other: str, tmp_path: Path) -> None:
    text = (OLDER / f"{name}.yaml").read_text()
    assert line in text
    (tmp_path / "edited.yaml").write_text(text.replace(line, other))
    with pytest.raises(lw.LikewiseError, match=r"version 0\.1\.0's"):
        settings_from(read_settings_file(tmp_path / "edited.yaml"))


def test_every_older_file_is_looked_at() -> None:
    assert sorted(MEANT) == sorted(path.stem for path in OLDER.glob("*.yaml"))


def test_an_older_run_goes_on_bit_for_bit_and_an_older_model_loads(tmp_path: Path) -> None:
    shutil.copytree(OLDER / "stopped", tmp_path / "run")
    fit(str(OLDER / "rows.npy"), out=tmp_path / "run", resume=True, progress=False)
    mine, whole = (load_file(folder / "model.safetensors") for folder in (tmp_path / "run", OLDER / "whole"))
    assert mine.keys() == whole.keys()
    assert all(mine[name].equal(whole[name]) for name in whole)
    model = lw.load(OLDER / "whole")
    assert model.settings.objective.parameters["noise"] == 6
    assert model.embed(str(OLDER / "rows.npy"), progress=False).rows.shape == (24, 4)


def test_an_older_file_whose_negatives_are_one_name() -> None:
    values = read_settings_file(OLDER / "circle.yaml") | {"negatives": "hard"}
    assert settings_from(values).negatives.policies == ("hard",)
