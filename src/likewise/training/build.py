"""Builds what the settings name: objective, policies of negatives, dictionary, optimizer, views, session."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

from likewise.config.objective_table import OfRun, Row
from likewise.config.objective_table import objective as objective_row
from likewise.config.policy_table import policy
from likewise.config.settings import FitSettings, NegativeSettings, OptimSettings
from likewise.config.values import Scalar
from likewise.data import Items
from likewise.data.pair_files import Relations
from likewise.dictionaries import Batch, Dictionary, MemoryBank, Proxies, Queue
from likewise.dictionaries.sharded import ShardedMemoryBank, ShardedProxies
from likewise.distributed import processes
from likewise.encoders import Embedder
from likewise.encoders.gradient_cache import in_parts_refused, joins_rows_unseen, normalises_batches
from likewise.encoders.momentum import Momentum
from likewise.encoders.synced_batchnorm import refuse_synchronised, synchronise
from likewise.errors import LikewiseError
from likewise.model import Model
from likewise.negatives import Curriculum
from likewise.objectives import Mined
from likewise.objectives.base import PairObjective
from likewise.objectives.interface import Objective
from likewise.objectives.sharded import ShardedSoftmax
from likewise.training.batches import ViewFunction
from likewise.training.decide import complete
from likewise.training.lars import Lars
from likewise.training.muon import Muon
from likewise.training.session import Roles, Session
from likewise.training.supervision import supervision_of
from likewise.views.parts import PartViews
from likewise.views.render import Views
from likewise.views.vectors import VectorViews

SECOND_MOMENT = 0.999  # of AdamW, as in its paper


def build_objective(
    settings: FitSettings, items: Items, dim: int, generator: torch.Generator, noise_generator: torch.Generator
) -> Objective:
    """Builds the objective from its row of the table, with the policies of ``settings.negatives``."""
    row, parameters = objective_row(settings.objective.kind), settings.objective.parameters
    if settings.bank.sharded:
        return _sharded_objective(row, parameters, len(items))
    of_run: dict[OfRun, object] = {
        **{"classes": len(items.label_names), "items": len(items), "dim": dim},
        **{"generator": generator, "noise_generator": noise_generator},
    }
    given = {name: of_run[what] for name, what in row.given.items()}
    objective = cast(Objective, row.load()(**given, **parameters))
    chosen = settings.negatives
    if not chosen.mines:
        return objective
    return Mined(
        cast(PairObjective, objective),  # Mined refuses others
        negatives=build_policies(chosen),
        positives=chosen.positives,
        pairs=chosen.pairs,
        generator=noise_generator,
    )


def build_policies(settings: NegativeSettings) -> Curriculum:
    """Builds the policies in order, each with its own parameters."""
    rows = [policy(name) for name in settings.policies]
    built = [row.load()(**{name: settings.parameters[name] for name in row.parameters}) for row in rows]
    return Curriculum(tuple(built), settings.at, settings.by)


def _sharded_objective(row: Row, parameters: Mapping[str, Scalar], n: int) -> ShardedSoftmax:
    """The exact softmax over sharded keys: the rows of a bank, or trained weights."""
    number = cast(dict[str, float], complete(parameters, row.parameters, [row.load()]))
    if row.keys == "own":
        return ShardedSoftmax(n, temperature=1 / number["scale"], keys_learn=True)
    return ShardedSoftmax(n, temperature=number["temperature"], proximal=number["proximal"])


def build_session(
    settings: FitSettings,
    embedder: Embedder,
    items: Items,
    total: int,
    device: torch.device,
    relations: Relations | None = None,
) -> Session:
    """The session of a new run of ``total`` steps over ``items``.

    The session keeps a hash of ``relations``, to compare it with that of a checkpoint.

    Raises LikewiseError when micro-batches or processes would change the gradient of the batch, and when the backbone
    synchronises BatchNorm over all processes but the settings ask for groups.
    """
    generator = torch.Generator().manual_seed(settings.seed + 1)
    noise_generator = torch.Generator(device).manual_seed(settings.seed + 2)
    groups, parts = settings.encoder.bn_groups, settings.micro_batches
    if parts > 1 and normalises_batches(embedder.train(), as_it_is=True) and groups % parts:
        raise in_parts_refused(
            f"micro_batches={parts}", f"set encoder.bn_groups={parts}, or a multiple, so that every part has its own"
        )
    if processes.size() > 1 and groups > 1:
        refuse_synchronised(embedder, groups)
    embedder = embedder.to(device)
    embedder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions: 1.2–1.6× on a CPU
    processes.from_first(
        embedder.state_dict().values()
    )  # a user's backbone may start with other weights in each process
    if (parts > 1 and groups % parts) or (processes.size() > 1 and groups == 1):
        _refuse_joined_rows(embedder, items, settings, device)  # equal weights: all processes raise, or none
    if processes.size() > 1 and settings.encoder.bn_groups == 1:
        synchronise(embedder)
    key_encoder = None
    if settings.dictionary == "queue":
        keys = settings.key_encoder
        key_encoder = Momentum(embedder, keys.momentum, schedule=keys.schedule, buffers=keys.buffers)
    objective = build_objective(settings, items, embedder.dim, generator, noise_generator).to(device)
    dictionary = build_dictionary(settings, items, embedder.dim, generator, noise_generator).to(device)
    # the items of a pair, triplet or list may be in different processes
    rows_add_up = not settings.listed and not objective.joins_rows
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
            settings.optim, [*learned(embedder), *objective.parameters(), *dictionary.parameters()]
        ),
        generator=generator,
        noise_generator=noise_generator,
        item_ids=items.ids,
        supervision=supervision_of(settings, items, relations),
        device=device,
        roles=roles_of(settings),
        rows_add_up=rows_add_up,
    )


def learned(embedder: Embedder) -> list[nn.Parameter]:
    """The weights that a step changes: without those of a frozen backbone."""
    return [weight for weight in embedder.parameters() if weight.requires_grad or not embedder.frozen]


def roles_of(settings: FitSettings) -> Roles:
    """The roles of an item's views."""
    meet = settings.items_are_keys or settings.views_querying > 1
    return Roles(settings.views_encoded, settings.views_querying, settings.joint, meet)


def _refuse_joined_rows(embedder: Embedder, items: Items, settings: FitSettings, device: torch.device) -> None:
    """Raises LikewiseError if rows interact in the encoder other than through a known BatchNorm or dropout layer."""
    shape = (3, settings.size, settings.size) if items.kind == "images" else (items.values.shape[1],)
    rows = torch.randn(16, *shape, generator=torch.Generator().manual_seed(settings.seed)).to(device)
    if not joins_rows_unseen(embedder, rows):
        return
    parts, count = settings.micro_batches, processes.size()
    what, groups = (f"micro_batches={parts}", parts) if parts > 1 else (f"{count} processes", count)
    raise LikewiseError(
        f"{what} would change what is learned: rows interact in the encoder (BatchNorm as a function, or in "
        f"TorchScript), and a part has fewer rows; use torch.nn's BatchNorm, or set encoder.bn_groups={groups}."
    )


def build_dictionary(
    settings: FitSettings, items: Items, dim: int, generator: torch.Generator, noise_generator: torch.Generator
) -> Dictionary:
    """Builds the dictionary that ``settings.dictionary`` names."""
    if settings.dictionary == "queue":
        queue, by_label = settings.queue, settings.by_label
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
        if settings.by_label:
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
    """SGD, LARS, Muon or AdamW over all parameters."""
    if optim.name == "lars":
        return Lars(parameters, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay)
    if optim.name == "adamw":
        betas = (optim.momentum, SECOND_MOMENT)
        return torch.optim.AdamW(parameters, lr=optim.lr, betas=betas, weight_decay=optim.weight_decay)
    if optim.name == "muon":
        return Muon(parameters, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay)
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
    assert model.vector_std is not None
    if model.blocks:
        return PartViews(settings, model.vector_mean, model.vector_std, model.blocks)
    zero, one = torch.zeros_like(model.vector_mean), torch.ones_like(model.vector_mean)
    random = VectorViews(settings.noise, settings.dropout, zero, one)
    return lambda batch, generator, share: random(model.standardise(batch), generator, share)


def build_small_views(model: Model) -> ViewFunction | None:
    """The views of half the side, with which a training may begin; None where it does not."""
    if model.kind != "images" or not model.settings.views.small_until:
        return None
    return Views(model.settings.views, -(-model.settings.size // 2))


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is the accelerator if there is one. Raises LikewiseError if it is missing."""
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())  # each process has its own GPU
    if name == "auto":
        return torch.device("cpu")
    seen = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    seen += ["mps"] if torch.backends.mps.is_available() else []
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        known = name in seen or (name == "cuda" and len(seen) > 1)
        reason = str(error).splitlines()[0] if known else f"torch sees {', '.join(seen)} only"
        raise LikewiseError(f"device {name!r} can't be used here ({reason}); try auto.") from None
    return device
