"""Items of several parts: images, vectors and text by name, each from a source of its own. They meet by id.

Dimension legend: N items, D columns of all blocks.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.blocks import Block, Blocks
from likewise.data.decode import IMAGE_SUFFIXES
from likewise.data.items import Items, Skipped
from likewise.data.source import NO_IMAGE, NO_TEXT, NO_VECTOR, Wanted
from likewise.data.vector_rows import VectorRows
from likewise.errors import LikewiseError, closest
from likewise.text import quoted

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_NOTHING = (NO_IMAGE, NO_TEXT, NO_VECTOR)
_NUMBERS = 1 << 20  # of a chunk of rows, 4 MB


class _Part(NamedTuple):
    """A part before it is joined with the others."""

    name: str
    items: Items
    lacking: frozenset[str]  # ids of rows with nothing in them
    bad: dict[str, str]  # ids of rows that can't be used, and why

    @property
    def ids(self) -> list[str]:
        """Of all rows that have one: first those that can be used."""
        return [*self.items.ids, *sorted(self.lacking), *self.bad]


def open_parts(
    sources: Mapping[Any, object],
    wanted: Wanted,
    opened: Callable[[object, Wanted], Items],
    *,
    words: int,
    blocks: Blocks = (),
) -> Items:
    """Items of kind "vectors" with a block of columns for each part.

    A part is images, vectors, or text: a column of text becomes hashed words, a column of lists of text hashed
    categories, see ``words.hashed``. In a table the content is the column that is called as the part, else what
    ``open_items`` takes, else its only column of text; the ids are the column ``key`` if the table has it.

    Rows of one item meet by id. Where the ids of a part are paths of images, of which none is an id of another part,
    the ids are the paths without their endings. The items are in the order of the first source; then come the new ones
    of the second, and so on. An item needs one part; the others are masked, and a note counts them. Nothing in a row
    (null, empty text) is a part that is missing; a bad row (NaN, a damaged image) leaves out the item.

    Labels are those of the first part that has some.

    Args:
        sources: by name; a name has letters, digits, "_" and "-".
        wanted: what the user named of the sources.
        opened: opens one source.
        words: number of columns of a part that is text.
        blocks: the parts that the items get, in this order; empty: those of ``sources``.

    Raises:
        LikewiseError: a name that is none or unknown; an option that is for one source; a part that is of another kind
            or width than its block, or has no id of another part; no item that can be used; and what ``opened`` raises.

    Cost: the sources are opened one after the other; then 4·N·D bytes are filled in chunks, above 256 MB in a file of
    the cache's folder, which is mapped.
    """
    _check(sources, wanted, blocks)
    known = {block.name: block for block in blocks}
    order = [name for name in known if name in sources] or list(sources)
    parts = _joinable([_open(name, sources[name], wanted, opened, words, known.get(name)) for name in order])
    blocks = blocks or _laid_out(parts)
    for part in parts:
        _refuse_other(part, {block.name: block for block in blocks}[part.name], trained=bool(known))
    ids, skipped = _survivors(parts)
    source = " ".join(f"{part.name}={part.items.source}" for part in parts)
    if not ids:
        few = "; ".join(f"{each.id}: {each.reason}" for each in skipped[:3])
        raise LikewiseError(f"none of the {len(skipped):,} items of {source} can be used: {few}.")
    places = {part.name: _places(part, ids) for part in parts}
    rows = VectorRows(wanted.scratch)
    for chunk in _chunks(parts, places, blocks, len(ids)):
        rows.add(chunk)
    labels, label_names = _labels(parts, places, wanted)
    paths = {part.name: part.items.path for part in parts}
    return Items(
        ids=tuple(ids),
        values=rows.whole(),
        kind="vectors",
        labels=labels,
        label_names=label_names,
        skipped=tuple(skipped),
        source=source,
        notes=(
            *(note for part in parts for note in part.items.notes),
            *_said_of_row_numbers(parts),
            *_missing(places, blocks, ids),
        ),
        blocks=tuple(blocks),
        parts={name: path for name, path in paths.items() if path is not None} if all(paths.values()) else {},
    )


def _check(sources: Mapping[Any, object], wanted: Wanted, blocks: Blocks) -> None:
    """Raises LikewiseError on names that can't be, and on options that are for a single source."""
    if not sources:
        raise LikewiseError('no parts are given; name each with its source, such as {"image": "photos/"}.')
    known = [block.name for block in blocks]
    for name in sources:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise LikewiseError(f"{name!r} is no name of a part; use letters, digits, _ and -, a letter first.")
        if known and name not in known:
            raise LikewiseError(
                f"the model has no part {name!r}.{closest(name, known)} It was trained with {', '.join(known)}."
            )
    for option, value in (("image", wanted.image), ("columns", wanted.columns), ("split", wanted.split)):
        if value:
            raise LikewiseError(
                f"{option}= is for a single source; leave it out, and call a part as the column with its content."
            )
    if wanted.by_row is not None:
        raise LikewiseError(
            "a .npy file of labels has one for each row, but several parts meet by id; give labels by id, as a "
            ".parquet or .csv file with the columns id and label."
        )


def _open(
    name: str,
    source: object,
    wanted: Wanted,
    opened: Callable[[object, Wanted], Items],
    words: int,
    block: Block | None,
) -> _Part:
    """Opens the source of a part."""
    wanted = replace(wanted, part=name, words=words)
    if block is not None:
        wanted = replace(wanted, columns=block.columns, words=block.width)
    try:
        items = opened(source, wanted)
    except LikewiseError as error:
        raise LikewiseError(f"{name}: {error}") from error
    lacking = frozenset(each.id for each in items.skipped if each.reason in _NOTHING)
    bad = {each.id: f"{name}: {each.reason}" for each in items.skipped if each.reason not in _NOTHING}
    return _Part(name, items, lacking, bad)


def _joinable(parts: list[_Part]) -> list[_Part]:
    """The parts, images without endings where only so they meet. Raises LikewiseError if a part meets no other."""
    parts = [_without_endings(part, [other for other in parts if other is not part]) for part in parts]
    first, seen = parts[0], set(parts[0].ids)
    for part in parts[1:]:
        if seen.isdisjoint(part.ids):
            numbers = next((each.name for each in (part, first) if _has_row_numbers(each)), "")
            hint = f" The ids of {numbers} are row numbers: give a table with ids." * bool(numbers)
            raise LikewiseError(
                f"no id of {part.name} is among those of {first.name}: {part.name} has ids such as "
                f"{quoted(part.ids[0])}, {first.name} such as {quoted(first.ids[0])}; name the column of ids with "
                f"key=.{hint}"
            )
        seen.update(part.ids)
    return parts


def _has_row_numbers(part: _Part) -> bool:
    """Whether a part has the ids of a source without ids: 0, 1, 2 … or "row 0" …, of which bad rows are missing."""
    total = len(part.items) + len(part.items.skipped)
    expected = {f"{word}{number}": number for number in range(total) for word in ("", "row ")}
    found = [expected.get(id, -1) for id in part.items.ids]
    return -1 not in found and found == sorted(found)


def _said_of_row_numbers(parts: Sequence[_Part]) -> Iterator[str]:
    """A note on each part with row numbers as ids, unless all parts have as many of them: they may mean other items."""
    numbered = [part for part in parts if _has_row_numbers(part)]
    if len(numbered) == len(parts) and len({len(part.ids) for part in parts}) == 1:
        return
    for part in numbered:
        yield (
            f"{part.name}: its ids are the numbers of its rows, such as {quoted(part.items.ids[0])}; they meet the ids "
            "of the other parts as these."
        )


def _without_endings(part: _Part, others: Sequence[_Part]) -> _Part:
    """A part whose ids are paths of images, without their endings if only these are ids of other parts."""
    short = {id: without_ending(id) for id in part.ids}
    theirs = {id for other in others for id in other.ids}
    if len(set(short.values())) != len(short) or not theirs.isdisjoint(short) or theirs.isdisjoint(short.values()):
        return part
    note = f"{part.name}: the ids are the files' names without their endings, such as {quoted(short[part.ids[0]])}."
    items = replace(part.items, ids=tuple(short[id] for id in part.items.ids), notes=(*part.items.notes, note))
    bad = {short[id]: reason for id, reason in part.bad.items()}
    return _Part(part.name, items, frozenset(short[id] for id in part.lacking), bad)


def without_ending(id: str) -> str:
    """``a/b`` of ``a/b.jpg``; other ids as they are."""
    stem, dot, ending = id.rpartition(".")
    return stem if stem and f"{dot}{ending}".lower() in IMAGE_SUFFIXES else id


def ids_that_meet(ids: Iterable[str], others: Iterable[str], otherwise: str) -> str:
    """What to do where no id is one of the ``others``: ``otherwise``, unless a photo's ending is all that they lack."""
    theirs = frozenset(others)
    photo = next((id for id in ids if without_ending(id) in theirs), None)
    if photo is None:
        return otherwise
    return (
        f"The ids of photos are their paths: write {quoted(photo)} in the place of {quoted(without_ending(photo))}, or "
        "give the photos with --features beside a part that has these ids."
    )


def _laid_out(parts: Sequence[_Part]) -> tuple[Block, ...]:
    """The blocks of the parts, one after the other."""
    blocks, start = list[Block](), 0
    for part in parts:
        items, shape = part.items, part.items.values.shape[1:]
        if items.kind == "images":
            block = Block(name=part.name, kind="image", start=start, stop=start + int(np.prod(shape)), size=shape[0])
        elif items.blocks:
            block = replace(items.blocks[0], start=start, stop=start + items.blocks[0].width)
        else:
            block = Block(name=part.name, kind="vector", start=start, stop=start + shape[0], columns=items.columns)
        blocks.append(block)
        start = block.stop + 1
    return tuple(blocks)


def _refuse_other(part: _Part, block: Block, *, trained: bool) -> None:
    """Raises LikewiseError if a part is not as its block."""
    (own,) = _laid_out([part])
    if own.kind != block.kind:
        words = {"image": "images", "vector": "vectors", "words": "text"}
        raise LikewiseError(
            f"{part.name} holds {words[own.kind]}, but the model was trained with {words[block.kind]} there."
        )
    if own.width != block.width:
        raise LikewiseError(
            f"{part.name} has {own.width:,} numbers for each item, but the model was trained with {block.width:,}."
        )


def _survivors(parts: Sequence[_Part]) -> tuple[list[str], list[Skipped]]:
    """The ids of the items, in order, and what is left out: a bad part, or no part at all."""
    has = dict.fromkeys(id for part in parts for id in part.items.ids)
    names = ", ".join(part.name for part in parts)
    reasons: dict[str, str] = {}
    for part in parts:
        reasons |= {id: reason for id, reason in part.bad.items() if id not in reasons}
    for part in parts:
        nowhere = sorted(part.lacking.difference(has, reasons))
        reasons |= dict.fromkeys(nowhere, f"it has no part ({names})")
    twice = {id for part in parts for id in set(part.bad).intersection(part.items.ids)}  # the first row counts
    ids = [id for id in has if id not in reasons or id in twice]
    return ids, [Skipped(id=id, reason=reason) for id, reason in reasons.items()]


def _places(part: _Part, ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """(N,) the row of the part that each item has; −1 for none."""
    row_of = {id: row for row, id in enumerate(part.items.ids)}
    return np.array([row_of.get(id, -1) for id in ids], dtype=np.int64)


def _chunks(
    parts: Sequence[_Part], places: Mapping[str, npt.NDArray[np.int64]], blocks: Blocks, count: int
) -> Iterator[npt.NDArray[np.float32]]:
    """The rows of all blocks, some at a time."""
    width = blocks[-1].stop + 1
    of_name = {block.name: block for block in blocks}
    step = max(1, _NUMBERS // width)
    for start in range(0, count, step):
        chunk = np.zeros((min(step, count - start), width), dtype=np.float32)
        for part in parts:
            block, rows = of_name[part.name], places[part.name][start : start + step]
            has = np.flatnonzero(rows >= 0)
            part.items.refuse_cut()
            values = np.asarray(part.items.values)[rows[has]].reshape(len(has), np.prod(part.items.values.shape[1:]))
            chunk[has, block.content] = values[:, : block.width]
            chunk[has, block.stop] = 1.0
        yield chunk


def _labels(
    parts: Sequence[_Part], places: Mapping[str, npt.NDArray[np.int64]], wanted: Wanted
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
    """The labels of the first part that has some. Raises LikewiseError if a column is named that no part has."""
    for part in parts:
        labels, rows = part.items.labels, places[part.name]
        if labels is not None:
            known = labels[np.maximum(rows, 0)]
            known[rows < 0] = -1
            return known, part.items.label_names
    if wanted.labels not in ("auto", "none"):
        raise LikewiseError(f"no part has a column {wanted.labels!r} of labels; give auto, none, or a file of labels.")
    return None, ()


def _missing(places: Mapping[str, npt.NDArray[np.int64]], blocks: Blocks, ids: Sequence[str]) -> Iterator[str]:
    """A note for each part that some items lack."""
    for block in blocks:
        if block.name not in places:
            yield f"{block.name}: no source is given, so it is masked in all {len(ids):,} items."
            continue
        lacking = np.flatnonzero(places[block.name] < 0)
        if len(lacking):
            yield (
                f"{block.name}: {len(lacking):,} of the {len(ids):,} items lack it, such as {quoted(ids[lacking[0]])}; "
                "it is masked there."
            )


def part_for(path: str | Path, blocks: Blocks) -> Block | None:
    """The part that a query's file is: the only one of images, or of vectors for a .npy file. None without blocks.

    Raises LikewiseError if there is no such part, or several.
    """
    if not blocks:
        return None
    kind, words = ("vector", "vectors") if Path(path).suffix.lower() == ".npy" else ("image", "images")
    fitting = [block for block in blocks if block.kind == kind]
    if len(fitting) != 1:
        raise LikewiseError(
            f"{path} can't be a query: the model has {len(fitting) or 'no'} parts of {words}; search by the id of an "
            "indexed item."
        )
    return fitting[0]
