"""What was measured of a run, as tables for its report: the files that ``evaluate`` and ``retrieve`` wrote."""

import csv
import io
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from likewise.errors import LikewiseError
from likewise.evaluation import ranked, retrieve
from likewise.evaluation.baselines import REPRESENTATIONS
from likewise.evaluation.retrieval_detail import STAMP
from likewise.evaluation.retrieve import DETAIL, FILE, retrieval_table
from likewise.evaluation.scores import EVALUATION, learned_protocol, protocols, table
from likewise.files import from_json
from likewise.metrics import Score
from likewise.pages.drawings import Line, chart
from likewise.pages.pieces import grid, named, note
from likewise.recommendation import evaluate as recommendation
from likewise.recommendation.table import laid_out
from likewise.reports.mistakes import OfClass

MOST_SHOWN = 10  # pairs of each kind
ORDER = tuple(reversed(REPRESENTATIONS))  # of curves: the learned one first


def measured(run: Path, saved: Mapping[str, list[Score]], model: str) -> str:
    """The tables of the saved scores. Raises LikewiseError when the figures beside them are another model's."""
    text = ""
    if scores := saved[EVALUATION]:
        about = "Mean ± standard deviation over draws of the labels. Neighbours vote with weight exp(s/τ)."
        text += _drawn(*table(scores), about, scores)
    if scores := saved[FILE]:
        protocol = learned_protocol(scores)
        about = (
            "± over seeds of k-means, or the standard error over folds. Every number is of items looked up by cosine."
        )
        text += _drawn(*retrieval_table(scores), about, scores)
        if (run / DETAIL).exists():
            _refuse_other_figures(run / DETAIL, protocol, retrieve.renewal(run, protocol))
            text += _retrieved(run / DETAIL)
    if scores := saved[ranked.FILE]:
        text += _drawn(*ranked.ranked_table(scores), "The judged items of each query, ranked by cosine.", scores)
    text += _recommended(run, model)
    if not text:
        commands = (
            "<code>likewise evaluate RUN --train A --test B</code>, <code>likewise retrieve RUN --gallery A</code>"
        )
        return f'<p class="note">Not measured yet: {commands}.</p>'
    return text


def _recommended(run: Path, model: str) -> str:
    """The tables of ``likewise evaluate --split``; the sentence under each says whether a simple baseline wins.

    Raises LikewiseError when the file is damaged or another model's.
    """
    text = ""
    for each in recommendation.saved_tables(run, model):
        text += f"<p><strong>{named(each['verdict'])}</strong></p>{grid(*laid_out(each))}"
        text += note(f"{each['about']}. All numbers: {recommendation.FILE}.")
    return text


def _refuse_other_figures(folder: Path, protocol: Mapping[str, object], renew: Sequence[str]) -> None:
    """Raises LikewiseError unless the figures of every class were made together with the scores."""
    try:
        stamp = from_json((folder / STAMP).read_bytes())
    except (OSError, ValueError):
        stamp = None
    if not isinstance(stamp, dict) or any(protocol.get(name) != value for name, value in stamp.items()):
        raise LikewiseError(
            f"the figures in {folder} were not made with the scores beside them; make both again with: "
            f"{shlex.join(renew)}"
        )


def _retrieved(folder: Path) -> str:
    """The ROC and the pairs that are most wrong, from the last ``likewise retrieve``."""
    curve, wrong = (_rows(folder / name) for name in ("roc.csv", "wrong.csv"))
    text = f'<div class="charts">{_roc(curve)}</div>' if curve else ""
    for sort in dict.fromkeys(row["sort"] for row in wrong):
        pairs = [row for row in wrong if row["sort"] == sort][:MOST_SHOWN]
        each = "".join(
            f"<li>{named(row['query'])} and {named(row['gallery'])}: {float(row['similarity']):.2f}</li>"
            for row in pairs
        )
        title = f"{sort.capitalize()}, by id (more: {DETAIL}/wrong.csv)"
        text += f"<details><summary>{named(title)}</summary><ul>{each}</ul></details>"
    return text


def _roc(curve: Sequence[Mapping[str, str]]) -> str:
    """The curve of each representation, the learned one first, with the area below it in words."""
    lines = []
    for name in sorted({row["representation"] for row in curve}, key=ORDER.index):
        points = [row for row in curve if row["representation"] == name]
        x, y = ([float(row[f"{sort}_positive_rate"]) for row in points] for sort in ("false", "true"))
        lines.append(Line(name, x, y))
    areas = ", ".join(f"{line.name} {sum(_areas(line)):.3f}" for line in lines)
    about = f"Alike pairs found, by the share of different pairs taken for alike. Area below the curve: {areas}"
    return chart("verification: ROC", lines, about=about, x_name="different pairs taken for alike", percent=True)


def _areas(line: Line) -> Iterator[float]:
    """The area below each piece of a curve."""
    points = sorted(zip(line.x, line.y, strict=True))
    return ((right - left) * (low + high) / 2 for (left, low), (right, high) in pairwise(points))


def saved_classes(run: Path) -> list[OfClass]:
    """The labels of the last ``likewise retrieve`` with their MAP@R; empty if there was none."""
    learned = [row for row in _rows(run / DETAIL / "classes.csv") if row["representation"] == "learned"]
    return [OfClass(row["class"], int(row["queries"]), float(row["map@r"])) for row in learned if row["map@r"] != "nan"]


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    text = _text(path)
    before = csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    try:
        return list(csv.DictReader(io.StringIO(text, newline="")))
    finally:
        csv.field_size_limit(before)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def _drawn(header: Sequence[str], rows: Sequence[Sequence[str]], about: str, scores: Sequence[Score]) -> str:
    return f"{grid(header, rows)}{note(about)}{protocols(scores)}"
