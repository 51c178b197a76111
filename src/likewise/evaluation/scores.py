"""Writes scores as JSON and prints them as a table."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from likewise.errors import LikewiseError
from likewise.evaluation.baselines import REPRESENTATIONS
from likewise.files import atomic_write
from likewise.metrics.saved import SCORES
from likewise.metrics.score import Score
from likewise.pages.notebook import cell
from likewise.pages.pieces import folded, grid
from likewise.stamp import Stamp

EVALUATION = SCORES["evaluate"]  # of a run

AS_TRAINED = "as-trained"  # in the name of a score: votes with the temperature of training


Table = tuple[list[str], list[list[str]]]  # header and rows of text


class Scores(list[Score]):
    """A list of scores, which a notebook shows as a table with the protocols.

    Args:
        scores: the scores.
        lay: gives their table.
    """

    def __init__(self, scores: Iterable[Score], lay: Callable[[Sequence[Score]], Table]) -> None:
        super().__init__(scores)
        self._lay = lay

    def _repr_html_(self) -> str:
        return cell(grid(*self._lay(self)) + protocols(self))


def protocols(scores: Sequence[Score]) -> str:
    """How each number was measured, as HTML that is shown when it is asked for."""
    lines = (f"{score.name}: {json.dumps(dict(score.protocol), ensure_ascii=False)}" for score in scores)
    return folded("Protocol of every number", "\n".join(lines))


def save_scores(path: Path, scores: Sequence[Score]) -> None:
    """Writes all scores with their protocols as JSON, atomically. Raises LikewiseError if that fails."""
    try:
        with atomic_write(path) as file:
            text = json.dumps([score.as_dict() for score in scores], indent=1, ensure_ascii=False)
            file.write(text.encode(errors="backslashreplace"))
    except OSError as error:
        raise LikewiseError(f"can't write {path}: {error.strerror}; choose another --out.") from error


def learned_protocol(scores: Sequence[Score]) -> Stamp:
    """The protocol of the first score of the learned embedding; empty if there is none."""
    return next((score.protocol for score in scores if score.name.startswith("learned/")), {})


def table(scores: Sequence[Score]) -> Table:
    """Header and rows of text: a row for each measure, a column for each representation."""
    return lay_out(scores, "accuracy, %", describe_measure, percent)


def lay_out(
    scores: Sequence[Score], corner: str, describe: Callable[[str], str], cell: Callable[[Score], str]
) -> Table:
    """Header and rows of any table of scores.

    Args:
        scores: the scores, named "representation/measure".
        corner: text of the first cell.
        describe: gives a measure's name in words.
        cell: gives a score as text.
    """
    value = {score.name: score for score in scores}
    names = list(dict.fromkeys(score.name.partition("/")[2] for score in scores))
    shown = [name for name in REPRESENTATIONS if any(score.name.startswith(name + "/") for score in scores)]
    rows = []
    for name in names:
        cells = [value.get(f"{representation}/{name}") for representation in shown]
        rows.append([describe(name), *("" if score is None else cell(score) for score in cells)])
    return [corner, *("untrained encoder" if name == "untrained" else name for name in shown)], rows


def describe_measure(name: str) -> str:
    """``knn/5-per-class`` in words."""
    kind, _, subset = name.partition("/")
    words = {"knn": "weighted kNN", "svm": "linear SVM", "probe": "linear probe"}[kind]
    few = {"": "all labels", AS_TRAINED: "all labels, τ as trained"}
    return f"{words}, {few.get(subset, subset.replace('-per-class', ' per class'))}"


def percent(score: Score) -> str:
    """``12.3`` or ``12.3 ± 0.4``; "diverged" for a score that is NaN."""
    if score.value != score.value:
        return "diverged"
    return f"{100 * score.value:.1f}" + (f" ± {100 * score.std:.1f}" if score.std is not None else "")


def print_table(scores: Sequence[Score]) -> None:
    """The table on standard output."""
    print_rows(*table(scores))


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows of text in columns on standard output."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table(*(header[:1]), show_edge=False)
    for name in header[1:]:
        drawn.add_column(name, justify="right")
    for row in rows:
        drawn.add_row(*row)
    Console().print(drawn)
