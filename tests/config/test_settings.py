"""Settings: they survive YAML, a misspelt or impossible one is refused in one sentence, and each is documented."""

import json
import re
from dataclasses import FrozenInstanceError, asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from likewise.cli.main import main
from likewise.cli.parser import build_parser
from likewise.config.checks import check, decide
from likewise.config.overrides import flatten, settings_from
from likewise.config.settings import (
    BankSettings,
    EncoderSettings,
    FitSettings,
    NegativeSettings,
    ObjectiveSettings,
    OptimSettings,
    SamplerSettings,
    ViewSettings,
)
from likewise.errors import LikewiseError, closest
from likewise.evaluation.classify import Protocol
from likewise.methods import METHODS
from likewise.training.fit import fit
from likewise.training.run_folder import CONFIG, read_config, write_config

CLASSES = (
    *(ViewSettings, EncoderSettings, ObjectiveSettings, BankSettings, NegativeSettings, SamplerSettings),
    *(OptimSettings, FitSettings),
)
NAMES = tuple(flatten(FitSettings()))


def other_value(name: str, value: Any) -> Any:
    """A value of the right type that is not the default."""
    owner, _, leaf = name.rpartition(".")
    kind = get_type_hints(type(vars(FitSettings())[owner]) if owner else FitSettings)[leaf]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value / 2 + 0.125 if isinstance(value, float) else value + 3
    if value is None and float in get_args(kind):
        return 0.375
    if value == () and float in get_args(kind):
        return (1.5, 1 / 3)
    if isinstance(value, tuple):
        return (0.1 + 0.2, 1 / 3) if len(value) == 2 else tuple(value[:1]) * 3 if value else ("fc.*", "head.?")
    choices = [choice for choice in get_args(kind) if isinstance(choice, str) and choice != value]
    return choices[-1] if choices else f"it's: a {leaf} # é"


def everything_changed() -> FitSettings:
    return settings_from({name: other_value(name, value) for name, value in flatten(FitSettings()).items()})


# Round trips


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_survives_yaml(name: str, tmp_path: Path) -> None:
    value = other_value(name, flatten(FitSettings())[name])
    settings = settings_from({name: value})
    assert flatten(settings)[name] == value != flatten(FitSettings())[name]
    assert {key for key in NAMES if flatten(settings)[key] != flatten(FitSettings())[key]} == {name}
    write_config(tmp_path, settings)
    assert read_config(tmp_path) == settings


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_defaults_of_every_method_are_usable_and_survive(name: str, tmp_path: Path) -> None:
    settings = METHODS[name].settings
    assert settings.method == name
    assert check(settings) is settings
    write_config(tmp_path, settings)
    assert read_config(tmp_path) == settings


def test_dotted_nested_and_whole_settings_are_the_same_thing() -> None:
    whole = replace(FitSettings(), epochs=5, views=ViewSettings(flip=0.0), optim=OptimSettings(lr=0.1, warmup=0.5))
    assert settings_from({"epochs": 5, "views.flip": 0, "optim": {"lr": 0.1, "warmup": 0.5}}) == whole
    assert settings_from({"epochs": 5, "views": ViewSettings(flip=0.0), "optim.lr": 0.1, "optim.warmup": 0.5}) == whole
    assert settings_from(flatten(whole)) == whole
    assert settings_from(asdict(whole)) == whole
    assert settings_from(json.loads(json.dumps(asdict(whole)))) == whole  # lists for tuples
    assert settings_from({"views.flip": 0.25}, whole) == replace(whole, views=ViewSettings(flip=0.25))


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["fit", *arguments, "--print_config"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def parsed(*arguments: str) -> FitSettings:
    """The settings that ``likewise fit`` would train with."""
    given = build_parser("npid")[0].parse_args(["fit", "data", "--out", "run", *arguments])["fit"].as_dict()
    return settings_from({name: given[name] for name in vars(FitSettings())})


def test_print_config_is_loadable_and_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert settings_from(yaml.safe_load(printed(capsys))) == METHODS["npid"].settings
    changed = everything_changed()
    write_config(tmp_path, changed)
    text = printed(capsys, "--config", str(tmp_path / CONFIG))
    (tmp_path / "printed.yaml").write_text(text)
    assert settings_from(yaml.safe_load(text)) == changed
    assert parsed("--config", str(tmp_path / "printed.yaml")) == changed
    assert printed(capsys, "--config", str(tmp_path / "printed.yaml")) == text


def test_flags_override_the_file_that_comes_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(tmp_path, everything_changed())
    settings = parsed("--config", str(tmp_path / CONFIG), "--epochs", "7", "--views.crop_scale", "[0.5,0.6]")
    expected = replace(everything_changed(), epochs=7)
    assert settings == replace(expected, views=replace(expected.views, crop_scale=(0.5, 0.6)))


def test_a_printed_config_does_not_blank_out_and_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "printed.yaml").write_text(printed(capsys, "--epochs", "2"))
    parser = build_parser("npid")[0]
    given = parser.parse_args(["fit", "photos", "--out", "run", "--config", str(tmp_path / "printed.yaml")])["fit"]
    assert (given["data"], given["out"], given["epochs"]) == ("photos", "run", 2)


# Misspelt


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("epoch", "epochs"),
        ("batchsize", "batch_size"),
        ("views.flipp", "views.flip"),
        ("flip", "views.flip"),
        ("view.flip", "views.flip"),
        ("objective.temprature", "objective.temperature"),
        ("temperature", "objective.temperature"),
        ("learning.lr", "optim.lr"),
        ("optim.momentun", "optim.momentum"),
        ("bank.momentums", "bank.momentum"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_right_one(
    wrong: str, right: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LikewiseError, match=re.escape(f"there is no setting {wrong!r}. Did you mean {right!r}?")):
        settings_from({wrong: 1})
    group, _, leaf = wrong.rpartition(".")
    nested = {group: {leaf: 1}} if group else {leaf: 1}
    if group in ("", *vars(FitSettings())):
        with pytest.raises(LikewiseError, match=re.escape(f"Did you mean {right!r}?")):
            settings_from(nested)
    with pytest.raises(LikewiseError, match=re.escape(f"Did you mean {right!r}?")):
        fit("nowhere", out=tmp_path / "run", settings={wrong: 1}, progress=False)
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(nested))
    for arguments in ([f"--{wrong}", "1"], [f"--{wrong}=1"], ["--config", str(tmp_path / "settings.yaml")]):
        with pytest.raises(SystemExit) as stop:
            main(["fit", "data", "--out", str(tmp_path / "run"), *arguments])
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert f"{right}'?" in said, (arguments, said)
        assert said.startswith("likewise: ")
        assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_misspelt_group_is_refused_with_the_right_one() -> None:
    with pytest.raises(LikewiseError, match=r"there is no setting 'view'\. Did you mean 'views'\?"):
        settings_from({"view": {"flip": 0.0}})
    with pytest.raises(LikewiseError, match=r"there is no setting 'optimizer'"):
        settings_from({"optimizer": {"lr": 0.0}})


def test_nothing_is_suggested_for_what_resembles_nothing() -> None:
    with pytest.raises(LikewiseError) as caught:
        settings_from({"zzqx": 1})
    assert "Did you mean" not in str(caught.value)
    assert closest("zzqx", NAMES) == ""


@pytest.mark.parametrize("name", ["epochs.x", "views.flip.x", "objective.kind.nce", "views.crop_scale.0"])
def test_a_plain_value_has_no_parts(name: str) -> None:
    with pytest.raises(LikewiseError, match=f"there is no {name!r}"):
        settings_from({name: 1})


# Wrong types and values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 1.5),
        ("epochs", "3"),
        ("epochs", True),
        ("epochs", None),
        ("batch_size", [128]),
        ("optim.lr", "0.1"),
        ("optim.lr", False),
        ("optim.nesterov", 1),
        ("optim.milestones", 0.5),
        ("optim.milestones", ["a"]),
        ("views.crop_scale", [0.5]),
        ("views.crop_scale", [0.1, 0.2, 0.3]),
        ("views.crop_scale", 0.5),
        ("objective.kind", "nces"),
        ("objective.kind", ["nce"]),
        ("precision", "fp16"),
        ("encoder.weights", 3),
        ("encoder.allow", "fc.*"),
        ("encoder.allow", [1]),
        ("views", 3),
        ("views", [("flip", 0.5)]),
        ("device", 0),
        ("key", 1),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(LikewiseError) as caught:
        settings_from({name: value})
    assert f"setting {name!r} can't be" in str(caught.value)
    assert "it must be" in str(caught.value)
    assert "<class" not in str(caught.value)


def test_whole_numbers_are_floats_and_lists_are_tuples_and_nothing_else_changes() -> None:
    settings = settings_from({"optim.lr": 1, "views.crop_scale": [1, 1], "encoder.allow": ["fc.*"], "key": "id"})
    assert type(settings.optim.lr) is float
    assert settings.views.crop_scale == (1.0, 1.0)
    assert all(type(side) is float for side in settings.views.crop_scale)
    assert settings.encoder.allow == ("fc.*",)
    assert settings_from({"key": None}, settings).key is None


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("epochs", (0, -1), (1,)),
        ("batch_size", (1, 0, -8), (2,)),
        ("size", (7, 0, 5000), (8, 4096)),
        ("seed", (-1, 2**32), (0, 2**32 - 1)),
        ("knn_items", (9,), (10,)),
        ("objective.temperature", (0.0, -0.1, NAN, float("inf")), (0.01,)),
        ("objective.noise", (0, -1), (1,)),
        ("objective.log_z_decay", (1.0, -0.1, NAN), (0.0, 0.99)),
        ("objective.proximal", (-1.0, NAN), (0.0, 30.0)),
        ("objective.mix", (-1.0, NAN), (0.0,)),
        ("negatives.count", (0, -1), (1, 5)),
        ("negatives.margin", (0.0, -0.1, 4.0, NAN), (0.1, 1.0, None)),
        ("negatives.epsilon", (NAN, float("inf")), (0.1, -0.1)),
        ("objective.margin", (-0.1, NAN, float("inf")), (None,)),
        ("negatives.least", (0.0, 1.4, NAN), (0.1, 1.0)),
        ("negatives.most", (2.1, 3.0), (1.0, 2.0)),
        ("negatives.at", ((1.0,), (1.0, 2.0)), ((),)),
        ("sampler.per_class", (0, -2), (1, 8)),
        ("bank.momentum", (1.0, -0.1, NAN), (0.0, 0.99)),
        ("encoder.dim", (1, 0), (2,)),
        ("encoder.hidden", (0,), (1,)),
        ("optim.lr", (0.0, -1.0, NAN, float("inf")), (1e-9,)),
        ("optim.momentum", (-0.1, 1.0, NAN), (0.0, 0.99)),
        ("optim.weight_decay", (-1e-9, NAN), (0.0,)),
        ("optim.warmup", (1.0, -0.1, NAN), (0.0, 0.5)),
        ("views.crop_scale", ((0.0, 1.0), (0.5, 0.4), (0.5, 1.1)), ((0.5, 0.5), (0.01, 1.0))),
        ("views.crop_ratio", ((0.0, 1.0), (2.0, 1.0)), ((1.0, 1.0), (0.1, 9.0))),
        ("views.hue", (0.6, -0.1, NAN), (0.0, 0.5)),
        ("views.blur_sigma", ((0.0, 1.0), (2.0, 1.0)), ((1.0, 1.0),)),
        ("views.std", ((0.0, 1.0, 1.0), (1.0, -1.0, 1.0)), ((1.0, 1.0, 1.0),)),
        ("views.flip", (-0.1, 1.1, NAN), (0.0, 1.0)),
        ("views.jitter", (-0.1, 1.1), (0.0, 1.0)),
        ("views.grayscale", (-0.1, 1.1), (0.0, 1.0)),
        ("views.blur", (-0.1, 1.1), (0.0, 1.0)),
        ("views.dropout", (-0.1, 1.1), (0.0, 1.0)),
    ],
)
def test_ranges(name: str, bad: tuple[Any, ...], good: tuple[Any, ...]) -> None:
    for value in bad:
        with pytest.raises(LikewiseError, match=re.escape(f"setting {name!r} is {value}; it must be ")):
            check(settings_from({name: value}))
    for value in good:
        settings = settings_from({name: value})
        assert check(settings) is settings


def test_nesterov_needs_momentum() -> None:
    check(settings_from({"optim.nesterov": True}))
    with pytest.raises(LikewiseError, match=r"'optim.nesterov' is True; it must be false when optim.momentum is 0"):
        check(settings_from({"optim.nesterov": True, "optim.momentum": 0.0}))


# Every class


@pytest.mark.parametrize("kind", [*CLASSES, Protocol])
def test_each_field_is_documented_in_order(kind: type) -> None:
    assert kind.__doc__ is not None
    listed = kind.__doc__.partition("Args:\n")[2]
    documented = re.findall(r"^ {8}(\w+): (.*)$", listed, re.MULTILINE)
    names = [field.name for field in fields(kind)]
    nested = [field.name for field in fields(kind) if is_dataclass(vars(kind).get(field.name) or field.default_factory)]
    assert [name for name, _ in documented] == [name for name in names if name not in nested]
    assert all(len(text) > 8 for _, text in documented)


@pytest.mark.parametrize("kind", [*CLASSES, Protocol])
def test_each_class_is_frozen_and_by_keyword(kind: type) -> None:
    settings = kind()
    first = fields(kind)[0].name
    with pytest.raises(FrozenInstanceError):
        settings.__setattr__(first, vars(settings)[first])
    with pytest.raises(TypeError):
        kind(vars(settings)[first])
    assert kind() == settings
    assert all(field.default is not field.default_factory for field in fields(kind))  # every field has a default


def test_help_says_what_each_setting_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in NAMES:
        assert re.search(rf" --{re.escape(name)} .*?\(type: ", text), name
    assert "NPID's accuracy stops growing at 128" in text


def test_auto_is_exact_for_few_items_and_nce_for_many() -> None:
    settings = FitSettings()
    assert decide(settings, 10_000).objective.kind == "softmax"
    assert decide(settings, 10_001).objective.kind == "nce"
    asked = settings_from({"objective.kind": "nce"})
    assert decide(asked, 10) == asked


@pytest.mark.parametrize(
    ("method", "values", "said"),
    [
        ("arcface", {"dictionary": "queue"}, "objective.kind=arcface has its own keys, a proxy per class"),
        ("sphereface", {"objective.margin": 2.7}, "objective.margin=2.7 of a-softmax is a number of folds"),
        ("circle", {"negatives.by": "active"}, "negatives.by=active needs a loss that can be 0"),
        (
            "facenet",
            {"negatives.policies": ["easy", "hard"], "negatives.at": [500.0], "negatives.by": "active"},
            "must be shares of active triplets",
        ),
        (
            "facenet",
            {"negatives.policies": ["easy", "random", "hard"], "negatives.at": [5.0, 3.0]},
            "must not decrease",
        ),
    ],
)
def test_choices_that_cannot_be_meant(method: str, values: dict[str, Any], said: str) -> None:
    with pytest.raises(LikewiseError, match=re.escape(said)):
        check(settings_from(values, METHODS[method].settings))


def test_pairs_and_triplets_bring_their_own_batches_and_negatives() -> None:
    for method in ("circle", "facenet", "margin"):
        for alike in ("pairs", "triplets"):
            settings = settings_from({"alike": alike, "relations": "file.csv"}, METHODS[method].settings)
            decided = decide(check(settings), 100)
            assert decided.sampler.kind == "instance"
            kept = METHODS[method].settings.negatives.policies if alike == "pairs" else ("all",)
            assert decided.negatives.policies == kept
            assert check(decided) is decided


def test_inside_the_margin_is_the_margin_of_the_triplet_loss() -> None:
    base = settings_from({"negatives.policies": ["inside-margin"]}, METHODS["facenet"].settings)
    assert decide(base, 100).negatives.margin == 0.2
    assert decide(settings_from({"objective.margin": 0.5}, base), 100).negatives.margin == 0.5
    both = settings_from({"objective.margin": 0.5, "negatives.margin": 0.3}, base)
    assert decide(both, 100).negatives.margin == 0.3
    circle = settings_from({"negatives.policies": ["inside-margin"]}, METHODS["circle"].settings)
    assert decide(circle, 100).negatives.margin == 0.2
