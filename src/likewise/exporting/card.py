"""The model card: README.md of an exported folder, as huggingface.co shows it."""

import html
import inspect
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from likewise.config.settings import FitSettings
from likewise.evaluation import ranked, retrieve
from likewise.evaluation.saved import saved_scores
from likewise.evaluation.scores import EVALUATION, table
from likewise.exporting import plain
from likewise.exporting.formats import Format
from likewise.exporting.licences import UNKNOWN, header_of
from likewise.exporting.network import THERE, inputs_of
from likewise.metrics import Score
from likewise.model import Layer, Model
from likewise.recommendation import evaluate as recommendation
from likewise.recommendation.table import laid_out
from likewise.stamp import Stamp, without_places
from likewise.text import readable

PICTURE = "picture.png"  # in the card's Python


def card(model: Model, form: Format, *, name: str, layer: Layer, licence: str, stamp: Stamp, parity: str) -> str:
    """The text of the card.

    Args:
        model: the model.
        form: the format of the folder.
        name: of the folder.
        layer: the layer.
        licence: of the weights.
        stamp: of the folder.
        parity: the sentence about the comparison with the model.

    Raises:
        LikewiseError: a file of numbers of the run is damaged, or was measured with another model.
    """
    images = model.kind == "images"
    tags = ["likewise", "feature-extraction", "similarity", form.name]
    header = {**header_of(licence), "library_name": form.library, "tags": tags}
    header |= {"pipeline_tag": "image-feature-extraction" if images else "feature-extraction"}
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in header.items()), "---", ""]
    lines += [f"# {_cell(readable(name))}", "", _purpose(model, layer), ""]
    lines += ["## How it was made", "", *_grid(["", ""], _facts(model.settings, stamp)), ""]
    lines += ["## How to use it", "", *_inputs(model), "", f"This folder holds {form.holds}.", ""]
    lines += [form.caution, "", f"```\npip install {form.needs}\n```", "", f"```python\n{python(model, form)}\n```", ""]
    lines += ["## How good it is", "", *_numbers(model), ""]
    lines += [f"Compared when it was written: {readable(parity.partition(': ')[2])}.", ""]
    lines += ["## Licence", "", _licence(licence), ""]
    upload = ["pip install huggingface_hub", "hf auth login", f"hf upload USER/{_slug(name)} ."]
    lines += ["## How to upload it", "", "In this folder:", "", "```", *upload, "```"]
    return "\n".join(lines) + "\n"


def python(model: Model, form: Format) -> str:
    """Python that loads the folder and embeds one item. It runs in the folder, beside a file picture.png."""
    inputs = inputs_of(model)
    words = {block.name for block in model.blocks if block.kind == "words"}
    used: list[Callable[..., object]] = [plain.read_picture] * any(each.dtype == "uint8" for each in inputs)
    used += [plain.hash_words] * bool(words)
    lines = list[str]()
    if not form.modules:
        lines += ["import numpy as np", f"from embed import {', '.join(['load', *(each.__name__ for each in used)])}"]
    else:
        lines += ["import hashlib", "import re", "import unicodedata", ""] if words else []
        lines += ["import numpy as np", *(f"import {module}" for module in form.modules)]
        lines += ["from PIL import Image, ImageOps"] if plain.read_picture in used else []
        lines += [line for each in used for line in ("", "", inspect.getsource(each).strip())]
    lines += ["", "", "inputs = {"]
    for each in inputs:
        if each.dtype == "uint8":
            value = f'np.stack([read_picture("{PICTURE}", {each.shape[0]})])'
        elif each.name in words:
            value = f'np.stack([hash_words("some words", {each.shape[0]})])'
        elif each.name == THERE:
            value = f"np.ones((1, {each.shape[0]}), bool)"
        else:
            value = f"np.zeros((1, {each.shape[0]}), np.float32)"
        lines.append(f'    "{each.name}": {value},')
    lines += ["}", form.loading.strip(), "print(rows.shape)"]
    return "\n".join(lines)


def _purpose(model: Model, layer: Layer) -> str:
    what = f"{model.settings.size} × {model.settings.size} pixels" if model.kind == "images" else ""
    of = f"images of {what}" if what else "items of several parts" if model.blocks else "vectors"
    dim = model.embedder.layers()[layer]
    return f"Maps {of} to rows of {dim} numbers and length 1. The cosine of two rows says how alike two items are."


def _facts(settings: FitSettings, stamp: Stamp) -> list[list[str]]:
    parameters = ", ".join(f"{name} {value}" for name, value in settings.objective.parameters.items())
    rows = {
        "method": settings.method,
        "objective": settings.objective.kind + (f" ({parameters})" if parameters else ""),
        "encoder": stamp["encoder"],
        "head": settings.encoder.head,
        "layer": stamp["layer"],
        "epochs": f"{float(stamp['epoch']):g}",
        "seed": stamp["seed"],
        "alike": settings.alike,
        "data": stamp.get("data", "not known"),
        "items": stamp.get("data_items", "not known"),
        "hash of the ids": stamp.get("data_ids_hash", "not known"),
        "hash of the model": stamp["model"],
        "made with": f"likewise {stamp['likewise']}",
    }
    return [[name, readable(str(value))] for name, value in rows.items()]


def _inputs(model: Model) -> list[str]:
    """What goes in, and how it gets there."""
    inputs = inputs_of(model)
    lines = [f"- `{each.name}`: {each.dtype} {_shape(each.shape)}" for each in inputs]
    said = [
        "In, for any number B of items:",
        "",
        *lines,
        "",
        "Out: unit rows, float32. Scaling and L2 norm are inside.",
    ]
    if any(each.dtype == "uint8" for each in inputs):
        said[-1] += (
            " Pictures are RGB, of exactly this size: `read_picture` below makes them so, as likewise does with "
            "pictures of 8 bits for each colour."
        )
    if model.columns:
        said[-1] += f" The numbers of a vector are those of the columns {', '.join(map(readable, model.columns))}."
    return said


def _shape(shape: Sequence[int]) -> str:
    return f"(B, {', '.join(map(str, shape))})"


def _numbers(model: Model) -> list[str]:
    """The numbers that the run holds, with the protocol of each."""
    if model.run is None:
        return ["Not measured: the model had no run folder."]
    run, lines = model.run, list[str]()
    saved = saved_scores(run, model.weights_hash)
    tables = {EVALUATION: table, retrieve.FILE: retrieve.retrieval_table, ranked.FILE: ranked.ranked_table}
    for file, laid in tables.items():
        if saved[file]:
            lines += [*_grid(*laid(saved[file])), "", *_protocols(saved[file]), ""]
    lines += _recommended(run, model.weights_hash)
    return lines[:-1] or ["Not measured yet: `likewise evaluate`, `likewise retrieve`."]


def _recommended(run: Path, model: str) -> list[str]:
    lines = list[str]()
    for each in recommendation.saved_tables(run, model):
        lines += [readable(str(each["verdict"])), "", *_grid(*laid_out(each)), "", readable(str(each["about"])), ""]
    return lines


def _protocols(scores: Sequence[Score]) -> list[str]:
    lines = [f"{score.name}: {json.dumps(without_places(score.protocol), ensure_ascii=False)}" for score in scores]
    return ["<details><summary>Protocol of every number</summary>", "", "```", *lines, "```", "", "</details>"]


def _licence(licence: str) -> str:
    if licence == UNKNOWN:
        return "Nobody has named the licence of these weights. `likewise export` takes it as `--licence`."
    text = " Its text belongs in a file LICENSE beside this one." if "license_name" in header_of(licence) else ""
    return f"The weights: {licence}.{text} The licence of the data is its owner's."


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown."""
    lines = [list(header), ["-"] * len(header), *map(list, rows)]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


def _slug(name: str) -> str:
    """A name as the Hub takes it: up to 96 letters, digits and single marks, none of them at an end."""
    plain_name = re.sub(r"[^A-Za-z0-9_.]+", "-", name)
    return re.sub(r"[.-]{2,}", "-", plain_name)[:96].strip(".-") or "NAME"
