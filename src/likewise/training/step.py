"""The training step of every method: a query looks up its key in a dictionary.

Dimension legend: B items of the batch over all processes, b of this process, D dimensions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from likewise.dictionaries import Fresh, Keys
from likewise.distributed import processes
from likewise.distributed.layout import Layout
from likewise.encoders.batchnorm_groups import arrange, average_statistics, by_view, embed_parts, embed_shuffled
from likewise.encoders.gradient_cache import GradientCache
from likewise.objectives import Mined, from_pairs, from_triplets
from likewise.objectives.sharded import ShardedSoftmax
from likewise.training.samplers import stable_seed
from likewise.training.session import Session


class Seen(NamedTuple):
    """What a step sees.

    ``views`` are one or two (b, ...) views of this process' items; ``ids`` (B,) or (B, L) say which of the items of all
    processes are alike: their rows in the data, or their labels; ``layout`` says which of them are here, and how they
    are grouped. ``items`` (B,) are their rows in the data. Where pairs or triplets say what is alike, ``tuples`` (m, 2)
    or (m, 3) are those of this step, as places in the batch, and ``alike`` (m,) whether a pair is.
    """

    views: Sequence[Tensor]
    ids: Tensor
    layout: Layout
    items: Tensor
    tuples: Tensor | None = None
    alike: Tensor | None = None


def train_step(session: Session, batch: Seen) -> tuple[Tensor, Tensor]:
    """One step of any method. Returns the loss of the whole batch and the queries of this process, detached.

    Torch's own generator, from which dropout draws, is set by (seed, step, process): there is no state of it to save.
    """
    s, choices, groups = session, session.settings, batch.layout.own
    torch.manual_seed(stable_seed(choices.seed, f"dropout {batch.layout.rank}", s.step))
    if s.key_encoder is not None:
        s.key_encoder.update(s.embedder, s.step / s.total)
    if isinstance(s.objective, Mined):
        s.objective.advance(s.step, choices.epochs * s.step / s.total)

    with s.precision():
        parts = arrange(batch.views[: choices.views_encoded], groups, joint=choices.joint)
        grouped = choices.encoder.bn_groups % choices.micro_batches == 0  # else build_session let no BatchNorm pass
        cache = GradientCache(s.embedder, parts, grouped=grouped) if choices.micro_batches > 1 else None
        rows = embed_parts(s.embedder, parts) if cache is None else cache.rows  # unit rows, with gradient
        encoded = by_view(rows, choices.views_encoded, groups, joint=choices.joint)  # (b, D) of each view
        fresh = new_keys(s, batch, encoded)

    queries = encoded[: choices.views_querying]
    loss = look_up(s, queries, s.dictionary.keys(batch.ids, fresh), batch)
    s.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if cache is not None:
        with s.precision():  # a block of its own: in the first one autocast has kept weights without gradient
            cache.backward()
    processes.add_up(s.gradients())
    s.optimizer.step()
    s.dictionary.update(fresh.rows, fresh.ids)
    if choices.encoder.bn_groups > 1:
        for encoder in s.encoders():
            average_statistics(encoder)
    s.step += 1
    return s.whole_loss(loss), torch.cat(queries).detach()


def new_keys(session: Session, batch: Seen, encoded: Sequence[Tensor]) -> Fresh:
    """The keys of this step, of all processes in the batch's order, one view after the other."""
    choices, sizes = session.settings, batch.layout.sizes
    if session.key_encoder is not None:
        views = [_encode_keys(session, batch, view) for view in ((0, 1) if choices.symmetric else (1,))]
    elif choices.dictionary == "batch":
        gather = processes.gather_rows if session.rows_add_up else processes.among_others
        views = [gather(view, sizes) for view in (encoded if choices.joint else encoded[-1:])]
    else:
        views = [processes.gather_constant(encoded[0], sizes)]
    return Fresh(torch.cat(views), torch.cat([batch.ids] * len(views)))


def _encode_keys(session: Session, batch: Seen, view: int) -> Tensor:
    """(B, D) keys of one view, encoded by the momentum encoder, shuffled between BatchNorm's groups (MoCo §3.3)."""
    assert session.key_encoder is not None
    choices, order = session.settings, None
    if choices.key_encoder.shuffle and choices.encoder.bn_groups > 1:
        seed = stable_seed(choices.seed, f"shuffle {view}", session.step)
        order = torch.randperm(len(batch.ids), generator=torch.Generator().manual_seed(seed))
    own_statistics = choices.key_encoder.buffers == "own"
    return embed_shuffled(session.key_encoder.encoder, batch.views[view], batch.layout, order, keep=own_statistics)


def look_up(session: Session, queries: Sequence[Tensor], keys: Keys | None, batch: Seen) -> Tensor:
    """This process' share of the batch's loss: its own queries against the dictionary.

    An objective whose rows do not add up sees the queries of all processes, and sends back to its own.
    """
    objective, mine, count = session.objective, batch.layout.rows, len(batch.ids)
    if not session.rows_add_up:
        queries, mine = [processes.among_others(view, batch.layout.sizes) for view in queries], slice(0, count)
    rows, ids = torch.cat(list(queries)), torch.cat([batch.ids[mine]] * len(queries))
    if batch.tuples is not None:
        given = (
            from_triplets(rows, batch.tuples) if batch.alike is None else from_pairs(rows, batch.tuples, batch.alike)
        )
        loss = objective(*given)
    elif isinstance(objective, ShardedSoftmax) and keys is not None:
        loss = objective(rows, ids, keys.rows, batch.layout.sizes)
    elif keys is None:
        loss = objective(rows, ids)
    elif keys.ids is None:
        loss = objective(rows, ids, keys.rows)
    else:
        places = torch.arange(count, device=ids.device)[mine]
        own = places if session.settings.items_are_keys else None  # the key that is the query itself,
        own = torch.cat([places, places + count]) if len(queries) > 1 else own  # or its view's
        loss = objective(rows, ids, keys.rows, keys.ids, own=own, pulls=keys.pulls, pushes=keys.pushes)
    scaled: Tensor = loss * session.settings.objective.scale
    return scaled
