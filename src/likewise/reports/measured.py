"""What was measured of a run, as tables for its report: the files that ``evaluate`` and ``retrieve`` wrote."""

import csv
import html
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from likewise.errors import LikewiseError
from likewise.evaluation import ranked, retrieve
from likewise.evaluation.retrieval_detail import STAMP
from likewise.evaluation.retrieve import DETAIL, FILE, retrieval_table
from likewise.evaluation.scores import EVALUATION, learned_protocol, table
from likewise.files import from_json
from likewise.metrics import Score
from likewise.pages import grid, named, picture
from likewise.plots import matplotlib_module
from likewise.recommendation import evaluate as recommendation
from likewise.recommendation.table import laid_out
from likewise.stamp import refuse_other_model

MOST_SHOWN = 10  # classes, and pairs of each kind


def measured(run: Path, saved: Mapping[str, list[Score]], model: str) -> str:
    """The tables of the saved scores. Raises LikewiseError when the figures beside them are another model's."""
    text = ""
    if scores := saved[EVALUATION]:
        note = "mean ± standard deviation over draws of the labels. Neighbours vote with weight exp(s/τ)."
        text += _drawn(*table(scores), note, scores)
    if scores := saved[FILE]:
        protocol = learned_protocol(scores)
        note = (
            "± over seeds of k-means, or the standard error over folds. Every number is of items looked up by cosine."
        )
        text += _drawn(*retrieval_table(scores), note, scores)
        if (run / DETAIL).exists():
            _refuse_other_figures(run / DETAIL, protocol, retrieve.renewal(run, protocol))
            text += _retrieved(run / DETAIL)
    if scores := saved[ranked.FILE]:
        text += _drawn(*ranked.ranked_table(scores), "The judged items of each query, ranked by cosine.", scores)
    text += _recommended(run / recommendation.FILE, model)
    if not text:
        commands = (
            "<code>likewise evaluate RUN --train A --test B</code>, <code>likewise retrieve RUN --gallery A</code>"
        )
        return f'<p class="note">Not measured yet: {commands}.</p>'
    return text


def _recommended(path: Path, model: str) -> str:
    """The tables of ``likewise evaluate --split``; the sentence under each says whether a simple baseline wins.

    Raises LikewiseError when the file is damaged or another model's.
    """
    if not path.exists():
        return ""
    saved = recommendation.read_evaluation(path)
    refuse_other_model(path, saved["made"], model, recommendation.renewal_of(path.parent, saved["made"]))
    text = ""
    for each in saved["tables"]:
        text += f"<p><strong>{named(each['verdict'])}</strong></p>{grid(*laid_out(each))}"
        text += f"<p class='note'>{named(each['about'])}. All numbers: {path.name}.</p>"
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
    """The ROC, the worst classes and the pairs that are most wrong, from the last ``likewise retrieve``."""
    text = ""
    curve, classes, wrong = (_rows(folder / name) for name in ("roc.csv", "classes.csv", "wrong.csv"))
    if curve:
        figure = matplotlib_module().figure.Figure(figsize=(4, 3.4))
        axis = figure.subplots()
        for name in dict.fromkeys(row["representation"] for row in curve):
            points = [row for row in curve if row["representation"] == name]
            x, y = ([float(row[f"{sort}_positive_rate"]) for row in points] for sort in ("false", "true"))
            axis.plot(x, y, label=name)
        axis.set(title="verification: ROC", xlabel="different pairs taken for alike", ylabel="alike pairs found")
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        text += picture(figure)
    learned = [row for row in classes if row["representation"] == "learned" and row["map@r"] != "nan"]
    weakest = sorted(learned, key=lambda row: float(row["map@r"]))[:MOST_SHOWN]
    said = ", ".join(f"{named(row['class'])} {100 * float(row['map@r']):.1f} %" for row in weakest)
    text += f"<p class='note'>Weakest classes, by MAP@R: {said}. All: {DETAIL}/classes.csv.</p>" if said else ""
    for sort in dict.fromkeys(row["sort"] for row in wrong):
        pairs = [row for row in wrong if row["sort"] == sort][:MOST_SHOWN]
        each = "; ".join(
            f"{named(row['query'])} and {named(row['gallery'])} {float(row['similarity']):.2f}" for row in pairs
        )
        text += f"<p class='note'>{named(sort.capitalize())}: {each}. More: {DETAIL}/wrong.csv.</p>"
    return text


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


def _drawn(header: Sequence[str], rows: Sequence[Sequence[str]], note: str, scores: Sequence[Score]) -> str:
    protocols = "\n".join(f"{score.name}: {json.dumps(dict(score.protocol), ensure_ascii=False)}" for score in scores)
    return (
        f"{grid(header, rows)}<p class='note'>{note}</p><details><summary>Protocol of every number</summary>"
        f"<pre>{html.escape(protocols)}</pre></details>"
    )
