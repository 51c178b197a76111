"""``report.html``: settings, scores, curves, neighbours as pictures, a map, in one file that loads no other."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likewise.config.overrides import as_dict
from likewise.config.settings import ObjectiveSettings
from likewise.config.yaml_file import as_yaml
from likewise.console import Tick, say, stages, untold
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.evaluation.baselines import embedded
from likewise.evaluation.retrieve import FILE
from likewise.evaluation.saved import saved_scores
from likewise.evaluation.scores import EVALUATION
from likewise.files import atomic_write, place_for
from likewise.metrics import Retrieval, retrieval, top_k
from likewise.model import Model, load
from likewise.pages import named, picture, thumbnail, whole
from likewise.plots import matplotlib_module
from likewise.reports.measured import measured
from likewise.reports.verdict import Verdict, gather, judge
from likewise.text import readable
from likewise.training.metrics_log import read_metrics
from likewise.training.run_folder import read_data, training_items

REPORT = "report.html"
QUERIES, NEIGHBOURS, MAP_ITEMS = 10, 10, 2000
WRONG_QUERIES, WRONG_PAIRS = 1000, 10  # number of items looked up, and of pairs shown of each kind
TAUGHT_BY = {
    "instance": "no label used to train",
    "label": "trained with their labels",
    "pairs": "trained with pairs that are alike or not",
    "triplets": "trained with triplets",
    "graded": "trained with graded relevance",
    "clusters": "trained with clusters of pairs as classes",
}


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
    """Writes RUN/report.html, which ends with a verdict, and returns its path.

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
        LikewiseError: the run has no model, its data can't be opened, a file of it is damaged, or the extra ``plot`` is
            not installed.

    Cost: one pass of the encoder over the items, and t-SNE of at most 2,000 of them.
    """
    model = model or load(run)
    place_for(run / REPORT, "RUN")
    if items is None and data is None:
        items = training_items(run, model.settings)
    elif items is None:
        items = model.open(data, labels=labels, key=key, image=image, columns=columns)
    about = read_data(run) or {"source": items.source, "items": len(items), "kind": items.kind, "skipped": 0}
    scores, metrics = saved_scores(run, model.weights_hash), read_metrics(run)
    last = next((line for line in reversed(metrics) if "loss" in line), {})
    with stages(enabled=progress) as begin:
        rows = embedded(model, items, tick=begin("embedding"))
        found = judge(gather(model, items, rows, [*scores[EVALUATION], *scores[FILE]], last, begin("the verdict")))
        parts = [
            "<h2>What was done</h2>" + _summary(metrics, model, about),
            "<h2>How good it is</h2>" + measured(run, scores, model.weights_hash),
            "<h2>Learning curves</h2>" + curves(run),
            "<h2>Nearest neighbours</h2>" + _neighbours(items, rows, begin("neighbours")),
            "<h2>Pairs it gets most wrong</h2>" + _wrong(items, rows, begin("pairs")),
        ]
        begin("the map")
        parts.append("<h2>Map</h2>" + _map(items, rows))
    parts += [
        "<h2>Every setting</h2><details><summary>config.yaml</summary><pre>"
        + html.escape(as_yaml(as_dict(model.settings)))
        + "</pre></details>",
        "<h2>Verdict</h2>" + _verdict(found),
    ]
    stamp = {**model.protocol("embedding"), **items.stamp("data")}
    path = run / REPORT
    with atomic_write(path) as file:
        file.write(whole(f"likewise: {run.name}", stamp, "".join(parts)))
    if progress:
        say([f"verdict: {found.sentence}", *(f"next: {line}" for line in found.advice)])
    return path


def _verdict(found: Verdict) -> str:
    """The verdict, its signs and the advice, as lists."""
    signs, advice = ("".join(f"<li>{html.escape(line)}</li>" for line in each) for each in (found.signs, found.advice))
    more = f"<h3>What to try next</h3><ul>{advice}</ul>" if advice else ""
    return f"<p><strong>{html.escape(readable(found.sentence))}</strong></p><ul>{signs}</ul>{more}"


def _summary(metrics: Sequence[dict[str, float | str]], model: Model, about: dict[str, Any]) -> str:
    settings = model.settings
    speed = [float(line["items_per_second"]) for line in metrics if "items_per_second" in line]
    text = (
        f"{about['items']:,} {about['kind']} from <b>{named(about['source'])}</b> "
        f"({about['skipped']} left out: skipped.csv), {TAUGHT_BY[settings.alike]}. Method {settings.method}, objective "
        f"{settings.objective.kind}{_parameters(settings.objective)}, {named(settings.encoder.name)} "
        f"→ {model.embedder.layers()['embedding']} numbers on the unit sphere, {model.epoch:g} epochs of batches of "
        f"{settings.batch_size}"
    )
    text += f", {np.median(speed):,.0f} items/s" if speed else ""
    return f"<p>{text}.</p>{_online(metrics)}"


def _parameters(objective: ObjectiveSettings) -> str:
    """The objective's parameters, as words and numbers."""
    values = {name: value for name, value in objective.parameters.items() if value is not None}
    shown = {name: f"{value:g}" if type(value) is float else value for name, value in values.items()}
    return "".join(f", {name} {value}" for name, value in shown.items())


def _online(metrics: Sequence[dict[str, float | str]]) -> str:
    scores = [(float(line["epoch"]), float(line["knn"])) for line in metrics if {"epoch", "knn"} <= line.keys()]
    if not scores:
        return ""
    best = max(scores, key=lambda pair: pair[1])
    return (
        f'<p class="note">kNN measured while training: last epoch ({scores[-1][0]:g}) <b>{scores[-1][1]:.1%}</b>; '
        f"best epoch ({best[0]:g}) {best[1]:.1%}. The model kept is the last one.</p>"
    )


def curves(run: Path) -> str:
    matplotlib = matplotlib_module()
    metrics = read_metrics(run)
    panels = [("loss", "loss"), ("effective rank of a batch", "effective_rank"), ("kNN accuracy", "knn")]
    panels = [(title, key) for title, key in panels if any(key in line for line in metrics)]
    figure = matplotlib.figure.Figure(figsize=(4 * max(1, len(panels)), 3))
    axes = figure.subplots(1, max(1, len(panels)), squeeze=False)
    for axis, (title, key) in zip(axes[0], panels, strict=False):
        points = [(float(line["epoch"]), float(line[key])) for line in metrics if {"epoch", key} <= line.keys()]
        axis.plot(*zip(*points, strict=True), color="#0a66c2")
        if key == "loss":
            for chance in [float(line["chance"]) for line in metrics if "chance" in line][-1:]:  # not all have one
                axis.axhline(chance, color="#8a97a3", linestyle=":", label="chance: nothing learned")
                axis.legend(frameon=False, fontsize=8)
        axis.set(title=title, xlabel="epoch")
        axis.spines[["top", "right"]].set_visible(False)
    return picture(figure)


def _neighbours(items: Items, rows: Tensor, tick: Tick = untold) -> str:
    if not items.pictured:
        return '<p class="note">The items are vectors: there are no pictures to show.</p>'
    queries = torch.linspace(0, len(items) - 1, min(QUERIES, len(items))).long()
    ids = torch.arange(len(items))
    scores, neighbours = top_k(
        rows[queries], rows, min(NEIGHBOURS, len(items) - 1), query_ids=queries, key_ids=ids, tick=tick
    )
    text = "<p class='note'>Left, framed: the query. Then the most alike, with the cosine.</p>"
    for query, row_scores, row in zip(queries.tolist(), scores.tolist(), neighbours.tolist(), strict=True):
        cells = _thumbnail(items, query, items.ids[query], "query")
        cells += "".join(_thumbnail(items, r, f"{s:.2f}", "") for s, r in zip(row_scores, row, strict=True) if r >= 0)
        text += f'<div class="row">{cells}</div>'
    return text


def _wrong(items: Items, rows: Tensor, tick: Tick = untold) -> str:
    """The nearest items with different labels, and the furthest with the same. At most 1,000 items are looked up."""
    if items.labels is None:
        return '<p class="note">The items have no labels, so nothing says which pairs are wrong.</p>'
    labels = torch.from_numpy(np.asarray(items.labels))
    known = (labels.reshape(len(items), -1) >= 0).any(1).nonzero().squeeze(1)
    some = known[torch.linspace(0, len(known) - 1, min(WRONG_QUERIES, len(known))).long()]
    try:
        result = retrieval(
            rows[some],
            labels[some],
            rows[known],
            labels[known],
            query_ids=some,
            gallery_ids=known,
            worst=WRONG_PAIRS,
            tick=tick,
        )
    except LikewiseError:  # no two items share a label
        return '<p class="note">No label has two items, so nothing says which pairs are wrong.</p>'
    what = f"{len(some):,} items looked up among {len(known):,} of {named(items.source)}"
    text = f"<p class='note'>{what}. {_weakest(items, result)}</p>"
    for title, pairs in (
        ("Different labels, nearest to each other", result.nearest_different),
        ("The same label, furthest apart", result.furthest_same),
    ):
        shown = "".join(_pair(items, int(some[a]), int(known[b]), score) for a, b, score in pairs)
        text += f"<h3>{title}</h3>" + (f'<div class="pairs">{shown}</div>' if pairs else '<p class="note">None.</p>')
    return text


def _weakest(items: Items, result: Retrieval) -> str:
    worst = result.worst_class
    name = named(items.label_names[worst.label])
    return f"MAP@R {result.map_at_r:.1%}; of the weakest label, <b>{name}</b>, {worst.map_at_r:.1%}."


def _pair(items: Items, query: int, other: int, score: float) -> str:
    """The query, framed, and the other item with its cosine: as pictures, or as ids if items have none."""
    if items.pictured:
        label, other_label = _label(items, query), _label(items, other)
        cells = _thumbnail(items, query, label, "query") + _thumbnail(items, other, f"{score:.2f} {other_label}", "")
        return f'<div class="row">{cells}</div>'
    one, another = (f"{named(items.ids[row])} ({named(_label(items, row))})" for row in (query, other))
    return f"<div>{one} and {another}: {score:.2f}</div>"


def _label(items: Items, row: int) -> str:
    assert items.labels is not None
    return ", ".join(items.label_names[number] for number in np.atleast_1d(items.labels[row]) if number >= 0)


def _thumbnail(items: Items, row: int, caption: str, kind: str) -> str:
    return thumbnail(items.picture(row), items.ids[row], caption, kind)


def _map(items: Items, rows: Tensor) -> str:
    """A t-SNE map of at most 2,000 items. Near items are alike; distances between groups have no meaning."""
    matplotlib = matplotlib_module()
    if len(items) < 10:
        return '<p class="note">Too few items for a map.</p>'
    from sklearn.manifold import TSNE

    some = torch.randperm(len(items), generator=torch.Generator().manual_seed(0))[:MAP_ITEMS]
    perplexity = min(30, (len(some) - 1) / 3)
    flat = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=0).fit_transform(rows[some].numpy())
    figure = matplotlib.figure.Figure(figsize=(9, 7))
    axis, legend = figure.subplots(), ""
    if items.labels is not None and items.labels.ndim == 1 and 1 < len(items.label_names) <= 20:
        labels = items.labels[some.numpy()]
        for number, name in enumerate(items.label_names):
            colour = matplotlib.colors.to_hex(matplotlib.colormaps["tab20"](number))
            axis.scatter(*flat[labels == number].T, s=8, color=colour)
            legend += f'<li><span style="color:{colour}">●</span> {named(name)}</li>'  # in HTML: no font lacks letters
    else:
        axis.scatter(*flat.T, s=8, color="#0a66c2")
    axis.axis("off")
    note = f"<p class='note'>{len(some):,} items by t-SNE of cosines. Colours are labels, of 20 at most.</p>"
    return note + (f'<ul class="legend">{legend}</ul>' if legend else "") + picture(figure)
