"""The training step, the same for every method: queries meet the keys of a dictionary.

Dimension legend: B items of the whole batch, b items of this process, D dimensions of an embedding.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from likewise.config.settings import OptimSettings
from likewise.dictionaries import Fresh, Keys
from likewise.distributed import processes
from likewise.distributed.layout import Layout
from likewise.encoders.embedder import arrange, average_statistics, by_view, embed_parts
from likewise.encoders.gradient_cache import GradientCache
from likewise.encoders.momentum import embed_shuffled
from likewise.kernels.numerics import at_least_float32, no_autocast
from likewise.objectives import from_pairs, from_triplets
from likewise.training.session import Session


class Judged(NamedTuple):
    """The lists of a step: L queries with up to N items each, as places in the batch.

    Args:
        queries: (L,) places.
        items: (L, N) places; 0 where a list is shorter.
        relevance: (L, N) of the items to their queries; 0 where a list is shorter.
        mask: (L, N) bool, False where a list is shorter.
    """

    queries: Tensor
    items: Tensor
    relevance: Tensor
    mask: Tensor


class Seen(NamedTuple):
    """The input of one step.

    ``seed`` and ``orders`` depend only on the run's seed and the step, so a checkpoint need not save them.

    Args:
        views: one or two views (b, ...) of this process' items.
        ids: (B,) or (B, L), which items are alike: their rows in the data, or their labels.
        layout: which items of the batch this process has, and their BatchNorm groups.
        items: (B,) rows of the items in the data.
        tuples: (m, 2) pairs or (m, 3) triplets of this step, as places in the batch; None where there are none.
        alike: (m,) whether each pair is alike; None where all are, and for triplets.
        neither: (r, 2) places of items that are neither alike nor negatives, where all pairs are alike; else None.
        judged: the lists of this step; None where there is no graded relevance.
        planted: (p, 2) places of anchors and of the negatives that were added for them; None where none are.
        seed: seeds the random numbers that the encoder draws in this process (dropout).
        orders: (B,) for each view, the order that shuffles its keys; empty where keys are not shuffled.
    """

    views: Sequence[Tensor]
    ids: Tensor
    layout: Layout
    items: Tensor
    tuples: Tensor | None = None
    alike: Tensor | None = None
    neither: Tensor | None = None
    judged: Judged | None = None
    planted: Tensor | None = None
    seed: int = 0
    orders: Sequence[Tensor] = ()


def train_step(session: Session, batch: Seen) -> tuple[Tensor, Tensor]:
    """One step of any method. Returns the loss of the whole batch and the queries of this process, detached."""
    s, choices, roles, layout = session, session.settings, session.roles, batch.layout
    several, groups = layout.count > 1, choices.encoder.bn_groups
    for group in s.optimizer.param_groups:
        group["lr"] = learning_rate(choices.optim, s.step, s.total)
    torch.manual_seed(batch.seed)
    if s.key_encoder is not None:
        s.key_encoder.update(s.embedder, s.step / s.total)
    s.objective.advance(s.step, choices.epochs * s.step / s.total)

    with precision(s):
        parts = arrange(batch.views[: roles.encoded], layout.own, joint=roles.joint)
        grouped = groups % choices.micro_batches == 0  # otherwise the encoder has no BatchNorm: build_session checks it
        cache = GradientCache(s.embedder, parts, grouped=grouped) if choices.micro_batches > 1 else None
        rows = embed_parts(s.embedder, parts) if cache is None else cache.rows  # unit rows, with gradient
        encoded = by_view(rows, roles.encoded, layout.own, joint=roles.joint)  # (b, D) of each view
        fresh = new_keys(s, batch, encoded)

    queries = encoded[: roles.querying]
    loss = look_up(s, batch, queries, s.dictionary.keys(batch.ids, fresh))
    s.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if cache is not None:
        with precision(s):  # a new block, because autocast of the first one has cached weights without gradient
            cache.backward()
    if several:
        processes.add_up(gradients(s.embedder.parameters()))
        processes.add_up(gradients(s.objective.parameters()), mean=not s.rows_add_up)
    s.optimizer.step()
    s.dictionary.update(fresh.rows, fresh.ids, look=False)  # the loss of these rows is looked at, by ``Watch``
    if several and groups > 1:
        for encoder in s.encoders():
            average_statistics(encoder)
    s.step += 1
    return whole_loss(s, loss, layout), s.embedder.roles(torch.cat(queries))[1].detach()


def new_keys(session: Session, batch: Seen, encoded: Sequence[Tensor]) -> Fresh:
    """The keys of this step from all processes, in the order of the batch, one view after the other."""
    choices, roles, layout = session.settings, session.roles, batch.layout
    if session.key_encoder is not None:
        views = [encode_keys(session, batch, view) for view in ((0, 1) if choices.symmetric else (1,))]
    elif choices.dictionary == "batch":
        gather = processes.gather_rows if session.rows_add_up else processes.among_others
        views = [of_all(view, layout, gather) for view in (encoded if roles.joint else encoded[-1:])]
    else:
        views = [of_all(encoded[0].detach(), layout, processes.gather_constant)]
    own = None
    if roles.meet:
        count, mine = len(batch.ids), layout.rows if session.rows_add_up else slice(None)
        places = torch.arange(count, device=batch.ids.device)[mine]
        own = torch.cat([places + view * count for view in range(roles.querying)])
    return Fresh(torch.cat(views), torch.cat([batch.ids] * len(views)), own, layout.sizes)


def encode_keys(session: Session, batch: Seen, view: int) -> Tensor:
    """(B, D) keys of one view, encoded by the momentum encoder, shuffled between BatchNorm's groups (MoCo §3.3)."""
    assert session.key_encoder is not None
    order = batch.orders[view] if batch.orders else None
    keep = session.settings.key_encoder.buffers == "own"
    return embed_shuffled(session.key_encoder.encoder, batch.views[view], batch.layout, order, keep=keep)


def look_up(session: Session, batch: Seen, queries: Sequence[Tensor], keys: Keys | None) -> Tensor:
    """This process' share of the batch's loss: the loss of its own queries against the dictionary.

    If the loss is not a sum over queries, every process computes it from the queries of all processes, and the gradient
    goes back to the process that encoded each query.
    """
    ids = batch.ids[batch.layout.rows] if session.rows_add_up else batch.ids
    if not session.rows_add_up:
        queries = [of_all(view, batch.layout, processes.among_others) for view in queries]
    rows, wanted = torch.cat(list(queries)), torch.cat([ids] * len(queries))
    if batch.judged is not None:
        loss = loss_of_lists(session, rows, batch.judged)
    elif batch.tuples is None:
        loss = session.objective.against(rows, wanted, keys)
    else:  # pairs and triplets name their anchors, positives and negatives
        places, triplets = batch.tuples, batch.tuples.shape[1] == 3
        pairs = (places, batch.alike, batch.neither, batch.planted)
        listed = from_triplets(rows, places) if triplets else from_pairs(rows, *pairs)
        loss = session.objective.against(listed[0], listed[1], Keys(listed[2]))
    return loss * session.settings.loss_weight


def loss_of_lists(session: Session, rows: Tensor, judged: Judged) -> Tensor:
    """The loss of the scores ``q·i`` of queries and their items, among the rows of the whole batch."""
    queries, items = session.embedder.roles(at_least_float32(rows))
    with no_autocast(rows.device):
        scores = (queries[judged.queries] @ items.T).gather(1, judged.items)
    loss: Tensor = cast(nn.Module, session.objective)(scores, judged.relevance, judged.mask)
    return loss


def of_all(rows: Tensor, layout: Layout, gather: Callable[[Tensor, Sequence[int]], Tensor]) -> Tensor:
    """The rows of all processes, in the order of the batch."""
    return rows if layout.count == 1 else gather(rows, layout.sizes)


def precision(session: Session) -> torch.autocast:
    """The precision of the encoder: bf16 under autocast, or unchanged."""
    return torch.autocast(session.device.type, torch.bfloat16, enabled=session.settings.precision == "bf16")


def gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Those that there are, in order."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def whole_loss(session: Session, share: Tensor, layout: Layout) -> Tensor:
    """The batch's loss from this process' share, detached."""
    if layout.count == 1:
        return share.detach()
    return processes.sum_over(share.detach()) / (1 if session.rows_add_up else layout.count)


def learning_rate(optim: OptimSettings, step: int, total: int) -> float:
    """The learning rate of step ``step`` of ``total``. A pure function: there is no scheduler state to save."""
    progress = step / total
    if progress < optim.warmup:
        return optim.lr * (step + 1) / max(1.0, optim.warmup * total)
    if optim.schedule == "cosine":
        after = (progress - optim.warmup) / max(1e-12, 1 - optim.warmup)
        return optim.lr * 0.5 * (1 + math.cos(math.pi * after))
    if optim.schedule == "steps":
        return optim.lr * 0.1 ** sum(progress >= milestone for milestone in optim.milestones)
    return optim.lr
