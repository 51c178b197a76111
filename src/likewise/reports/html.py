"""``report.html``: the verdict, scores, curves, a map, neighbours and mistakes, in one file that loads no other."""

import html
from collections.abc import Sequence
from pathlib import Path

from likewise.config.overrides import as_dict
from likewise.config.settings import FitSettings
from likewise.config.yaml_file import as_yaml
from likewise.console import say, stages
from likewise.data import Items
from likewise.evaluation.baselines import embedded
from likewise.evaluation.saved import saved_scores
from likewise.files import atomic_write, place_for
from likewise.model import Model, load
from likewise.pages.page import whole
from likewise.pages.pieces import folded, note
from likewise.reports.foot import foot
from likewise.reports.map import map_section, script
from likewise.reports.measured import measured, saved_classes
from likewise.reports.mistakes import LookedUp, by_class, classes_of, looked_up, measured_on, wrong_pairs
from likewise.reports.neighbours import neighbours
from likewise.reports.summary import curves, summary
from likewise.reports.verdict import ALONE, Verdict, verdict_on
from likewise.text import readable
from likewise.training.metrics_log import read_metrics
from likewise.training.run_folder import read_data, training_items

REPORT = "report.html"


def write_report(
    run: Path,
    *,
    data: object | None = None,
    labels: str = "auto",
    key: str | None = None,
    image: str | None = None,
    columns: Sequence[str] = (),
    model: Model | None = None,
    items: Items | None = None,
    progress: bool = True,
) -> Path:
    """Writes RUN/report.html, which begins with a verdict, and returns its path.

    Args:
        run: folder of a trained run.
        data: source of the items for pictures and map; None: the data that the run was trained on.
        labels: auto, the label column of ``data``, or a file of labels.
        key: the id column of ``data``.
        image: the image column of ``data``.
        columns: the columns of the vectors of ``data``.
        model: the run's model, if it is already in memory.
        items: opened items, used instead of ``data``.
        progress: show bars, and say the verdict on standard error.

    Raises:
        LikewiseError: the run has no model, its data can't be opened, or a file of it is damaged.

    Cost: one pass of the encoder over the items, an exact search of 1,000 of them among all, and the map.
    """
    model = model or load(run)
    place_for(run / REPORT, "RUN")
    if items is None and data is None:
        items = training_items(run, model.settings)
    elif items is None:
        items = model.open(data, labels=labels, key=key, image=image, columns=columns)
    recorded = read_data(run)
    about = recorded or {"source": items.source, "items": len(items), "kind": items.kind, "skipped": 0}
    scores, metrics = saved_scores(run, model.weights_hash), read_metrics(run)
    with stages(enabled=progress) as begin:
        rows = embedded(model, items, tick=begin("embedding"))
        tick = begin("the verdict")
        verdict = verdict_on(model, items, rows, scores, metrics, tick) if len(items) > 1 else ALONE
        sections = [
            ("Verdict", said(verdict)),
            ("What was done", summary(metrics, model, about)),
            ("How good it is", measured(run, scores, model.weights_hash)),
        ]
        found = looked_up(items, rows, begin("pairs"))
        sections += [
            ("Label by label", _classes(run, items, found)),
            ("Learning curves", curves(run)),
            ("Map", map_section(items, rows, begin("the map"))),
            ("Nearest neighbours", neighbours(items, rows, begin("neighbours"))),
            ("Pairs it gets most wrong", note(found) if isinstance(found, str) else wrong_pairs(items, found)),
            ("Every setting", settings_of(model.settings)),
        ]
    stamp = {**model.protocol("embedding"), **items.stamp("data")}
    body = "".join(f"<h2>{title}</h2>{content}" for title, content in sections)
    body += foot(stamp, recorded or {}, model.protocol("embedding"))
    path = run / REPORT
    with atomic_write(path) as file:
        file.write(whole(f"likewise: {run.name}", stamp, body, script=script()))
    if progress:
        say([f"verdict: {verdict.sentence}", *(f"next: {line}" for line in verdict.advice)])
    return path


def said(found: Verdict) -> str:
    """The verdict, its signs and the advice, as lists."""
    signs, advice = ("".join(f"<li>{html.escape(line)}</li>" for line in each) for each in (found.signs, found.advice))
    more = f"<h3>What to try next</h3><ul>{advice}</ul>" if advice else ""
    return f'<p class="verdict"><strong>{html.escape(readable(found.sentence))}</strong></p><ul>{signs}</ul>{more}'


def settings_of(settings: FitSettings) -> str:
    """Every setting, as config.yaml has them."""
    return folded("config.yaml", as_yaml(as_dict(settings)))


def _classes(run: Path, items: Items, found: LookedUp | str) -> str:
    """MAP@R by label: as ``likewise retrieve`` saved it, else as measured here."""
    if saved := saved_classes(run):
        return by_class(saved, "By likewise retrieve, in its gallery.", "All: retrieval/classes.csv.")
    if isinstance(found, str):
        return note(found)
    return by_class(classes_of(items, found), measured_on(items, found))
