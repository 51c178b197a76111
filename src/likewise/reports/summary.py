"""What was done in a run, and its learning curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from likewise.config.settings import ObjectiveSettings
from likewise.model import Model
from likewise.pages.drawings import Level, Line, chart, course
from likewise.pages.pieces import named, note
from likewise.training.metrics_log import read_metrics

TAUGHT_BY = {
    "instance": "no label used to train",
    "label": "trained with their labels",
    "pairs": "trained with pairs that are alike or not",
    "triplets": "trained with triplets",
    "graded": "trained with graded relevance",
    "clusters": "trained with clusters of pairs as classes",
}
CURVES = (
    ("loss", "loss", False),
    ("effective rank of a batch", "effective_rank", False),
    ("kNN accuracy", "knn", True),
)

Lines = Sequence[Mapping[str, float | str]]


def summary(metrics: Lines, model: Model, about: Mapping[str, Any]) -> str:
    """The data, the method and the length of the training, in a sentence, and the kNN accuracy on the way."""
    settings = model.settings
    speed = [float(line["items_per_second"]) for line in metrics if "items_per_second" in line]
    text = (
        f"{about['items']:,} {about['kind']} from <b>{named(about['source'])}</b> "
        f"({about['skipped']} left out: skipped.csv), {TAUGHT_BY[settings.alike]}. Method {settings.method}, objective "
        f"{settings.objective.kind}{_parameters(settings.objective)}, {named(settings.encoder.name)} "
        f"→ {model.embedder.layers()['embedding']} numbers on the unit sphere, {model.epoch:g} "
        f"{'epoch' if model.epoch == 1 else 'epochs'} of batches of {settings.batch_size}"
    )
    text += f", {np.median(speed):,.0f} items/s" if speed else ""
    return f"<p>{text}.</p>{_online(metrics)}"


def _parameters(objective: ObjectiveSettings) -> str:
    """The objective's parameters, as words and numbers."""
    values = {name: value for name, value in objective.parameters.items() if value is not None}
    shown = {name: f"{value:g}" if type(value) is float else value for name, value in values.items()}
    return "".join(f", {name} {value}" for name, value in shown.items())


def _online(metrics: Lines) -> str:
    scores = [(float(line["epoch"]), float(line["knn"])) for line in metrics if {"epoch", "knn"} <= line.keys()]
    if not scores:
        return ""
    best = max(scores, key=lambda pair: pair[1])
    return (
        f'<p class="note">kNN measured while training: last epoch ({scores[-1][0]:g}) <b>{scores[-1][1]:.1%}</b>; '
        f"best epoch ({best[0]:g}) {best[1]:.1%}. The model kept is the last one.</p>"
    )


def curves(run: Path) -> str:
    """The curves of the log: loss with its chance level, effective rank, kNN accuracy, by epoch."""
    metrics = read_metrics(run)
    chance = [float(line["chance"]) for line in metrics if "chance" in line][-1:]  # not all objectives have one
    text = ""
    for title, key, percent in CURVES:
        points = [(float(line["epoch"]), float(line[key])) for line in metrics if {"epoch", key} <= line.keys()]
        line = Line(title, [x for x, _ in points], [y for _, y in points])
        level = Level("chance: nothing learned", chance[0]) if chance and key == "loss" else None
        about = course(title, line, "epochs", percent=percent)
        about += f"; chance is {chance[0]:.3g}" if level is not None else ""
        text += chart(title, [line], about=about, x_name="epoch", percent=percent, level=level)
    return f'<div class="charts">{text}</div>' if text else note("Nothing was logged.")
