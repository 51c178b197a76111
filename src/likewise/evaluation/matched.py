"""Items of two sets that are the same thing: by the name of their files, or by a file of pairs. Nobody labels them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from likewise.data import Items
from likewise.data.id_rows import all_alike_in, open_rows
from likewise.data.items import as_id, encode_label_sets, encode_labels
from likewise.errors import LikewiseError, closest
from likewise.evaluation.labelled_items import shared_ids
from likewise.files import as_path
from likewise.text import quoted, shortened

STEM = "stem"


def matched(match: str, gallery: Items, queries: Items | None) -> tuple[Items, Items | None]:
    """Gallery and queries, whose labels say which are the same thing: two items match if they share one.

    Args:
        match: "stem": the name of the file without folders and ending is the label, so that ``front/17.png`` and
            ``back/17.jpg`` match; of an id that is no path, the id itself. Or a .csv or .parquet file with the columns
            a and b, ids of a query and of an item of the gallery; each row is a label of both.
        gallery: the items that are searched.
        queries: the items that are looked up; None: those of the gallery.

    Raises:
        LikewiseError: another word; a pair of an unknown id, with the closest; nothing matches.
    """
    if match == STEM:
        return _by_stem(gallery, queries)
    if Path(match).suffix.lower() not in (".csv", ".parquet"):
        raise LikewiseError(
            f"--match is {quoted(match)}; it must be stem, or a .csv or .parquet file of pairs.{closest(match, [STEM])}"
        )
    return _by_pairs(as_path(match, "--match"), gallery, queries)


def stem(id: str) -> str:
    """``17`` of ``front/17.png``."""
    return PurePosixPath(id).stem


def _by_stem(gallery: Items, queries: Items | None) -> tuple[Items, Items | None]:
    first, *rest = (_labelled(items, *encode_labels(map(stem, items.ids))) for items in _both(gallery, queries))
    if not rest and len(first.label_names) == len(first):
        raise LikewiseError(
            f"no two items of {gallery.source} have the same name without folder and ending, such as "
            f"{quoted(stem(gallery.ids[0]))}; give the other set with --queries."
        )
    if rest and not set(first.label_names) & set(rest[0].label_names):
        raise LikewiseError(
            f"no name of {rest[0].source}, such as {quoted(rest[0].label_names[0])}, is one of {gallery.source}, such "
            f"as {quoted(first.label_names[0])}, without folders and endings; say with a file of pairs what matches."
        )
    if rest and not _others_match(first, rest[0]):
        raise LikewiseError(
            f"each item of {rest[0].source} matches itself alone: {gallery.source} has the same items. Give the other "
            "set with --queries, or say with a file of pairs what matches."
        )
    return first, rest[0] if rest else None


def _others_match(gallery: Items, queries: Items) -> bool:
    """Whether a query has a match of another name or content than its own."""
    ids, asked = (each.tolist() for each in shared_ids(gallery, queries))
    own = set(ids)
    named = Counter(map(stem, gallery.ids))
    return any(named[stem(id)] > (number in own) for id, number in zip(queries.ids, asked, strict=True))


def _by_pairs(path: Path, gallery: Items, queries: Items | None) -> tuple[Items, Items | None]:
    asked = gallery if queries is None else queries
    sets: dict[int, list[list[int]]] = {id(items): [[] for _ in items.ids] for items in (gallery, asked)}
    rows = {id(items): {name: row for row, name in enumerate(items.ids)} for items in (gallery, asked)}
    count = 0
    for count, (word, *names) in enumerate(_pairs(path), 1):
        for items, name in zip((asked, gallery), names, strict=True):
            row = rows[id(items)].get(as_id(name))
            if row is None:
                what = "the queries" if items is not gallery else "the gallery"
                hint = closest(name, items.ids[:100_000], shown=shortened)
                raise LikewiseError(f"{path}, {word}: {quoted(name)} is no item of {what}.{hint}")
            sets[id(items)][row].append(count)
    if not count:
        raise LikewiseError(f"{path} holds no pairs; give the ids of a query and of an item in each row.")
    first, *rest = (_labelled(items, *encode_label_sets(sets[id(items)])) for items in _both(gallery, queries))
    return first, rest[0] if rest else None


def _both(gallery: Items, queries: Items | None) -> list[Items]:
    return [gallery] if queries is None else [gallery, queries]


def _labelled(items: Items, labels: np.ndarray, names: tuple[str, ...]) -> Items:
    return replace(items, labels=labels, label_names=names)


def _pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    """Of each row where it is, as "line 7", and its two ids."""
    word, chunks = open_rows(path, ["a", "b"])
    for chunk in chunks:
        if not all_alike_in(path):  # it has a column more, or open_rows had refused it
            raise LikewiseError(f"{path} says which pairs are alike; leave only those, and the columns a and b.")
        for number, problem in chunk.problems.items():
            raise LikewiseError(f"{path}, {word} {chunk.numbers[number]} {problem}.")
        for number, one, other in zip(chunk.numbers, *chunk.columns, strict=True):
            yield f"{word} {number}", one.strip(), other.strip()
