"""A run, its index and its data as they are served: read once, replaced whole when the run is made anew."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from likewise.data.source import stat_line
from likewise.errors import LikewiseError
from likewise.index.generations import MANIFEST
from likewise.index.index import Index
from likewise.index.pointer import FILE as POINTER
from likewise.look import Look
from likewise.model import INDEX, NAME, Layer, Model, layer_of, load, model_file, searched
from likewise.serving.encoding import Encoder, Values, dim_of, encoder_of, side_of
from likewise.serving.finding import Finder, LocalFinder, finder_of
from likewise.serving.settings import Serving
from likewise.serving.shown import Shown, shown_of
from likewise.stamp import Stamp
from likewise.words.model import holds_words, load_words
from likewise.words.model import own_index as index_of_words

WATCHED = (NAME, f"{INDEX}/{MANIFEST}", f"{INDEX}/{POINTER}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Check:
    """What the health of a server is measured by: a stored input and the row that it must give."""

    values: Values
    row: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """What is served.

    Args:
        run: the run folder.
        model: None for a run of words, which have no content to embed.
        encoder: embeds what requests bring; None without a model.
        finder: the index.
        shown: pictures and labels.
        protocol: how the rows of the index were made.
        layer: of the rows of items.
        asking: of the rows of queries.
        voters: number of neighbours that vote for a label.
        check: for the health; None without a model.
        side: of a picture that is embedded, px; 0 where none is.
        dims: numbers of a vector that is embedded; 0 where none is.
        look: what the page is told; None where the index is on servers.
        pictures: those that were shown last, as PNG, by the ids of their items.
    """

    run: Path
    model: Model | None
    encoder: Encoder | None
    finder: Finder
    shown: Shown
    protocol: Stamp
    layer: Layer
    asking: Layer
    voters: int
    check: Check | None
    side: int
    dims: int
    look: Look | None
    pictures: OrderedDict[str, bytes] = field(default_factory=OrderedDict)

    @property
    def local(self) -> Index | None:
        """The index, if it is in a folder: its rows and ids are then here."""
        return self.finder.index if isinstance(self.finder, LocalFinder) else None


def load_all(serving: Serving, say: Callable[[str], object]) -> Loaded:
    """Reads the run, its index and its data. ``say`` is told each stage.

    Raises LikewiseError when there is no model or no index, another model made it, or ``data`` can't be opened.
    """
    run = model_file(serving.run).parent
    if holds_words(model_file(run)):
        if serving.index is not None or serving.data is not None:
            raise LikewiseError(f"{run} has its own words and index; leave --index and --data out.")
        say("reading the words")
        vectors = load_words(run)
        index = index_of_words(run, vectors.weights_hash)
        shown = Shown(None, f"{run} holds words, which have no pictures")
        finder = LocalFinder(index, shown)
        return Loaded(
            run=run,
            model=None,
            encoder=None,
            finder=finder,
            shown=shown,
            protocol=vectors.protocol(),
            layer="embedding",
            asking="embedding",
            voters=1,
            check=None,
            side=0,
            dims=0,
            look=look_of(run, finder, shown, None),
        )
    say("reading the model")
    model = load(run)
    say("reading the index")
    found = searched(run, model.weights_hash, serving.index)
    layer = layer_of(found)
    say("opening the data")
    shown = shown_of(model, run, found.protocol, serving.data)
    asking = model.layer_of_queries(layer)
    say("preparing the model")
    encoder, served = encoder_of(model, {layer, asking}), finder_of(found, shown)
    return Loaded(
        run=run,
        model=model,
        encoder=encoder,
        finder=served,
        shown=shown,
        protocol=found.protocol,
        layer=layer,
        asking=asking,
        voters=shown.voters,
        check=_check(model, encoder, asking),
        side=side_of(model),
        dims=dim_of(model),
        look=look_of(run, served, shown, model),
    )


def look_of(run: Path, finder: Finder, shown: Shown, model: Model | None) -> Look | None:
    """What the page is told of a run; None where the index is on servers. Nothing is computed yet."""
    if not isinstance(finder, LocalFinder):
        return None
    return Look(run, finder.index, finder.labels, shown.label_names, model, shown.items)


def _check(model: Model, encoder: Encoder, layer: Layer) -> Check | None:
    """A picture of all grey levels, or a vector of the training's mean, and its row now."""
    values: Values
    if side := side_of(model):
        values = np.linspace(0, 255, side * side * 3).astype(np.uint8).reshape(1, side, side, 3)
    elif dims := dim_of(model):
        values = np.zeros((1, dims), np.float32) if model.vector_mean is None else model.vector_mean[None].numpy()
    else:
        return None
    return Check(values=values, row=encoder.rows(values, layer)[0])


def signature(serving: Serving) -> str:
    """A text that changes when the files of the run's model or index are others. Cost: a few calls of ``stat``."""
    folder = serving.run if serving.run.is_dir() else serving.run.parent
    places = [folder / name for name in WATCHED]
    if serving.index is not None:
        places.append(Path(serving.index) / MANIFEST)
    lines = []
    for place in places:
        try:
            lines.append(stat_line(place))
        except OSError:
            lines.append("")
    return "|".join(lines)
