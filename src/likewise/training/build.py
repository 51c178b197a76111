"""What settings name, built: objective, policy of negatives, dictionary, optimizer, views, session."""

from collections.abc import Callable

import torch
from torch import nn

from likewise.config.objective_table import CLASS_KINDS, FACENET_MARGIN, NegativeKind
from likewise.config.settings import FitSettings, NegativeSettings, ObjectiveSettings, OptimSettings
from likewise.data import Items
from likewise.data.pair_files import Pairs, Triplets
from likewise.dictionaries import Batch, Dictionary, MemoryBank, Proxies, Queue
from likewise.dictionaries.sharded import ShardedMemoryBank, ShardedProxies
from likewise.distributed import processes
from likewise.encoders import Embedder
from likewise.encoders.gradient_cache import in_parts_refused, joins_rows_unseen, normalises_batches
from likewise.encoders.momentum import Momentum
from likewise.encoders.synced_batchnorm import refuse_synchronised, synchronise
from likewise.errors import LikewiseError
from likewise.model import Model
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
from likewise.objectives.base import ClassObjective, Objective, PairObjective
from likewise.objectives.sharded import ShardedSoftmax
from likewise.training.batches import ViewFunction
from likewise.training.lars import Lars
from likewise.training.session import Roles, Session
from likewise.training.supervision import taught_by
from likewise.views.render import Views
from likewise.views.vectors import VectorViews


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


def build_session(
    settings: FitSettings,
    embedder: Embedder,
    items: Items,
    total: int,
    device: torch.device,
    relations: Pairs | Triplets | None = None,
) -> Session:
    """A fresh run of ``total`` steps over ``items``: objective, dictionary and optimizer as the settings say.

    ``relations`` are remembered: what a checkpoint says is compared with them.

    Raises LikewiseError when micro-batches or processes would not give the whole batch's gradient, and on a backbone
    that synchronises BatchNorm over all processes where each group is to have its own.
    """
    generator = torch.Generator().manual_seed(settings.seed + 1)
    noise_generator = torch.Generator(device).manual_seed(settings.seed + 2)
    groups, parts = settings.encoder.bn_groups, settings.micro_batches
    if parts > 1 and normalises_batches(embedder) and groups % parts:
        raise in_parts_refused(
            f"micro_batches={parts}", f"set encoder.bn_groups={parts}, or a multiple, so that every part has its own"
        )
    if processes.size() > 1 and groups > 1:
        refuse_synchronised(embedder, groups)
    embedder = embedder.to(device)
    embedder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions: 1.2–1.6× on a CPU
    processes.from_first(embedder.state_dict().values())  # a backbone of one's own may start anywhere
    if (parts > 1 and groups % parts) or (processes.size() > 1 and groups == 1):
        _refuse_joined_rows(embedder, items, settings, device)  # of the same weights in all processes: all or none
    if processes.size() > 1 and settings.encoder.bn_groups == 1:
        synchronise(embedder)
    key_encoder = None
    if settings.dictionary == "queue":
        keys = settings.key_encoder
        key_encoder = Momentum(embedder, keys.momentum, schedule=keys.schedule, buffers=keys.buffers)
    if settings.bank.sharded:
        objective: Objective = build_sharded_objective(settings.objective, len(items))
    else:
        objective = build_objective(settings, items, embedder.dim, generator, noise_generator)
    objective = objective.to(device)
    dictionary = build_dictionary(settings, items, embedder.dim, generator, noise_generator).to(device)
    listed = settings.alike in ("pairs", "triplets")  # their ends are anywhere
    rows_add_up = not listed and not objective.joins_rows
    if processes.size() > 1 and rows_add_up:
        objective.share_rows()
    return Session(
        settings=settings,
        total=total,
        embedder=embedder,
        key_encoder=key_encoder,
        objective=objective,
        dictionary=dictionary,
        optimizer=build_optimizer(
            settings.optim, [*embedder.parameters(), *objective.parameters(), *dictionary.parameters()]
        ),
        generator=generator,
        noise_generator=noise_generator,
        item_ids=items.ids,
        taught=taught_by(settings, items, relations),
        device=device,
        roles=roles_of(settings),
        rows_add_up=rows_add_up,
    )


def roles_of(settings: FitSettings) -> Roles:
    """What the views of an item are for."""
    meet = settings.items_are_keys or settings.views_querying > 1
    return Roles(settings.views_encoded, settings.views_querying, settings.joint, meet)


def _refuse_joined_rows(embedder: Embedder, items: Items, settings: FitSettings, device: torch.device) -> None:
    """Raises LikewiseError where a batch can't be embedded in shares, by what the layers' kinds don't tell."""
    shape = (3, settings.size, settings.size) if items.kind == "images" else (items.values.shape[1],)
    rows = torch.randn(16, *shape, generator=torch.Generator().manual_seed(settings.seed)).to(device)
    if not joins_rows_unseen(embedder, rows):
        return
    parts, count = settings.micro_batches, processes.size()
    what, groups = (f"micro_batches={parts}", parts) if parts > 1 else (f"{count} processes", count)
    raise LikewiseError(
        f"{what} would change what is learned: the encoder joins the rows of a batch (BatchNorm as a function, or in "
        f"TorchScript), and a part has other rows; make it torch.nn's BatchNorm, or set encoder.bn_groups={groups}."
    )


def build_dictionary(
    settings: FitSettings, items: Items, dim: int, generator: torch.Generator, noise_generator: torch.Generator
) -> Dictionary:
    """The dictionary named by ``settings.dictionary``."""
    if settings.dictionary == "queue":
        queue, by_label = settings.queue, settings.alike == "label"
        labels = items.labels if by_label else None
        return Queue(
            queue.size,
            dim,
            start=queue.start,
            own_batch=queue.own_batch or by_label,
            older_pull=by_label,
            ids_each=None if labels is None or labels.ndim == 1 else labels.shape[1],
            generator=generator,
        )
    if settings.dictionary == "batch":
        return Batch()
    if settings.dictionary == "proxies":
        if settings.bank.sharded:
            return ShardedProxies(len(items), dim, generator=generator)
        if settings.alike == "label":
            return Proxies(len(items.label_names), bound=f"proxies of {settings.objective.kind}")
        return Proxies(len(items))
    if settings.bank.sharded:
        momentum = settings.bank.momentum
        return ShardedMemoryBank(len(items), dim, momentum=momentum, generator=generator)
    return MemoryBank(
        len(items),
        dim,
        momentum=settings.bank.momentum,
        samples=settings.bank.samples,
        item_ids=items.ids,
        generator=generator,
        noise=noise_generator,
    )


def build_optimizer(optim: OptimSettings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD, or LARS, over all parameters."""
    if optim.name == "lars":
        return Lars(parameters, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=optim.lr,
        momentum=optim.momentum,
        weight_decay=optim.weight_decay,
        nesterov=optim.nesterov,
        fused=True,  # one pass over the weights
    )


def build_views(model: Model) -> ViewFunction:
    """The random views of this model's kind of item."""
    settings = model.settings.views
    if model.kind == "images":
        return Views(settings, model.settings.size)
    assert model.vector_mean is not None
    zero, one = torch.zeros_like(model.vector_mean), torch.ones_like(model.vector_mean)
    random = VectorViews(settings.noise, settings.dropout, zero, one)
    return lambda batch, generator, share: random(model.standardise(batch), generator, share)


def pick_device(name: str) -> torch.device:
    """``auto`` is the accelerator when there is one. Raises LikewiseError for a device that is not there."""
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())  # each process of a run has its own
    if name == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise LikewiseError(f"device {name!r} can't be used here ({str(error).splitlines()[0]}); try auto.") from None
    return device
