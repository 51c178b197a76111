"""Which interactions are held out from a run, and the check that the run did not learn from them.

A graph's stamp says which rows it was made of: the file, its columns, the lowest weight, and the split.
"""

import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from likewise.errors import LikewiseError
from likewise.graph.columns import Columns
from likewise.graph.splits import SEVERAL, SHARE, SPLITS, WHOLE, SplitRule, split_in
from likewise.model import Model
from likewise.stamp import Stamp, source_in
from likewise.training.run_folder import read_data

UNKNOWN = (
    "{run} does not say that it learned from a graph, so it may have learned from what is held out here: if it "
    "did, its numbers are too good. Learn from a graph of the training rows: {graph}."
)
_ROLES = ("user", "item", "weight", "time")


class Asked(NamedTuple):
    """Which rows are read, and which of them are held out."""

    columns: Columns
    least: float
    rule: SplitRule


def graph_of(model: Model) -> dict[str, Any] | None:
    """The stamp of the graph that the model's run learned from; None where there is none, or the graph has none.

    Raises LikewiseError when the run's description is damaged.
    """
    about = {} if model.run is None else read_data(model.run) or {}
    return about.get("graph") or None


def as_learned(
    graph: Mapping[str, Any] | None,
    columns: Columns,
    *,
    least: float | None,
    split: str,
    share: float | None,
    seed: int | None,
    fewest_users: int,
) -> Asked:
    """What is asked for, and where nothing is, what the run's graph was made with.

    Raises LikewiseError on a split that does not exist.
    """
    made = graph or {}
    named = vars(columns)
    return Asked(
        Columns(**{role: named[role] or made.get(f"column_{role}") for role in _ROLES}),
        float(made.get("least", 0)) if least is None else least,
        SplitRule(
            name=split,
            share=float(made.get("share", SHARE)) if share is None else share,
            seed=int(made.get("seed", 0)) if seed is None else seed,
            fewest_users=fewest_users,
        ),
    )


def refuse_leak(run: str, graph: Mapping[str, Any], asked: Stamp, rule: SplitRule) -> None:
    """Raises LikewiseError unless the run's graph was made of the training rows of the same split.

    Args:
        run: the run, for the message.
        graph: the stamp of its graph.
        asked: the stamp of the interactions that are to be measured on.
        rule: how they are divided.
    """
    source, made = source_in(graph, "interactions"), split_in(graph)
    again = renewal(asked, rule)
    if made == WHOLE:
        raise LikewiseError(
            f"{run} learned from a graph of all interactions, those too that are held out here; make the graph of the "
            f"training rows, and fit again: {again}."
        )
    if made == SEVERAL:
        raise LikewiseError(
            f"{run} learned from several graphs, one after the other, perhaps also from what is held out here; make "
            f"one of the training rows, and fit anew: {again}."
        )
    if graph.get("interactions_hash") != asked["interactions_hash"]:
        raise LikewiseError(
            f"{asked['interactions']} is not the file that {run} learned from, {source}: other rows would be held out, "
            f"some of which are in its graph; give that file, or make the graph again: {again}."
        )
    same = {**asked, **rule.stamp()}
    if made not in SPLITS[:1]:
        del same["seed"]  # only cold items are drawn
    keys = ("split", "share", "seed", "least", *(f"column_{role}" for role in _ROLES))
    for key in (key for key in keys if key in same):
        if graph.get(key) != same[key]:
            name = key.removeprefix("column_")
            instead = f"take --split {made}" if key == "split" else f"leave --{name} out"
            raise LikewiseError(
                f"{run} learned from a graph with --{name} {graph.get(key)}, and --{name} {same[key]} holds other rows "
                f"out, some of which are in that graph; {instead}, or make the graph again: {again}."
            )


def renewal(asked: Stamp, rule: SplitRule) -> str:
    """The command that makes the graph of the training rows."""
    words = ["likewise", "graph", source_in(asked, "interactions")]
    words += [word for role in _ROLES for word in (f"--{role}", str(asked[f"column_{role}"]))]
    words += ["--least", f"{asked['least']:g}"] if asked["least"] else []
    words += ["--split", rule.name, "--share", f"{rule.share:g}", "--seed", f"{rule.seed}", "--out", "graph"]
    return shlex.join(words)
