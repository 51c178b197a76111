"""The objective and the policy of negatives that the settings name."""

from collections.abc import Callable

import torch

from likewise.config import CLASS_KINDS, FACENET_MARGIN, FitSettings, NegativeKind, NegativeSettings, ObjectiveSettings
from likewise.data import Items
from likewise.negatives import (
    All,
    Curriculum,
    DistanceWeighted,
    Easy,
    Hard,
    HardestBeyond,
    InsideMargin,
    Policy,
    Random,
)
from likewise.negatives import MultiSimilarity as HardPairs
from likewise.objectives import (
    NCE,
    AMSoftmax,
    Angular,
    ArcFace,
    ASoftmax,
    Circle,
    CircleClassifier,
    Contrastive,
    Histogram,
    InfoNCE,
    L2Softmax,
    LargeMarginSoftmax,
    LiftedStructure,
    Margin,
    Mined,
    MultiSimilarity,
    NonParametricSoftmax,
    NormFace,
    NPair,
    ParametricSoftmax,
    Softmax,
    SupCon,
    Triplet,
    UnifiedPairSimilarity,
)
from likewise.objectives.class_level import ClassObjective
from likewise.objectives.instance import InstanceObjective
from likewise.objectives.pair import PairObjective
from likewise.sharding import ShardedSoftmax

Objective = PairObjective | Histogram | ClassObjective | InstanceObjective | ShardedSoftmax


def build_objective(
    settings: FitSettings, items: Items, dim: int, generator: torch.Generator, noise_generator: torch.Generator
) -> Objective:
    """The objective named by ``settings.objective.kind``, decided, with the policy of ``settings.negatives``.

    What is not set has its paper's default.
    """
    objective = _instance_objective(settings.objective, len(items), dim, generator, noise_generator)
    if objective is not None:
        return objective
    if settings.objective.kind in CLASS_KINDS:
        return _class_objective(settings.objective, len(items.label_names), dim, generator)
    pairs = _pair_objective(settings.objective)
    if not settings.negatives.mines or not isinstance(pairs, PairObjective):
        return pairs
    policy, positives = _policy(settings.negatives), settings.negatives.positives
    return Mined(pairs, negatives=policy, positives=positives, generator=noise_generator)


def _instance_objective(
    settings: ObjectiveSettings, n: int, dim: int, generator: torch.Generator, noise_generator: torch.Generator
) -> Objective | None:
    """Of a row for every item; None for other kinds."""
    if settings.kind == "parametric":
        return ParametricSoftmax(n, dim, scale=1 / settings.temperature, generator=generator)
    if settings.kind == "softmax":
        return NonParametricSoftmax(temperature=settings.temperature, proximal=settings.proximal)
    if settings.kind == "nce":
        return NCE(
            temperature=settings.temperature,
            noise=settings.noise,
            draw=settings.noise_draw,
            positive_in_noise=settings.positive_in_noise,
            log_z=settings.log_z,
            log_z_decay=settings.log_z_decay,
            proximal=settings.proximal,
            generator=noise_generator,
        )
    return None


def _pair_objective(settings: ObjectiveSettings) -> PairObjective | Histogram:
    """Of pairs: a query's row of similarities."""
    margin, gamma, tau = settings.margin, settings.gamma, settings.temperature
    of_kind: dict[str, Callable[[], PairObjective | Histogram]] = {
        "infonce": lambda: InfoNCE(temperature=tau),
        "supcon": lambda: SupCon(temperature=tau),
        "unified": lambda: UnifiedPairSimilarity(gamma=_or(gamma, 80.0), margin=_or(margin, 0.4)),
        "circle": lambda: Circle(gamma=_or(gamma, 80.0), margin=_or(margin, 0.4)),
        "npair": NPair,
        "multi-similarity": MultiSimilarity,
        "contrastive": lambda: Contrastive(negative_margin=_or(margin, 1.0)),
        "margin": lambda: Margin(alpha=_or(margin, 0.2)),
        "triplet": lambda: Triplet(margin=_or(margin, 0.2)),
        "angular": Angular,
        "lifted": lambda: LiftedStructure(margin=_or(margin, 1.0)),
        "histogram": Histogram,
    }
    return of_kind[settings.kind]()


def _class_objective(settings: ObjectiveSettings, classes: int, dim: int, generator: torch.Generator) -> ClassObjective:
    """Of a proxy for each class."""
    margin, gamma, mix, of = settings.margin, settings.gamma, settings.mix, generator
    folds = int(_or(margin, 4))
    of_kind: dict[str, Callable[[], ClassObjective]] = {
        "class-softmax": lambda: Softmax(classes, dim, generator=of),
        "l2-softmax": lambda: L2Softmax(classes, dim, alpha=_or(gamma, 16.0), generator=of),
        "large-margin": lambda: LargeMarginSoftmax(classes, dim, margin=folds, mix=mix, generator=of),
        "a-softmax": lambda: ASoftmax(classes, dim, margin=folds, mix=mix, generator=of),
        "normface": lambda: NormFace(classes, dim, scale=_or(gamma, 20.0), generator=of),
        "am-softmax": lambda: AMSoftmax(classes, dim, scale=_or(gamma, 30.0), margin=_or(margin, 0.35), generator=of),
        "arcface": lambda: ArcFace(classes, dim, scale=_or(gamma, 64.0), margin=_or(margin, 0.5), generator=of),
        "circle-class": lambda: CircleClassifier(
            classes, dim, gamma=_or(gamma, 256.0), margin=_or(margin, 0.25), generator=of
        ),
    }
    return of_kind[settings.kind]()


def _policy(settings: NegativeSettings) -> Curriculum:
    """The policies in turn."""
    of_kind: dict[NegativeKind, Callable[[], Policy]] = {
        "all": All,
        "random": lambda: Random(settings.count),
        "easy": Easy,
        "inside-margin": lambda: InsideMargin(_or(settings.margin, FACENET_MARGIN)),
        "hardest-beyond": HardestBeyond,
        "hard": Hard,
        "distance-weighted": lambda: DistanceWeighted(settings.count, settings.least, settings.most),
        "multi-similarity": lambda: HardPairs(settings.epsilon),
    }
    return Curriculum(tuple(of_kind[kind]() for kind in settings.policies), settings.at, settings.by)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def build_sharded_objective(settings: ObjectiveSettings, n: int) -> ShardedSoftmax:
    """The exact softmax over rows that are spread over the processes."""
    learn = settings.kind == "parametric"
    proximal = 0.0 if learn else settings.proximal
    return ShardedSoftmax(n, temperature=settings.temperature, proximal=proximal, keys_learn=learn)
