"""``likewise export``: a model becomes a folder that other tools load, with a card. Its rows are compared first."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from likewise.console import say, stages
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.exporting.card import card
from likewise.exporting.formats import ABOUT, CARD, FORMATS, format_named
from likewise.exporting.licences import UNKNOWN
from likewise.exporting.parity import ALLOWED, largest_difference, refuse_difference, sample_of
from likewise.files import as_path, make_writable, refuse_device, replace_folder, temporary_folder
from likewise.model import Layer, Model, model_of
from likewise.stamp import Stamp
from likewise.training.run_folder import read_data

_WRITTEN = {ABOUT, CARD, *(file for form in FORMATS.values() for file in form.files)}
_LICENCE = re.compile(r"[A-Za-z0-9][\w.+-]*")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Args:
        folder: where.
        to: the format.
        layer: the layer whose rows it gives.
        difference: the largest difference between a number of its rows and of the model's, below 1e-5.
        items: what was compared, in words.
    """

    folder: Path
    to: str
    layer: Layer
    difference: float
    items: str

    def __str__(self) -> str:
        return (
            f"{self.folder}: {self.to}, {self.layer}; the largest difference from the model is {self.difference:.1e} "
            f"on {self.items}, and {ALLOWED} is allowed"
        )


def export(
    model: Model | str | Path,
    *,
    to: str = "onnx",
    out: str | Path,
    layer: Layer = "embedding",
    data: object | None = None,
    key: str | None = None,
    image: str | None = None,
    columns: Sequence[str] = (),
    licence: str = UNKNOWN,
    progress: bool = True,
) -> Exported:
    """Writes a model as a folder that loads without likewise: from items as they are stored to unit rows.

    The folder holds the files of the format, ``embedding.json`` (inputs, scaling, stamp) and ``README.md``, a model
    card. Before it gets its name, it is opened, and embeds up to 222 items in batches of 1, 2, 7 and 64; their rows
    must be those of the model.

    Args:
        model: a model, or the folder of its run.
        to: onnx, torch, safetensors, hf or timm; docs/export.md says what each holds.
        out: the folder; an earlier export there is replaced.
        layer: embedding, backbone or query.
        data: the items that are compared; None: the run's training items, or generated ones if they are gone.
        key: the id column of ``data``.
        image: the image column of ``data``.
        columns: the columns of the vectors of ``data``.
        licence: of the weights, as model cards name it, such as apache-2.0.
        progress: show a bar, and say it on standard error where the items are generated.

    Raises:
        LikewiseError: ``out`` holds other files; the model or the layer can't be exported to this format (which layer
            is named); a package is missing; the rows differ by more than 1e-5. Nothing is then written.

    Cost: some seconds, and two passes of the encoder over the items; memory for the weights a few times.
    """
    form, folder = format_named(to), _folder_for(out)
    if not _LICENCE.fullmatch(licence):
        raise LikewiseError(
            f"--licence {licence!r} is no identifier; write one such as apache-2.0, cc-by-4.0 or other."
        )
    model = model_of(model)
    with stages(enabled=progress) as begin, temporary_folder(folder.parent, f".{folder.name}.tmp-") as made:
        begin("opening the items")
        items = None if data is None else _opened(model, data, key, image, columns)
        sample = sample_of(model, items)
        stamp: Stamp = {**model.protocol(layer), **_data_of(model)}
        with _full_disk_said(folder):
            begin(f"writing {to}")
            form.write(model, layer, made, stamp)
            begin("comparing with the model")
            difference = largest_difference(model, form.opened(made), sample.items, layer)
            refuse_difference(difference, sample, f"--to {to}")
            done = Exported(folder=folder, to=to, layer=layer, difference=difference, items=sample.what)
            text = card(model, form, name=folder.name, layer=layer, licence=licence, stamp=stamp, parity=str(done))
            (made / CARD).write_text(text, encoding="utf-8")
            _finish(made, folder)
    if progress and sample.why:
        say([f"the items that are compared are generated: {sample.why}"])
    return done


def _opened(model: Model, data: object, key: str | None, image: str | None, columns: Sequence[str]) -> Items:
    return model.open(data, labels="none", key=key, image=image, columns=columns, progress=False)


def _data_of(model: Model) -> Stamp:
    """What the model was trained on, as its run tells: the source as typed, the number of items, their hash."""
    about = None if model.run is None else read_data(model.run)
    if about is None:
        return {}
    return {"data": about["source"], "data_items": about["items"], "data_ids_hash": about["ids_hash"]}


def _folder_for(out: str | Path) -> Path:
    """The folder of ``out``. Raises LikewiseError when it holds what no export wrote, or can't be written."""
    folder = as_path(out, "--out")
    refuse_device(folder)
    if folder.is_file():
        raise LikewiseError(f"{folder} is a file; an export is a folder: name another --out.")
    if folder.is_dir() and (other := {file.name for file in folder.iterdir()} - _WRITTEN):
        raise LikewiseError(
            f"{folder} holds what no export wrote, such as {sorted(other)[0]!r}; name a new folder with --out."
        )
    make_writable(folder.parent, f"can't write {folder}")
    return folder


def _finish(made: Path, folder: Path) -> None:
    """Gives a written folder its name when its files are on disk."""
    for file in made.iterdir():
        shutil.copymode(made / CARD, file)  # some libraries write files that only their owner may read
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
    replace_folder(made, folder)


@contextmanager
def _full_disk_said(folder: Path) -> Iterator[None]:
    """Raises LikewiseError, which names the folder, in place of an error of the file system."""
    try:
        yield
    except OSError as error:
        raise LikewiseError(f"can't write {folder}: {error.strerror or error}; choose another --out.") from error
