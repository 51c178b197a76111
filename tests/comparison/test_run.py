"""Comparing methods: the split and what is equal, cells that are kept, fail and go on, tuning, paired tests, output."""

import errno
import io
import json
import math
import shutil
import signal
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from toy import clusters

from likewise.cli.main import main
from likewise.comparison import run as work
from likewise.comparison import table as comparing
from likewise.comparison.answers import Answers
from likewise.comparison.equal import equalised, unused_by_all
from likewise.comparison.run import compare
from likewise.comparison.split import split_classes
from likewise.comparison.statistics import holm, paired_t, sign_flip
from likewise.comparison.table import MEASURES, Comparison, Outcome, summarise
from likewise.comparison.tuning import Knob, knobs_of, propose
from likewise.config.overrides import flatten
from likewise.config.settings import OptimSettings
from likewise.data import Items, open_items
from likewise.errors import Interrupted, LikewiseError, LikewiseWarning
from likewise.methods import METHODS, OF_ITEMS
from likewise.methods.classes import CLASSES
from likewise.methods.pairs import PAIRS
from likewise.metrics import retrieval
from likewise.model import load
from likewise.training import loop
from likewise.training.decide import decide

pytestmark = pytest.mark.filterwarnings("ignore::likewise.errors.LikewiseWarning")
SMALL: dict[str, Any] = {
    "encoder.hidden": 16,
    "encoder.dim": 8,
    "batch_size": 16,
    "sampler.per_class": 4,
    "views.dropout": 0.0,
}
TWO = ("circle", "simclr")


def small(out: Path, **more: Any) -> Comparison:
    given: dict[str, Any] = {"methods": TWO, "seeds": 2, "steps": 8, "settings": SMALL, "progress": False, **more}
    return compare(clusters(classes=16, each=6), out=out, **given)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that trainings begin in, in order."""
    real, seen = work.trained, list[str]()

    def trained(settings: Any, items: Items, steps: int, folder: Path, *more: Any) -> Any:
        seen.append(folder.name)
        return real(settings, items, steps, folder, *more)

    monkeypatch.setattr(work, "trained", trained)
    return seen


# Split and what is equal


def test_test_and_validation_classes_are_of_no_training() -> None:
    x, labels = clusters(classes=16, each=6)
    names = np.array([f"class {label}" for label in labels])
    split = split_classes((x, names), None, {}, 0.5, 0.3, 0, progress=False)
    assert split.fit is not None
    assert split.validation is not None
    parts = {"train": split.train, "test": split.test, "fit": split.fit, "validation": split.validation}
    classes = {name: set(part.label_names) for name, part in parts.items()}
    assert {name: len(found) for name, found in classes.items()} == {"train": 8, "test": 8, "fit": 6, "validation": 2}
    assert classes["train"] | classes["test"] == set(names)
    assert not classes["train"] & classes["test"]
    assert classes["fit"] | classes["validation"] == classes["train"]
    assert not classes["fit"] & classes["validation"]
    for part in parts.values():
        assert part.labels is not None
        assert [part.label_names[label] for label in part.labels] == [names[int(row)] for row in part.ids]
        assert set(part.labels) == set(range(len(part.label_names)))
        np.testing.assert_array_equal(part.values, x[[int(row) for row in part.ids]])
    again = split_classes((x, names), None, {}, 0.5, 0.0, 0, progress=False)
    assert again.test.ids == split.test.ids  # whether there are trials or not
    assert split_classes((x, names), None, {}, 0.5, 0.0, 1, progress=False).test.ids != split.test.ids


def test_a_test_set_of_its_own() -> None:
    data, test = clusters(classes=6), clusters(classes=8, seed=1)
    split = split_classes(data, (test[0], test[1] + 4), {}, 0.5, 0.0, 0, progress=False)
    assert (len(split.train.label_names), len(split.test.label_names)) == (6, 8)
    assert split.said.startswith("2 of the 8 classes")


def test_training_items_are_no_test_items() -> None:
    data, test = clusters(classes=6), clusters(classes=8, seed=1)
    test[0][[9, 30]] = data[0][[17, 3]]
    names = [f"kind {label}" for label in test[1]]  # of another name, but the same item
    with pytest.raises(LikewiseError, match=r"item '9' of .* has the content of item '17' of .* would be"):
        split_classes(data, (test[0], names), {}, 0.5, 0.0, 0, progress=False)


def test_copies_on_both_sides_of_the_split_are_named() -> None:
    x, labels = clusters(classes=16, each=6)
    whole = split_classes((x, labels), None, {}, 0.5, 0.0, 0, progress=False)
    assert "copies" not in whole.said
    trained, tested = whole.train.ids[4], whole.test.ids[7]
    x[int(tested)] = x[int(trained)]
    said = (
        f"1 of the 48 test items are copies of training items under another label \\(such as '{tested}' of '{trained}'"
    )
    with pytest.warns(LikewiseWarning, match=said):
        split = split_classes((x, labels), None, {}, 0.5, 0.0, 0, progress=False)
    assert split.said.endswith("so training sees them")


@pytest.mark.parametrize("kind", ["images", "vectors"])
def test_all_but_the_method_is_equal(kind: Any) -> None:
    values = np.zeros((80, 8, 8, 3), np.uint8) if kind == "images" else np.zeros((80, 5), np.float32)
    labels = np.arange(80) % 10
    items = Items(
        ids=tuple(map(str, range(80))), values=values, kind=kind, labels=labels, label_names=tuple("abcdefghij")
    )
    plans = [
        flatten(equalised(name, {"views.flip": 0.0}, items))
        for name, method in METHODS.items()
        if not method.settings.related and not method.settings.of_words
    ]
    with pytest.raises(
        LikewiseError, match="method ranking trains with a file of relations, and a comparison has none"
    ):
        equalised("ranking", {}, items)
    free = ("objective.", "negatives.", "bank.", "queue.", "batch.", "key_encoder.")
    own = {"method", "alike", "dictionary", "symmetric", "epochs", "sampler.kind", "optim.lr", "optim.weight_decay"}
    own |= {"encoder.unit", "encoder.centre", "encoder.bn_groups", "loss_weight"}
    for name in set().union(*plans):
        if name not in own and not name.startswith(free):
            assert len({str(plan[name]) for plan in plans}) == 1, name
    assert (plans[0]["sampler.per_class"], plans[0]["batch_size"], plans[0]["views.flip"]) == (8, 80, 0.0)
    for plan in plans:
        assert plan["encoder.centre"] == plan["encoder.unit"]


def test_a_setting_that_no_method_uses_is_said() -> None:
    items = open_items(clusters(classes=8, each=6))
    given = {"queue.size": 32, "bank.momentum": 0.1, "clusters": {"level": 1}, "views": {"flip": 0.1, "noise": 0.2}}
    for methods, said in (
        (("circle", "moco"), ["bank", "clusters", "views"]),
        (("npid",), ["queue", "clusters", "views"]),
    ):
        plans = {method: equalised(method, given, items) for method in methods}
        lines = unused_by_all(given, plans, plans, items)
        assert [line.removeprefix("warning: ").partition(".")[0] for line in lines] == said
        assert "views.flip is not used here, but with images." in lines[-1]


# Cells


def test_methods_and_seeds_make_a_table_a_plot_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, steps = loop.train, list[int]()

    def counted(run: Any, *given: Any, **more: Any) -> None:
        real(run, *given, **more)
        steps.append(run.session.step)

    monkeypatch.setattr("likewise.training.fit.train", counted)
    found = small(tmp_path)
    assert steps == [8] * 4
    assert [row.method for row in found.rows[:2]] in ([*TWO], [*reversed(TWO)])
    assert [row.method for row in found.rows[2:]] == ["raw", "untrained"]
    assert found.rows[0].mean["map@r"] >= found.rows[1].mean["map@r"]
    assert not found.failed
    lines = [json.loads(line) for line in (tmp_path / "cells.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * 2 + 1 + 2
    assert (
        len({(line["question"]["train"], line["question"]["test"], line["question"]["steps"]) for line in lines}) == 1
    )
    split = split_classes(clusters(classes=16, each=6), None, {}, 0.5, 0.0, 0, progress=False)
    for row in found.rows[:2]:
        for seed, value in zip(row.seeds, row.values["map@r"], strict=True):  # the model kept says the same
            model = load(tmp_path / f"{row.method}-seed-{seed}")
            assert (model.settings.seed, model.settings.method) == (seed, row.method)
            labels = torch.from_numpy(np.array(split.test.labels))
            assert retrieval(model.features(split.test), labels).map_at_r == pytest.approx(value, abs=1e-6)
    about = json.loads((tmp_path / "compare.json").read_text())
    text, drawn = (tmp_path / "compare.md").read_text(), (tmp_path / "compare.svg").read_text()
    for row, kept in zip(found.rows, about["rows"], strict=True):
        assert kept["values"]["recall@1"] == list(row.values["recall@1"])
        assert f"{100 * row.mean['map@r']:.1f}" in text
    assert "8 of 16 classes, drawn by seed 0, are test classes" in text
    assert "8 steps of 16 items" in text
    assert all(f">{name}<" in drawn for name in (*TWO, "MAP@R, %", "Recall@1, %", "untrained encoder"))
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr() == ("", "")


def test_what_was_stopped_goes_on_and_nothing_is_trained_twice(
    tmp_path: Path, count: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small(tmp_path / "whole")
    assert count == ["circle-seed-0", "simclr-seed-0", "circle-seed-1", "simclr-seed-1"]
    count.clear()
    real, steps = loop.train_step, list[str]()

    def stopped(session: Any, batch: Any) -> Any:
        steps.append(count[-1])
        if steps.count("simclr-seed-0") == 3:
            signal.raise_signal(signal.SIGINT)  # the step ends and is saved
        return real(session, batch)

    monkeypatch.setattr(loop, "train_step", stopped)
    with pytest.raises(Interrupted, match="step 3 of 8"):
        small(tmp_path / "parts")
    assert (tmp_path / "parts/simclr-seed-0/checkpoint.pt").exists()
    count.clear()
    parts = small(tmp_path / "parts")
    assert count == ["simclr-seed-0", "circle-seed-1", "simclr-seed-1"]
    count.clear()
    again = small(tmp_path / "parts")
    assert count == []
    assert again.rows == parts.rows
    assert parts.rows == whole.rows  # to the last bit
    assert steps.count("simclr-seed-0") == 8
    other = small(tmp_path / "parts", steps=4, methods=["circle"], seeds=1, baselines=False)  # another question
    assert count == ["circle-seed-0"]
    assert [row.method for row in other.rows] == ["circle"]


def test_a_cell_that_fails_does_not_lose_the_rest(
    tmp_path: Path, count: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.train

    def fails(*given: Any, **more: Any) -> None:
        if count[-1] == "circle-seed-0":
            raise RuntimeError("out of memory\nand more")
        if count[-1] == "circle-seed-1":
            raise LikewiseError("the loss is not a number.")
        real(*given, **more)

    monkeypatch.setattr("likewise.training.fit.train", fails)
    found = small(tmp_path)
    assert found.failed == {
        "circle-seed-0": "RuntimeError: out of memory",
        "circle-seed-1": "the loss is not a number.",
    }
    assert [(row.method, row.seeds) for row in found.rows if not row.baseline] == [("simclr", (0, 1))]
    assert "FAILED circle-seed-1: the loss is not a number." in (tmp_path / "compare.md").read_text()
    count.clear()
    monkeypatch.setattr("likewise.training.fit.train", real)
    assert not small(tmp_path).failed
    assert count == ["circle-seed-0", "circle-seed-1"]
    assert all("found" in answer for answer in Answers(tmp_path / "cells.jsonl").known.values())


def test_a_run_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "circle-seed-0").mkdir()
    (tmp_path / "circle-seed-0/checkpoint.pt").write_text("precious")
    found = small(tmp_path, methods=["circle"], seeds=1, baselines=False)
    assert "was not made by compare" in found.failed["circle-seed-0"]
    assert found.rows == ()
    assert (tmp_path / "circle-seed-0/checkpoint.pt").read_text() == "precious"


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answers that have one of these words can't be written."""
    real, words = Answers.add, list[str]()

    def add(answers: Answers, question: Any, answer: Any) -> None:
        if any(word in json.dumps([question, answer]) for word in words):
            raise FULL
        real(answers, question, answer)

    monkeypatch.setattr(Answers, "add", add)
    return words


def test_a_full_disk_does_not_lose_the_rest(
    tmp_path: Path, count: list[str], full: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.train

    def fails(*given: Any, **more: Any) -> None:
        if count[-1] == "circle-seed-0":
            raise RuntimeError("out of memory")
        real(*given, **more)

    monkeypatch.setattr("likewise.training.fit.train", fails)
    full.append("out of memory")  # the failure itself can't be written down
    found = small(tmp_path)
    assert found.failed == {"circle-seed-0": "RuntimeError: out of memory"}
    assert {row.method: row.seeds for row in found.rows if not row.baseline} == {"circle": (1,), "simclr": (0, 1)}


def test_what_a_full_disk_stopped_goes_on(tmp_path: Path, full: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small(tmp_path / "whole", methods=["circle"])
    real, steps = loop.train_step, list[int]()

    def counted(session: Any, batch: Any) -> Any:
        steps.append(session.step)
        return real(session, batch)

    monkeypatch.setattr(loop, "train_step", counted)
    full.append('"circle"')
    assert set(small(tmp_path / "parts", methods=["circle"]).failed) == {"circle-seed-0", "circle-seed-1"}
    assert len(steps) == 2 * 8
    full.clear()
    again = small(tmp_path / "parts", methods=["circle"])
    assert not again.failed
    assert len(steps) == 2 * 8  # from the checkpoints of the last step
    assert [row.values for row in again.rows] == [row.values for row in whole.rows]


def test_a_table_that_cant_be_written_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Any) -> Any:
        raise FULL

    monkeypatch.setattr(comparing, "atomic_write", write)
    found = small(tmp_path, methods=["circle"], seeds=1)
    assert len(found.rows) == 3
    assert list(found.failed) == ["compare.md"]
    assert "No space left" in found.failed["compare.md"]


def test_a_baseline_that_fails_is_a_failed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: Any, **more: Any) -> None:
        raise MemoryError("too many pixels")

    with monkeypatch.context() as patch:
        patch.setattr(work, "raw_rows", fails)
        found = small(tmp_path, methods=["circle"], seeds=1)
    assert found.failed == {"raw-seed-0": "MemoryError: too many pixels"}
    assert [row.method for row in found.rows] == ["circle", "untrained"]
    assert not small(tmp_path, methods=["circle"], seeds=1).failed


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


DAMAGES = [
    ("circle-seed-1/per_query.npy", b""),
    ("circle-seed-1/per_query.npy", b"nonsense"),
    ("circle-seed-1/per_query.npy", b"PK\x03\x04nonsense"),
    ("circle-seed-1/per_query.npy", None),  # cut off
    ("circle-seed-1/per_query.npy", npy(np.zeros(3))),
    ("circle-seed-1/per_query.npy", npy(np.zeros((3, 48), np.float32))),
    ("circle-seed-1/question.json", b'{"what":'),
    ("circle-seed-1/question.json", b"[]"),
    ("circle-seed-1/question.json", b"\xff"),
    ("raw-seed-0/per_query.npy", b"nonsense"),
]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    place = tmp_path_factory.mktemp("done") / "out"
    return place, small(place, methods=["circle"])


@pytest.mark.parametrize(("name", "content"), DAMAGES, ids=range(len(DAMAGES)))
def test_damaged_files_are_no_answer(
    name: str, content: bytes | None, done: tuple[Path, Comparison], tmp_path: Path, count: list[str]
) -> None:
    out = shutil.copytree(done[0], tmp_path / "out")
    path = out / name
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    again = small(out, methods=["circle"])
    assert count == ["circle-seed-1"] * name.startswith("circle")
    assert not again.failed
    assert again.rows == done[1].rows
    count.clear()
    assert small(out, methods=["circle"]).rows == again.rows
    assert count == []


@pytest.mark.parametrize("change", [{"likewise": "9.9"}, {"device": "cuda"}], ids=str)
def test_answers_of_another_state_are_kept_and_named(
    change: dict[str, str],
    done: tuple[Path, Comparison],
    tmp_path: Path,
    count: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert done[1].made == ""
    out = shutil.copytree(done[0], tmp_path / "out")
    real = work.state_now
    monkeypatch.setattr(work, "state_now", lambda device: real(device) | change)
    found = small(out, methods=["circle"], seeds=3)
    assert count == ["circle-seed-2"]  # no answer is thrown away
    note = next(note for note in found.notes() if "another state" in note)
    assert note.startswith("5 of 7 cells were made with another state")
    assert f"{next(iter(change))} {next(iter(change.values()))}" in note
    assert note.count("circle-seed-0") == note.count("circle-seed-1") == note.count("raw-seed-0") == 1
    assert "circle-seed-2" not in note
    assert f"To make all cells again, delete {out / 'cells.jsonl'}, or name a new --out." in note
    assert note in (out / "compare.md").read_text()
    (out / "cells.jsonl").unlink()
    count.clear()
    assert small(out, methods=["circle"], seeds=1).made == ""
    assert count == ["circle-seed-0"]


def test_answers_from_before_states_were_kept(done: tuple[Path, Comparison], tmp_path: Path, count: list[str]) -> None:
    out = shutil.copytree(done[0], tmp_path / "out")
    lines = [json.loads(line) for line in (out / "cells.jsonl").read_text().splitlines()]
    for line in lines:
        assert set(line["made"][0]) == {"likewise", "code", "torch", "device"}
        del line["made"]
    (out / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = small(out, methods=["circle"])
    assert count == []
    assert found.rows == done[1].rows
    assert "5 of 5 cells" in found.made
    assert "(state not recorded)" in found.made


def test_a_training_that_two_states_worked_on_names_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"methods": ["circle"], "seeds": 1, "baselines": False}
    real, state = loop.train_step, work.state_now

    def stopped(session: Any, batch: Any) -> Any:
        if session.step == 2:
            signal.raise_signal(signal.SIGINT)
        return real(session, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stopped)
        patch.setattr(work, "state_now", lambda device: state(device) | {"code": "0ld"})
        with pytest.raises(Interrupted):
            small(tmp_path, **one)
    found = small(tmp_path, **one)
    assert "1 of 1 cells" in found.made
    assert found.made.index("code 0ld") < found.made.index(", then likewise")


# Tuning


def test_trials_see_no_test_class_and_are_not_repeated(
    tmp_path: Path, count: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, given = work.tune, list[tuple[set[str], set[str]]]()

    def watched(at: Any, method: str, settings: Any, trials: int, fit: Items, validation: Items) -> Any:
        given.append((set(fit.ids), set(validation.ids)))
        return real(at, method, settings, trials, fit, validation)

    monkeypatch.setattr(work, "tune", watched)
    tuned = {"trials": 2, "seeds": 1, "steps": 6, "baselines": False}
    found = small(tmp_path, **tuned)
    trials = [f"{method}-trial-{number}" for method in TWO for number in range(2)]
    assert count == [*trials, "circle-seed-0", "simclr-seed-0"]
    split = split_classes(clusters(classes=16, each=6), None, {}, 0.5, 0.3, 0, progress=False)
    for fit, validation in given:
        assert fit | validation == set(split.train.ids)
        assert not fit & validation
        assert not (fit | validation) & set(split.test.ids)
    lines = [json.loads(line) for line in (tmp_path / "cells.jsonl").read_text().splitlines()]
    by_name = {line["question"]["what"]: line for line in lines}
    for method in TWO:
        tried = [by_name[f"{method} trial {number}"] for number in range(2)]
        best = max(tried, key=lambda line: line["found"]["map@r"])
        row = next(row for row in found.rows if row.method == method)
        assert row.knobs == best["knobs"]
        own = METHODS[method].settings.optim
        first = own.lr if own.name == "sgd" else OptimSettings().lr  # LARS becomes the default SGD
        assert tried[0]["knobs"]["optim.lr"] == first
        assert tried[1]["knobs"] != tried[0]["knobs"]
        assert load(tmp_path / f"{method}-seed-0").settings.optim.lr == row.knobs["optim.lr"]
        about = json.loads((tmp_path / f"{method}-seed-0/data.json").read_text())
        assert about["items"] == len(split.train)  # all training classes in the end
    assert not list(tmp_path.glob("*-trial-*"))
    count.clear()
    kept = [line for line in lines if line["question"]["what"] not in ("simclr trial 1", "simclr")]
    (tmp_path / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    assert small(tmp_path, **tuned).rows == found.rows  # the trial is the same one again
    assert count == ["simclr-trial-1", "simclr-seed-0"]


def test_a_trial_that_fails_does_not_lose_the_method(
    tmp_path: Path, count: list[str], full: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, out = loop.train, list[Exception]([RuntimeError("out of memory")])

    def fails(*given: Any, **more: Any) -> None:
        if count[-1] == "circle-trial-0":
            raise out[0]
        real(*given, **more)

    monkeypatch.setattr("likewise.training.fit.train", fails)
    full.append("circle trial 1")  # an answer that can't be written down
    tuned = {"methods": ["circle"], "trials": 3, "seeds": 1, "steps": 4, "baselines": False}
    found = small(tmp_path, **tuned)
    assert count == ["circle-trial-0", "circle-trial-1", "circle-trial-2", "circle-seed-0"]
    assert not found.failed
    answers = {known["question"]["what"]: known for known in Answers(tmp_path / "cells.jsonl").known.values()}
    assert answers["circle trial 0"]["failed"] == "RuntimeError: out of memory"
    assert found.rows[0].knobs == answers["circle trial 2"]["knobs"]
    assert not list(tmp_path.glob("*-trial-*"))
    out[0] = Interrupted("stop")
    with pytest.raises(Interrupted):
        small(tmp_path, **tuned)


def test_every_method_has_the_knobs_of_its_objective() -> None:
    found = {name: knobs_of(decide(method.settings, 100)) for name, method in METHODS.items() if name in OF_ITEMS}
    assert all("optim.lr" in knobs for knobs in found.values())
    assert set(found["circle"]) == {"optim.lr", "objective.margin", "objective.gamma"}
    assert set(found["npid"]) == set(found["moco"]) == {"optim.lr", "objective.temperature"}
    assert set(found["histogram"]) == {"optim.lr"}
    assert found["sphereface"]["objective.margin"] == Knob(default=4, low=1, high=4, whole=True)
    for knobs in found.values():
        assert all(knob.low < knob.high and knob.low <= knob.default <= knob.high for knob in knobs.values())


def test_every_supervised_method_says_whose_its_learning_rate_is() -> None:
    for method in (*PAIRS, *CLASSES):
        assert any(line.startswith("the learning rate is ours") for line in method.departures), method.name


def test_proposals_are_a_pure_function_and_stay_in_range() -> None:
    knobs = knobs_of(decide(METHODS["sphereface"].settings, 100))
    done = list[tuple[dict[str, float], float | None]]()
    for number in range(14):  # beyond TPE's ten random ones; some failed
        values = propose(knobs, done)
        assert values == propose(knobs, done)
        assert all(knob.low <= values[name] <= knob.high for name, knob in knobs.items())
        assert values["objective.margin"] == int(values["objective.margin"])
        done.append((values, None if number % 5 == 4 else -abs(math.log(values["optim.lr"] / 0.1))))
    assert done[0][0] == {"optim.lr": 0.05, "objective.margin": 4.0}


# Paired tests


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9, 30])
def test_the_t_test_is_the_area_of_both_tails(n: int) -> None:
    """By the trapezoidal rule over φ with x = √ν tan φ: then the density of t is proportional to cos^(ν−1) φ."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 200_001)
    density = np.cos(angles) ** (n - 2)
    random = np.random.default_rng(n)
    for shift in (0.0, 0.3, 3.0):
        differences = random.normal(shift, 1, n)
        t = differences.mean() / (differences.std(ddof=1) / math.sqrt(n))
        beyond = np.abs(angles) >= math.atan(abs(t) / math.sqrt(n - 1))
        assert paired_t(differences.tolist()) == pytest.approx(density[beyond].sum() / density.sum(), abs=2e-5)
    assert paired_t([0.0] * n) == 1.0
    assert paired_t([0.1] * n) == 0.0
    with pytest.raises(LikewiseError, match="two differences"):
        paired_t([0.1])


@pytest.mark.parametrize("classes", [1, 2, 5, 9])
def test_the_sign_flip_test_is_the_loop_over_all_signs(classes: int) -> None:
    random = np.random.default_rng(classes)
    differences, units = random.normal(0.3, 1, 40), random.integers(0, classes, 40)
    differences[:3] = np.nan
    units[3 : 3 + classes] = np.arange(classes)
    known = ~np.isnan(differences)
    seen = abs(differences[known].sum())
    as_far = [
        abs(sum(signs[unit] * d for unit, d in zip(units[known], differences[known], strict=True))) >= seen - 1e-9
        for signs in product((1, -1), repeat=classes)
    ]
    assert sign_flip(differences, units) == pytest.approx(np.mean(as_far))


def test_the_sign_flip_test_of_many_units() -> None:
    random = np.random.default_rng(0)
    for shift in (0.0, 0.2, 0.4):
        differences = random.normal(shift, 1, 60)
        expected = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=random
        ).pvalue
        assert sign_flip(differences) == pytest.approx(expected, abs=0.015)
        assert sign_flip(differences) == sign_flip(differences)
    assert sign_flip(np.zeros(60)) == 1.0
    together = np.repeat(random.normal(0, 1, 6), 10)  # sixty items that are six
    assert sign_flip(together + 0.8) < sign_flip(together + 0.8, np.repeat(np.arange(6), 10))
    with pytest.raises(LikewiseError, match="no pair"):
        sign_flip(np.array([np.nan]))


def outcomes(method: str, seeds: dict[int, np.ndarray | None], baseline: bool = False) -> list[Outcome]:
    """The outcomes of a method, one for each seed, from the values of every item; None: no values."""
    found = []
    for seed, each in seeds.items():
        one = Outcome(method=method, seed=seed, baseline=baseline, failed="no luck." if each is None else "")
        if each is not None:
            measures = dict.fromkeys(MEASURES, float(each.mean()))
            one = replace(one, measures=measures, per_query=np.stack([each] * len(MEASURES)))
        found.append(one)
    return found


def test_a_method_that_lacks_seeds_is_not_ranked_first() -> None:
    labels = np.repeat(np.arange(6), 5)
    each = {seed: np.random.default_rng(seed).uniform(0, 0.1, 30) for seed in range(3)}
    lucky = outcomes("lucky", {0: each[0] + 0.9, 1: None, 2: None})
    steady = outcomes("steady", {seed: each[seed] + 0.5 for seed in range(3)})
    weak = outcomes("weak", {seed: each[seed] + 0.2 for seed in range(3)})
    found = summarise([*lucky, *weak, *steady], test_labels=labels, protocol="")
    assert [row.method for row in found.rows] == ["steady", "weak", "lucky"]
    assert found.rows[2].difference == pytest.approx(0.4)
    assert [cells[-1] for cells in found.table()[1]] == ["3", "3", "1 of 3"]
    assert "without failed seeds: lucky (1 of 3 seeds)." in "\n".join(found.notes())
    assert not any("missing" in note for note in summarise(steady, test_labels=labels, protocol="").notes())


def test_baselines_are_tested_against_the_best_method() -> None:
    labels, random = np.repeat(np.arange(9), 4), np.random.default_rng(0)
    best, other, untrained = ({seed: random.uniform(at, at + 0.3, 36) for seed in range(3)} for at in (0.6, 0.5, 0.0))
    raw = random.uniform(0.2, 0.3, 36)
    all_of_them = [*outcomes("raw", {0: raw}, True), *outcomes("untrained", untrained, True)]
    all_of_them += [*outcomes("other", other), *outcomes("best", best)]
    found = summarise(all_of_them, test_labels=labels, protocol="")
    assert [row.method for row in found.rows] == ["best", "other", "raw", "untrained"]
    assert (found.rows[0].difference, found.rows[0].p_classes) == (None, None)
    rows, p = {row.method: row for row in found.rows}, list[float]()
    for name, each in (("other", other), ("raw", dict.fromkeys(range(3), raw)), ("untrained", untrained)):
        apart = [each[seed] - best[seed] for seed in range(3)]
        assert rows[name].difference == pytest.approx(np.mean(apart))
        assert rows[name].p_seeds == pytest.approx(stats.ttest_1samp([a.mean() for a in apart], 0).pvalue)
        p.append(sign_flip(np.mean(apart, 0), labels))
    assert [rows[name].p_classes for name in ("other", "raw", "untrained")] == holm(p)
    assert rows["raw"].p_classes == 2 * 3 / 2**9  # the least there is, of three rows and nine classes
    assert all(cells[4].startswith("−") and cells[5] and cells[6] for cells in found.table()[1][1:])


def test_what_the_notes_say_of_steps_and_of_methods_without_a_common_seed(capsys: pytest.CaptureFixture[str]) -> None:
    labels, random = np.repeat(np.arange(6), 5), np.random.default_rng(0)
    best = outcomes("best", {0: random.uniform(0.5, 1, 30)})
    other = outcomes("other", {1: random.uniform(0, 0.5, 30)})
    both = [
        replace(one, measures={**one.measures, "items_per_step": size})
        for one, size in zip([*best, *other], (16.0, 15.5), strict=True)
    ]
    found = summarise(both, test_labels=labels, protocol="")
    assert [(row.method, row.difference, row.p_classes) for row in found.rows] == [
        ("best", None, None),
        ("other", None, None),
    ]
    assert any("evenly: best 16.0, other 15.5." in note for note in found.notes())
    comparing.print_comparison(replace(found, failed={comparing.TABLE: "No space left on device."}), Path("out"))
    assert "Written:" not in capsys.readouterr().out


def test_a_method_whose_trials_all_fail_is_left_out_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = work.trained

    def trained(settings: Any, items: Items, steps: int, folder: Path, *more: Any) -> Any:
        if "circle" in folder.name:
            raise RuntimeError("no luck")
        return real(settings, items, steps, folder, *more)

    monkeypatch.setattr(work, "trained", trained)
    found = small(tmp_path / "out", seeds=1, steps=1, trials=1, baselines=False)
    assert [row.method for row in found.rows] == ["simclr"]
    (reason,) = found.failed.values()
    assert reason.startswith("its trials failed: none of 1 trainings could be measured; see ")


SPLITS = [  # training labels, test, validation share, message
    ([0] * 8, None, 0.0, "has only one label|has one label|2 labels|classes"),
    (list(range(8)), None, 0.0, "of the 4 classes held out of .* none has two items"),
    ([0, 0, 1, 1, 2, 2, 3, 3], "images", 0.0, "holds images, but .* holds vectors"),
    ([0] * 8, "vectors", 0.0, "has one label only; training by labels needs two classes at least"),
    ([[0, 1]] * 8, None, 0.0, "has several labels per item; a split by classes needs one each"),
]


@pytest.mark.parametrize(("labels", "test", "validation", "message"), SPLITS)
def test_what_cannot_be_split_by_classes(labels: list[Any], test: str | None, validation: float, message: str) -> None:
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    tests = {
        "images": (np.random.default_rng(1).integers(0, 255, (4, 8, 8, 3)).astype(np.uint8), [0, 0, 1, 1]),
        "vectors": (x[:4] + 1, [0, 0, 1, 1]),
    }
    with pytest.raises(LikewiseError, match=message):
        split_classes((x, np.array(labels)), tests.get(test or ""), {"size": 8}, 0.5, validation, 0, progress=False)


def test_shares_and_processes_that_compare_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LikewiseError, match="test_share must be a share between 0 and 1, but is 1"):
        small(tmp_path / "out", test_share=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LikewiseError, match="in one process; start it without torchrun"):
        small(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


# The command line


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    place = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name in ("all/a", "all/b", "all/c", "all/d", "two/a", "two/b", "flat"):
        (place / name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(place / name / f"{number}.png")
    return place


MISTAKES = [
    ("all --methods circle --set device=meta", "device 'meta' can't be used here"),
    ("all --methods circle --test all", "has the content of item 'a/0.png' of all"),
    ("all --methods circle,facenett", "no method 'facenett'. Did you mean 'facenet'?"),
    ("all --methods circle,circle", "'circle' is named twice"),
    ("all --methods cosface,AMSoftmax", "'cosface' is named twice"),
    ("all --methods ,", "no method is named"),
    ("two --methods circle", "two has too few classes: 2 are left to divide, and training and test need two each"),
    ("all --methods circle --trials 2", "too few classes: 2 are left|validation classes need two each"),
    ("flat --methods circle", "flat has no labels, which the split by classes needs: put images in a folder per class"),
    ("all --methods circle --seeds 0", "--seeds is 0; it must be a whole number from 1 to 10,000."),
    ("all --methods circle --steps 0", "--steps is 0; it must be a whole number from 1"),
    ("all --methods circle --steps 3 --epochs 2", "--epochs and --steps both set"),
    ("all --methods circle --set views.flipp=1", "no setting 'views.flipp'. Did you mean 'views.flip'?"),
    ("all --methods circle --set seed=1", "compare sets seed of every training itself"),
    ("all --methods circle,npair --set objective.margin=0.3", "objective npair has no parameter 'margin'"),
    ("all --methods circle --set batch_size=64", "64 is 16 classes of sampler.per_class=4 items, but"),
    ("all --methods circle --set flip", "--set takes NAME=VALUE"),
    ("nowhere --methods circle", "nowhere does not exist"),
    ("all", "needs --methods"),
]


@pytest.mark.parametrize(("line", "expected"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_sentence_and_code_2(
    line: str, expected: str, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos)
    monkeypatch.setenv("LIKEWISE_CACHE", str(photos / "cache"))
    try:
        code: object = main(["compare", *line.split(), "--out", "out"])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("likewise: ")
    for part in expected.split("|"):
        assert part in said.err


@pytest.mark.parametrize(("package", "option"), [("optuna", "--trials"), ("scipy", "--seeds")])
def test_what_is_not_installed_is_said_first(
    package: str, option: str, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["compare", str(photos / "all"), "--methods", "circle", option, "2", "--out", "x"]) == 2
    assert 'pip install "likewise[compare]"' in capsys.readouterr().err


def test_the_command_line(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIKEWISE_CACHE", str(photos / "cache"))
    words = ["compare", str(photos / "all"), "--methods", "circle", "--seeds", "1", "--steps", "2"]
    words += ["--out", str(tmp_path / "a folder"), "--set", "size=8", "encoder.dim=4"]
    real = loop.train

    def stop(*given: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("likewise.training.fit.train", stop)
    assert main(words) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"likewise: Stopped. Continue with: likewise compare {photos / 'all'} --methods circle --out "
        f"'{tmp_path / 'a folder'}' --seeds 1 --steps 2 --set size=8 encoder.dim=4"
    )
    monkeypatch.setattr("likewise.training.fit.train", real)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(words) == 0
    said_now = capsys.readouterr()
    assert "1 of 1, circle-seed-0: MAP@R" in said_now.err
    assert "No plot: plots are drawn with matplotlib" in said_now.err
    assert "untrained encoder" in said_now.out
    assert "2 of 4 classes, drawn by seed 0, are test classes" in said_now.out
    assert open_items(str(photos / "all"), size=8, progress=False).ids  # untouched

    def fails(*given: Any, **more: Any) -> None:
        raise LikewiseError("no luck.")

    monkeypatch.setattr("likewise.training.fit.train", fails)
    assert main([*words, "--methods", "circle,simclr"]) == 1
    assert "FAILED simclr-seed-0: no luck." in capsys.readouterr().out
