"""The hyper-parameters that trials choose for a method, and the values that trials use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from likewise.config.overrides import flatten
from likewise.config.settings import FitSettings
from likewise.config.values import Tuned
from likewise.errors import LikewiseError

ORDER: tuple[Tuned, ...] = ("margin", "scale", "temperature")  # the trials' draws depend on it


@dataclass(frozen=True, kw_only=True)
class Knob:
    """A hyper-parameter: the method's own value, and the range around it."""

    default: float
    low: float
    high: float
    log: bool = False
    whole: bool = False


def knobs_of(settings: FitSettings) -> dict[str, Knob]:
    """What trials choose: the learning rate, and the objective's margins, scales and temperatures.

    ``settings`` have no "auto" left. Ranges are multiples of the method's own value: 0.1 to 10 for the rate, ¼ to 2 for
    a margin, ¼ to 4 for γ, s and τ.
    """
    objective, lr = settings.objective, settings.optim.lr
    knobs = {"optim.lr": Knob(default=lr, low=lr / 10, high=lr * 10, log=True)}
    for sort in ORDER:
        for name, value in objective.has().items():
            if value.tuned == sort:
                knobs[f"objective.{name}"] = _knob(sort, objective.number(name, 1.0), whole=value.kind is int)
    return knobs


def _knob(sort: Tuned, default: float, *, whole: bool) -> Knob:
    if whole:
        return Knob(default=default, low=1, high=max(4, default), whole=True)
    if sort == "margin":
        return Knob(default=default, low=default / 4, high=default * 2)
    return Knob(default=default, low=default / 4, high=default * 4, log=True)


def knob_values(settings: FitSettings) -> dict[str, float]:
    """The settings' value of each hyper-parameter in ``knobs_of``."""
    flat = flatten(settings)
    return {name: flat[name] for name in knobs_of(settings)}


def propose(knobs: Mapping[str, Knob], done: Sequence[tuple[Mapping[str, float], float | None]]) -> dict[str, float]:
    """The values of the next trial: first the method's own, then TPE's proposals.

    They depend only on the results of earlier trials, so a stopped comparison continues with the same values.
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
    """Imports Optuna and silences its log. Raises LikewiseError if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise LikewiseError('trials are chosen by Optuna; pip install "likewise[compare]".') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
