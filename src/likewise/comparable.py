"""What makes methods comparable: one split by classes, equal settings, and the numbers that trials choose.

See ``likewise.compare``.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from likewise.config import (
    WITH_FOLDS,
    WITH_GAMMA,
    WITH_MARGIN,
    WITH_TEMPERATURE,
    EncoderSettings,
    FitSettings,
    OptimSettings,
    decide,
    flatten,
    settings_from,
)
from likewise.config_checks import check
from likewise.data import Items, open_items
from likewise.data.items import content_digest
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.methods import METHODS
from likewise.training.loop import choose_sampler, refuse_few

BATCH, CLASSES = 128, 32  # items of a batch at most, and classes: 4 of each, where there are so many


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Parts of which no two share a class, but that train is fit and validation together."""

    train: Items
    test: Items
    fit: Items | None  # what trials train on
    validation: Items | None  # what they are judged by
    said: str


@dataclass(frozen=True, kw_only=True)
class Knob:
    """A number that trials choose: the method's own, and the range around it."""

    default: float
    low: float
    high: float
    log: bool = False
    whole: bool = False


# The split


def split_classes(
    data: object,
    test: object | None,
    overrides: Mapping[str, Any],
    test_share: float,
    validation: float,
    seed: int,
    *,
    progress: bool = True,
) -> Split:
    """Training and test items, and with ``validation`` > 0 the training classes' two parts; see ``compare``.

    Which classes go where depends on the classes' names, the shares and ``seed`` alone.
    """
    settings = settings_from(overrides)
    items = _one_label(_opened(data, settings, progress))
    order = np.random.default_rng(seed).permutation(np.unique(np.asarray(items.labels)))
    if test is None:
        order, taken = _divided(order, test_share, items, "training and test need two each")
        train, tested = of_classes(items, order), of_classes(items, taken)
        said = f"{len(taken)} of {len(order) + len(taken)} classes, drawn by seed {seed}, are test classes"
        said += _said_of_copies(train, tested)
    else:
        train, tested = of_classes(items, order), _one_label(_opened(test, settings, progress))
        if tested.kind != train.kind:
            raise LikewiseError(f"{tested.source} holds {tested.kind}, but {items.source} holds {items.kind}.")
        tested = of_classes(tested, np.unique(np.asarray(tested.labels)))
        shared = len(set(train.label_names) & set(tested.label_names))
        _refuse_copies(train, tested)
        said = f"{shared or 'none'} of the {len(tested.label_names)} classes of {tested.source} have a training name"
    _check_parts(train, tested)
    if not validation:
        return Split(train=train, test=tested, fit=None, validation=None, said=said)
    kept, held = _divided(order, validation, items, "trials' training and validation classes need two each")
    fit, held_out = of_classes(items, kept), of_classes(items, held)
    _check_parts(fit, held_out)
    return Split(train=train, test=tested, fit=fit, validation=held_out, said=said)


def _check_parts(train: Items, test: Items) -> None:
    """Raises LikewiseError where there is nothing to tell apart, or nothing to find."""
    if len(train.label_names) < 2:
        raise LikewiseError(f"{train.source} has one label only; training by labels needs two classes at least.")
    if np.bincount(np.asarray(test.labels)).max() < 2:
        raise LikewiseError(
            f"of the {len(test.label_names)} classes held out of {test.source} none has two items, so there is "
            "nothing to retrieve."
        )


def _copies(train: Items, test: Items) -> Iterator[tuple[str, str]]:
    """Names of the test items that have the content of a training item, and of that one. One pass over both."""
    known = {content_digest(value): row for row, value in enumerate(train.values)}
    for name, value in zip(test.ids, test.values, strict=True):
        row = known.get(content_digest(value))
        if row is not None:
            yield name, train.ids[row]


def _refuse_copies(train: Items, test: Items) -> None:
    """Raises LikewiseError on the first test item that has the content of a training item."""
    for name, trained in _copies(train, test):
        raise LikewiseError(
            f"item {name!r} of {test.source} has the content of item {trained!r} of {train.source}, so it "
            "would be trained on; test with items that no training sees."
        )


def _said_of_copies(train: Items, test: Items) -> str:
    """What to say, and warn of, where one content is of a training and of a test class; "" where none is."""
    copies = list(_copies(train, test))
    if not copies:
        return ""
    first, trained = copies[0]
    said = (
        f"{len(copies)} of the {len(test):,} test items are copies of training items under another label (such as "
        f"{first!r} of {trained!r}), so training sees them"
    )
    warnings.warn(f"{said}; leave one of each pair out.", LikewiseWarning, stacklevel=2)
    return f", and {said}"


def _divided(order: Any, share: float, items: Items, why: str) -> tuple[Any, Any]:
    """The classes that stay, and those that go: ``share`` of them, two at least of each."""
    if len(order) < 4:
        raise LikewiseError(f"{items.source} has too few classes: {len(order)} are left to divide, and {why}.")
    go = min(max(2, round(share * len(order))), len(order) - 2)
    return order[go:], order[:go]


def of_classes(items: Items, classes: Any) -> Items:
    """The items of these classes, in their order, with the classes numbered anew: no other is known of."""
    classes = np.sort(classes)
    labels = np.asarray(items.labels)
    part = items.select(np.flatnonzero(np.isin(labels, classes)))
    names = tuple(items.label_names[number] for number in classes)
    return replace(part, labels=np.searchsorted(classes, np.asarray(part.labels)), label_names=names, skipped=())


def _opened(source: object, s: FitSettings, progress: bool) -> Items:
    return open_items(source, size=s.size, labels=s.labels, key=s.key, cache=s.cache, progress=progress)


def _one_label(items: Items) -> Items:
    """Those that have a label. Raises LikewiseError where none has, or one has several."""
    if items.labels is None or not (items.labels >= 0).any():
        raise LikewiseError(
            f"{items.source} has no labels, which the split by classes needs: put images in a folder per class, or "
            "name the parquet column with --labels."
        )
    if items.labels.ndim != 1:
        raise LikewiseError(f"{items.source} has several labels per item; a split by classes needs one each.")
    return items if (items.labels >= 0).all() else items.select(np.flatnonzero(items.labels >= 0))


# What is equal


def equalised(method: str, overrides: Mapping[str, Any], items: Items) -> FitSettings:
    """The method's settings where they are its own, and everybody's where they are not; ``overrides`` over both.

    ``items`` are the fewest that are trained on. Raises LikewiseError on settings that the method can't have.
    """
    own, common = METHODS[method].settings, OptimSettings()
    optim = replace(common, lr=own.optim.lr, weight_decay=own.optim.weight_decay) if own.optim.name == "sgd" else common
    encoder = EncoderSettings(
        name="mlp" if items.kind == "vectors" else EncoderSettings().name,
        centre=own.encoder.unit,  # raw rows have lengths of their own
        unit=own.encoder.unit,
        bn_groups=own.encoder.bn_groups,
    )
    sizes = np.bincount(np.asarray(items.labels))
    per_class = int(max(2, min(BATCH // min(CLASSES, len(sizes)), np.median(sizes))))
    equal = replace(
        own,
        views=FitSettings().views,
        encoder=encoder,
        optim=optim,
        sampler=replace(own.sampler, per_class=per_class),
        queue=replace(own.queue, size=min(own.queue.size, len(items))),
        knn_epochs=0,
    )
    per_class = max(1, settings_from(overrides, equal).sampler.per_class)
    batch = per_class * min(len(sizes), max(2, BATCH // per_class))
    return check(settings_from(overrides, replace(equal, batch_size=batch)))


def prepared(settings: FitSettings, items: Items, steps: int) -> FitSettings:
    """The settings of one training: decided, its epochs from ``steps``, its batches as near to equal as can be.

    A sampler that shares out all items of an epoch has batches of n over a whole number; the nearest one is taken.
    """
    if settings.sampler.kind != "classes":
        batches = max(1, round(len(items) / settings.batch_size))
        settings = replace(settings, batch_size=-(-len(items) // batches))
    settings = check(decide(settings, len(items)))
    refuse_few(settings, len(items))
    return replace(settings, epochs=-(-steps // choose_sampler(settings, items).steps_per_epoch))


def items_per_step(settings: FitSettings, items: Items) -> float:
    """On average over an epoch."""
    if settings.sampler.kind == "classes":
        return float(settings.batch_size)
    return len(items) / choose_sampler(settings, items).steps_per_epoch


# What trials choose


def knobs_of(settings: FitSettings) -> dict[str, Knob]:
    """What is tuned of decided settings: the learning rate, and margin, γ and temperature where the objective has them.

    Ranges are factors of the method's own value: 0.1 to 10 of the rate, ¼ to 2 of a margin, ¼ to 4 of γ and τ.
    """
    objective, lr = settings.objective, settings.optim.lr
    knobs = {"optim.lr": Knob(default=lr, low=lr / 10, high=lr * 10, log=True)}
    m, g, tau = objective.margin, objective.gamma, objective.temperature
    if objective.kind in WITH_FOLDS and m is not None:
        knobs["objective.margin"] = Knob(default=m, low=1, high=max(4, m), whole=True)
    elif objective.kind in WITH_MARGIN and m is not None:
        knobs["objective.margin"] = Knob(default=m, low=m / 4, high=m * 2)
    if objective.kind in WITH_GAMMA and g is not None:
        knobs["objective.gamma"] = Knob(default=g, low=g / 4, high=g * 4, log=True)
    if objective.kind in WITH_TEMPERATURE:
        knobs["objective.temperature"] = Knob(default=tau, low=tau / 4, high=tau * 4, log=True)
    return knobs


def knob_values(settings: FitSettings) -> dict[str, float]:
    """What the settings have for each of ``knobs_of``."""
    flat = flatten(settings)
    return {name: flat[name] for name in knobs_of(settings)}


def propose(knobs: Mapping[str, Knob], done: Sequence[tuple[Mapping[str, float], float | None]]) -> dict[str, float]:
    """The values of the next trial: the method's own first, then TPE's.

    A pure function of what the trials before it gave, so that a comparison that was stopped goes on as it would have.
    """
    if not done:
        return {name: float(knob.default) for name, knob in knobs.items()}
    optuna = optuna_module()
    distributions = {
        name: optuna.distributions.IntDistribution(int(knob.low), int(knob.high))
        if knob.whole
        else optuna.distributions.FloatDistribution(knob.low, knob.high, log=knob.log)
        for name, knob in knobs.items()
    }
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=len(done)))
    states = optuna.trial.TrialState
    for values, score in done:
        params = {name: int(value) if knobs[name].whole else value for name, value in values.items()}
        state = states.FAIL if score is None else states.COMPLETE
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=score, state=state))
    return {name: float(value) for name, value in study.ask(distributions).params.items()}


def optuna_module() -> Any:
    """Optuna, quiet. Raises LikewiseError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise LikewiseError('trials are chosen by Optuna; pip install "likewise[compare]".') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
