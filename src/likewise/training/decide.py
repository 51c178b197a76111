"""Resolves the settings that are left open, given the number of items."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from inspect import signature

from likewise.config.objective_table import AUTO, AUTO_BATCH, AUTO_FEW, AUTO_LIST, AUTO_MANY, objective
from likewise.config.policy_table import policy
from likewise.config.settings import FitSettings, NegativeSettings, ObjectiveSettings
from likewise.config.values import Scalar

LIST_TEMPERATURE = 0.1  # of cosines, whose differences are too small for a softmax; the default of plain scores is 1
EXACT_ITEMS = 10_000  # up to about this many items the exact softmax is as fast as NCE with the paper's 4096 samples


def decide(settings: FitSettings, n: int) -> FitSettings:
    """The settings for ``n`` items, with every open value filled in, as the run's config saves them.

    The objective and the policies get all their parameters; missing ones have their constructors' defaults, but the
    temperature of lists of cosines is 0.1. Relations come from their file, so the sampler is "instance". A triplet
    names its negative, so the policy is "all". Methods of words leave nothing open.
    """
    if settings.of_words:
        return settings
    chosen = _objective(settings, n)
    negatives, sampler = settings.negatives, settings.sampler
    if settings.listed:
        sampler = replace(sampler, kind="instance")
    if settings.alike == "triplets":
        negatives = replace(negatives, policies=("all",), at=(), parameters={})
    negatives = _negatives(negatives, chosen)
    return replace(settings, dictionary=settings.source_of_keys, objective=chosen, negatives=negatives, sampler=sampler)


def _objective(settings: FitSettings, n: int) -> ObjectiveSettings:
    """The objective, with "auto" replaced, and with all its parameters. Parameters of other objectives are dropped."""
    chosen = settings.objective
    if chosen.kind == AUTO:
        whole_bank = settings.dictionary == "bank" and not settings.bank.samples
        of_bank = AUTO_FEW if n <= EXACT_ITEMS else AUTO_MANY
        of_batch = AUTO_LIST if settings.alike == "graded" else AUTO_BATCH
        chosen = replace(chosen, kind=of_bank if whole_bank else of_batch)
    row, given = objective(chosen.kind), chosen.parameters
    if row.level == "list" and settings.encoder.unit:
        given = {"temperature": LIST_TEMPERATURE, **given}
    return replace(chosen, parameters=complete(given, row.parameters, [row.load()]))


def _negatives(negatives: NegativeSettings, chosen: ObjectiveSettings) -> NegativeSettings:
    """The policies with all parameters. inside-margin takes its margin from a triplet loss."""
    given = dict(negatives.parameters)
    if "margin" in negatives.has() and chosen.kind == "triplet":
        given = {"margin": chosen.parameters["margin"]} | given
    classes = [policy(name).load() for name in negatives.policies]
    return replace(negatives, parameters=complete(given, negatives.has(), classes))


def complete(given: Mapping[str, Scalar], names: Iterable[str], classes: Iterable[type]) -> dict[str, Scalar]:
    """A value for each of ``names``: the given one, or the default of the class that has this parameter."""
    defaults = {name: part.default for each in classes for name, part in signature(each).parameters.items()}
    return {name: given.get(name, defaults[name]) for name in names}
