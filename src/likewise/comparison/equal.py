"""Gives all methods of a comparison the same conditions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from likewise.comparison.split import BATCH, CLASSES
from likewise.config.checks import check
from likewise.config.overrides import dotted, settings_from
from likewise.config.settings import EncoderSettings, FitSettings, OptimSettings
from likewise.config.unused import unused
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.methods import METHODS
from likewise.training.batches import choose_sampler, refuse_few
from likewise.training.decide import decide
from likewise.training.recipe import encoder_of
from likewise.training.supervision import refuse_classes


def equalised(method: str, overrides: Mapping[str, Any], items: Items) -> FitSettings:
    """The settings of a method in a comparison: its own where they define it, else common ones; ``overrides`` win.

    ``items`` is the smallest training set of the comparison. Raises LikewiseError on settings that the method refuses.
    """
    own, common = METHODS[method].settings, OptimSettings()
    if own.of_words:
        raise LikewiseError(f"method {method} learns from words, and a comparison has labelled items; leave it out.")
    if own.related:
        raise LikewiseError(
            f"method {method} trains with a file of relations, and a comparison has none; leave it out."
        )
    optim = replace(common, lr=own.optim.lr, weight_decay=own.optim.weight_decay) if own.optim.name == "sgd" else common
    encoder = EncoderSettings(
        name=encoder_of(items),
        centre=own.encoder.unit,  # rows that are not normalised are not centred either
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


def unused_by_all(
    overrides: Mapping[str, Any], plans: Mapping[str, FitSettings], used: Mapping[str, FitSettings], items: Items
) -> list[str]:
    """A warning for each setting of ``overrides`` that no method uses.

    Args:
        overrides: what the user sets for all methods.
        plans: the settings of each method, by its name.
        used: the same, with every "auto" decided.
        items: the smallest training set of the comparison.
    """
    kind, usual = None if items.blocks else items.kind, {method: equalised(method, {}, items) for method in plans}
    found = list[str]()
    for name in dotted(overrides):
        lines = [[*unused(used[each], plan, [name], usual[each], kind)] for each, plan in plans.items()]
        found += lines[0] if all(lines) else []
    return found


def resolved(settings: FitSettings, items: Items, steps: int) -> FitSettings:
    """The settings of one training: every "auto" decided, epochs from ``steps``, the nearest possible batch size.

    A sampler that divides the n items of an epoch evenly makes batches of n / (a whole number) items; the size nearest
    to that of the settings is chosen. Raises LikewiseError if there are too few items.
    """
    if settings.sampler.kind != "classes":
        batches = max(1, round(len(items) / settings.batch_size))
        settings = replace(settings, batch_size=-(-len(items) // batches))
    settings = check(decide(settings, len(items)))
    refuse_few(settings, len(items))
    refuse_classes(settings, items)
    return replace(settings, epochs=-(-steps // choose_sampler(settings, items).steps_per_epoch))


def items_per_step(settings: FitSettings, items: Items) -> float:
    """Mean number of items per step over an epoch."""
    if settings.sampler.kind == "classes":
        return float(settings.batch_size)
    return len(items) / choose_sampler(settings, items).steps_per_epoch
