"""Recommends items to users, from the content of the items that they took: ``likewise recommend``.

Dimension legend: U users who are asked for, N items, K recommendations of a user, B users of a block.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from likewise.console import Tick, say, stages
from likewise.data.items import as_id, text_of
from likewise.errors import LikewiseError, at_least_one, closest
from likewise.graph.columns import Columns
from likewise.graph.opening import open_interactions
from likewise.graph.splits import SplitRule
from likewise.model import Model, model_of
from likewise.recommendation.baselines import matrix
from likewise.recommendation.catalogue import Catalogue
from likewise.recommendation.content import drawn
from likewise.recommendation.embedded import Embedded
from likewise.recommendation.histories import AUTO, RULES, rule_named
from likewise.recommendation.leak import graph_of
from likewise.recommendation.measure import MOST_ASKED, asked_users, blocks, recommended
from likewise.recommendation.recommendations import Recommendations
from likewise.recommendation.rivals import with_rules
from likewise.recommendation.with_content import open_content
from likewise.stamp import Stamp
from likewise.text import quoted

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
USUAL = "softmax"  # where no rule can be chosen


def recommend(
    model: Model | str | Path,
    interactions: str | os.PathLike[str],
    data: object,
    *,
    users: str | Sequence[str | int] | None = None,
    history: str = AUTO,
    k: int = 10,
    user: str | None = None,
    item: str | None = None,
    weight: str | None = None,
    time: str | None = None,
    least: float | None = None,
    key: str | None = None,
    image: str | None = None,
    columns: Sequence[str] = (),
    progress: bool = True,
) -> Recommendations:
    """The k items for each user whose embeddings are nearest to those that the user took, without these.

    All items of ``data`` are candidates, also those that nobody took yet: the model knows them by their content.

    Args:
        model: embeds the items; or the folder of its run.
        interactions: who took what; see :func:`likewise.build_graph` for the file and its columns.
        data: the items with their content.
        users: the ids of users, or one of them; None: all in ``interactions``.
        history: the rule that joins a user's history: "mean", "softmax", "top-3" (any number), or "auto": that which
            recommends best on a validation split of the interactions, per user where there are times, else of cold
            items. The model may have learned from these rows; only the rule is chosen on them.
        k: items for each user.
        user, item, weight, time: see :func:`likewise.build_graph`.
        least: the lowest weight of a row that counts. None: as in the run's graph, else all above 0.
        key, image, columns: the columns of ids, images and vectors; None or empty: as the run was trained.
        progress: show bars.

    Raises:
        LikewiseError: a user who does not occur (with the closest), an unknown rule, a file that can't be used, or no
            user whose items have content.

    Cost: one pass of the model over the items; for each user the cosines of its history with all items, and a sort.
    """
    model = model_of(model)
    at_least_one("k", k, "it is a number of items")
    if history != AUTO:
        rule_named(history)
    with stages(enabled=progress) as begin:
        tick = begin(f"reading {interactions}")
        wanted = Columns(user=user, item=item, weight=weight, time=time)
        opened = open_interactions(interactions, wanted, _least(model) if least is None else least, tick=tick)
        joined = open_content(model, opened.log, data, key=key, image=image, columns=columns)
        items, known = joined
        asked = _numbers(known, users)
        embedding = joined.embedding(model, begin("embedding"))
        chosen = _chosen(known, embedding, begin("choosing the history's rule")) if history == AUTO else history
        served, places, scores = _best(known, embedding, chosen, asked, k, begin("recommending"))
    names = [known.users[number] for number in asked.tolist()]
    without = [name for name, has in zip(names, served.tolist(), strict=True) if not has]
    if not served.any():
        raise LikewiseError(f"none of the {len(asked):,} users took an item with content, so nothing is recommended.")
    if without:
        say([f"{len(without):,} users took no item with content, so nothing is recommended to them: {_some(without)}."])
    stamp: Stamp = {**model.protocol("embedding"), **items.stamp("data"), **opened.stamp, "history": chosen, "k": k}
    return Recommendations(
        users=[name for name, has in zip(names, served.tolist(), strict=True) if has],
        items=known.ids,
        places=places,
        scores=scores,
        new=np.bincount(known.rows.item, minlength=len(known)) == 0,
        without=without,
        stamp=stamp,
    )


def _least(model: Model) -> float:
    """The lowest weight of a row that counts in the graph of the run, and a line about it; 0 without a graph."""
    least = float((graph_of(model) or {}).get("least", 0))
    say([f"rows of weight {least:g} and more count, as in the run's graph; --least takes others."] if least else [])
    return least


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(quoted, names[:3])) + " …" * (len(names) > 3)


def _numbers(known: Catalogue, asked: str | Sequence[str | int] | None) -> Ints:
    """The users who are asked for, by number. Raises LikewiseError on those who do not occur."""
    if asked is None:
        return np.unique(known.rows.user)
    users = [as_id(text_of(user).strip()) for user in ([asked] if isinstance(asked, str) else asked)]
    if not users:
        raise LikewiseError("users is empty, so nobody is recommended to; name some, or give None for all.")
    place = {name: number for number, name in enumerate(known.users)}
    unknown = [name for name in users if name not in place]
    if unknown:
        raise LikewiseError(
            f"{len(unknown):,} of the {len(users):,} users have no row that counts in the interactions: "
            f"{_some(unknown)}.{closest(unknown[0], place)}"
        )
    return np.array([place[name] for name in dict.fromkeys(users)], dtype=np.int64)


def _chosen(known: Catalogue, embedding: Floats, tick: Tick) -> str:
    """The rule that recommends best on a validation split, and a line that says so."""
    size = len(known.users), len(known)
    rule = SplitRule(name="cold-items" if known.rows.time is None else "per-user")
    try:
        split = known.with_content(rule.divide(known.rows, len(known)))
        only = drawn(asked_users(split, *size), MOST_ASKED)
    except LikewiseError as error:
        say([f"history: {USUAL}, for no rule can be chosen: {error}"])
        return USUAL
    values = {}
    for number, (name, make) in enumerate(with_rules(known, embedding)(split)):
        found = recommended(split, make(), *size, only=only, names=("ndcg",))
        values[name] = float(found.measures["ndcg@10"])
        tick((number + 1) / len(RULES))
    best = max(values, key=lambda name: values[name])
    say([f"history: {best}, which recommends best on a validation split ({split.about}); --history takes another."])
    return best


def _best(
    known: Catalogue, embedding: Floats, rule: str, asked: Ints, k: int, tick: Tick
) -> tuple[npt.NDArray[np.bool_], Ints, npt.NDArray[np.float32]]:
    """Which users (U,) have a history with content; the places (B, K) and scores (B, K) of the best items of these."""
    with_content = known.known[known.rows.item]
    served = np.bincount(known.rows.user[with_content], minlength=len(known.users))[asked] > 0
    model = Embedded(known.rows, len(known.users), embedding, rule_named(rule))
    taken, chosen = matrix(known.rows, len(known.users), len(known)), asked[served]
    places, scores, done = [np.zeros((0, k), np.int64)], [np.zeros((0, k), np.float32)], 0
    for part in blocks(chosen, len(known)):
        found = np.where(known.known & (taken[part].toarray() == 0), model.scores(part), -np.inf)
        place = np.argsort(-found, axis=1, kind="stable")[:, :k]
        score = np.take_along_axis(found, place, 1)
        places.append(np.where(score > -np.inf, place, -1))
        scores.append(score)
        tick((done := done + len(part)) / len(chosen))
    width = min(k, len(known))
    return served, np.concatenate([each[:, :width] for each in places]), np.concatenate([e[:, :width] for e in scores])
