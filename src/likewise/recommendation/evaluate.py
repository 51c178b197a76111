"""``likewise evaluate --split``: a run as a recommender, beside simple ones, on what it did not learn from.

Dimension legend: N items, F numbers of an item's content.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from likewise.console import say, stages
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.evaluation.baselines import raw_rows
from likewise.files import atomic_write, from_json
from likewise.graph.columns import Columns
from likewise.graph.opening import open_interactions
from likewise.graph.splits import FEWEST_USERS
from likewise.model import Model, model_of
from likewise.recommendation.bench import Bench
from likewise.recommendation.catalogue import Catalogue
from likewise.recommendation.histories import AUTO, RULES, rule_named
from likewise.recommendation.leak import UNKNOWN, as_learned, graph_of, refuse_leak, renewal
from likewise.recommendation.table import Table, laid_out
from likewise.recommendation.with_content import open_content
from likewise.stamp import Stamp, refuse_other_model, source_in, source_words
from likewise.text import utf8

Floats = npt.NDArray[np.floating[Any]]
FILE = "recommendation.json"  # in the run folder, beside retrieval.json


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What was measured.

    Args:
        tables: one for each task.
        stamp: of the run, the items, the interactions and the split.
    """

    tables: tuple[Table, ...]
    stamp: Stamp

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {"made": self.stamp, "tables": [table.as_dict() for table in self.tables]}


def evaluate_interactions(
    model: Model | str | Path,
    *,
    data: object,
    interactions: str | os.PathLike[str],
    split: str,
    share: float | None = None,
    seed: int | None = None,
    fewest_users: int = FEWEST_USERS,
    user: str | None = None,
    item: str | None = None,
    weight: str | None = None,
    time: str | None = None,
    least: float | None = None,
    history: str = AUTO,
    k: int = 10,
    key: str | None = None,
    image: str | None = None,
    columns: Sequence[str] = (),
    progress: bool = True,
) -> Evaluation:
    """Measures a run on interactions that are held out, beside simple recommenders, by full ranking.

    - *Related items*, where the split is of cold items: which items do the same users like as a cold item? See
      :class:`likewise.recommendation.related.RelatedItems`.
    - *Recommendation from a history*: which of the candidates did a user take? See
      :func:`likewise.recommendation.measure.recommended`.

    Every setting (the rule of a history, regularisation, factors, the weights of content) is chosen on a validation
    split of the training rows, made by the same rule, by the NDCG of up to 500 users. The run itself has learned from
    these rows; only its rule is chosen on them.

    Args:
        model: the run's model, or its folder. Where the run learned from a graph, its graph must be of the same split
            of the same interactions.
        data: the items with their content.
        interactions: see :func:`likewise.build_graph`.
        split: "cold-items", "per-user" or "time".
        share, seed, user, item, weight, time, least: None: as the run's graph, else as :func:`likewise.build_graph`.
        fewest_users: a split by time refuses to leave fewer.
        history: the rule that joins a user's history: "mean", "softmax", "top-3" (any number), or "auto", which is
            chosen on the validation split.
        k: the places that count.
        key, image, columns: the columns of ids, images and vectors; as the run was trained.
        progress: show bars.

    Raises:
        LikewiseError: the run learned from what is held out; a file can't be used; the split is refused.
    """
    model = model_of(model)
    graph, run = graph_of(model), str(model.run or "the model")
    asked = as_learned(
        graph,
        Columns(user=user, item=item, weight=weight, time=time),
        least=least,
        split=split,
        share=share,
        seed=seed,
        fewest_users=fewest_users,
    )
    rules = tuple(RULES) if history == AUTO else (history,)
    for name in rules:
        rule_named(name)
    with stages(enabled=progress) as begin:
        opened = open_interactions(interactions, asked.columns, asked.least, tick=begin(f"reading {interactions}"))
        if graph is None:
            say([f"warning: {UNKNOWN.format(run=run, graph=renewal(opened.stamp, asked.rule))}"])
        else:
            refuse_leak(run, graph, opened.stamp, asked.rule)
        joined = open_content(model, opened.log, data, key=key, image=image, columns=columns)
        items, known = joined
        bench = Bench(known, asked.rule, k, begin)
        embedding = joined.embedding(model, begin("embedding"))
        content = bench.content(*_forms(model, items, known))
        tables = list[Table]()
        try:
            tables += [bench.related(embedding, content)] if asked.rule.name == "cold-items" else []
        except LikewiseError as error:
            say([f"related items are not measured: {error}"])
        tables.append(bench.histories(embedding, content, rules))
    stamp = {**model.protocol("embedding"), **items.stamp("data"), **opened.stamp, **asked.rule.stamp(), "k": k}
    stamp["learned_from"] = "a graph of this split" if graph else "unknown"
    return Evaluation(tables=tuple(tables), stamp=stamp)


def save_evaluation(path: Path, found: Evaluation) -> None:
    """Writes all numbers as JSON, whole or not at all. Raises LikewiseError if that fails."""
    try:
        with atomic_write(path) as file:
            file.write(utf8(json.dumps(found.as_dict(), indent=1, ensure_ascii=False)))
    except OSError as error:
        raise LikewiseError(f"can't write {path}: {error.strerror}; choose another --out.") from error


def read_evaluation(path: Path) -> dict[str, Any]:
    """What :func:`save_evaluation` wrote. Raises LikewiseError when the file holds anything else."""
    try:
        found: dict[str, Any] = from_json(path.read_bytes())
        for table in found["tables"]:
            laid_out(table)
        return {"made": dict(found["made"]), "tables": found["tables"]}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise LikewiseError(f"{path} is damaged: it holds no measures; delete it, and measure again.") from None


def saved_tables(run: Path, model: str) -> list[dict[str, Any]]:
    """The tables that :func:`save_evaluation` wrote into a run; none where there are none.

    Raises LikewiseError when the file is damaged, or made with another model than that of the hash ``model``.
    """
    path = run / FILE
    if not path.exists():
        return []
    saved = read_evaluation(path)
    refuse_other_model(path, saved["made"], model, renewal_of(run, saved["made"]))
    tables: list[dict[str, Any]] = saved["tables"]
    return tables


def renewal_of(run: Path, made: Mapping[str, object]) -> list[str]:
    """The command that measures again what a stamp says."""
    split = ["--split", str(made.get("split", "")), "--interactions", source_in(made, "interactions")]
    return ["likewise", "evaluate", str(run), *source_words(made, "data"), *split]


def _forms(model: Model, items: Items, known: Catalogue) -> tuple[list[str], dict[str, list[Floats]]]:
    """The names of the parts of the items, and the content of each: as it is, and standardised; of images centred."""
    if items.kind == "images":
        rows, _, name = raw_rows(model, items, None)
        return ["image"], {name: [known.spread(rows.numpy())]}
    places = [block.content for block in items.blocks] or [slice(None)]
    rows = items.batch(np.arange(len(items)))
    forms = {"as given": rows, "standardised": model.standardise(rows)}
    return [block.name for block in items.blocks] or ["content"], {
        name: [known.spread(values[:, place].numpy()) for place in places] for name, values in forms.items()
    }
