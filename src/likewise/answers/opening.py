"""Opens what is asked about: items of one kind, with the model of a run or without."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from likewise import __version__
from likewise.data import Items, open_items
from likewise.errors import LikewiseError
from likewise.model import Layer, Model, model_of
from likewise.stamp import Stamp

SIZE = 32  # px, of pictures without a run


def made_by(command: str, items: Items, model: Model | None, layer: Layer = "embedding") -> Stamp:
    """The stamp of an answer: the command, the model if there is one, and the items."""
    if model is not None:
        return {"command": command, **model.protocol(layer), **items.stamp("data")}
    size: Stamp = {"size": items.values.shape[1]} if items.kind == "images" else {}
    return {"command": command, "likewise": __version__, **size, **items.stamp("data")}


def open_one_kind(
    source: object,
    run: Model | str | Path | None,
    *,
    labels: str = "none",
    size: int | None = None,
    key: str | None = None,
    image: str | None = None,
    columns: Sequence[str] = (),
    progress: bool = True,
) -> tuple[Model | None, Items]:
    """The run's model, or None, and the items of a source, at least two.

    Raises LikewiseError when the run has no model, the source can't be opened, its items are not of the model's kind,
    have several parts, or are fewer than two; a size is given beside a run.
    """
    if isinstance(source, Mapping):
        raise LikewiseError("items of several parts can't be compared part by part; give one source, such as a folder.")
    if run is None:
        items = open_items(
            source,
            size=SIZE if size is None else size,
            labels=labels,
            key=key,
            image=image,
            columns=columns,
            progress=progress,
        )
        model = None
    else:
        model = model_of(run)
        if size is not None:
            raise LikewiseError(f"the size is that of the run, {model.settings.size} px; leave size={size} out.")
        items = model.open(source, labels=labels, key=key, image=image, columns=columns, progress=progress)
    if items.blocks:
        raise LikewiseError(
            f"{items.source} holds items of several parts, which can't be compared part by part; give one part alone."
        )
    if len(items) < 2:
        raise LikewiseError(f"{items.source} holds one item only, so there is no other to compare it with.")
    return model, items
