"""Prepares items for an evaluation: keeps the labelled ones, matches classes, counts copies, describes the data."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from likewise.console import Tick, untold
from likewise.data import Items
from likewise.data.items import content_digest
from likewise.errors import LikewiseError, closest
from likewise.metrics.score import Score
from likewise.stamp import Stamp, source_words


def labelled(items: Items, least: int = 2) -> Items:
    """The items that have a label. Raises LikewiseError if there are fewer than ``least`` different labels."""
    if items.labels is None or len(items.label_names) < least:
        raise LikewiseError(
            f"{items.source} has {'one label only' if items.label_names else 'no labels'}, so there is nothing to "
            "tell apart; put images in a folder per class, or give --labels: a column, or a file of labels."
        )
    known = (items.labels.reshape(len(items), -1) >= 0).any(1)
    return items if known.all() else items.select(np.flatnonzero(known))


def one_label(items: Items) -> Items:
    """The same items. Raises LikewiseError if items have several labels each, since a classifier needs one."""
    if items.labels is not None and items.labels.ndim != 1:
        raise LikewiseError(
            f"{items.source} has several labels per item, and classifiers need one; use `likewise retrieve`."
        )
    return items


def same_classes(test: Items, train: Items) -> Items:
    """``test`` with the label numbers of train. Raises LikewiseError if train lacks one of its labels."""
    unknown = [name for name in test.label_names if name not in train.label_names]
    if unknown:
        raise LikewiseError(f"{test.source} has labels that {train.source} lacks: {', '.join(unknown[:5])}.")
    number = np.array([train.label_names.index(name) for name in test.label_names])
    assert test.labels is not None
    return replace(test, labels=number[test.labels], label_names=train.label_names)


def shared_ids(train: Items, test: Items) -> tuple[Tensor, Tensor]:
    """int64 (N,) ids of train and (M,) of test. Two ids are equal only for items of the same name and content."""
    if test is train:
        return torch.arange(len(train)), torch.arange(len(train))
    where = {name: row for row, name in enumerate(train.ids)}
    ids = np.arange(len(train), len(train) + len(test))
    for row, name in enumerate(test.ids):
        other = where.get(name)
        if other is None:
            continue
        test.refuse_cut()
        train.refuse_cut()
        if np.array_equal(test.values[row], train.values[other]):
            ids[row] = other
    return torch.arange(len(train)), torch.from_numpy(ids)


def check_measures(asked: Iterable[str], known: Sequence[str]) -> None:
    """Raises LikewiseError on the first name that is no measure, with the closest known one."""
    for name in asked:
        if name not in known:
            raise LikewiseError(f"there is no measure {name!r}.{closest(name, known)} Known: {', '.join(known)}.")


LEFT_OUT = "{}, each left out"  # in the place of a second source, where items are looked up among themselves


def copies(train: Items, test: Items, test_ids: Tensor, *, tick: Tick = untold) -> int:
    """The number of test items that have the content of a train item with another id. Such items find themselves.

    ``test_ids`` come from ``shared_ids``; ``tick`` is told the share of the work that is done. Cost: one pass over the
    bytes of both, or none if all ids are shared.
    """
    own, total = (test_ids >= len(train)).tolist(), len(test) + len(train)

    def digests(items: Items, done: int) -> Iterator[bytes]:
        for number, value in enumerate(items.each(), start=done):
            tick(number / total)
            yield content_digest(value)

    apart = [digest for digest, alone in zip(digests(test, 0), own, strict=True) if alone] if any(own) else []
    known = set(digests(train, len(test))) if apart else set()
    return sum(digest in known for digest in apart)


def data_stamp(
    name: str,
    asked: str,
    items: Items,
    others: Items | None,
    other_ids: Tensor,
    *,
    title: str | None = None,
    tick: Tick = untold,
) -> Stamp:
    """The protocol's facts about the data: source, number and hash of ids of both sets, and the number of copies.

    Args:
        name: what the protocol calls the items that are searched or trained on.
        asked: what it calls the items that are looked up or classified.
        items: the items called ``name``.
        others: the items called ``asked``; None: ``items``, each left out of its own search.
        other_ids: of ``others``, from ``shared_ids``.
        title: the key of the source of ``others``; None: ``asked``.
        tick: told the share of the work that is done.
    """
    if others is None:
        second = replace(items, source=LEFT_OUT.format(name), path=None, parts={}).stamp(title or asked, asked)
    else:
        second = others.stamp(title or asked, asked)
    return {
        **items.stamp(name),
        **second,
        "copies": 0 if others is None else copies(items, others, other_ids, tick=tick),
    }


def options_text(given: Mapping[str, object], usual: Mapping[str, object]) -> str:
    """The options of a command whose values are not the usual ones, as one text."""
    words = {f"--{name}": value for name, value in given.items() if value != usual[name]}
    several = {option: value if isinstance(value, tuple) else (value,) for option, value in words.items()}
    return shlex.join(word for option, values in several.items() for word in (option, ",".join(map(str, values))))


def renewal_command(command: str, run: Path, protocol: Mapping[str, object], name: str, asked: str) -> list[str]:
    """The command that measures again what a score's protocol says.

    ``name`` and ``asked`` are the options, and the keys of the protocol, of its two sources.
    """
    second = [] if protocol.get(asked) == LEFT_OUT.format(name) else source_words(protocol, asked, asked)
    options = shlex.split(str(protocol.get("options", "")))
    return ["likewise", command, str(run), *source_words(protocol, name, name), *second, *options]


def describe_copies(scores: Sequence[Score]) -> str:
    """A sentence for the user about ``copies``; empty if there are none."""
    counts = {int(score.protocol.get("copies", 0)) for score in scores}
    count = max(counts, default=0)
    if not count:
        return ""
    return (
        f"{count:,} of the items looked up {'is' if count == 1 else 'are'} also among the items searched, with another "
        "id, and so find themselves: the results are too good. Name the column of ids with --key, or remove the copies."
    )
