"""What no run could use: values out of their range, and choices that make no sense together."""

from collections.abc import Iterator
from dataclasses import replace
from math import inf as infinite
from math import isfinite

from likewise.config.objective_table import (
    BANK_KINDS,
    CLASS_KINDS,
    FACENET_MARGIN,
    JOINED_KINDS,
    WITH_FOLDS,
    WITH_GAMMA,
    WITH_MARGIN,
)
from likewise.config.settings import FitSettings
from likewise.errors import LikewiseError


def check(settings: FitSettings) -> FitSettings:
    """Returns the settings, or raises LikewiseError on a value that no run could use."""
    s, v, e, o, neg, margin = (
        *(settings, settings.views, settings.encoder, settings.optim),
        *(settings.negatives, settings.objective.margin),
    )
    rules = {
        "epochs": (s.epochs >= 1, s.epochs, "at least 1"),
        "batch_size": (s.batch_size >= 2, s.batch_size, "at least 2"),
        "size": (8 <= s.size <= 4096, s.size, "from 8 to 4096 pixels"),
        "seed": (0 <= s.seed < 2**32, s.seed, "from 0 to 2³² − 1"),
        "knn_items": (s.knn_items >= 10, s.knn_items, "at least 10"),
        "objective.temperature": (0 < s.objective.temperature < infinite, s.objective.temperature, "above 0"),
        "objective.noise": (s.objective.noise >= 1, s.objective.noise, "at least 1"),
        "objective.log_z_decay": (0 <= s.objective.log_z_decay < 1, s.objective.log_z_decay, "in [0, 1)"),
        "objective.proximal": (0 <= s.objective.proximal < infinite, s.objective.proximal, "0 or more"),
        "objective.scale": (0 < s.objective.scale < infinite, s.objective.scale, "above 0"),
        "objective.gamma": (s.objective.gamma is None or s.objective.gamma > 0, s.objective.gamma, "above 0"),
        "objective.margin": (margin is None or 0 <= margin < infinite, margin, "0 or more"),
        "objective.mix": (0 <= s.objective.mix < infinite, s.objective.mix, "0 or more"),
        "negatives.policies": (len(neg.policies) > 0, neg.policies, "at least one"),
        "negatives.at": (
            len(neg.at) == len(neg.policies) - 1,
            neg.at,
            f"one number for each of the {max(0, len(neg.policies) - 1)} changes of negatives.policies",
        ),
        "negatives.count": (neg.count >= 1, neg.count, "at least 1"),
        "negatives.margin": (neg.margin is None or 0 < neg.margin < 4, neg.margin, "above 0 and below 4"),
        "negatives.epsilon": (isfinite(neg.epsilon), neg.epsilon, "a number"),
        "negatives.least": (0 < neg.least < neg.most, neg.least, "above 0, below most"),
        "negatives.most": (neg.most <= 2, neg.most, "at most 2, the largest distance"),
        "sampler.per_class": (s.sampler.per_class >= 1, s.sampler.per_class, "at least 1"),
        "bank.momentum": (0 <= s.bank.momentum < 1, s.bank.momentum, "in [0, 1)"),
        "bank.samples": (s.bank.samples >= 0, s.bank.samples, "0 (all rows) or more"),
        "queue.size": (s.queue.size >= 1, s.queue.size, "at least 1"),
        "key_encoder.momentum": (0 <= s.key_encoder.momentum <= 1, s.key_encoder.momentum, "in [0, 1]"),
        "encoder.bn_groups": (
            1 <= e.bn_groups <= s.batch_size // 2,
            e.bn_groups,
            f"from 1 to {s.batch_size // 2}: two of the batch's {s.batch_size} items a group at least",
        ),
        "micro_batches": (1 <= s.micro_batches <= s.batch_size, s.micro_batches, "from 1 to batch_size"),
        "encoder.dim": (e.dim >= 2, e.dim, "at least 2"),
        "encoder.hidden": (e.hidden >= 1, e.hidden, "at least 1"),
        "encoder.head_hidden": (e.head_hidden >= 0, e.head_hidden, "0 (as wide as the backbone's features) or more"),
        "optim.lr": (0 < o.lr < infinite, o.lr, "above 0"),
        "optim.momentum": (0 <= o.momentum < 1, o.momentum, "in [0, 1)"),
        "optim.nesterov": (not o.nesterov or o.momentum > 0, o.nesterov, "false when optim.momentum is 0"),
        "optim.weight_decay": (0 <= o.weight_decay < infinite, o.weight_decay, "0 or more"),
        "optim.warmup": (0 <= o.warmup < 1, o.warmup, "a share in [0, 1)"),
        "views.crop_scale": (0 < v.crop_scale[0] <= v.crop_scale[1] <= 1, v.crop_scale, "0 < smallest ≤ largest ≤ 1"),
        "views.crop_ratio": (0 < v.crop_ratio[0] <= v.crop_ratio[1], v.crop_ratio, "0 < smallest ≤ largest"),
        "views.hue": (0 <= v.hue <= 0.5, v.hue, "from 0 to 0.5 turns"),
        "views.blur_sigma": (0 < v.blur_sigma[0] <= v.blur_sigma[1], v.blur_sigma, "0 < smallest ≤ largest"),
        "views.std": (all(x > 0 for x in v.std), v.std, "all above 0"),
    }
    shares = {"flip": v.flip, "jitter": v.jitter, "grayscale": v.grayscale, "blur": v.blur, "dropout": v.dropout}
    rules |= {f"views.{name}": (0 <= p <= 1, p, "a probability from 0 to 1") for name, p in shares.items()}
    for name, (fine, value, wanted) in rules.items():
        if not fine:
            raise LikewiseError(f"setting {name!r} is {value}; it must be {wanted}.")
    for reason in refusals(settings):
        raise LikewiseError(reason)
    return settings


def refusals(settings: FitSettings) -> Iterator[str]:
    """Why this combination of choices makes no sense: a sentence each; nothing where it does."""
    s, kind, whole_bank = settings, settings.objective.kind, settings.dictionary == "bank" and not settings.bank.samples
    yield from _refused_relations(s)
    for name, value, kinds in (("margin", s.objective.margin, WITH_MARGIN), ("gamma", s.objective.gamma, WITH_GAMMA)):
        if value is not None and kind not in kinds:
            yield f"objective.kind={kind} has no {name}: leave objective.{name} out, or take {', '.join(kinds)}."
    if s.objective.mix and kind not in WITH_FOLDS:
        yield f"objective.kind={kind} has no mix: leave objective.mix out, or take {' or '.join(WITH_FOLDS)}."
    if kind in BANK_KINDS and not whole_bank:
        yield (
            f"objective.kind={kind} sums over a row for every item, so it needs dictionary=bank with bank.samples=0; "
            f"with {'bank.samples' if s.dictionary == 'bank' else s.dictionary} use objective.kind=infonce."
        )
    if s.dictionary == "proxies" and kind != "parametric" and kind not in CLASS_KINDS:
        yield f"dictionary=proxies are the weights of objective.kind=parametric, not of {kind}; choose both or neither."
    if kind == "parametric" and s.dictionary in ("queue", "batch"):
        yield f"objective.kind=parametric has its own keys, a weight per item; with dictionary={s.dictionary}: infonce."
    if kind in CLASS_KINDS and s.dictionary in ("queue", "batch"):
        yield f"objective.kind={kind} has its own keys, a proxy per class: leave dictionary at proxies."
    if kind in WITH_FOLDS and s.objective.margin not in (None, 1, 2, 3, 4):
        yield f"objective.margin={s.objective.margin:g} of {kind} is a number of folds: 1, 2, 3 or 4."
    if s.symmetric and s.dictionary != "queue":
        yield "symmetric=true is for dictionary=queue; with dictionary=batch, batch.keys=both has both views query."
    if s.bank.sharded and kind == "parametric" and s.optim.name == "lars":
        yield "optim.name=lars needs the length of whole weights, which bank.sharded=true spreads; use sgd."
    if s.bank.sharded and (s.bank.samples or kind not in ("softmax", "parametric")):
        yield "bank.sharded=true needs the exact softmax: objective.kind=softmax with bank.samples=0, or parametric."
    if s.micro_batches > 1 and s.bank.sharded:
        yield "micro_batches and bank.sharded do not go together yet; leave one out."


def _refused_relations(s: FitSettings) -> Iterator[str]:
    """What can't be among alike, relations, sampler and negatives."""
    kind, listed = s.objective.kind, s.alike in ("pairs", "triplets")
    if listed and s.relations is None:
        yield f"alike={s.alike} needs relations=FILE, a CSV or parquet file of {s.alike} by item id."
    if s.relations is not None and not listed:
        yield f"relations={s.relations} lists pairs or triplets; say which with alike=pairs or alike=triplets."
    if listed and not s.items_are_keys:
        yield f"alike={s.alike} compares the items of a batch: set dictionary=batch and batch.keys=same."
    if s.alike == "label" and s.dictionary == "bank":
        yield "a memory bank has a row for each item, not for each label: with alike=label use batch, queue or proxies."
    if s.alike == "label" and kind == "parametric":
        yield "objective.kind=parametric has a weight for each item; with alike=label use class-softmax."
    if kind in CLASS_KINDS and s.alike != "label":
        yield f"objective.kind={kind} has a proxy for each class: set alike=label."
    if s.alike == "instance" and s.items_are_keys:
        yield "batch.keys=same leaves an item no other view that is alike to it: use both or second, or alike=label."
    if s.sampler.kind != "instance" and s.alike == "instance":
        yield f"sampler.kind={s.sampler.kind} composes batches by class: set alike=label."
    by_class = s.sampler.kind == "classes" and not listed
    if by_class and (s.batch_size % s.sampler.per_class or s.batch_size < 2 * s.sampler.per_class):
        yield (
            f"batch_size={s.batch_size} is not a number of classes, two at least, times "
            f"sampler.per_class={s.sampler.per_class}."
        )
    if s.negatives.by == "active" and kind not in ("triplet", "contrastive", "margin"):
        yield f"negatives.by=active needs a loss that can be 0: triplet, contrastive or margin, not {kind}."
    if s.negatives.by == "active" and not all(0 < share < 1 for share in s.negatives.at):
        yield f"negatives.at={s.negatives.at} must be shares of active triplets, above 0 and below 1."
    if s.negatives.by != "active" and list(s.negatives.at) != sorted(s.negatives.at):
        yield f"negatives.at={s.negatives.at} must not decrease: the policies come one after the other."
    if s.negatives.mines and kind in (*CLASS_KINDS, *JOINED_KINDS, *BANK_KINDS, "parametric", "auto"):
        yield (
            f"negatives.policies={','.join(s.negatives.policies)} is for an objective that judges an anchor by its row "
            f"of pairs, such as triplet, margin or circle; objective.kind={kind} does not."
        )


EXACT_ITEMS = 10_000  # up to here the exact softmax takes no longer than NCE with the paper's 4096 samples, about


def decide(settings: FitSettings, n: int) -> FitSettings:
    """The settings for ``n`` items, with nothing left on auto that the run's config should say.

    Batches of pairs and triplets come from their file, and the negative of a triplet is given, so that sampler and
    policy are not what a method has for labels.
    """
    kind = settings.objective.kind
    if kind == "auto":
        whole_bank = settings.dictionary == "bank" and not settings.bank.samples
        kind = "infonce" if not whole_bank else "softmax" if n <= EXACT_ITEMS else "nce"
    dictionary = "proxies" if kind == "parametric" or kind in CLASS_KINDS else settings.dictionary
    negatives, sampler = settings.negatives, settings.sampler
    if negatives.margin is None and "inside-margin" in negatives.policies:
        of_triplet = settings.objective.margin if kind == "triplet" else None
        negatives = replace(negatives, margin=FACENET_MARGIN if of_triplet is None else of_triplet)
    if settings.alike in ("pairs", "triplets"):
        sampler = replace(sampler, kind="instance")
    if settings.alike == "triplets":
        negatives = replace(negatives, policies=("all",), at=())
    objective = replace(settings.objective, kind=kind)
    return replace(settings, dictionary=dictionary, objective=objective, negatives=negatives, sampler=sampler)
