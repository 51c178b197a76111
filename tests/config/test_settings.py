"""Settings: they survive YAML, a misspelt or impossible one is refused in one sentence, and each is documented."""

import json
import re
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import yaml
from toy import another

from likewise.cli.fit import COMMON, REST, SECTIONS
from likewise.cli.help import as_typed
from likewise.cli.main import main
from likewise.config.checks import check
from likewise.config.names import letters
from likewise.config.objective_table import OBJECTIVES, Row
from likewise.config.overrides import as_dict, assigned, flatten, settings_from
from likewise.config.policy_table import POLICIES, PolicyRow
from likewise.config.ranges import RANGES, RISING, check_numbers
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
from likewise.config.yaml_file import CONFIG, as_yaml, read_settings_file, read_yaml
from likewise.errors import LikewiseError, closest
from likewise.evaluation.classify import Protocol
from likewise.methods import METHODS, over_method
from likewise.training.decide import decide
from likewise.training.fit import fit
from likewise.training.run_folder import read_config, write_config

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
        return value / 2 + 0.13 if isinstance(value, float) else value + 3
    if value is None and float in get_args(kind):
        return 0.375
    if value == () and float in get_args(kind):
        return (1.5, 1 / 3)
    if isinstance(value, tuple):
        return (
            (0.1 + 0.2, 1 / 3)
            if len(value) == 2
            else ("hard", "easy")
            if value == ("all",)
            else tuple(value[:1]) * 3
            if value
            else ("fc.*", "head.?")
        )
    if name == "objective.kind":
        return "circle"
    choices = [choice for choice in get_args(kind) if isinstance(choice, str) and choice != value]
    return choices[-1] if choices else f"it's: a {leaf} # é"


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
    settings = replace(settings, relations="/file.csv") if settings.related else settings  # which no method has
    assert settings.method == name
    assert check(settings) is settings
    write_config(tmp_path, settings)
    assert read_config(tmp_path) == settings


def test_dotted_nested_and_whole_settings_are_the_same_thing() -> None:
    whole = replace(FitSettings(), epochs=5, views=ViewSettings(flip=0.0), optim=OptimSettings(lr=0.1, warmup=0.5))
    assert settings_from({"epochs": 5, "views.flip": 0, "optim": {"lr": 0.1, "warmup": 0.5}}) == whole
    assert settings_from({"epochs": 5, "views": ViewSettings(flip=0.0), "optim.lr": 0.1, "optim.warmup": 0.5}) == whole
    assert settings_from(flatten(whole)) == whole
    assert settings_from(as_dict(whole)) == whole
    assert settings_from(json.loads(json.dumps(as_dict(whole)))) == whole  # lists for tuples
    assert settings_from({"views.flip": 0.25}, whole) == replace(whole, views=ViewSettings(flip=0.25))


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What ``likewise fit --print_config`` prints: the settings that it would train with."""
    assert main(["fit", *arguments, "--print_config"]) == 0
    return capsys.readouterr().out


def parsed(capsys: pytest.CaptureFixture[str], *arguments: str) -> FitSettings:
    return settings_from(read_yaml(printed(capsys, *arguments), "printed"))


def test_print_config_is_loadable_and_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed(capsys) == METHODS["npid"].settings
    changed = usable_change()
    write_config(tmp_path, changed)
    text = printed(capsys, "--config", str(tmp_path / CONFIG))
    (tmp_path / "printed.yaml").write_text(text)
    assert settings_from(read_yaml(text, "printed")) == changed
    assert printed(capsys, "--config", str(tmp_path / "printed.yaml")) == text


def usable_change() -> FitSettings:
    """Other values of settings that go together."""
    values = {
        "epochs": 7,
        "views.flip": 0.1 + 0.2,
        "views.crop_scale": (0.1, 1 / 3),
        "encoder.allow": ("fc.*", "é # x"),
    }
    return settings_from(values | {"optim.lr": 1e-5, "labels": "1e2", "key": "it's: a key", "seed": 10})


def test_options_are_over_files_and_later_files_over_earlier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(tmp_path, usable_change())
    (tmp_path / "later.yaml").write_text("epochs: 8\nseed: 010\n")
    files = ["--config", str(tmp_path / CONFIG), "--config", str(tmp_path / "later.yaml")]
    settings = parsed(capsys, "--views.crop_scale", "[0.5,0.6]", *files)
    expected = replace(usable_change(), epochs=8)
    assert settings == replace(expected, views=replace(expected.views, crop_scale=(0.5, 0.6)))
    assert parsed(capsys, *files, "--epochs", "9").epochs == 9


@pytest.mark.parametrize("place", ["files first", "options first", "between"])
def test_an_option_of_any_kind_wins_over_files_in_any_order(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files set every setting to another value, and parameters; the options set all of them back."""
    method = METHODS["margin"].settings
    values = flatten(method)
    others = {name: other_value(name, value) for name, value in values.items() if name in NAMES}
    others |= {"method": "moco", "objective.kind": "circle", "objective.gamma": 7.0, "views.crop_scale": [0.1, 0.2]}
    others |= {"negatives.policies": ["distance-weighted"], "negatives.count": 3}
    (tmp_path / "one.yaml").write_text(as_yaml(others))
    (tmp_path / "two.yaml").write_text(as_yaml({"objective": {"kind": "margin", "alpha": 0.7}, "epochs": 77}))
    files = ["--config", str(tmp_path / "one.yaml"), "--config", str(tmp_path / "two.yaml")]
    back = {**values, "objective.alpha": None, "negatives.count": None}
    options = [f"--{name}={'[]' if value == () else as_typed(value)}" for name, value in back.items()]
    half = len(options) // 2
    words = {
        "files first": [*files, *options],
        "options first": [*options, *files],
        "between": [*options[:half], *files[:2], *options[half:], *files[2:]],
    }
    assert parsed(capsys, *words[place]) == method
    alone = parsed(capsys, *options[:1], *files[2:], "--objective.beta", "0.9")
    assert (alone.epochs, dict(alone.objective.parameters)) == (77, {"alpha": 0.7, "beta": 0.9})


@pytest.mark.parametrize(
    "text",
    [
        *('{"method": "moco"}', "{method: moco}", '"method": moco', "method : moco", "  method: moco\n  size: 32"),
        *("\ufeffmethod: moco", "# method: simclr\nmethod: moco"),
    ],
)
def test_the_method_of_a_file_gives_its_defaults_however_it_is_written(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "base.yaml").write_text("epochs: 3\nmethod: simclr\n")
    files = ("--config", str(tmp_path / "base.yaml"), "--config", str(tmp_path / "m.yaml"))
    assert parsed(capsys, *files[2:]) == METHODS["moco"].settings
    assert parsed(capsys, *files) == replace(METHODS["moco"].settings, epochs=3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\nseed: 2", "'seed' occurs twice"),
        ("epochs: [&a0 [x]" + "".join(f", &a{n + 1} [{f'*a{n}, ' * 10}]" for n in range(9)) + "]", "100,000 values"),
        ("a: &a0 [x]" + "".join(f"\n{n}: &a{n + 1} [{f'*a{n}, ' * 10}]" for n in range(9)), "100,000 values"),
        ("seed: &a [*a]", "a value holds itself"),
        ("[1, 2]", "holds no settings"),
        ("null", "holds no settings"),
        ("epochs: [1", "can't be read: expected"),
        ("epochs: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("1: 2", "1 is not the name of a setting"),
        ("# " + "x" * (1 << 20), "is not a settings file: it is larger than 1 MiB"),
        ("nothing: {}", "there is no setting 'nothing'"),
    ],
)
def test_a_file_that_is_no_settings_is_one_sentence(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    assert main(["fit", "data", "--out", str(tmp_path / "run"), "--config", str(tmp_path / "bad.yaml")]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "epochs", "rate"),
    [
        *((text, None, None) for text in ("0x10", "0b11", "0o7", "1_0", "1:30", "٣", "nan", '"5"', "null", "true")),
        *((text, None, 1.5) for text in ("1.5", "15e-1")),
        *((text, 10, 10.0) for text in ("010", "+10", " 10", "1e1", "10.", "1.0e+1")),
        *((text, None, None) for text in ("1e400", "9" * 5000)),
        ("1" + "0" * 400, None, None),
    ],
)
def test_a_number_is_spelt_alike_everywhere(
    text: str, epochs: int | None, rate: float | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, expected in (("epochs", epochs), ("optim.lr", rate)):
        (tmp_path / "s.yaml").write_text(f"{name}: {text}", encoding="utf-8")
        for word in (f"--config={tmp_path / 's.yaml'}", f"--{name}={text}"):
            assert number_read(name, word, capsys) == expected, word
        try:
            found = flatten(check(settings_from(assigned([f"{name}={text}"]))))[name]
        except LikewiseError:
            found = None
        assert found == expected
    if rate is None:
        assert number_read("optim.milestones", f"--optim.milestones=[0.1, {text}]", capsys) is None


def number_read(name: str, word: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """The number that ``likewise fit`` reads; None where it refuses it, in one sentence."""
    try:
        code: object = main(["fit", word, "--print_config"])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    if code == 0:
        return flatten(settings_from(read_yaml(said.out, "printed")))[name]
    assert (code, said.err.count("\n")) == (2, 1)
    return None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("optim.lr: 1\noptim: {lr: 2}", "optim.lr"),
        ("optim: {lr: 2, momentum: 0}\noptim.lr: 2", "optim.lr"),
        ("views: {flip: 0}\nviews.noise: 1\nviews.flip: 0", "views.flip"),
    ],
)
def test_a_setting_in_two_spellings_is_refused(
    text: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(text)
    assert main(["fit", "--config", str(tmp_path / "s.yaml"), "--print_config"]) == 2
    assert f"s.yaml gives {name!r} twice; leave one out." in capsys.readouterr().err
    for assignments in (["seed=1", "epochs=2", "seed=1"], ["optim={lr: 1}", "optim.lr=1"]):
        with pytest.raises(LikewiseError, match=r"--set gives '(seed|optim.lr)' twice"):
            assigned(assignments)
    assert settings_from({"optim": {"lr": 1}, "optim.lr": 2}).optim.lr == 2  # as in {**base, "optim.lr": 2}


def test_utf_16_and_what_is_not_there_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wide.yaml").write_bytes("epochs: 3".encode("utf-16"))
    for name, said in (("wide.yaml", "is not UTF-8 text; save it as UTF-8"), ("none.yaml", "No such file")):
        assert main(["fit", "data", "--out", "run", "--config", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err


def test_a_json_file_is_read_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tabs, an escaped slash and a surrogate pair are JSON, and no YAML."""
    named = {"method": "moco", "optim": {"lr": 1e-3}, "key": "é\U0001f600", "relations": "a/b"}
    text = json.dumps(named, indent="\t").replace("/", "\\/")
    (tmp_path / "a.json").write_text(text)
    expected = settings_from({"optim.lr": 1e-3, "key": "é\U0001f600", "relations": "a/b"}, METHODS["moco"].settings)
    assert settings_from(read_settings_file(tmp_path / "a.json"), METHODS["moco"].settings) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"seed": 1,\n"seed": 2}', "'seed' occurs twice"),
        ('{\n\t"seed": 1,}', "a.json can't be read: .*line 2 column"),
        ("[" * 100_000, "recursion"),
        (f'{{"seed": {"1" * 5000}}}', "a.json can't be read: Exceeds the limit"),
        ("[1]", "holds no settings"),
    ],
)
def test_a_json_file_that_is_no_settings_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(LikewiseError, match=said):
        read_settings_file(tmp_path / "a.json")


# Objectives and policies


PARAMETERS = [(row, name) for row in OBJECTIVES for name in row.parameters]
SIZES = {"classes": 3, "dim": 2, "n": 4}
GRADED = {"alike": "graded", "relations": "file.csv", "batch.keys": "same"}


@pytest.mark.parametrize("row", OBJECTIVES, ids=lambda row: row.name)
def test_a_row_is_its_constructors(row: Row) -> None:
    """Names, and defaults that the row's own check lets pass; what a run gives; nothing else but the reduction."""
    parameters = signature(row.load()).parameters
    counts = {"counts"} if row.module == "sampled" else set()  # a run has none: every item comes once per epoch
    assert set(parameters) == {*row.parameters, *row.given, *counts, "reduction"}
    assert row.draws in ("", *row.parameters)
    assert list(row.parameters) == [name for name in parameters if name in row.parameters]
    for name, value in row.parameters.items():
        default = parameters[name].default
        assert value.read(name, default) == default
        assert type(default) in (value.kind, type(None)), (row.name, name)
    made = row.load()(**{size: SIZES[size] for size in row.given if size in SIZES})
    assert (made.can_be_zero, made.takes_policies) == (row.can_be_zero({}), row.mines)
    for name, value in (row.zero_if or {}).items():
        assert parameters[name].default == value
        other = another(row.parameters[name], value)
        assert not row.can_be_zero({name: other})
        assert not row.load()(**{name: other}).can_be_zero


@pytest.mark.parametrize("row", POLICIES, ids=lambda row: row.name)
def test_a_policys_row_is_its_constructors(row: PolicyRow) -> None:
    parameters = signature(row.load()).parameters
    assert list(row.parameters) == list(parameters)
    for name, value in row.parameters.items():
        assert value.read(name, parameters[name].default) == parameters[name].default


@pytest.mark.parametrize(("row", "name"), PARAMETERS, ids=lambda value: value if isinstance(value, str) else value.name)
def test_every_parameter_is_set_from_python_yaml_and_the_command_line(
    row: Row, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = another(row.parameters[name], signature(row.load()).parameters[name].default)
    base: dict[str, Any] = {"class": {"alike": "label"}, "list": GRADED}.get(row.level, {})
    base = base | {"dictionary": {"any": "batch", "bank": "bank", "own": "proxies"}[row.keys]}
    settings = settings_from({**base, "objective": row.name, f"objective.{name}": value})
    assert settings.objective.parameters == {name: value}
    options = [word for key, each in base.items() for word in (f"--{key}", each)]
    text = json.dumps(value)
    assert parsed(capsys, *options, "--objective", row.name, f"--objective.{name}={text}") == settings
    (tmp_path / "own.yaml").write_text(f"objective:\n  {name}: {text}\n  kind: {row.class_name}\n")
    assert parsed(capsys, *options, "--config", str(tmp_path / "own.yaml")) == settings
    decided = decide(settings, 100)
    made = row.load()(**{size: SIZES[size] for size in row.given if size in SIZES}, **decided.objective.parameters)
    assert f"{name}={value!r}" in repr(made)


@pytest.mark.parametrize("row", OBJECTIVES, ids=lambda row: row.name)
def test_a_parameter_that_the_kind_lacks_is_refused_with_its_own_and_the_closest(row: Row) -> None:
    wrong = f"{next(iter(row.parameters))}x"
    own = ", ".join(row.parameters)
    with pytest.raises(LikewiseError) as caught:
        settings_from({"objective": row.name, f"objective.{wrong}": 1})
    assert str(caught.value).startswith(
        f"objective {row.name} has no parameter {wrong!r}. Did you mean '{wrong[:-1]}'?"
    )
    assert str(caught.value).endswith(f"It has {own}.")


def test_every_name_and_alias_means_one_objective() -> None:
    for table in (OBJECTIVES, POLICIES):
        assert all(letters(row.class_name) == letters(row.name) for row in table)
        names = [letters(name) for row in table for name in (row.name, *row.aliases)]
        assert len(names) == len(set(names))
    for row in OBJECTIVES:
        for name in (row.name, row.class_name, *row.aliases, row.name.upper(), row.name.replace("-", "_")):
            assert settings_from({"objective": name}).objective.kind == row.name
    for policy in POLICIES:
        for name in (policy.class_name, *policy.aliases):
            assert settings_from({"negatives": name}).negatives.policies == (policy.name,)


@pytest.mark.parametrize("name", ["semi-hard", "SemiHard", "semihard"])
def test_both_meanings_of_semi_hard_are_named(name: str) -> None:
    said = rf"'{name}' is not one policy .*: semi-hard negatives are inside-margin \(.*\) or hardest-beyond \("
    with pytest.raises(LikewiseError, match=said):
        settings_from({"negatives": name})
    with pytest.raises(LikewiseError, match=r"negatives\.policies=hard with negatives\.positives=hard"):
        settings_from({"negatives": "batch-hard"})


def test_an_objective_given_alone_goes_with_its_parameters_in_any_order() -> None:
    expected = settings_from({"objective.kind": "circle", "objective.gamma": 100})
    for values in (
        {"objective.gamma": 100, "objective": "circle"},
        {"objective": "circle", "objective.gamma": 100},
        {"objective": {"gamma": 100}, "objective.kind": "circle"},
        {"objective": ObjectiveSettings(kind="Circle", parameters={"gamma": 100})},
        {"objective.gamma": np.int64(100), "objective.kind": "circle"},
    ):
        assert settings_from(values) == expected
    assert settings_from({"negatives.count": 2, "negatives": ["random"]}).negatives.parameters == {"count": 2}
    with pytest.raises(LikewiseError, match="objective is named twice"):
        settings_from({"objective": "circle", "objective.kind": "triplet"})
    with pytest.raises(LikewiseError, match="objective circle has no parameter 'beta'"):
        settings_from({"objective": ObjectiveSettings(kind="circle", parameters={"beta": 2})})


def test_a_whole_settings_object_is_checked_too_and_agrees_with_the_method(tmp_path: Path) -> None:
    wrong = FitSettings(objective=ObjectiveSettings(kind="circle", parameters={"gama": 3}))
    with pytest.raises(LikewiseError, match="has no parameter 'gama'"):
        fit("nowhere", out=tmp_path / "run", settings=wrong, progress=False)
    for settings in (FitSettings(epochs=1), {"method": "npid"}):
        with pytest.raises(LikewiseError, match="method='moco' and the settings' method 'npid' are two"):
            fit("nowhere", out=tmp_path / "run", method="moco", settings=settings, progress=False)
    assert not (tmp_path / "run").exists()


def test_what_auto_did_not_become_is_left_out_where_a_run_goes_on() -> None:
    saved = decide(settings_from({"objective.noise": 8, "objective.temperature": 0.3}), 50)
    assert over_method({"objective.noise": 8}, saved=saved) == saved
    assert over_method({"objective": {"noise": 8, "temperature": 0.3}}, saved=saved) == saved
    with pytest.raises(LikewiseError, match="has no parameter 'gamma'"):
        over_method({"objective.gamma": 8}, saved=saved)


def test_a_word_that_yaml_reads_as_a_truth(capsys: pytest.CaptureFixture[str]) -> None:
    settings = parsed(capsys, "--method", "arcface", "--objective.gradient", "true")
    assert settings.objective.parameters == {"gradient": "true"}


def test_words_of_yaml_1_1_and_dates_are_texts_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("no", "on", "Y", "2026-01-01", "NO"):
        (tmp_path / "s.yaml").write_text(f"labels: {text}", encoding="utf-8")
        for words in (["--labels", text], ["--config", str(tmp_path / "s.yaml")]):
            assert parsed(capsys, *words).labels == text
        assert settings_from(assigned([f"labels={text}"])).labels == text
        assert yaml.safe_load(as_yaml({"labels": text})) == {"labels": text}  # for every reader of YAML
    with pytest.raises(LikewiseError, match=r"'labels' can't be True; it must be text. Put it in quotes."):
        settings_from(assigned(["labels=true"]))
    with pytest.raises(LikewiseError, match=r"'key' can't be 3; it must be text or null. Put it in quotes."):
        settings_from(assigned(["key=3"]))
    assert settings_from(assigned(["key='3'"])).key == "3"


def test_a_later_part_names_the_objective_whose_parameters_an_earlier_part_sets() -> None:
    for named in ({"objective": "circle"}, {"objective.kind": "circle"}, {"objective": {"kind": "circle"}}):
        for given in ({"objective": {"gamma": 64}}, {"objective.gamma": 64}):
            settings = over_method({"method": "ms"}, given, named)
            assert settings.objective == ObjectiveSettings(kind="circle", parameters={"gamma": 64.0})
    own = over_method({"method": "ms"}, {"negatives.count": 3}, {"negatives": "random"})
    assert own.negatives == NegativeSettings(policies=("random",), parameters={"count": 3})
    # what an earlier part names, or the later objective lacks, is the earlier objective's
    settings = over_method({"objective": {"kind": "infonce", "temperature": 0.3}}, {"objective": "circle"})
    assert settings.objective == ObjectiveSettings(kind="circle")
    with pytest.raises(LikewiseError, match="objective infonce has no parameter 'gamma'"):
        over_method({"method": "simclr", "objective.gamma": 3}, {"objective": "infonce"})
    with pytest.raises(LikewiseError, match="no objective 'circel'"):
        over_method({"objective.gamma": 3}, {"objective": "circel"})


def test_another_objective_begins_with_its_own_defaults_and_auto_hands_on() -> None:
    moco = METHODS["moco"].settings
    assert settings_from({"objective": "supcon"}, moco).objective.parameters == {}
    assert settings_from({"objective": "nt-xent"}, moco).objective.parameters == {"temperature": 0.07}
    auto = settings_from({"objective.temperature": 0.3, "objective.noise": 9})
    assert decide(auto, 50_000).objective.parameters["noise"] == 9
    exact = decide(auto, 50).objective
    assert (exact.kind, exact.parameters) == ("nonparametric-softmax", {"temperature": 0.3, "proximal": 0.0})
    assert settings_from({"objective": "nce"}, auto).objective.parameters == {"temperature": 0.3, "noise": 9}
    assert settings_from({"objective.temperature": None}, auto).objective.parameters == {"noise": 9}


# Misspelt


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("epoch", "epochs"),
        ("batchsize", "batch_size"),
        ("views.flipp", "views.flip"),
        ("flip", "views.flip"),
        ("view.flip", "views.flip"),
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
        try:
            code: object = main(["fit", "data", "--out", str(tmp_path / "run"), *arguments])
        except SystemExit as stop:
            code = stop.code
        assert code == 2
        said = capsys.readouterr().err
        assert f"{right}'?" in said, (arguments, said)
        assert said.startswith("likewise: ")
        assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_misspelt_group_is_refused_with_the_right_one() -> None:
    with pytest.raises(LikewiseError, match=r"there is no setting 'view.flip'\. Did you mean 'views.flip'\?"):
        settings_from({"view": {"flip": 0.0}})
    with pytest.raises(LikewiseError, match=r"there is no setting 'optimizer.lr'"):
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
        ("optim.milestones", ["a"]),
        ("views.crop_scale", [0.5]),
        ("views.crop_scale", [0.1, 0.2, 0.3]),
        ("views.crop_scale", 0.5),
        ("objective.kind", ["nce"]),
        ("precision", "fp16"),
        ("encoder.weights", 3),
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
    settings = settings_from({"optim.lr": 1, "views.crop_scale": [1, 1], "encoder.allow": "fc.*", "key": "id"})
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
        ("batch_size", (1, 0, -8, 10**23), (2,)),
        ("size", (7, 0, 5000), (8, 4096)),
        ("seed", (-1, 2**32), (0, 2**32 - 1)),
        ("knn_items", (9,), (10,)),
        ("objective.temperature", (0.0, -0.1, NAN, float("inf")), (0.01,)),
        ("objective.noise", (0, -1), (1,)),
        ("objective.log_z_decay", (1.0, -0.1, NAN), (0.0, 0.99)),
        ("objective.proximal", (-1.0, NAN), (0.0, 30.0)),
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
        ("views.rotation", (-1.0, 1e300, NAN), (0.0, 180.0)),
        ("views.brightness", (-1.0, 1e10, NAN), (0.0, 2.0)),
        ("views.noise", (-0.1, 1e38), (0.0, 1.0)),
        ("views.mean", ((1e300, 0.0, 0.0), (NAN, 0.0, 0.0)), ((0.0, 0.0, 0.0),)),
        ("views.std", ((1e-300, 1.0, 1.0),), ((0.5, 0.5, 0.5),)),
        ("optim.milestones", ((2.0, 1.0), (0.8, 0.6), (NAN,), (-0.1,)), ((), (0.5,), (0.0, 1.0))),
        ("knn_epochs", (-1, 10**23), (0, 1)),
        ("checkpoint_seconds", (-1.0, NAN, float("inf")), (0.0, 1e9)),
        ("bank.samples", (-1, 10**20), (0, 64)),
        ("queue.size", (0, 10**23), (1,)),
    ],
)
def test_ranges(name: str, bad: tuple[Any, ...], good: tuple[Any, ...]) -> None:
    for value in bad:
        with pytest.raises(LikewiseError, match=re.escape(f"setting {name!r} is {value}; it must be ")):
            check(settings_from({name: value}))
    for value in good:
        settings = settings_from({name: value})
        assert check(settings) is settings


def test_every_number_has_a_range_and_every_range_a_number() -> None:
    kinds = {
        name: {type(one) for one in (value if isinstance(value, tuple) else (value,))}
        for name, value in flatten(settings_from({"negatives.at": [1.0], "minutes": 1.0})).items()
    }
    assert set(RANGES) == {name for name, types in kinds.items() if types <= {int, float} and types}
    assert all(RANGES[name].kind is next(iter(kinds[name])) for name in RANGES)
    assert set(RISING) <= set(RANGES)
    check_numbers(flatten(FitSettings()))


@pytest.mark.parametrize(
    ("kind", "name", "bad", "good"),
    [
        ("circle", "objective.gamma", (0, -1.0, NAN, float("inf"), "x", True, [1]), (1, 80.0)),
        ("circle", "objective.margin", (-0.1, NAN, float("inf")), (0.0,)),
        ("a-softmax", "objective.mix", (-1.0, NAN), (0.0,)),
        ("a-softmax", "objective.margin", (0, 5, 2.7), (1, 4, 3.0)),
        ("circle-classifier", "objective.margin", (1.0, -1.0), (-0.5, 0.25)),
        ("margin", "objective.beta", (1e300, NAN), (1.2, -1.0)),
        ("circle", "objective.gamma", (10**400, -(10**400)), (10**9,)),
        ("angular", "objective.degrees", (0.0, 90.0), (36,)),
        ("triplet", "objective.distance", ("cosine", 1), ("euclidean",)),
        ("multi-similarity", "objective.epsilon", ("x", NAN), (None, 0.2)),
    ],
)
def test_ranges_of_parameters(kind: str, name: str, bad: tuple[Any, ...], good: tuple[Any, ...]) -> None:
    for value in bad:
        with pytest.raises(LikewiseError, match=re.escape(f"setting {name!r} is {value!r}; it must be ")):
            settings_from({"objective": kind, name: value})
    for value in good:
        assert settings_from({"objective": kind, name: value}).objective.parameters[name.partition(".")[2]] == value


@pytest.mark.parametrize(
    ("policy", "name", "bad", "good"),
    [
        ("random", "count", (0, -1, 1.5), (1, 5)),
        ("inside-margin", "margin", (0.0, -0.1, 4.0, NAN), (0.1, 1.0)),
        ("multi-similarity", "epsilon", (NAN, float("inf")), (0.1, -0.1)),
        ("distance-weighted", "least", (0.0, NAN, 2.0), (0.1, 1.0)),
        ("distance-weighted", "most", (2.1, 3.0), (1.0, 2.0)),
    ],
)
def test_ranges_of_policies(policy: str, name: str, bad: tuple[Any, ...], good: tuple[Any, ...]) -> None:
    for value in bad:
        with pytest.raises(LikewiseError, match=re.escape(f"setting 'negatives.{name}' is {value!r}; it must be ")):
            settings_from({"negatives": policy, f"negatives.{name}": value})
    for value in good:
        assert settings_from({"negatives": policy, f"negatives.{name}": value}).negatives.parameters == {name: value}


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
    names = sorted((field.name for field in fields(kind)), key="parameters".__eq__)  # these last
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


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The help of ``fit`` in one line."""
    with pytest.raises(SystemExit) as stop:
        main(["fit", *words])
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_all_of_the_help_says_what_each_setting_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "--help-all")
    for name in NAMES:
        assert len(re.findall(rf" --{re.escape(name)} (?:\S+,?) .*?\(type: ", text)) == 1, name
    assert "NPID's accuracy stops growing at 128" in text
    titles = [*SECTIONS, REST]
    assert [text.index(f" {title}: ") for title in titles] == sorted(text.index(f" {title}: ") for title in titles)
    for row in OBJECTIVES:
        assert all(f" --objective.{name} " in text for name in row.parameters)


def test_the_help_begins_with_the_twenty_options_that_matter(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "--help")
    written = ["DATA", *(f"--{name} " for name in COMMON[1:])]
    assert len(set(COMMON)) == 20
    assert [text.index(f" {option}") for option in written] == sorted(text.index(f" {option}") for option in written)
    assert set(re.findall(r" --([\w.]*\w) [A-Z{]", text)) <= set(COMMON)
    assert "--help-all" in text


@pytest.mark.parametrize("words", [("--method", "moco-v2"), ("--method=MoCo_v2",)])
@pytest.mark.parametrize("shows", ["--help", "--help-all"])
def test_the_help_of_a_method_shows_its_defaults(
    words: tuple[str, ...], shows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(capsys, *words, shows)
    assert re.search(r"--batch_size .*?default: 256\).* --objective\.temperature .*?default: 0\.2\)", text)
    assert ("--queue.size" in text) == (shows == "--help-all")


def test_auto_is_exact_for_few_items_and_nce_for_many() -> None:
    settings = FitSettings()
    assert decide(settings, 10_000).objective.kind == "nonparametric-softmax"
    assert decide(settings, 10_001).objective.kind == "nce"
    asked = decide(settings_from({"objective.kind": "nce"}), 10)
    assert asked.objective.kind == "nce"
    assert decide(asked, 10) == asked


ACTIVE = {"negatives.policies": ["easy", "hard"], "negatives.at": [0.5], "negatives.by": "active"}


@pytest.mark.parametrize(
    ("method", "values", "said"),
    [
        ("arcface", {"dictionary": "queue"}, "objective arcface has its own keys, a proxy per class"),
        ("margin", {"negatives.least": 1.4}, "negatives.least=1.4 must be below negatives.most=1.4"),
        ("npid", {"objective": "softmax", "dictionary": "proxies"}, "over a bank of items is nonparametric-softmax"),
        ("npid", {"objective": "sampled-softmax", "dictionary": "queue"}, "needs a row for every item"),
        ("circle", {"negatives.by": "active"}, "negatives.by=active needs a loss that can be 0"),
        ("npid", {"objective": "circle", "alike": "label"}, "a memory bank has a row for each item"),
        ("npid", {"objective": "parametric-softmax", "alike": "label"}, "has a weight for each item"),
        *(
            (
                method,
                {**ACTIVE, **never_zero},
                "a loss that can be 0: contrastive, triplet (soft=false), margin (nu=0.0); objective",
            )
            for method, never_zero in (("facenet", {"objective.soft": True}), ("margin", {"objective.nu": 0.1}))
        ),
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
        (
            "facenet",
            {"negatives": "random", "negatives.count": 10**6, "batch_size": 128},
            "negatives.count=1e+06 must be at most 256, the keys that a query meets.",
        ),
    ],
)
def test_choices_that_cannot_be_meant(method: str, values: dict[str, Any], said: str) -> None:
    with pytest.raises(LikewiseError, match=re.escape(said)):
        check(settings_from(values, METHODS[method].settings))


@pytest.mark.parametrize("row", [row for row in OBJECTIVES if row.level == "class"], ids=lambda row: row.name)
def test_proxies_take_the_place_of_the_default_bank(row: Row) -> None:
    settings = check(over_method({"objective": row.name, "alike": "label"}))
    assert (settings.dictionary, decide(settings, 100).dictionary) == ("bank", "proxies")


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
    assert decide(base, 100).negatives.parameters["margin"] == 0.2
    assert decide(settings_from({"objective.margin": 0.5}, base), 100).negatives.parameters["margin"] == 0.5
    both = settings_from({"objective.margin": 0.5, "negatives.margin": 0.3}, base)
    assert decide(both, 100).negatives.parameters["margin"] == 0.3
    circle = settings_from({"negatives.policies": ["inside-margin"]}, METHODS["circle"].settings)
    assert decide(circle, 100).negatives.parameters["margin"] == 0.2
