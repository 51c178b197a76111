"""What a request asks the worker, and how a batch of them is answered: together where that is quicker, each alone where
one of them is bad."""

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from likewise.answers.wrong_labels import TEMPERATURE
from likewise.errors import LikewiseError
from likewise.metrics.neighbours import vote
from likewise.model import Layer
from likewise.serving.finding import Found, check_where, finite_row
from likewise.serving.loaded import Loaded
from likewise.serving.refused import Refused, busy, failed
from likewise.serving.uploads import read_picture
from likewise.text import quoted

Then = Literal["embed", "search", "classify", "duplicates", "health"]

CANDIDATES = 64  # nearest items whose pixels are compared with an upload
FAR = 1e-3  # from the stored row of the health's input, at which the model does not work as it did

log = logging.getLogger("likewise.serving")


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request.

    Args:
        then: what is wanted.
        as_query: of what is embedded, whether the row that searches is wanted, not that of an item.
        picture: the bytes of a file; or
        vector: numbers that the model embeds; or
        embedding: a row; or
        id: an item of the index.
        k: number of hits.
        where: conditions on the hits.
        threshold: of duplicates; None: that of the data.
    """

    then: Then
    as_query: bool = False
    picture: bytes | None = None
    vector: Sequence[float] | None = None
    embedding: Sequence[float] | None = None
    id: str | None = None
    k: int = 10
    where: tuple[str, ...] = ()
    threshold: float | None = None


Answer = dict[str, Any] | Refused


@dataclass(eq=False)
class _Task:
    """A request on its way: its content as an array, its row, its hits, its answer, or why it is refused."""

    ask: Ask
    values: Any = None
    row: Tensor | None = None
    hits: Sequence[Found] = ()
    answer: dict[str, Any] = field(default_factory=dict)
    refused: Refused | None = None


def answer_all(loaded: Loaded, asks: Sequence[Ask], megapixels: float) -> list[Answer]:
    """The answer of each request, in their order. What is wrong with one changes nothing for the others.

    Pictures are decoded one after the other; all contents are embedded in one product, and all rows searched in one
    for each k and each set of conditions.
    """
    tasks = [_Task(ask) for ask in asks]
    _each(tasks, lambda task: _read(loaded, task, megapixels))
    contents = [task for task in _well(tasks) if task.values is not None]
    _together(contents, _layer_key(loaded), lambda some: _embed(loaded, some))
    searches = [task for task in _well(tasks) if task.ask.then != "embed"]
    _together(searches, lambda task: (_depth(loaded, task.ask), task.ask.where), lambda some: _search(loaded, some))
    _each(_well(tasks), lambda task: _say(loaded, task))
    return [task.answer if task.refused is None else task.refused for task in tasks]


def _well(tasks: Iterable[_Task]) -> list[_Task]:
    return [task for task in tasks if task.refused is None]


def _each(tasks: Iterable[_Task], work: Callable[[_Task], None]) -> None:
    """Does the work for each task; what it raises is the end of this request alone."""
    for task in tasks:
        try:
            work(task)
        except Refused as refused:
            task.refused = refused
        except LikewiseError as error:
            task.refused = Refused(422, str(error))
        except Exception:
            log.exception("a request failed")
            task.refused = failed()


def _together(tasks: Sequence[_Task], key: Callable[[_Task], Hashable], work: Callable[[list[_Task]], None]) -> None:
    """Does the work for all tasks of one key at once; if that fails, for each alone, so that one can't fail others."""
    groups = dict[Hashable, list[_Task]]()
    for task in tasks:
        groups.setdefault(key(task), []).append(task)
    for group in groups.values():
        try:
            work(group)
        except Exception:
            _each(group, lambda task: work([task]))


def _read(loaded: Loaded, task: _Task, megapixels: float) -> None:
    """Decodes a picture, checks numbers, looks up an id."""
    ask = task.ask
    check_where(loaded.finder.schema, ask.where)
    if ask.picture is not None:
        if not loaded.side:
            raise Refused(422, "this run embeds no pictures.")
        task.values = read_picture(ask.picture, loaded.side, megapixels)
    elif ask.vector is not None:
        if not loaded.dims:
            raise Refused(422, 'this run embeds no vectors; give a row of the embedding as "embedding".')
        task.values = finite_row(ask.vector, loaded.dims, "vector").numpy()
    elif ask.embedding is not None:
        task.row = finite_row(ask.embedding, loaded.finder.dim, "embedding")
    elif ask.id is not None:
        task.row = loaded.finder.row_by_id(ask.id)
        if task.row is None:
            raise Refused(404, f"no item of the index has the id {quoted(ask.id)}.")
    elif ask.then == "health":
        if loaded.check is None:
            task.row = torch.zeros(loaded.finder.dim)
        else:
            task.values = loaded.check.values[0]


def _layer_key(loaded: Loaded) -> Callable[[_Task], Hashable]:
    """Contents of one kind for one layer are embedded together."""
    return lambda task: (task.values.shape, _layer(loaded, task.ask))


def _layer(loaded: Loaded, ask: Ask) -> Layer:
    """The layer of items where their row is wanted, else that of queries."""
    return loaded.layer if ask.then == "embed" and not ask.as_query else loaded.asking


def _embed(loaded: Loaded, tasks: list[_Task]) -> None:
    assert loaded.encoder is not None
    rows = loaded.encoder.rows(np.stack([task.values for task in tasks]), _layer(loaded, tasks[0].ask))
    finite = rows.isfinite().all(1).tolist()
    for task, row, good in zip(tasks, rows, finite, strict=True):
        task.row = row
        if not good:
            task.refused = Refused(
                422, "the model gives no finite row for this content, which is far from what it was trained on."
            )


def _depth(loaded: Loaded, ask: Ask) -> int:
    """How many hits a request needs."""
    if ask.then == "classify":
        return loaded.voters
    if ask.then == "duplicates":
        return CANDIDATES
    return 1 if ask.then == "health" else ask.k


def _search(loaded: Loaded, tasks: list[_Task]) -> None:
    rows = torch.stack([task.row for task in tasks if task.row is not None])
    excluded = [task.ask.id for task in tasks]
    found = loaded.finder.find(rows, _depth(loaded, tasks[0].ask), excluded, tasks[0].ask.where)
    for task, hits in zip(tasks, found, strict=True):
        task.hits = hits


def _say(loaded: Loaded, task: _Task) -> None:
    """Puts the answer of a request together."""
    answers: Mapping[Then, Callable[[Loaded, _Task], dict[str, Any]]] = {
        "embed": _embedded,
        "search": _found,
        "classify": _classified,
        "duplicates": _duplicates,
        "health": _healthy,
    }
    task.answer = answers[task.ask.then](loaded, task)


def _embedded(loaded: Loaded, task: _Task) -> dict[str, Any]:
    assert task.row is not None
    return {"embedding": task.row.tolist()}


def _found(loaded: Loaded, task: _Task) -> dict[str, Any]:
    asked, row, own = task.ask.id, None, list[int]()
    if asked is not None:
        row, own = loaded.finder.rows_of([asked])[0], loaded.shown.labels_of([asked])[0].tolist()
    return {
        "query": {"row": row, "id": asked, "label": loaded.shown.text(own)},
        "hits": [_hit(loaded, found, own) for found in task.hits],
    }


def _hit(loaded: Loaded, found: Found, own: Sequence[int]) -> dict[str, Any]:
    """A hit as it is told; ``own`` are the labels of the query. It is wrong if it shares none of them."""
    mine, theirs = ({label for label in labels if label >= 0} for labels in (own, found.labels))
    wrong = mine.isdisjoint(theirs) if mine and theirs else None
    label = loaded.shown.text(found.labels)
    return {"row": found.row, "id": found.id, "score": found.score, "label": label, "wrong": wrong}


def _classified(loaded: Loaded, task: _Task) -> dict[str, Any]:
    """The labels that the nearest items vote for, each for all of its own, with the weight exp(cosine / 0.07)."""
    if not loaded.shown.label_names:
        raise Refused(409, f"the items have no labels. {loaded.shown.why}".strip())
    known = [(hit.score, label) for hit in task.hits for label in hit.labels if label >= 0]
    if not known:
        raise Refused(409, "none of the nearest items has a label.")
    scores, labels = zip(*known, strict=True)
    classes, votes = vote(torch.tensor([scores]), torch.tensor([labels]), TEMPERATURE)
    told = [(label, part) for label, part in zip(classes[0].tolist(), votes[0].tolist(), strict=True) if label >= 0]
    total = sum(part for _, part in told)
    shares = [{"label": loaded.shown.text([label]), "share": part / total} for label, part in told]
    return {"label": shares[0]["label"], "confidence": shares[0]["share"], "votes": shares}


def _healthy(loaded: Loaded, task: _Task) -> dict[str, Any]:
    """Raises Refused when the stored input has another row than it had, or the search finds nothing."""
    assert task.row is not None
    off = 0.0 if loaded.check is None else float((task.row - loaded.check.row).abs().max())
    if not off <= FAR:
        raise busy(f"the model gives another row for its stored input than it did: off by {off:.2g}.")
    if not task.hits:
        raise busy("the search finds nothing.")
    return {"ok": True, "items": len(loaded.finder), "engine": engine_of(loaded), "off_by": off}


def engine_of(loaded: Loaded) -> str:
    """What embeds and what searches."""
    first = [] if loaded.encoder is None else [loaded.encoder.engine]
    return ", ".join([*first, loaded.finder.engine])


def _duplicates(loaded: Loaded, task: _Task) -> dict[str, Any]:
    ask, items, looking = task.ask, loaded.shown.items, loaded.copies
    assert items is not None
    threshold = looking.threshold if ask.threshold is None else ask.threshold
    near = loaded.shown.rows_of([hit.id for hit in task.hits])
    copies = looking.of(task.values, near[near >= 0], threshold)
    rows = loaded.finder.rows_of([items.ids[copy.row] for copy in copies])
    told = [
        {"row": row, "id": items.ids[copy.row], "similarity": copy.similarity}
        for copy, row in zip(copies, rows, strict=True)
    ]
    return {"duplicates": told, "threshold": threshold}
