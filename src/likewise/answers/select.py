"""``likewise select``: which items to label first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from likewise.answers.choosers import choose_rows, method_named
from likewise.answers.classify import open_labelled
from likewise.answers.opening import made_by
from likewise.console import Tick, part_of, stages, untold
from likewise.data import Items
from likewise.errors import LikewiseError, at_least_one
from likewise.metrics.few_labels import draw_order
from likewise.metrics.neighbours import top_k
from likewise.model import Layer, Model, model_of
from likewise.stamp import Stamp
from likewise.tables import write_table

BEST = "probcover"  # by benchmarks/few_labels_select.py
MOST = 50_000  # items among which some are chosen; of more, so many are drawn


@dataclass(frozen=True, kw_only=True, eq=False)
class Selected:
    """Items to label, the most useful one first.

    Args:
        ids: of the n items.
        rows: (n,) int64 their places in the source.
        stands_for: (n,) int64 the items to which each is the nearest of all that are chosen or labelled, itself too.
        method: that chose them.
        items: number of items in the source.
        known: id and label of those that had a label already.
        stamp: what made this.
    """

    ids: tuple[str, ...]
    rows: Tensor
    stands_for: Tensor
    method: str
    items: int
    known: tuple[tuple[str, str], ...] = ()
    stamp: Stamp = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Selected({len(self)} of {self.items:,} items, method={self.method!r})"

    def sentence(self) -> str:
        """What was done, for people."""
        known = f"; {len(self.known):,} have a label already" if self.known else ""
        return f"{len(self):,} of {self.items:,} items to label first, by {self.method}{known}."

    def save(self, path: Path) -> None:
        """Writes id, label, stands_for as .csv or .parquet, whole or not at all, for ``classify`` to read.

        The label of what was chosen is empty, to be filled in; those with a label come first.
        """
        columns: dict[str, Sequence[object]] = {
            "id": [*(id for id, _ in self.known), *self.ids],
            "label": [*(label for _, label in self.known), *([""] * len(self))],
            "stands_for": [*([None] * len(self.known)), *self.stands_for.tolist()],
        }
        write_table(path, columns, self.stamp)


def select(
    run: Model | str | Path,
    source: object,
    n: int,
    *,
    method: str = BEST,
    labels: str | Path | Mapping[str, object] | None = None,
    seed: int = 0,
    layer: Layer = "embedding",
    key: str | None = None,
    image: str | None = None,
    columns: Sequence[str] = (),
    progress: bool = True,
) -> Selected:
    """Chooses the n items of a source whose labels tell most about the others.

    Args:
        run: a run, or its model, which embeds the items.
        source: as for ``model.open``.
        n: number of items, from 1 to those without a label.
        method: probcover, typiclust, k-center or random; see ``likewise.answers.choosers``.
        labels: labels that are known already, as for ``classify``; their items are not chosen. None: none.
        seed: of what is drawn.
        layer: whose rows.
        key, image, columns: as for ``model.open``.
        progress: show bars.

    Raises:
        LikewiseError: there is no run; as ``model.open``; n out of range; an unknown method; an id with a label is no
            item.

    Cost: that of embedding, and of the method among at most 50,000 items.
    """
    at_least_one("n", n, "it is a number of items to label")
    method_named(method)
    model = model_of(run)
    if labels is None:
        items = model.open(source, labels="none", key=key, image=image, columns=columns, progress=progress)
        known = torch.empty(0, dtype=torch.int64)
    else:
        items = open_labelled(model, source, labels, key=key, image=image, columns=columns, progress=progress)
        assert items.labels is not None
        known = torch.from_numpy(items.labels >= 0).nonzero().flatten()
    with stages(enabled=progress) as begin:
        told = begin("embedding")
        rows = model.features(items, layer=layer, tick=lambda done: told(done / len(items)))
        found = select_rows(rows, items.ids, n, method=method, known=known, seed=seed, tick=begin("selecting"))
    return replace(
        found,
        known=tuple((items.ids[row], _label(items, row)) for row in known.tolist()),
        stamp={**made_by("select", items, model, layer), "n": n, "chosen_by": method, "drawn_with": seed},
    )


def _label(items: Items, row: int) -> str:
    assert items.labels is not None
    return items.label_names[int(items.labels[row])]


def select_rows(
    rows: Tensor,
    ids: Sequence[str],
    n: int,
    *,
    method: str = BEST,
    known: Tensor,
    seed: int = 0,
    tick: Tick = untold,
) -> Selected:
    """As ``select``, of (N, D) unit rows with N ids; ``known`` are the rows that have a label.

    Of more than 50,000 rows, 50,000 are drawn by their ids and the seed (see ``draw_order``), or as many as n and the
    labelled ones need; the labelled ones are always among them.
    """
    left = len(rows) - len(known)
    if n > left:
        what = "items without a label" if len(known) else "items"
        raise LikewiseError(f"n={n:,} is more than the {left:,} {what} there are.")
    among = torch.arange(len(rows))
    if len(rows) > MOST:
        fresh = torch.ones(len(rows), dtype=torch.bool)
        fresh[known] = False
        order = draw_order(ids, seed)
        among = torch.cat([known, order[fresh[order]][: max(MOST - len(known), n)]]).sort().values
    labelled = torch.isin(among, known).nonzero().flatten()
    told = part_of(tick, 0, 2)
    chosen = among[choose_rows(rows[among], n, method=method, known=labelled.tolist(), seed=seed, tick=told)]
    all_known = torch.cat([chosen, known])
    nearest = top_k(rows, rows[all_known], 1, tick=part_of(tick, 1, 2))[1][:, 0]
    counts = torch.bincount(nearest, minlength=len(all_known))[:n]
    return Selected(
        ids=tuple(ids[row] for row in chosen.tolist()),
        rows=chosen,
        stands_for=counts,
        method=method,
        items=len(rows),
    )
