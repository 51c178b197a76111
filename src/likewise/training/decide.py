"""What settings leave open, decided for a run of so many items."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from inspect import signature

from likewise.config.objective_table import AUTO, objective, policy
from likewise.config.settings import FitSettings, NegativeSettings, ObjectiveSettings
from likewise.config.values import Scalar

EXACT_ITEMS = 10_000  # up to here the exact softmax takes no longer than NCE with the paper's 4096 samples, about


def decide(settings: FitSettings, n: int) -> FitSettings:
    """The settings for ``n`` items, with nothing left open that the run's config should say.

    Objective and policies have all their parameters, by their constructors' defaults. Batches of pairs and triplets
    come from their file, and the negative of a triplet is given, so that sampler and policy are not what a method has
    for labels.
    """
    chosen = _objective(settings, n)
    dictionary = "proxies" if objective(chosen.kind).keys == "own" else settings.dictionary
    negatives, sampler = settings.negatives, settings.sampler
    if settings.alike in ("pairs", "triplets"):
        sampler = replace(sampler, kind="instance")
    if settings.alike == "triplets":
        negatives = replace(negatives, policies=("all",), at=(), parameters={})
    negatives = _negatives(negatives, chosen)
    return replace(settings, dictionary=dictionary, objective=chosen, negatives=negatives, sampler=sampler)


def _objective(settings: FitSettings, n: int) -> ObjectiveSettings:
    """The kind that auto becomes, with all of its parameters; those that only another kind has are dropped."""
    chosen = settings.objective
    if chosen.kind == AUTO:
        whole_bank = settings.dictionary == "bank" and not settings.bank.samples
        exact = "nonparametric-softmax" if n <= EXACT_ITEMS else "nce"
        chosen = replace(chosen, kind=exact if whole_bank else "infonce")
    row = objective(chosen.kind)
    return replace(chosen, parameters=_complete(chosen.parameters, row.parameters, [row.load()]))


def _negatives(negatives: NegativeSettings, chosen: ObjectiveSettings) -> NegativeSettings:
    """With all parameters; inside-margin has the margin of a triplet loss."""
    given = dict(negatives.parameters)
    if "margin" in negatives.has() and chosen.kind == "triplet":
        given = {"margin": chosen.parameters["margin"]} | given
    classes = [policy(name).load() for name in negatives.policies]
    return replace(negatives, parameters=_complete(given, negatives.has(), classes))


def _complete(given: Mapping[str, Scalar], names: Iterable[str], classes: Iterable[type]) -> dict[str, Scalar]:
    """``names`` with what was given, or the default of the class that has it."""
    defaults = {name: part.default for each in classes for name, part in signature(each).parameters.items()}
    return {name: given.get(name, defaults[name]) for name in names}
