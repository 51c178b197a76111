"""The inputs of an objective from views, from triplets or from pairs: queries, what is alike to them, and keys."""

import torch
from torch import Tensor

from likewise.alike import Flags, Ids, Listed, as_flags, as_ids, check_tensor
from likewise.errors import LikewiseError


def from_views(*views: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and ids of several views of the same items: ``objective(*from_views(z0, z1))``.

    Row i of every view is item i. The positives of a row are the item's other views; its negatives are the rows of all
    other items. ``InfoNCE()(*from_views(z0, z1))`` is SimCLR's NT-Xent over 2N rows, like lightly's
    ``NTXentLoss()(z0, z1)``.

    Args:
        views: two or more, each (N, D) unit rows.

    Returns:
        (V·N, D) rows, view by view, and (V·N,) int64 ids.

    Raises:
        LikewiseError: fewer than two views, or views of different shapes.
    """
    for number, view in enumerate(views):
        check_tensor(f"views[{number}]", view)
    shapes = [tuple(view.shape) for view in views]
    if len(views) < 2 or len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise LikewiseError(f"views {shapes} must be two or more, all of one shape (N, D).")
    return torch.cat(views), torch.arange(len(views[0]), device=views[0].device).repeat(len(views))


def from_triplets(embeddings: Tensor, triplets: Ids) -> tuple[Tensor, Listed, Tensor]:
    """Queries, relation and keys of explicit triplets, for any objective: ``objective(*from_triplets(z, triplets))``.

    Each triplet is a separate anchor with one positive and one negative, so the loss uses exactly the given triplets.

    Args:
        embeddings: (N, D).
        triplets: (T, 3) integers, rows of ``embeddings``: anchor, positive, negative.

    Raises:
        LikewiseError: a shape that is not (T, 3), or a row number that no embedding has.
    """
    triplets = _places("triplets", triplets, 3, embeddings)
    used, place = torch.unique(triplets[:, 1:], return_inverse=True)
    rows = torch.arange(len(triplets), device=triplets.device)
    positive, negative = torch.stack([rows, place[:, 0]], 1), torch.stack([rows, place[:, 1]], 1)
    return embeddings[triplets[:, 0]], Listed(positive, negative, len(triplets), len(used)), embeddings[used]


def from_pairs(
    embeddings: Tensor,
    pairs: Ids,
    alike: Flags | None = None,
    neither: Ids | None = None,
    planted: Ids | None = None,
) -> tuple[Tensor, Listed, Tensor]:
    """Queries, relation and keys of explicit pairs, for any objective: ``objective(*from_pairs(z, pairs, alike))``.

    Both items of a pair are anchors. With ``alike``, an anchor's positives and negatives are only the items it is
    listed with. Without, all pairs are alike, every row is an anchor (with ``planted`` only those of
    the pairs), and all rows that it is not paired with are its negatives.

    Args:
        embeddings: (N, D).
        pairs: (P, 2) integers, rows of ``embeddings``.
        alike: (P,) bool: whether each pair is alike. None: all are.
        neither: (R, 2) integers, rows of ``embeddings``: without ``alike``, pairs that are no negatives either.
        planted: (R, 2) integers, rows of ``embeddings``: without ``alike``, an anchor and a negative that was added to
            the batch for it. ``Mined`` tells how many of them it chooses.

    Raises:
        LikewiseError: shapes that do not fit, a row number that no embedding has, a row paired with itself, or
            ``alike`` with ``neither`` or ``planted``.
    """
    pairs = _places("pairs", pairs, 2, embeddings)
    selves = (pairs[:, 0] == pairs[:, 1]).nonzero()
    if len(selves):
        raise LikewiseError(f"pair {int(selves[0])} joins row {int(pairs[selves[0, 0], 0])} with itself; leave it out.")
    if alike is None:
        every = torch.arange(len(embeddings), device=embeddings.device)
        others = [torch.stack([every, every], 1)]  # no row is its own negative
        if neither is not None and len(neither):
            others.append(_places("neither", neither, 2, embeddings))
        count, no = len(embeddings), torch.cat(others)
        both, no = torch.cat([pairs, pairs.flip(1)]), torch.cat([no, no.flip(1)])
        if planted is not None:
            return _with_planted(embeddings, both, no, planted)
        relation = Listed(both, no, count, count, True)
        return embeddings, relation, embeddings
    if neither is not None or planted is not None:
        raise LikewiseError(
            "with alike, a pair that is not listed is neither alike nor not: leave neither and planted out."
        )
    alike = as_flags("alike", alike, embeddings.device)
    if alike.shape != pairs.shape[:1]:
        raise LikewiseError(f"alike {tuple(alike.shape)} must be ({len(pairs)},), one per pair.")
    used, place = torch.unique(pairs, return_inverse=True)
    both = torch.cat([place, place.flip(1)])
    alike = torch.cat([alike, alike])
    return embeddings[used], Listed(both[alike], both[~alike], len(used), len(used)), embeddings[used]


def _with_planted(embeddings: Tensor, both: Tensor, no: Tensor, planted: Ids) -> tuple[Tensor, Listed, Tensor]:
    """As ``from_pairs``, where the items of pairs alone are anchors: the others were added to be negatives.

    ``both`` are the positive pairs in both directions, ``no`` those that are no negatives.
    """
    used = torch.unique(both)
    place = torch.full((len(embeddings),), -1, device=embeddings.device)
    place[used] = torch.arange(len(used), device=embeddings.device)
    added = _places("planted", planted, 2, embeddings) if len(planted) else both[:0]

    def of_anchors(rows: Tensor) -> Tensor:
        anchors = place[rows[:, 0]]
        return torch.stack([anchors, rows[:, 1]], 1)[anchors >= 0]

    lists = of_anchors(both), of_anchors(no)
    relation = Listed(*lists, len(used), len(embeddings), rest_pushes=True, planted=of_anchors(added))
    return embeddings[used], relation, embeddings


def _places(name: str, places: Ids, width: int, embeddings: Tensor) -> Tensor:
    """(M, width) int64 rows of the embeddings."""
    check_tensor("embeddings", embeddings)
    rows = as_ids(name, places, embeddings.device)
    if rows.ndim != 2 or rows.shape[1] != width or not len(rows):
        raise LikewiseError(f"{name} {tuple(rows.shape)} must be (·, {width}) integers, not empty.")
    wrong = ((rows < 0) | (rows >= len(embeddings))).any(1).nonzero()
    if len(wrong):
        place = int(wrong[0])
        raise LikewiseError(
            f"{name}[{place}] is {rows[place].tolist()}, but there are only {len(embeddings)} embeddings."
        )
    return rows
