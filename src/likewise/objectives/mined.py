"""Any pair-level objective with a policy of negatives and positives: mining, without a list of triplets.

Dimension legend: Q queries, K keys, D dimensions, R rows of a tile, P positives of a row at most, k negatives of a
pair, M chosen pairs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from likewise.alike import Listed, Masks, Relation, in_forward_mode, reordered, restored, tile_rows_for, traced
from likewise.distributed import processes
from likewise.errors import LikewiseError
from likewise.kernels.numerics import (
    Distance,
    at_least_float32,
    distance,
    no_autocast,
    paired_similarities,
    refuse_tracing,
    ruled_losses,
)
from likewise.kernels.row_losses import row_losses
from likewise.negatives import (
    Curriculum,
    Filter,
    Pick,
    Policy,
    Positives,
    check_positives,
    choose_positives,
)
from likewise.objectives.base import How, PairObjective
from likewise.objectives.hinge import ABSENT, Pairs, check_pairs, inside_violations

SMOOTH = 0.9  # of the moving average of the share of active pairs


class Chosen(NamedTuple):
    """The pairs that a pick left, in the order of the anchors as given."""

    anchors: Tensor  # (M,) query rows
    positives: Tensor  # (M,) key rows
    negatives: Tensor  # (M, k) key rows
    there: Tensor  # (M, k) bool
    valid: Tensor  # (Q,) bool: the anchors that have a positive and a negative


class Mined(PairObjective):
    """Mining: ``objective`` over the positives and negatives that a policy chooses.

    With a :class:`likewise.negatives.Pick`, every anchor and positive has k negatives of its own and is judged by
    itself, ``L_a = mean over its pairs (p; n_1 … n_k) of L(s_p; s_n1 … s_nk)``. With a ``Filter`` the objective sees
    the anchor's row without what the policy leaves out.

    Relations: ``Mined(Triplet(), negatives=Hard(), positives="hard")`` is batch-hard (Hermans et al. 2017);
    ``HardestBeyond()`` FaceNet's semi-hard; ``Mined(Margin(), negatives=DistanceWeighted())`` Wu et al. 2017; with
    ``All()`` it is the objective itself. MultiSimilarity has its own mining inside.
    Departures: FaceNet adds up its triplets. Here the loss is the mean over the triplets of each anchor, and then over
    the anchors that have a triplet left.
    Cost: a pick takes 2·Q·K·D flops without gradient, a few passes over the similarities, and M·D flops for the M
    chosen pairs. If the choice depends on the positive, there is a pass for each positive of a row, or one sort of the
    row where it has more than 48. A filter costs as much as the objective, P times as much if it depends on the
    positive; for a triplet's hinge inside its own margin there is a sort instead. Memory is a tile and M numbers: no
    triplets are listed.
    Paper: Schroff, Kalenichenko, Philbin, FaceNet, CVPR 2015, §3.2; see each policy for its own.

    Args:
        objective: any pair-level objective that judges an anchor's row (not Angular, Histogram,
            LiftedStructure). Its own ``reduction`` is not used.
        negatives: a policy, or a curriculum of them.
        positives: "all", or the furthest ("hard") or nearest ("easy", Xuan et al. 2020) one of each anchor.
        pairs: over an anchor's pairs: "active" the mean of those with a loss above 0, "all" the mean, "sum" the sum.
        generator: for policies that draw, on the queries' device; torch's own by default.
        reduction: "mean", "sum" or "none" over the anchors that have a pair left.

    Attributes:
        stage: () int64, the policy that is in force.
        survived: of the pairs whose anchor has a planted negative (see ``from_pairs``), the share for which the policy
            picked one, in the last call; None where none was planted, NaN where no such pair is left.
        active: () float32, the share of the chosen pairs (a filter: of the anchors that have a positive and a negative)
            with a loss above 0, a moving average; 1 at first, and when the policy changes.

    Raises:
        LikewiseError: an objective whose loss joins several rows; no policy; a curriculum by="active" of an objective
            whose loss is always above 0.
    """

    takes_policies = False
    stage: Tensor
    active: Tensor
    survived: Tensor | None = None

    def __init__(
        self,
        objective: PairObjective,
        *,
        negatives: Policy | Curriculum,
        positives: Positives = "all",
        pairs: Pairs = "active",
        generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        if not isinstance(objective, PairObjective) or not objective.takes_policies:
            raise LikewiseError(
                f"{type(objective).__name__} is not a loss over an anchor's row of pairs, so negatives can't be chosen "
                "for it; use another objective, such as Triplet, Margin or Circle."
            )
        super().__init__(reduction, "a positive and a negative to choose from", unit_rows=objective.unit_rows)
        self.objective, self.positives, self.pairs = objective, check_positives(positives), check_pairs(pairs)
        self.curriculum = negatives if isinstance(negatives, Curriculum) else Curriculum((negatives,), ())
        if self.curriculum.by == "active" and not objective.can_be_zero:
            raise LikewiseError(
                f"the loss of {type(objective).__name__} is never 0, so its pairs are always active: change policies "
                "by step or epoch."
            )
        self.generator = generator
        self.joins_rows, self.can_be_zero = self.draws or objective.joins_rows, objective.can_be_zero
        self.register_buffer("stage", torch.tensor(0))
        self.register_buffer("active", torch.tensor(1.0))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the module. The share of active pairs stays float32: in bfloat16 its moving average would stall."""
        kept = self.active
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.active = kept.to(self.active.device)
        return self

    def extra_repr(self) -> str:
        """The parameters."""
        policies = self.curriculum.policies
        negatives = policies[0] if len(policies) == 1 else self.curriculum
        return (
            f"negatives={negatives!r}, positives={self.positives!r}, pairs={self.pairs!r}, "
            f"reduction={self.reduce.how!r}"
        )

    @property
    def policy(self) -> Policy:
        """The one in force."""
        policies = self.curriculum.policies
        return policies[0] if len(policies) == 1 else policies[int(self.stage)]

    @property
    def draws(self) -> bool:
        """Whether any policy draws random numbers: processes then see all queries, to draw alike."""
        return any(isinstance(policy, Pick) and policy.draws > 0 for policy in self.curriculum.policies)

    def advance(self, step: int, epoch: float) -> None:
        """Moves to the policy that is due at ``step``: a visible line of the training step, or of one's own loop."""
        self.objective.advance(step, epoch)
        now = int(self.stage)
        due = self.curriculum.stage(now, step=step, epoch=epoch, active=float(self.active))
        if due != now:
            self.stage.fill_(due)
            self.active.fill_(1.0)  # the next policy's own share

    def triplet_margin(self) -> tuple[float, Distance] | None:
        """The objective's own."""
        return self.objective.triplet_margin()

    def log_values(self) -> dict[str, float | str]:
        """The objective's own, the share of active pairs, and the policy's number."""
        values = {"active": float(self.active), "stage": float(self.stage)}
        if self.survived is not None and not self.survived.isnan():
            values["survived"] = float(self.survived)
        return self.objective.log_values() | values

    def row_inputs(self, queries: Tensor, ids: Tensor | Listed) -> Sequence[Tensor]:
        """The objective's own."""
        return self.objective.row_inputs(queries, ids)

    def losses(  # type: ignore[override]
        self, queries: Tensor, ids: Tensor | Listed, keys: Tensor | None, relation: Relation | Listed
    ) -> tuple[Tensor, ...]:
        """(Q,) losses, whether each anchor has a pair left, and whether it had one before mining."""
        policy, inputs = self.policy, self.row_inputs(queries, ids)
        if isinstance(policy, Filter):
            ahead, plain = self.reduce.how != "none", self.plain_pairs
            losses, counted = row_losses(self.rows, queries, keys, relation, inputs, ahead=ahead, plain_pairs=plain)
            if traced():
                return losses, counted
            able = able_rows(relation, len(queries), len(queries) if keys is None else len(keys))
            self._follow(torch.where(counted, losses.detach(), 0.0), able)
            return losses, counted, able
        refuse_tracing(
            f"{type(policy).__name__} picks pairs by their values", "a policy that filters, such as InsideMargin"
        )
        queries = at_least_float32(queries)
        keys = queries if keys is None else at_least_float32(keys).to(queries.dtype)
        chosen = choose(policy, self.positives, queries, keys, relation, self.generator)
        self.survived = None if relation.planted is None else surviving(chosen, relation.planted, len(keys))
        return *self._of_chosen(chosen, queries, keys, inputs), chosen.valid

    def _of_chosen(
        self, chosen: Chosen, queries: Tensor, keys: Tensor, inputs: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The objective of each chosen pair, and their mean over each anchor."""
        anchors, (count, k) = chosen.anchors, chosen.negatives.shape
        if not count:
            return queries.sum(1) * 0, torch.zeros_like(chosen.valid)
        with no_autocast(queries.device):
            rows = torch.cat([anchors, anchors.repeat_interleave(k)])
            columns = torch.cat([chosen.positives, chosen.negatives.flatten()])
            s_p, s_n = torch.split(paired_similarities(queries, keys, rows, columns), [count, count * k])
            single = torch.ones(count, 1, dtype=torch.bool, device=anchors.device)
            inputs_of_pairs = [x[anchors] for x in inputs]
            s_p, s_n = s_p.unsqueeze(1), s_n.view(count, k)
            of_pair, counted = ruled_losses(self.objective.rows, s_p, single, s_n, chosen.there, inputs_of_pairs)
        self._follow(of_pair.detach(), counted)
        weight = (counted & (of_pair.detach() > 0)) if self.pairs == "active" else counted
        losses = queries.new_zeros(len(queries)).index_add(0, anchors, torch.where(weight, of_pair, 0.0))
        if self.pairs != "sum":
            number = queries.new_zeros(len(queries)).index_add(0, anchors, weight.to(queries.dtype))
            losses = losses / number.clamp(min=1)
        return losses, torch.zeros_like(chosen.valid).index_put((anchors,), counted.new_ones(()))

    def rows(
        self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The objective over what a filter keeps; for each positive separately if the filter is ``of_pair``."""
        policy, rule = self.policy, self.objective.rows
        assert isinstance(policy, Filter)
        if self.positives != "all":
            column, there = choose_positives(self.positives, s_p.detach(), positive)
            s_p, positive = s_p.gather(1, column), there
        if not policy.of_pair:
            kept_p, kept_n = policy.keep(s_p, positive, s_n, negative)
            return rule(s_p, kept_p, s_n, kept_n, *inputs)
        total, number = s_n.new_zeros(len(s_n)), s_n.new_zeros(len(s_n))
        counted = torch.zeros_like(total, dtype=torch.bool)
        hinge = self._hinge_inside(policy)
        if hinge is not None:
            return _inside_hinge(s_p, positive, s_n, negative, *hinge)
        width = positive.shape[1] if traced() else max(1, int(positive.sum(1).max()))
        columns = positive.byte().topk(width, 1).indices  # the positives first
        for column in torch.split(columns, 1, 1):
            near, there = s_p.gather(1, column), positive.gather(1, column)
            loss, valid = rule(near, *_without_empty(policy, near, there, s_n, negative), *inputs)
            weight = valid & (loss.detach() > 0) if self.pairs == "active" else valid
            total, number, counted = total + torch.where(valid, loss, 0.0), number + weight, counted | valid
        return total if self.pairs == "sum" else total / number.clamp(min=1), counted

    def _hinge_inside(self, policy: Filter) -> tuple[float, Distance] | None:
        """Margin and distance of a triplet's hinge, if the policy keeps what is inside this margin: a faster way."""
        hinge = self.objective.active_hinge()
        if hinge is None or self.pairs != "active" or traced() or in_forward_mode():
            return None
        margin, kind = hinge
        return hinge if policy.inside() == (margin, kind == "squared") else None

    def _follow(self, losses: Tensor, counted: Tensor) -> None:
        """Moves ``active`` towards the share of the losses that counted, of all processes, that are above 0."""
        if not self.training or traced():
            return
        counts = torch.stack([(counted & (losses > 0)).sum(), counted.sum()])
        above, number = (processes.sum_over(counts) if self.reduce.across else counts).tolist()
        if number:
            self.active.lerp_(self.active.new_tensor(above / number), 1 - SMOOTH)


def surviving(chosen: Chosen, planted: Tensor, keys: int) -> Tensor:
    """(): of the chosen pairs whose anchor has a ``planted`` negative (R, 2), the share for which one was chosen.

    NaN where there is no such pair.
    """
    of_anchor = torch.isin(chosen.anchors, planted[:, 0])
    wanted = planted[:, 0] * keys + planted[:, 1]
    picked = torch.isin(chosen.anchors[:, None] * keys + chosen.negatives, wanted) & chosen.there
    return picked.any(1)[of_anchor].float().mean()


def _inside_hinge(
    s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor, margin: float, kind: Distance
) -> tuple[Tensor, Tensor]:
    """The same as the passes of :meth:`Mined.rows` over each positive, its naive twin."""
    near = torch.where(positive, distance(s_p, kind), -ABSENT)
    far = torch.where(negative, distance(s_n, kind), ABSENT)
    return inside_violations(near, far, margin)


def _without_empty(
    policy: Filter, s_p: Tensor, there: Tensor, s_n: Tensor, negative: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The positive's mask, and the negatives with their mask. A positive without a kept negative is left out."""
    kept_p, kept_n = policy.keep(s_p, there, s_n, negative)
    return kept_p & (kept_n.sum(1, keepdim=True) > 0), s_n, kept_n & kept_p


@torch.no_grad()
def able_rows(relation: Relation | Listed, queries: int, keys: int) -> Tensor:
    """(Q,) bool: the rows that have a positive and a negative, in the given order."""
    step = tile_rows_for(keys)
    parts = []
    for start in range(0, queries, step):
        _, positive, negative = relation.masks(start, min(start + step, queries))
        parts.append(positive.any(1) & negative.any(1))
    able = torch.cat(parts)
    return restored(able, relation.query_order)


@torch.no_grad()
def choose(
    policy: Pick,
    positives: Positives,
    queries: Tensor,
    keys: Tensor,
    relation: Relation | Listed,
    generator: torch.Generator | None = None,
    *,
    tile_rows: int | None = None,
) -> Chosen:
    """The pairs that a pick chooses, tile by tile of rows.

    Args:
        policy: how negatives are chosen.
        positives: how positives are.
        queries: (Q, D).
        keys: (K, D), of the same dtype.
        relation: which pairs may be positive and negative.
        generator: for policies that draw. The numbers are drawn for all queries in their order, so that neither tiles
            nor what is chosen elsewhere changes them.
        tile_rows: rows of a tile; by default 4 MiB of similarities.
    """
    order, key_order = relation.query_order, relation.key_order
    queries, keys = queries.detach(), keys.detach()  # of tangents too, which no_grad keeps
    sorted_queries, sorted_keys = reordered(queries, order), reordered(keys, key_order)
    count, step = len(queries), tile_rows or tile_rows_for(len(keys))
    width = 1 if positives != "all" else most_positives(relation, count, step)
    drawn = torch.empty(count, 0, device=queries.device)
    if policy.draws:
        drawn = torch.rand(count, width * policy.draws, generator=generator, device=queries.device)
        drawn = reordered(drawn, order)
    # The results are allocated before the tiles. Allocated between tiles, they would hold memory that tiles free.
    columns = torch.zeros(count, width, dtype=torch.int64, device=queries.device)
    negatives = columns.unsqueeze(2).repeat(1, 1, max(1, policy.draws))
    there, valid = torch.zeros_like(negatives, dtype=torch.bool), torch.zeros_like(columns[:, 0], dtype=torch.bool)
    space = queries.new_empty(min(step, count), len(keys))  # all tiles share it: new memory costs time to zero
    for start in range(0, count, step):
        tile = slice(start, min(start + step, count))
        with no_autocast(queries.device):
            similarities = torch.mm(sorted_queries[tile], sorted_keys.T, out=space[: tile.stop - start])
        masks = relation.masks(tile.start, tile.stop)
        of_tile = _choose_tile(policy, positives, similarities, masks, drawn[tile], queries.shape[1])
        pairs = of_tile.positives.shape[1]
        columns[tile, :pairs], negatives[tile, :pairs], there[tile, :pairs], valid[tile] = of_tile
    if key_order is not None:
        columns, negatives = key_order[columns], key_order[negatives]
    columns, negatives, there = (restored(x, order) for x in (columns, negatives, there))
    anchors, place = there.any(2).nonzero(as_tuple=True)
    return Chosen(
        anchors, columns[anchors, place], negatives[anchors, place], there[anchors, place], restored(valid, order)
    )


class _Tile(NamedTuple):
    """What a pick chooses in a tile, among the sorted keys."""

    positives: Tensor  # (R, P)
    negatives: Tensor  # (R, P, k)
    there: Tensor  # (R, P, k) bool, false where there is no such positive either
    valid: Tensor  # (R,) bool


def _choose_tile(
    policy: Pick, positives: Positives, similarities: Tensor, masks: Masks, drawn: Tensor, dim: int
) -> _Tile:
    columns, positive, negative = masks
    if columns is None:  # several labels or explicit lists: bring each row's positives together
        columns, positive = _listed_columns(positive)
    s_p = similarities.gather(1, columns)
    s_n = similarities.masked_fill_(negative.logical_not(), -torch.inf)
    valid = positive.any(1) & (s_n.amax(1) > -torch.inf)
    places, there = choose_positives(positives, s_p, positive)
    columns, s_p = columns.gather(1, places), s_p.gather(1, places)  # (R, P)
    pairs = columns.shape[1]
    if policy.of_pair:
        picked, kept = policy.pick_each(s_p, s_n, drawn, dim)  # (R, P, 1)
    else:
        picked, kept = policy.pick(s_p[:, :1], s_n, drawn[:, : pairs * policy.draws], dim)
        if policy.draws:
            picked, kept = (x.reshape(-1, pairs, policy.draws) for x in (picked, kept))
        else:
            picked, kept = (x.unsqueeze(1).expand(-1, pairs, -1) for x in (picked, kept))
    return _Tile(columns, picked, there.unsqueeze(2) & kept, valid)


def _listed_columns(positive: Tensor) -> tuple[Tensor, Tensor]:
    """(R, P) the columns in which each row of ``positive`` (R, K) is true, in order, and which places are used."""
    found = positive.nonzero()[:, 1]
    count = positive.sum(1)
    places = torch.arange(max(1, int(count.max())), device=positive.device)
    used = places < count[:, None]
    columns = torch.zeros_like(used, dtype=torch.int64)
    columns[used] = found
    return columns, used


def most_positives(relation: Relation | Listed, queries: int, tile_rows: int) -> int:
    """The most positives of any row, or a little more; at least 1."""
    if isinstance(relation, Relation) and relation.query_order is not None:
        return relation.width
    most = 1
    for start in range(0, queries, tile_rows):
        _, positive, _ = relation.masks(start, min(start + tile_rows, queries))
        most = max(most, int(positive.sum(1).max()))
    return most
