"""The hyper-parameters that trials choose for a method, and the values that they try."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from likewise.config.objective_table import WITH_FOLDS, WITH_GAMMA, WITH_MARGIN, WITH_TEMPERATURE
from likewise.config.overrides import flatten
from likewise.config.settings import FitSettings
from likewise.errors import LikewiseError


@dataclass(frozen=True, kw_only=True)
class Knob:
    """A hyper-parameter: the method's own value, and the range around it."""

    default: float
    low: float
    high: float
    log: bool = False
    whole: bool = False


def knobs_of(settings: FitSettings) -> dict[str, Knob]:
    """The hyper-parameters of decided settings: learning rate, and margin, γ and temperature if the objective has them.

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
    """The settings' value of each hyper-parameter in ``knobs_of``."""
    flat = flatten(settings)
    return {name: flat[name] for name in knobs_of(settings)}


def propose(knobs: Mapping[str, Knob], done: Sequence[tuple[Mapping[str, float], float | None]]) -> dict[str, float]:
    """The values of the next trial: first the method's own, then TPE's proposals.

    They are a pure function of the earlier trials' results, so a stopped comparison goes on with the same values.
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
