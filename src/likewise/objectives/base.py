"""The base classes of pair-level and class-level objectives: calls, checks, and the reduction of the row losses."""

import math
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from likewise.alike import Flags, Ids, Listed, Relation, as_ids, check_labels, check_tensor, first_among, relate, traced
from likewise.dictionaries.keys import Keys
from likewise.distributed import processes
from likewise.errors import LikewiseError, LikewiseWarning, at_least_one, room_for
from likewise.kernels.class_losses import Form, class_losses
from likewise.kernels.logsumexp import row_logsumexp
from likewise.kernels.numerics import (
    SHORTEST,
    Distance,
    at_least_float32,
    no_autocast,
    row_lengths,
    softplus,
    unit,
)
from likewise.kernels.row_losses import PLAIN_PAIRS, row_losses
from likewise.objectives.checks import check_proxies, proxy_rows

How = Literal["mean", "sum", "none"]
BOTH = "a positive and a negative: put several items of several classes in each batch"
TWO_VIEWS = "Give two views z0, z1 of the same items as objective(*likewise.objectives.from_views(z0, z1))."


LENGTH_TOLERANCE = 0.05
SEEN_KEYS = 4  # times the number of queries: as many keys are looked at


class Watch:
    """Looks at the values that an objective is given: on the CPU at every call, elsewhere at calls 1, 2, 4, 8, ...

    Elsewhere looking waits for the device. A traced call is not looked at. Each warning comes once.

    Cost: a pass over the queries and over at most four times as many keys, beside the products of all of them.

    Args:
        owner: the objective's name, for the warnings.
    """

    def __init__(self, owner: str) -> None:
        self.owner, self.calls, self.said = owner, 0, set[str]()

    def __repr__(self) -> str:
        return f"Watch(owner={self.owner!r})"

    def due(self, device: torch.device) -> bool:
        """Whether this call is looked at."""
        if traced():
            return False
        self.calls += 1
        return device.type == "cpu" or not self.calls & (self.calls - 1)

    def unit_rows(self, what: str, rows: Tensor, used: Tensor | None = None) -> None:
        """Warns of rows that are not of unit length; ``used`` (N,) bool: those that matter."""
        if "unit rows" in self.said:
            return
        off = (torch.linalg.vector_norm(at_least_float32(rows.detach()), dim=1) - 1).abs()
        furthest = float((off if used is None else off * used).max())
        if furthest > LENGTH_TOLERANCE:
            self._say(
                "unit rows",
                f"the {what} are not unit rows (a length is off by {furthest:.3g}). Pass "
                f"torch.nn.functional.normalize({what}); the loss takes q·k for the cosine.",
            )

    def own_keys(self, queries: Tensor, keys: Tensor) -> None:
        """Warns of queries that are keys too, without ``own``: each would be its own positive."""
        if "own keys" not in self.said and (count := first_among(queries, keys)):
            self._say(
                "own keys",
                f"the first {count} queries are keys too, so each is its own positive. Leave the keys out, or say "
                "which key each query is, such as own=torch.arange(len(queries)).",
            )

    def _say(self, what: str, message: str) -> None:
        self.said.add(what)
        warnings.warn(f"{self.owner}: {message} (Said once.)", LikewiseWarning, stacklevel=5)


class Reduction:
    """The mean or the sum of the row losses, or the row losses themselves ("none").

    A row counts when it has what its loss needs, for example a positive and a negative. Other rows have loss 0 and no
    gradient. "mean" divides the sum by the number of rows that count, also when some of them have loss 0; it is 0 when
    no row counts. When fewer than half of the rows count, the first such batch gives a LikewiseWarning.

    If several processes divide the rows of a batch (``across``), "mean" divides by the number of rows that count in all
    processes. The losses of the processes then add up to the loss of the batch, and the gradients to its gradient.

    Args:
        how: "mean", "sum" or "none".
        owner: the objective's name, for the warning.
        need: what a row needs to count, and what to do, for the warning.

    Raises:
        LikewiseError: any other ``how``.
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
        """(Q,) float losses and (Q,) bool → a scalar, or the (Q,) losses with "none".

        ``able`` (Q,) bool marks the rows that could count before mining; if given, the warning is about these rows.
        """
        read = counted.is_cpu and not traced()  # elsewhere reading a value waits for the device
        number: int | Tensor = int(counted.count_nonzero()) if read else counted.sum()
        if not self.warned and self.watch.due(counted.device):
            self._look_at(int(number if able is None else able.sum()), counted.shape[0])
        if self.how != "mean":
            return losses if self.how == "none" else losses.sum()
        if self.across:
            number = processes.sum_over(counted.sum())
        return losses.sum() / (max(1, number) if isinstance(number, int) else number.clamp(min=1))

    def _look_at(self, number: int, rows: int) -> None:
        if 2 * number < rows:
            self.warned = True
            warnings.warn(
                f"{self.owner}: {number} of {rows} anchors counted in this batch; the others have no "
                f"gradient, as each needs {self.need}. (Said once.)",
                LikewiseWarning,
                stacklevel=4,
            )


# The answers of most objectives. A class that answers otherwise defines its own method.


def unknown_chance(self: object, n: int) -> float | None:
    """None: the loss at chance level is not known."""
    return None


def no_triplet_margin(self: object) -> tuple[float, Distance] | None:
    """None: this is not a triplet loss."""
    return None


def no_values(self: object) -> dict[str, float | str]:
    """Empty: this objective has no state to log."""
    return {}


def no_constant(self: object) -> float | None:
    """None: the slope of the target changes with the similarity."""
    return None


def changes_nothing(self: object, step: int, epoch: float) -> None:
    """Does nothing: this objective does not change during training, except by gradients."""


class PairObjective(nn.Module):
    """The base class of the pair-level objectives. Abstract: subclasses are final and define :meth:`rows`.

    A subclass' constructor raises LikewiseError when a parameter is outside the range that its ``Args`` names.

    Args:
        reduction: see :class:`likewise.objectives.Reduction`.
        need: what an anchor needs to count, in words.
        unit_rows: whether queries and keys must have unit length; a warning says once where they do not.

    Attributes:
        plain_pairs: up to so many pairs of a query and a key the naive twin runs, see ``row_losses``.
    """

    plain_pairs: ClassVar[int] = PLAIN_PAIRS
    joins_rows: bool = False
    can_be_zero: bool = False
    of_pairs: bool = True
    takes_policies: bool = True
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
            queries: (Q, D) unit rows, any floating dtype; similarities and sums are in float32 at least.
            ids: (Q,) integers, as a tensor, an array or a list; rows with equal ids are alike, and an id below 0 means
                no label. Or (Q, L) for several labels in each row; rows with a label in common are alike. Or a relation
                from ``from_triplets`` or ``from_pairs``. For two views z0, z1 of the same items, ``from_views`` gives
                queries and ids.
            keys: (K, D) unit rows of a bank, a queue, a gathered batch or another modality.
            key_ids: (K,) or (K, L) integers; by default the row numbers, as in a memory bank.
            own: (Q,) the key row that is the query itself, −1 where there is none; this pair is left out. Needed where
                the keys are a gathered batch.
            pulls: (K,) bool, the keys that may be positives. Other keys with the query's id, such as a queue's older
                keys of the same item, are neither positives nor negatives.
            pushes: (K,) bool, the keys that may be negatives.

        Returns:
            A float32 scalar, float64 for float64 queries; (Q,) with reduction "none".

        Raises:
            LikewiseError: shapes or dtypes do not fit together.
        """
        check_tensor("queries", queries)
        ids = ids if isinstance(ids, Listed) else as_ids("ids", ids, queries.device, of_rows=TWO_VIEWS)
        relation = relate(queries, ids, keys, key_ids, own, pulls, pushes)
        if self.watch.due(queries.device):
            self._look_at(queries, relation, keys)
        losses, *counted = self.losses(queries, ids, keys, relation)
        zero_or_nan = (queries.detach() * 0).sum()  # a comparison with NaN is false, so that a mask could hide a NaN
        return self.reduce(losses + zero_or_nan.to(losses.dtype), *counted)

    def share_rows(self) -> None:
        """See :class:`likewise.objectives.interface.Objective`."""
        self.reduce.across = True

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """The loss against ``keys`` with their roles; without keys, the loss of the queries among themselves."""
        if keys is None:
            loss: Tensor = self(queries, ids)
        else:
            loss = self(queries, ids, keys.rows, keys.ids, own=keys.own, pulls=keys.pulls, pushes=keys.pushes)
        return loss

    def losses(
        self, queries: Tensor, ids: Tensor | Listed, keys: Tensor | None, relation: Relation | Listed
    ) -> tuple[Tensor, Tensor]:
        """(Q,) losses, and (Q,) bool which of them count. Classes whose loss joins several rows override it."""
        ahead, inputs = self.reduce.how != "none", self.row_inputs(queries, ids)
        return row_losses(self.rows, queries, keys, relation, inputs, ahead=ahead, plain_pairs=self.plain_pairs)

    def active_hinge(self) -> tuple[float, Distance] | None:
        """Margin and distance of a triplet's hinge that is averaged over the active triplets; None for other losses."""
        return None

    def row_inputs(self, queries: Tensor, ids: Tensor | Listed) -> Sequence[Tensor]:
        """Tensors of Q rows that :meth:`rows` gets besides similarities and masks; none by default."""
        return ()

    @abstractmethod
    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """The formula: (R,) losses of the anchors, and (R,) bool which of them count.

        Args:
            s_p: (R, P) similarities; those of positives where ``positive``.
            positive: (R, P) bool.
            s_n: (R, K) similarities; those of negatives where ``negative``.
            negative: (R, K) bool.
        """

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss of an anchor with one positive and one negative, elementwise. ``likewise figure`` draws it."""
        present = torch.ones(s_p.numel(), 1, dtype=torch.bool)
        return self.rows(s_p.reshape(-1, 1), present, s_n.reshape(-1, 1), present)[0].reshape(s_p.shape)

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


class ClassObjective(nn.Module):
    """The base class of the class-level objectives, with one proxy for each class. Abstract: subclasses are final.

    The loss of a row of class y is ``softplus(log Σ_{j≠y} exp(other(s_j)) − target(s_y))``. A subclass defines
    :meth:`target` and, where the scale of the logits is not 1, :meth:`logit_scale`. Its constructor raises
    LikewiseError when a parameter is outside the range that its ``Args`` names.

    Args:
        classes: K, at least 2.
        dim: D, at least 1.
        generator: draws the first proxies, normal numbers with variance 1/D, so that their length is about 1.
        reduction: "mean", "sum" or "none" over the rows with a label.

    Attributes:
        proxies: (K, D) float32, the trained weights.
        unit_queries: whether queries are scaled to unit length.
        unit_proxies: whether proxies are scaled to unit length.
        times_lengths: whether ``target`` takes a cosine, and its result is multiplied by the vectors' lengths.
        whole: whether the sum is over all other classes; False where a subclass has its own :meth:`push`.
    """

    joins_rows: bool = False
    can_be_zero: bool = False
    of_pairs: bool = False
    takes_policies: bool = False
    triplet_margin = no_triplet_margin
    log_values = no_values
    advance = changes_nothing
    target_slope = no_constant
    unit_queries: ClassVar[bool] = False
    unit_proxies: ClassVar[bool] = False
    times_lengths: ClassVar[bool] = False
    whole: ClassVar[bool] = True
    proxies: nn.Parameter

    def __init__(self, classes: int, dim: int, generator: torch.Generator | None, reduction: How) -> None:
        super().__init__()
        at_least_one("dim", dim, "a weight has as many numbers as an embedding")
        if at_least_one("classes", classes, "a classifier tells two or more apart") < 2:
            raise LikewiseError(f"classes={classes}: give at least 2.")
        self.reduce, self.watch = Reduction(reduction, type(self).__name__, "a label"), Watch(type(self).__name__)
        with room_for(f"proxies of {classes:,} classes × {dim:,}"):
            self.proxies = nn.Parameter(torch.randn(classes, dim, generator=generator) / math.sqrt(dim))
        self.circle: float | None = None  # m where the logits of the other classes have Circle's weights

    def sizes(self) -> str:
        """K and D as text, for ``repr``."""
        return f"classes={len(self.proxies)}, dim={self.proxies.shape[1]}"

    def forward(self, queries: Tensor, ids: Ids, keys: Tensor | None = None, key_ids: Ids | None = None) -> Tensor:
        """The loss of queries (Q, D) against the proxies, or against keys in their place.

        Args:
            queries: (Q, D) rows of any length, any floating dtype; products and sums are in float32 at least.
            ids: (Q,) integers, the class of each row; a row with an id below 0 has no label and does not count. Or
                (Q, L) for several labels in each row, padded with −1: the loss of a row is then the mean over its
                labels, and the classes of its other labels are not among the negatives.
            keys: (K, D) in place of ``self.proxies``: proxies of some of the classes, or a bank of one row per class.
            key_ids: (K,) integers, the class of each key, all different; by default the row numbers.

        Returns:
            A float32 scalar, float64 for float64 queries; (Q,) with reduction "none".

        Raises:
            LikewiseError: shapes, dtypes or ids do not fit together.
        """
        keys = self.proxies if keys is None else keys
        ids, key_ids = check_proxies(queries, ids, keys, key_ids)
        if ids.ndim == 2 and self.watch.due(queries.device):
            check_labels("ids", ids)
        rows = proxy_rows(ids, len(keys), key_ids)  # (Q,) or (Q, L), −1: none
        queries, scale = at_least_float32(queries), self.logit_scale()
        if self.whole and rows.ndim == 1 and not isinstance(scale, Tensor):
            return self.reduce(self._losses(queries, keys, rows, key_ids, scale), rows >= 0)
        with no_autocast(queries.device):
            rows = rows.reshape(len(rows), -1)
            queries, keys = self.vectors(unit(queries) if self.unit_queries else queries, keys, key_ids)
            target = self._targets(queries, keys, rows)  # (Q, L)
            if isinstance(scale, Tensor):
                queries, scale = queries * scale, 1.0
            push, labelled = self.push(queries, keys, rows, scale), rows >= 0
            losses = torch.where(labelled, softplus(push.unsqueeze(1) - target), 0.0).sum(1)
            count = labelled.sum(1)
            return self.reduce(losses / count.clamp(min=1), count > 0)

    def share_rows(self) -> None:
        """See :class:`likewise.objectives.interface.Objective`."""
        self.reduce.across = True

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """The loss against ``keys``; without keys, against the proxies."""
        loss: Tensor = self(queries, ids) if keys is None else self(queries, ids, keys.rows, keys.ids)
        return loss

    def vectors(self, queries: Tensor, keys: Tensor, key_ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries and keys before their inner product. They stay as they are, unless a class adds dimensions."""
        return queries, keys

    def push(self, queries: Tensor, keys: Tensor, rows: Tensor, scale: float) -> Tensor:
        """(Q,) ``log Σ exp(scale s_j)`` over the classes that are none of the row's own, ``rows`` (Q, L), −1: none."""
        return row_logsumexp(queries, keys, scale, skip=rows, circle=self.circle, unit_keys=self.unit_proxies)

    def logit_scale(self) -> Tensor | float:
        """The factor that turns a similarity into a logit: a number, or a learned scalar."""
        return 1.0

    @abstractmethod
    def target(self, similarity: Tensor) -> Tensor:
        """The logit of the row's own class, from its similarity to the proxy (the cosine where ``times_lengths``)."""

    def other(self, similarity: Tensor) -> Tensor:
        """The logit of another class, from its similarity to the proxy."""
        return self.logit_scale() * similarity

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss of a unit row with two unit proxies: ``s_p`` is the cosine to its own, ``s_n`` to the other."""
        return softplus(self.other(s_n) - self.target(s_p))

    @torch.no_grad()
    def chance(self, n: int) -> float:
        """The loss with n classes of an embedding that is orthogonal to every proxy."""
        zero = torch.zeros((), dtype=torch.float64)
        return float(softplus(self.other(zero) + math.log(n - 1) - self.target(zero)))

    def _losses(self, queries: Tensor, keys: Tensor, rows: Tensor, key_ids: Tensor | None, scale: float) -> Tensor:
        """(Q,) losses of rows with one label each, where the scale is no parameter."""
        queries, keys = self.vectors(queries, keys, key_ids)
        lengths = []
        if self.times_lengths:
            length = row_lengths(queries)
            if not self.unit_proxies:
                length = length * row_lengths(keys.index_select(0, rows.clamp(min=0)).to(queries.dtype))
            lengths = [length]
        form = Form(self._target, scale, self.circle, self.unit_queries, self.unit_proxies, self.target_slope())
        return class_losses(form, queries, keys, rows, lengths, ahead=self.reduce.how != "none")

    def _targets(self, queries: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
        """(Q, L) logits of each row's own classes."""
        own = keys.index_select(0, rows.clamp(min=0).reshape(-1)).to(queries.dtype)
        own = (unit(own) if self.unit_proxies else own).reshape(*rows.shape, -1)  # (Q, L, D)
        queries = queries.unsqueeze(1)
        similarity = (queries * own).sum(-1)
        if not self.times_lengths:
            return self.target(similarity)
        return self._target(
            similarity, row_lengths(queries) if self.unit_proxies else row_lengths(queries) * row_lengths(own)
        )

    def _target(self, similarity: Tensor, length: Tensor | None = None) -> Tensor:
        """``target`` of an inner product; with ``length``, of its cosine, multiplied by this product of lengths."""
        if length is None:
            return self.target(similarity)
        return length * self.target(similarity / length.masked_fill(length < SHORTEST, 1.0))
