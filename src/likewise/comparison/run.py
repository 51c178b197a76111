"""``likewise compare``: methods with the same encoder, views, budget and split, measured on unseen classes.

``likewise.comparison.table`` has the result: table, paired tests and plot.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from likewise.comparison.answers import (
    PER_QUERY,
    QUESTION,
    UNKNOWN,
    Answers,
    Question,
    State,
    claim_folder,
    describe_states,
    fingerprint,
    per_query_in,
    question_in,
    state_now,
)
from likewise.comparison.equal import equalised, items_per_step, resolved, unused_by_all
from likewise.comparison.split import Split, of_data, split_classes
from likewise.comparison.statistics import scipy_stats
from likewise.comparison.table import (
    MEASURES,
    RAW,
    TABLE,
    Comparison,
    Outcome,
    measured,
    print_comparison,
    summarise,
    write_comparison,
)
from likewise.comparison.tuning import knob_values, knobs_of, optuna_module, propose
from likewise.config.overrides import assigned, flatten, settings_from
from likewise.config.settings import FitSettings
from likewise.config.yaml_file import CONFIG
from likewise.console import stages
from likewise.data import Items
from likewise.errors import Interrupted, LikewiseError
from likewise.evaluation.baselines import embedded, raw_rows
from likewise.files import as_path, atomic_write
from likewise.methods import method_named
from likewise.model import Model
from likewise.text import readable
from likewise.training.build import pick_device
from likewise.training.checkpoint import CHECKPOINT
from likewise.training.decide import decide
from likewise.training.fit import complete
from likewise.training.needs import check_memory
from likewise.training.run import begin
from likewise.training.run_folder import CELLS, make_folder, removed_if_refused
from likewise.training.run_lock import written_by_one

TUNING_SEED = 10_000  # seed of every trial; the final trainings have other seeds
# set by the comparison or the method, not by the user
OURS = ("method", "seed", "epochs", "minutes", "recipe", "alike", "relations")


def compare(
    data: object,
    *,
    methods: Sequence[str],
    seeds: int = 3,
    out: str | Path,
    settings: Mapping[str, Any] | None = None,
    epochs: int = 60,
    steps: int | None = None,
    test: object | None = None,
    test_share: float = 0.5,
    split_seed: int = 0,
    trials: int = 0,
    validation_share: float = 0.3,
    baselines: bool = True,
    progress: bool = True,
) -> Comparison:
    """Trains every method with every seed on some classes, and retrieves items of other classes.

    All methods have the same split, encoder, length of the embedding, views, SGD with momentum and a cosine rate,
    steps, and items per step. A method keeps its own objective, dictionary, negatives, learning rate and weight decay
    (if its optimizer is SGD; else the defaults), rows of length 1 or not, and BatchNorm groups. A queue has at most as
    many keys as there are training items.

    ``trials`` trainings choose each method's learning rate and, if its objective has them, margin, γ and temperature.
    The first trial has the method's own values; Optuna's TPE proposes the next ones. The score of a trial is MAP@R on
    validation classes, which are a part of the training classes. With the best values the method then trains on all
    training classes. Only these final models see test classes.

    A cell is a method with a seed. Its result, the answer, is a line of OUT/cells.jsonl together with its question:
    everything that the result depends on. A second call trains no question again that has an answer, and continues a
    stopped training from its checkpoint. An answer stays valid when the code changes; the notes then name the answers
    that another state of likewise, torch or the device made. A cell that fails is recorded with its reason, and the
    others continue.

    Args:
        data: source of labelled items, one label each; at least 4 classes, 8 with trials; half as many with ``test``.
        methods: names of ``likewise methods``; a method that needs no labels trains without them.
        seeds: number of trainings of each method, with seeds 0, 1 ...
        out: folder of runs (METHOD-seed-S), cells.jsonl, compare.md, compare.json, compare.png and .svg.
        settings: overrides for all methods, by dotted name.
        epochs: passes over the training items; the number of steps follows from it.
        steps: number of steps of every training, instead of ``epochs``.
        test: source of labelled test items, none with the content of a training item; None: ``test_share`` of the
            classes of ``data``, drawn by ``split_seed``.
        test_share: share of the classes that are test classes.
        split_seed: seed of the draw of test and validation classes.
        trials: number of trainings that choose each method's hyper-parameters; 0: the method's own values, which are
            likewise's learning rate and the paper's margin, γ and τ.
        validation_share: share of the training classes that are validation classes in trials.
        baselines: whether to measure raw pixels (or vectors), and the untrained encoder of every seed.
        progress: print lines on standard error.

    Returns:
        The rows of the table and its notes; also written to OUT.

    Raises:
        LikewiseError: unknown methods, settings that some method refuses, a missing device, too few classes, no labels,
            training items in ``test``, a damaged cells.jsonl, or another process that writes ``out``.
        Interrupted: Ctrl-C was pressed; finished answers are kept.

    Cost: methods × (seeds + trials) trainings, and for each an exact retrieval among the test items.
    """
    overrides, methods = dict(settings or {}), [method_named(name).name for name in methods]
    _check_plan(methods, overrides, seeds, epochs if steps is None else steps, trials, test_share, validation_share)
    device = pick_device(of_data(overrides).device)  # raises if the device is missing
    folder = as_path(out, "--out")
    if (folder / CONFIG).exists():
        raise LikewiseError(f"{folder} holds a run of fit; name another --out.")
    made_folders = make_folder(folder)
    with written_by_one(folder), removed_if_refused(made_folders):
        held_out = validation_share if trials else 0.0
        split = split_classes(data, test, overrides, test_share, held_out, split_seed, progress=progress)
        smallest = split.train if split.fit is None else split.fit
        plans = {method: equalised(method, overrides, smallest) for method in methods}
        length = steps or epochs * -(-len(split.train) // plans[methods[0]].batch_size)
        # raises now an error that every cell would have
        used = {method: resolved(plan, smallest, length) for method, plan in plans.items()}
        work = _Work(folder, length, len(methods) * seeds, progress, state_now(device))
        for line in unused_by_all(overrides, plans, used, smallest):
            work.say(line)
        outcomes = list(work.baselines(plans[methods[0]], seeds, split)) if baselines else []
        tuned, broken = _tuned(work, plans, trials, split)
        for seed in range(seeds):
            for method in methods:
                if method in broken:
                    outcomes.append(Outcome(method=method, seed=seed, failed=broken[method]))
                else:
                    outcomes.append(work.cell(method, seed, tuned[method], split))
        said = _protocol(split, plans, length, seeds, trials)
        made = describe_states(work.made, work.state, work.answers.path)
        data = split.train.stamp("train") | split.test.stamp("test")
        comparison = summarise(outcomes, test_labels=np.asarray(split.test.labels), protocol=said, made=made, data=data)
        try:
            write_comparison(comparison, folder)
        except OSError as error:  # such as a full disk; the result is still shown
            comparison = replace(comparison, failed=comparison.failed | {TABLE: _reason(error)})
        return comparison


def main(
    data: str | Mapping[str, str],
    methods: str,
    assignments: Sequence[str],
    *,
    out: str,
    seeds: int,
    epochs: int | None,
    steps: int | None,
    trials: int,
    test: object,
    labels: str,
    key: str | None,
    image: str | None,
    columns: Sequence[str],
) -> int:
    """``likewise compare``: prints the table; returns 0 if every cell has an answer, 1 if one failed."""
    if epochs is not None and steps is not None:
        raise LikewiseError("--epochs and --steps both set the length of training; leave one out.")
    given = {"key": key, "image": image, "columns": tuple(columns)}
    settings = {"labels": labels, **{name: value for name, value in given.items() if value}, **assigned(assignments)}
    comparison = compare(
        data,
        methods=[name.strip() for name in methods.split(",") if name.strip()],
        seeds=seeds,
        out=out,
        settings=settings,
        epochs=60 if epochs is None else epochs,
        steps=steps,
        test=test,
        trials=trials,
    )
    print_comparison(comparison, Path(out))
    return 1 if comparison.failed else 0


def _check_plan(
    methods: Sequence[str],
    overrides: Mapping[str, Any],
    seeds: int,
    length: int,
    trials: int,
    test: float,
    validation: float,
) -> None:
    if not methods:
        raise LikewiseError("no method is named; give some, such as --methods circle,ms,facenet.")
    if ours := [name for name in OURS if name in overrides]:
        raise LikewiseError(f"compare sets {ours[0]} of every training itself; leave it out of --set.")
    twice = [name for name in dict.fromkeys(methods) if list(methods).count(name) > 1]
    if twice:
        raise LikewiseError(f"method {twice[0]!r} is named twice; name each once.")
    for name, value, least in (("seeds", seeds, 1), ("epochs or steps", length, 1), ("trials", trials, 0)):
        if value < least:
            raise LikewiseError(f"{name} must be at least {least}, but is {value}.")
    for name, share in (("test_share", test), ("validation_share", validation)):
        if not 0 < share < 1:
            raise LikewiseError(f"{name} must be a share between 0 and 1, but is {share}.")
    if trials:
        optuna_module()  # raises if it is missing
    if seeds > 1:
        scipy_stats()  # raises if it is missing
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise LikewiseError("compare trains one run after the other in one process; start it without torchrun.")


class _Work:
    """The folder of a comparison, its answers, its number of steps, and the states that made each answer."""

    def __init__(self, folder: Path, steps: int, cells: int, progress: bool, state: State) -> None:
        self.folder, self.steps, self.bars = folder, steps, progress and sys.stderr.isatty()
        self.cells, self.begun = cells, 0
        self.state, self.made = state, dict[str, list[State]]()
        self.answers = Answers(folder / CELLS)
        self.console = Console(stderr=True, quiet=not progress)
        self._known = dict[int, str]()

    def say(self, text: str) -> None:
        self.console.print(readable(text), highlight=False, markup=False, soft_wrap=True)

    def question(self, what: str, settings: FitSettings, train_on: Items, test_on: Items) -> Question:
        """Everything that the answer depends on, except the state, as values of JSON."""
        flat = {name: value for name, value in flatten(settings).items() if name not in ("cache", "checkpoint_seconds")}
        digest = hashlib.blake2b(json.dumps(flat).encode(), digest_size=16).hexdigest()
        parts = {"train": self._print(train_on), "test": self._print(test_on)}
        return {"what": what, "seed": settings.seed, "steps": self.steps, "settings": digest, **parts}

    def _print(self, items: Items) -> str:
        if id(items) not in self._known:
            self._known[id(items)] = fingerprint(items)
        return self._known[id(items)]

    def baselines(self, settings: FitSettings, seeds: int, split: Split) -> Iterator[Outcome]:
        """Raw pixels or vectors, and the encoder of every seed before its first step."""
        encoder = replace(settings.encoder, unit=True, centre=True, bn_groups=1)
        plain = FitSettings(size=settings.size, views=settings.views, encoder=encoder)
        for name, seed in ((RAW, 0), *(("untrained", seed) for seed in range(seeds))):
            yield self._outcome(name, replace(plain, seed=seed), split, trains=False)

    def cell(self, method: str, seed: int, settings: FitSettings, split: Split) -> Outcome:
        """One training, measured on the test classes: an earlier answer, a new one, or the reason why it failed."""
        self.begun += 1
        return self._outcome(method, replace(settings, seed=seed), split, trains=True)

    def _outcome(self, what: str, settings: FitSettings, split: Split, *, trains: bool) -> Outcome:
        folder = self.folder / f"{what}-seed-{settings.seed}"
        name = f"{self.begun} of {self.cells}, {folder.name}" if trains else folder.name
        asked: Question = {"what": what, "seed": settings.seed, "steps": self.steps}
        outcome = Outcome(method=what, seed=settings.seed, baseline=not trains)
        try:
            if trains:
                settings = resolved(settings, split.train, self.steps)
            asked = self.question(what, settings, split.train, split.test)
            known, per_query = self.answers.find(asked), per_query_in(folder, asked, len(split.test))
            if known is None or "found" not in known or per_query is None:
                known, per_query = self._answer(what, settings, split, folder, asked, trains)
                if trains:
                    self.say(f"{name}: " + ", ".join(f"{MEASURES[m]} {100 * known['found'][m]:.1f}" for m in MEASURES))
        except Interrupted:
            raise
        except Exception as error:  # of any kind: the other cells continue
            return replace(outcome, failed=self._failed(name, folder, asked, error))
        self.made[folder.name] = known.get("made", UNKNOWN)
        knobs = knob_values(settings) if trains else {}
        return replace(outcome, measures=known["found"], per_query=per_query, knobs=knobs)

    def _answer(
        self, what: str, settings: FitSettings, split: Split, folder: Path, asked: Question, trains: bool
    ) -> tuple[dict[str, Any], NDArray[np.float64]]:
        """Trains (except a baseline), measures, and saves the answer."""
        start = time.perf_counter()
        if trains:
            model = trained(settings, split.train, self.steps, folder, asked, self.state, self.bars)
        else:
            claim_folder(folder, asked, self.state)
            model = Model.untrained(settings, split.train)
        with stages(enabled=self.bars) as begin:
            tick = begin(f"{folder.name}: embedding")
            rows = (
                raw_rows(model, split.train, split.test, tick=tick)[1]
                if what == RAW
                else embedded(model, split.test, tick=tick)
            )
            measures, per_query = measured(rows, split.test, begin(f"{folder.name}: retrieval"))
        with atomic_write(folder / PER_QUERY) as file:
            np.save(file, per_query)
        if trains:
            measures["items_per_step"] = items_per_step(settings, split.train)
            measures["seconds"] = time.perf_counter() - start
        known = {"found": measures, "made": question_in(folder)[1], "model": model.weights_hash}
        self.answers.add(asked, known)
        (folder / CHECKPOINT).unlink(missing_ok=True)
        return known, per_query

    def _failed(
        self, name: str, folder: Path, asked: Question, error: Exception, more: Mapping[str, Any] | None = None
    ) -> str:
        """Records why a cell failed, if the disk has room; returns the reason."""
        reason = _reason(error)
        with suppress(OSError):
            self.answers.add(asked, {"failed": reason, **(more or {})})
        with suppress(OSError):  # the next call starts from step 0, but after a full disk from the checkpoint
            if (folder / QUESTION).exists() and not _full_disk(error):
                (folder / CHECKPOINT).unlink(missing_ok=True)
        self.say(f"{name} failed: {reason}")
        return reason

    def trial(self, method: str, number: int, settings: FitSettings, fit: Items, validation: Items) -> float | None:
        """MAP@R of one training on the validation classes; None if it failed, for instance with NaN."""
        folder, name = self.folder / f"{method}-trial-{number}", f"{method}, trial {number + 1}"
        asked: Question = {"what": f"{method} trial {number}", "seed": TUNING_SEED, "steps": self.steps}
        try:
            settings = resolved(replace(settings, seed=TUNING_SEED), fit, self.steps)
            asked = self.question(f"{method} trial {number}", settings, fit, validation)
            known = self.answers.find(asked)
            if known is None or "found" not in known:  # the failure may have been a full disk
                model = trained(settings, fit, self.steps, folder, asked, self.state, self.bars)
                with stages(enabled=self.bars) as begin:
                    rows = embedded(model, validation, tick=begin(f"{name}: embedding"))
                    measures = measured(rows, validation, begin(f"{name}: retrieval"))[0]
                known = {"found": measures, "knobs": knob_values(settings), "made": question_in(folder)[1]}
                known["model"] = model.weights_hash
                self.answers.add(asked, known)
                self.say(f"{name}: MAP@R {100 * measures['map@r']:.1f} on validation classes")
        except Interrupted:
            raise
        except Exception as error:  # of any kind: the other trials continue
            self._failed(name, folder, asked, error, {"knobs": knob_values(settings)})
            known = None
        if (folder / QUESTION).exists():
            shutil.rmtree(folder, ignore_errors=True)
        if known is None:
            return None
        states = self.made.setdefault(f"{method}'s trials", [])
        states += [state for state in known.get("made", UNKNOWN) if state not in states]
        return float(known["found"]["map@r"])


def _reason(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return lines[0] if isinstance(error, LikewiseError) else f"{type(error).__name__}: {lines[0]}"


def _full_disk(error: BaseException | None) -> bool:
    """Whether the error, or one that caused it, is a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def trained(
    settings: FitSettings, items: Items, steps: int, folder: Path, question: Question, state: State, bars: bool
) -> Model:
    """Trains for exactly ``steps`` steps; continues a stopped training of the same question."""
    check_memory(settings, items)
    make_folder(folder)
    with written_by_one(folder):
        claim_folder(folder, question, state)
        model = Model.untrained(settings, items)
        complete(begin(model, items, steps, pick_device(settings.device)), folder, resume=True, progress=bars)
    return model


def _tuned(
    work: _Work, plans: Mapping[str, FitSettings], trials: int, split: Split
) -> tuple[dict[str, FitSettings], dict[str, str]]:
    """Each method's settings, chosen by its trials, and the reasons of methods whose trials all failed."""
    if not trials or split.fit is None or split.validation is None:
        return dict(plans), {}
    tuned, broken = dict[str, FitSettings](), dict[str, str]()
    for method, settings in plans.items():
        try:
            tuned[method] = tune(work, method, settings, trials, split.fit, split.validation)
        except Interrupted:
            raise
        except Exception as error:  # of any kind: the other methods continue
            broken[method] = f"its trials failed: {_reason(error)}"
            work.say(f"{method}: {broken[method]}")
    return tuned, broken


def tune(work: _Work, method: str, settings: FitSettings, trials: int, fit: Items, validation: Items) -> FitSettings:
    """The settings with the values of the best trial. This function does not get test items or classes."""
    knobs = knobs_of(decide(settings, len(fit)))
    done: list[tuple[dict[str, float], float | None]] = []
    for number in range(trials):
        values = propose(knobs, done)
        done.append((values, work.trial(method, number, settings_from(values, settings), fit, validation)))
    best = max(done, key=lambda trial: -1.0 if trial[1] is None else trial[1])
    if best[1] is None:
        raise LikewiseError(f"none of {trials} trainings could be measured; see {work.folder / CELLS}.")
    return settings_from(best[0], settings)


def _protocol(split: Split, plans: Mapping[str, FitSettings], steps: int, seeds: int, trials: int) -> str:
    """How the numbers were made, in a few sentences."""
    s, named = next(iter(plans.values())), ", ".join(map(str, range(seeds)))
    text = (
        f"{split.train.source}: {split.said}; {len(split.train):,} items of {len(split.train.label_names)} classes "
        f"train, {len(split.test):,} items of {len(split.test.label_names)} classes are retrieved among themselves. "
        f"Every method: {s.encoder.name} to {s.encoder.dim} numbers, the same views, {s.optim.name.upper()} with a "
        f"{s.optim.schedule} rate, {steps:,} steps of {s.batch_size} items, {s.sampler.per_class} of a class if "
        f"batches are made of classes. "
    )
    if trials and split.fit is not None and split.validation is not None:
        return text + (
            f"Learning rate, margin, γ and τ, where a method has them: the best of {trials} trials by MAP@R on "
            f"{len(split.validation.label_names)} of the training classes, after training on the other "
            f"{len(split.fit.label_names)}; then trained on all of them. Seeds: {named}."
        )
    return text + f"Every method's own: likewise's learning rate, the paper's margin, γ and τ. Seeds: {named}."
