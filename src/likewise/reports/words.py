"""``report.html`` of a run of words: what was read, scores, the curve of the loss, a map, nearest words, settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from likewise.console import Tick, stages
from likewise.data import Items
from likewise.data.items import as_id, unique
from likewise.files import atomic_write, place_for
from likewise.metrics import top_k
from likewise.metrics.saved import read_scores
from likewise.pages.page import whole
from likewise.pages.pictures import scored
from likewise.pages.pieces import named, note, scrolled
from likewise.reports.foot import foot
from likewise.reports.html import REPORT, settings_of
from likewise.reports.map import map_section, script
from likewise.reports.summary import curves
from likewise.stamp import refuse_other_model
from likewise.training.metrics_log import read_metrics
from likewise.training.run_folder import read_data
from likewise.words.evaluation import SCORES
from likewise.words.model import WordVectors, load_words

WORDS, NEIGHBOURS = 20, 8
COMMON = 50  # the most frequent words, which say little; the words shown are evenly spread over the next ones
AMONG = 2000
MAPPED = 20_000  # the most frequent words, which are on the map


def write_words_report(run: Path, *, progress: bool = True) -> Path:
    """Writes RUN/report.html and returns its path.

    Raises LikewiseError when the run has no model, a file of it is damaged, or its scores are another model's. Cost:
    one pass over the vectors, and the map of the 20,000 most frequent words.
    """
    vectors = load_words(run)
    path = place_for(run / REPORT, "RUN")
    with stages(enabled=progress) as begin:
        parts = [
            "<h2>What was done</h2>" + _summary(run, vectors),
            "<h2>How good it is</h2>" + _scores(run, vectors),
            "<h2>Learning curve</h2>" + curves(run),
            "<h2>Map</h2>" + _map(vectors, begin("the map")),
        ]
        begin("nearest words")
        parts.append("<h2>Nearest neighbours</h2>" + _neighbours(vectors))
    if vectors.settings is not None:
        parts.append("<h2>Every setting</h2>" + settings_of(vectors.settings))
    parts.append(foot(vectors.protocol(), read_data(run) or {}, vectors.protocol()))
    with atomic_write(path) as file:
        file.write(whole(f"likewise: {run.name}", vectors.protocol(), "".join(parts), script=script()))
    return path


def _summary(run: Path, vectors: WordVectors) -> str:
    about: Mapping[str, Any] = read_data(run) or {}
    speed = [float(line["words_per_second"]) for line in read_metrics(run) if "words_per_second" in line]
    n, dim = vectors.inputs.shape
    source = f" from <b>{named(str(about['source']))}</b>" if "source" in about else ""
    text = f"{n:,} words{source} with a vector of {dim} numbers: method {named(vectors.method)}"
    text += "" if vectors.settings is None else f", objective {vectors.settings.objective.kind}"
    text += f", {vectors.epoch:g} epochs"
    text += f" of {about['read']:,} words in {about['sequences']:,} sequences" if "read" in about else ""
    text += f", {sorted(speed)[len(speed) // 2]:,.0f} words/s" if speed else ""
    return f"<p>{text}.</p>"


def _scores(run: Path, vectors: WordVectors) -> str:
    """The table of the saved scores. Raises LikewiseError when they are another model's."""
    path = run / SCORES
    if not path.exists():
        return note("Not measured yet: likewise evaluate RUN --pairs FILE --analogies FILE.")
    renew, rows = ["likewise", "evaluate", str(run), "--pairs", "FILE"], ""
    for score in read_scores(path):
        refuse_other_model(path, score.protocol, vectors.weights_hash, renew)
        value = f"{score.value:.1%}" if score.std is None else f"{score.value:.3f} ± {score.std:.3f}"
        used = f"{score.protocol.get('used', '')} of {score.protocol.get('rows', '')}"
        rows += f"<tr><td>{named(score.name)}</td><td>{value}</td><td>{used}</td></tr>"
    head = "".join(f'<th scope="col">{name}</th>' for name in ("measure", "score", "used"))
    table = scrolled(f"<table><tr>{head}</tr>{rows}</table>", "scores")
    return note("Spearman: with people's scores, ± its standard error. Analogies: share found.") + table


def _map(vectors: WordVectors, tick: Tick) -> str:
    """The map of the most frequent words, which are the first."""
    rows = vectors.embed().rows[:MAPPED]
    seen = dict[str, int]()  # an accent may be written in two ways, and an id in one
    ids = tuple(unique(as_id(word), seen) for word in vectors.words[: len(rows)])
    words = Items(ids=ids, values=rows.numpy(), kind="vectors", source="the words")
    left = len(vectors) - len(rows)
    return map_section(words, rows, tick) + (note(f"{left:,} rarer words are left out.") if left else "")


def _neighbours(vectors: WordVectors) -> str:
    """A table of words, each with the words most alike to it."""
    embedding = vectors.embed()
    n = len(embedding.ids)
    first = COMMON if n > COMMON + WORDS else 0
    rows = torch.unique_consecutive(torch.linspace(first, min(n, AMONG) - 1, min(WORDS, n - first)).long())
    ids = torch.arange(n)
    scores, found = top_k(embedding.rows[rows], embedding.rows, min(NEIGHBOURS, n - 1), query_ids=rows, key_ids=ids)
    text = ""
    for row, similarities, near in zip(rows.tolist(), scores.tolist(), found.tolist(), strict=True):
        pairs = zip(near, similarities, strict=True)
        words = "".join(f"<li>{named(scored(score, embedding.ids[word]))}</li>" for word, score in pairs)
        text += f'<p class="word">{named(embedding.ids[row])}</p><ul class="near">{words}</ul>'
    return note("The words most alike to each, each with its cosine.") + text
