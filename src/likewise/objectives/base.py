"""The interface of objectives, and the base classes of each level: the call, its checks, the mean over rows."""

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from likewise.alike import Listed, Relation, relate
from likewise.dictionaries.keys import Keys
from likewise.distributed import processes
from likewise.errors import LikewiseError, LikewiseWarning, at_least_one
from likewise.ids import Flags, Ids, as_ids, check_labels
from likewise.kernels.logsumexp import row_logsumexp
from likewise.kernels.numerics import (
    SHORTEST,
    Distance,
    at_least_float32,
    own_similarities,
    row_lengths,
    softplus,
    unit,
)
from likewise.kernels.row_losses import row_losses
from likewise.objectives.checks import SEEN_KEYS, Watch, check_keys, check_proxies, proxy_rows, rows_of

How = Literal["mean", "sum", "none"]
BOTH = "a positive and a negative: put several items of several classes in each batch"


class Reduction:
    """Mean, sum or none over the rows that counted.

    A row counts when it has what its loss needs (say a positive and a negative); the others have loss 0 and no
    gradient. "mean" divides the sum by the number of rows that counted (0 when none did), whatever their loss is;
    "none" returns one loss per row. When fewer than half of the rows count, a warning says so, once.

    If several processes divide the rows of a batch (``across``), the mean is over the rows of all: the losses of the
    processes sum to the loss of the batch, and the gradients to its gradient.

    Args:
        how: "mean", "sum" or "none".
        owner: the objective's name, for the warning.
        need: what a row needs to count, and what to do, for the warning.
    """

    def __init__(self, how: How, owner: str, need: str) -> None:
        if how not in ("mean", "sum", "none"):
            raise LikewiseError(f"reduction={how!r} must be 'mean', 'sum' or 'none'.")
        self.how, self.owner, self.need = how, owner, need
        self.across = False
        self.watch, self.warned = Watch(owner), False

    def __repr__(self) -> str:
        return f"Reduction(how={self.how!r}, owner={self.owner!r}, need={self.need!r})"

    def __call__(self, losses: Tensor, counted: Tensor, able: Tensor | None = None) -> Tensor:
        """(Q,) losses and (Q,) bool → a scalar, or the (Q,) losses.

        ``able`` (Q,) are the rows eligible before mining; only these trigger the warning.
        """
        if not self.warned and self.watch.due(counted.device):
            self._count(counted if able is None else able)
        if self.how != "mean":
            return losses if self.how == "none" else losses.sum()
        number = processes.sum_over(counted.sum()) if self.across else counted.sum()
        return losses.sum() / number.clamp(min=1)

    def _count(self, counted: Tensor) -> None:
        number = int(counted.sum())
        if 2 * number < len(counted):
            self.warned = True
            warnings.warn(
                f"{self.owner}: {number} of {len(counted)} anchors counted in this batch; the others have no "
                f"gradient, as each needs {self.need}. (Said once.)",
                LikewiseWarning,
                stacklevel=4,
            )


class Objective(Protocol):
    """The interface that training needs of an objective. An objective is a module.

    Attributes:
        joins_rows: whether the loss is no sum over queries, or draws numbers for all of them. Each process then
            computes the loss of the whole batch.
        can_be_zero: whether a row can have zero loss, as with a hinge.
        of_pairs: whether a row needs a positive and a negative among the keys.
    """

    joins_rows: bool
    can_be_zero: bool
    of_pairs: bool

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """The loss of queries against the keys of any dictionary, as the training step calls it."""

    def chance(self, n: int) -> float | None:
        """The loss, with ``n`` keys, of an embedding that can't distinguish items; None where it is not known."""

    def triplet_margin(self) -> tuple[float, Distance] | None:
        """The margin and distance of a triplet loss; None for other losses."""

    def log_values(self) -> dict[str, float | str]:
        """Values of the state for the log."""

    def advance(self, step: int, epoch: float) -> None:
        """Updates what depends on time to ``step``; ``epoch`` may be a fraction."""

    def share_rows(self) -> None:
        """Call it if processes divide the rows of a batch: a mean is then over the rows of all processes."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """The module's."""

    def state_dict(self) -> dict[str, Any]:
        """The module's."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> object:
        """The module's."""

    def to(self, device: torch.device) -> Self:
        """The module's."""


# Default answers of most objectives; a class may define its own.


def unknown_chance(self: object, n: int) -> float | None:
    """None: not known."""
    return None


def no_triplet_margin(self: object) -> tuple[float, Distance] | None:
    """None: no triplet loss."""
    return None


def no_values(self: object) -> dict[str, float | str]:
    """Nothing of the state is worth a curve."""
    return {}


def changes_nothing(self: object, step: int, epoch: float) -> None:
    """Nothing changes with time."""


class PairObjective(nn.Module):
    """What the pair-level objectives share: the call. Abstract: subclasses are final and define :meth:`rows`.

    Args:
        reduction: see :class:`likewise.objectives.Reduction`.
        need: what an anchor needs to count, in words.
        unit_rows: warn, once, when queries or keys are not of unit length. See :class:`Watch` for when it looks.
    """

    joins_rows: bool = False
    can_be_zero: bool = False
    of_pairs: bool = True
    chance = unknown_chance
    triplet_margin = no_triplet_margin
    log_values = no_values
    advance = changes_nothing

    def __init__(self, reduction: How, need: str = BOTH, *, unit_rows: bool = True) -> None:
        super().__init__()
        self.reduce = Reduction(reduction, type(self).__name__, need)
        self.unit_rows, self.watch = unit_rows, Watch(type(self).__name__)

    def forward(
        self,
        queries: Tensor,
        ids: Ids | Listed,
        keys: Tensor | None = None,
        key_ids: Ids | None = None,
        *,
        own: Ids | None = None,
        pulls: Flags | None = None,
        pushes: Flags | None = None,
    ) -> Tensor:
        """The loss of queries (Q, D) among themselves, or against keys (K, D).

        Args:
            queries: (Q, D) unit rows, any floating dtype; similarities and sums are made in float32 at least.
            ids: (Q,) integers, or (Q, L) for several labels a row (alike when any agrees; below 0: no label), as a
                tensor, an array or a list; or a relation from ``from_triplets`` or ``from_pairs``. Of two views z0, z1
                of the same items ``from_views`` gives queries and ids.
            keys: (K, D) unit rows of a bank, a queue, a gathered batch or another modality.
            key_ids: (K,) or (K, L); by default the row numbers, as in a memory bank.
            own: (Q,) the key row of each query itself, which it never meets, −1 for none: for a gathered batch.
            pulls: (K,) bool, the keys that may be positives: a queue's older keys of the same item are then neither
                positive nor negative.
            pushes: (K,) bool, the keys that may be negatives.

        Returns:
            A float32 (or float64) scalar; (Q,) with reduction "none".

        Raises:
            LikewiseError: shapes or dtypes that do not fit together.
        """
        ids = ids if isinstance(ids, Listed) else as_ids("ids", ids, queries.device)
        relation = relate(queries, ids, keys, key_ids, own, pulls, pushes)
        if self.watch.due(queries.device):
            self._look_at(queries, relation, keys)
        losses, *counted = self.losses(queries, ids, keys, relation)
        nothing = (queries.detach() * 0).sum()  # NaN where a row is: comparisons with NaN are false, and would hide it
        return self.reduce(losses + nothing.to(losses.dtype), *counted)

    def share_rows(self) -> None:
        """See :class:`Objective`."""
        self.reduce.across = True

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """Every key in its role; without keys the queries among themselves."""
        if keys is None:
            loss: Tensor = self(queries, ids)
        else:
            loss = self(queries, ids, keys.rows, keys.ids, own=keys.own, pulls=keys.pulls, pushes=keys.pushes)
        return loss

    def losses(
        self, queries: Tensor, ids: Tensor | Listed, keys: Tensor | None, relation: Relation | Listed
    ) -> tuple[Tensor, Tensor]:
        """(Q,) losses and which count. Classes whose loss joins several rows say their own."""
        ahead = self.reduce.how != "none"
        return row_losses(self.rows, queries, keys, relation, self.row_inputs(queries, ids), ahead=ahead)

    def row_inputs(self, queries: Tensor, ids: Tensor | Listed) -> Sequence[Tensor]:
        """What :meth:`rows` needs of each row beyond similarities; nothing unless a class says so."""
        return ()

    @abstractmethod
    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """The formula: (R,) losses of the anchors, and which of them count."""

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss of an anchor with one positive and one negative, elementwise: what ``likewise figure`` draws."""
        one = torch.ones(s_p.numel(), 1, dtype=torch.bool)
        return self.rows(s_p.reshape(-1, 1), one, s_n.reshape(-1, 1), one)[0].reshape(s_p.shape)

    def _look_at(self, queries: Tensor, relation: Relation | Listed, keys: Tensor | None) -> None:
        """Checks and warnings that read values."""
        if self.unit_rows:
            self.watch.unit_rows("queries", queries)
        if isinstance(relation, Relation):
            check_labels("ids", relation.ids)
        if keys is None:
            return
        if isinstance(relation, Relation):
            check_labels("key_ids", relation.key_ids)
            if relation.own is None:
                self.watch.own_keys(queries, keys)
        if self.unit_rows:
            some = slice(SEEN_KEYS * len(queries))
            self.watch.unit_rows("keys", keys[some], relation.used(some))


FEW_KEYS = 4  # a batch of queries may copy as many times its own number of keys


class ClassObjective(nn.Module):
    """What the class-level objectives share: proxies and the call. Abstract: subclasses are final.

    A subclass defines :meth:`target` and, where it is not 1, :meth:`logit_scale`; class attributes say which vectors
    are scaled to unit length and whether the target is an angle's function, multiplied by the vectors' lengths.

    Args:
        classes: K.
        dim: D.
        generator: for the initial proxies, normal with variance 1/D: about unit length.
        reduction: "mean", "sum" or "none" over the rows with a label.
    """

    joins_rows: bool = False
    can_be_zero: bool = False
    of_pairs: bool = False
    triplet_margin = no_triplet_margin
    log_values = no_values
    advance = changes_nothing
    unit_queries: ClassVar[bool] = False
    unit_proxies: ClassVar[bool] = False
    times_lengths: ClassVar[bool] = False
    proxies: nn.Parameter

    def __init__(self, classes: int, dim: int, generator: torch.Generator | None, reduction: How) -> None:
        super().__init__()
        if at_least_one("classes", classes, "a classifier tells two or more apart") < 2 or dim < 1:
            raise LikewiseError(f"classes={classes}, dim={dim}: give at least 2 classes and 1 dimension.")
        self.reduce, self.watch = Reduction(reduction, type(self).__name__, "a label"), Watch(type(self).__name__)
        self.proxies = nn.Parameter(torch.randn(classes, dim, generator=generator) / math.sqrt(dim))
        self.circle: float | None = None  # margin of the negatives' Circle form

    def sizes(self) -> str:
        """K and D as text, for ``repr``."""
        return f"classes={len(self.proxies)}, dim={self.proxies.shape[1]}"

    def forward(self, queries: Tensor, ids: Ids, keys: Tensor | None = None, key_ids: Ids | None = None) -> Tensor:
        """The loss of queries (Q, D) against the proxies, or against keys in their place.

        Args:
            queries: (Q, D), any length and floating dtype; products and sums are made in float32 at least.
            ids: (Q,) integers, the class of each row; below 0: no label, and the row does not count. Or (Q, L) for
                several labels a row, padded with −1: the mean over the row's labels of the loss of each among the
                classes that are none of the row's.
            keys: (K, D), instead of ``self.proxies``: a part of the classes, or a bank of one vector per class.
            key_ids: (K,) the class of each key, all different; by default the row numbers.

        Returns:
            A float32 (or float64) scalar; (Q,) with reduction "none".

        Raises:
            LikewiseError: shapes, dtypes or ids that do not fit together.
        """
        keys = self.proxies if keys is None else keys
        ids, key_ids = check_proxies(queries, ids, keys, key_ids)
        if ids.ndim == 2 and self.watch.due(queries.device):
            check_labels("ids", ids)
        rows = proxy_rows(ids, len(keys), key_ids)  # (Q,) or (Q, L), −1: none
        queries = at_least_float32(queries)
        with torch.autocast(queries.device.type, enabled=False):
            queries, keys = self.vectors(unit(queries) if self.unit_queries else queries, keys, key_ids)
            unit_keys = self.unit_proxies
            if unit_keys and len(keys) <= FEW_KEYS * len(queries):  # one scaled copy is the cheaper way
                keys, unit_keys = unit(keys.to(queries.dtype)), False
            target = self._targets(queries, keys, rows, unit_keys)  # like rows
            scale = self.logit_scale()
            if isinstance(scale, Tensor):
                queries, scale = queries * scale, 1.0
            push = row_logsumexp(queries, keys, scale, skip=rows, circle=self.circle, unit_keys=unit_keys)  # (Q,)
            labelled = rows >= 0
            if rows.ndim == 1:
                return self.reduce(torch.where(labelled, softplus(push - target), 0.0), labelled)
            losses = torch.where(labelled, softplus(push.unsqueeze(1) - target), 0.0).sum(1)
            count = labelled.sum(1)
            return self.reduce(losses / count.clamp(min=1), count > 0)

    def share_rows(self) -> None:
        """See :class:`Objective`."""
        self.reduce.across = True

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """The proxies where a dictionary has no keys."""
        loss: Tensor = self(queries, ids) if keys is None else self(queries, ids, keys.rows, keys.ids)
        return loss

    def vectors(self, queries: Tensor, keys: Tensor, key_ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries and keys as they enter the product, lengths aside: as they are, unless a class adds to them."""
        return queries, keys

    def logit_scale(self) -> Tensor | float:
        """What multiplies a similarity to make a logit: a number, or a learned scalar."""
        return 1.0

    @abstractmethod
    def target(self, similarity: Tensor) -> Tensor:
        """The target logit from the similarity with the own proxy (their cosine where ``times_lengths``)."""

    def other(self, similarity: Tensor) -> Tensor:
        """The logit of another class: what the log-sum-exp sums."""
        return self.logit_scale() * similarity

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss of a unit row with cosine ``s_p`` to its own of two unit proxies and ``s_n`` to the other."""
        return softplus(self.other(s_n) - self.target(s_p))

    @torch.no_grad()
    def chance(self, n: int) -> float:
        """The loss among n classes of an embedding that tells nothing apart, orthogonal to every proxy."""
        nothing = torch.zeros((), dtype=torch.float64)
        return float(softplus(self.other(nothing) + math.log(n - 1) - self.target(nothing)))

    def _targets(self, queries: Tensor, keys: Tensor, rows: Tensor, unit_keys: bool) -> Tensor:
        place = rows.clamp(min=0)
        if rows.ndim == 1 and not unit_keys and (self.unit_proxies or not self.times_lengths):
            similarity = own_similarities(queries, keys, place)
            return self._target(similarity, row_lengths(queries) if self.times_lengths else None)
        own = keys.index_select(0, place.reshape(-1)).to(queries.dtype)
        own = (unit(own) if unit_keys else own).reshape(*rows.shape, -1)  # (Q, [L,] D)
        queries = queries if rows.ndim == 1 else queries.unsqueeze(1)
        similarity = (queries * own).sum(-1)
        if not self.times_lengths:
            return self.target(similarity)
        return self._target(
            similarity, row_lengths(queries) if self.unit_proxies else row_lengths(queries) * row_lengths(own)
        )

    def _target(self, similarity: Tensor, length: Tensor | None) -> Tensor:
        if length is None:
            return self.target(similarity)
        return length * self.target(similarity / length.masked_fill(length < SHORTEST, 1.0))


class Match(NamedTuple):
    """Where each query's positive is among the keys.

    Without ``key_ids`` an id is a row. Rows of queries that do not count point somewhere valid.
    """

    rows: Tensor  # (B,) int64, the positive's row
    counted: Tensor  # (B,) bool, whether there is one
    ids: Tensor  # (B,)
    key_ids: Tensor | None  # (n,)

    def hits(self, rows: Tensor) -> Tensor:
        """(m,) or (B, m) rows of keys → (B, m) bool: whether the key has the query's own id."""
        names = rows if self.key_ids is None else self.key_ids[rows]
        return names == self.ids.unsqueeze(1)


class InstanceObjective(nn.Module):
    """What the objectives of one positive per query share: the call. Abstract: subclasses are final.

    Args:
        reduction: "mean", "sum" or "none" over the queries that count.
        unit_rows: warn, once, when queries, or keys without gradient, are not of unit length.
    """

    joins_rows: bool = False
    can_be_zero: bool = False
    of_pairs: bool = False
    triplet_margin = no_triplet_margin
    log_values = no_values
    advance = changes_nothing

    def __init__(self, reduction: How, *, unit_rows: bool = False) -> None:
        super().__init__()
        self.reduce = Reduction(reduction, type(self).__name__, "a positive (their ids are below 0)")
        self.unit_rows, self.watch = unit_rows, Watch(type(self).__name__)

    def forward(self, queries: Tensor, ids: Ids, keys: Tensor, key_ids: Ids | None = None) -> Tensor:
        """The loss of queries (B, D) whose positives are the keys (n, D) that ``ids`` (B,) name.

        Args:
            queries: (B, D), any floating dtype; similarities and sums are made in float32 at least.
            ids: (B,) integers; below 0: the query has no positive and does not count.
            keys: (n, D).
            key_ids: (n,) integers; by default the row numbers, as in a memory bank.

        Returns:
            A float32 (or float64) scalar; (B,) with reduction "none".

        Raises:
            LikewiseError: shapes or dtypes that do not fit together, and an id that no key has.
        """
        return self.reduced_loss(queries, ids, keys, key_ids)

    def share_rows(self) -> None:
        """See :class:`Objective`."""
        self.reduce.across = True

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """A row for every item: the dictionary's, or where it has none the objective's own."""
        loss: Tensor = self(queries, ids) if keys is None else self(queries, ids, keys.rows, keys.ids)
        return loss

    def reduced_loss(self, queries: Tensor, ids: Ids, keys: Tensor, key_ids: Ids | None) -> Tensor:
        """Checks, finds the positives, and reduces :meth:`row_losses` over the queries that count."""
        ids, key_ids = check_keys(queries, ids, keys, key_ids)
        if self.unit_rows and self.watch.due(queries.device):
            self.watch.unit_rows("queries", queries)
            if not keys.requires_grad:
                self.watch.unit_rows("keys", keys[: SEEN_KEYS * len(queries)])
        match = Match(rows_of(ids, key_ids, len(keys)), ids >= 0, ids, key_ids)
        with torch.autocast(queries.device.type, enabled=False):
            losses = self.row_losses(at_least_float32(queries), keys, match)
            return self.reduce(torch.where(match.counted, losses, 0.0), match.counted)

    @abstractmethod
    def row_losses(self, queries: Tensor, keys: Tensor, match: Match) -> Tensor:
        """The formula: (B,) losses of queries that are float32 at least."""
