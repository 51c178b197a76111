"""A run, its index and its data as they are served: read once, replaced whole when the run is made anew."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor

from likewise.answers.copies_of import CopiesOf
from likewise.console import Tick, untold
from likewise.data.source import stat_line
from likewise.errors import LikewiseError
from likewise.index.asked import Searched
from likewise.index.generations import MANIFEST
from likewise.index.index import Index
from likewise.index.pointer import FILE as POINTER
from likewise.look import Look
from likewise.model import INDEX, NAME, Layer, Model, layer_of, load, model_file, searched
from likewise.serving.encoding import Encoder, Values, dim_of, encoder_of, example_of, side_of
from likewise.serving.finding import Finder, LocalFinder, finder_of
from likewise.serving.settings import Serving
from likewise.serving.shown import Shown, shown_of
from likewise.stamp import Stamp, hash_of, hash_of_bytes
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
        signed: the signature of the files that it was read from.
        mark: names it by its content: another run or index has another, a copy on another machine the same.
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

    signed: str
    mark: str
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

    @cached_property
    def copies(self) -> CopiesOf:
        """What looks for copies among the items. Raises LikewiseError where there are none that can be compared."""
        if self.shown.items is None:
            raise LikewiseError(f"there are no pictures to compare with: {self.shown.why}")
        return CopiesOf(self.shown.items)

    @property
    def local(self) -> Index | None:
        """The index, if it is in a folder: its rows and ids are then here."""
        return self.finder.index if isinstance(self.finder, LocalFinder) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    """What was read of a run, before anything is prepared; see ``Loaded``."""

    run: Path
    model: Model | None
    index: Searched
    shown: Shown
    protocol: Stamp


def load_all(serving: Serving, say: Callable[[str], object]) -> Loaded:
    """Reads the run, its index and its data. ``say`` is told each stage.

    Raises LikewiseError when there is no model or no index, another model made it, or ``data`` can't be opened.
    """
    signed, manifests = signature(serving), _manifests(serving)  # before it is read, so that a later change is seen
    read = _read(serving, say)
    model, finder = read.model, finder_of(read.index, read.shown)
    layer: Layer = "embedding" if model is None else layer_of(read.index)
    asking = layer if model is None else model.layer_of_queries(layer)
    if model is not None:
        say("preparing the model")
    encoder = None if model is None else encoder_of(model, {layer, asking}, read.run)
    return Loaded(
        signed=signed,
        mark=hash_of_bytes(f"{'' if model is None else model.weights_hash} {manifests}".encode())[:16],
        run=read.run,
        model=model,
        encoder=encoder,
        finder=finder,
        shown=read.shown,
        protocol=read.protocol,
        layer=layer,
        asking=asking,
        voters=read.shown.voters,
        check=None if model is None or encoder is None else _check(model, encoder, asking),
        side=0 if model is None else side_of(model),
        dims=0 if model is None else dim_of(model),
        look=_look_of(read, finder, untold),
    )


def look_to_serve(serving: Serving, tick: Tick) -> Look:
    """The look of a run, which is read anew for it, without what embeds; ``tick`` is told the share of the map.

    Raises LikewiseError as ``load_all``, and where the index is on servers.
    """
    read = _read(serving, lambda stage: None)
    look = _look_of(read, finder_of(read.index, read.shown), tick)
    if look is None:
        raise LikewiseError("the index is on servers, so there is no map.")
    return look


def _read(serving: Serving, say: Callable[[str], object]) -> _Read:
    run = model_file(serving.run).parent
    if holds_words(model_file(run)):
        if serving.index is not None or serving.data is not None:
            raise LikewiseError(f"{run} has its own words and index; leave --index and --data out.")
        say("reading the words")
        vectors = load_words(run)
        shown = Shown(None, "a run of words has no pictures.")
        index = index_of_words(run, vectors.weights_hash)
        return _Read(run=run, model=None, index=index, shown=shown, protocol=vectors.protocol())
    say("reading the model")
    model = load(run)
    say("reading the index")
    found = searched(run, model.weights_hash, serving.index)
    say("opening the data")
    shown = shown_of(model, run, found.protocol, serving.data)
    return _Read(run=run, model=model, index=found, shown=shown, protocol=found.protocol)


def _look_of(read: _Read, finder: Finder, tick: Tick) -> Look | None:
    """What the page is told of a run; None where the index is on servers. Nothing is computed yet."""
    if not isinstance(finder, LocalFinder):
        return None
    names = read.shown.label_names
    return Look(read.run, finder.index, finder.labels, names, read.model, read.shown.items, tick)


def _check(model: Model, encoder: Encoder, layer: Layer) -> Check | None:
    """A stored input and its row now; None of a model of several parts of which a request can give none."""
    if not side_of(model) and not dim_of(model):
        return None
    values = example_of(model)
    return Check(values=values, row=encoder.rows(values, layer)[0])


def signature(serving: Serving) -> str:
    """A text that changes when the files of the run's model or index are others. Cost: a few calls of ``stat``."""
    return _of_each(_watched(serving), stat_line)


def _manifests(serving: Serving) -> str:
    """What the small files say from which an index is read; they hold checksums of all others."""
    return _of_each([place for place in _watched(serving) if place.name != NAME], hash_of)


def _watched(serving: Serving) -> list[Path]:
    folder = serving.run if serving.run.is_dir() else serving.run.parent
    return [
        *(folder / name for name in WATCHED),
        *([] if serving.index is None else [Path(serving.index) / MANIFEST]),
    ]


def _of_each(places: Sequence[Path], tell: Callable[[Path], str]) -> str:
    """What is told of each of several files, nothing of those that are not there."""
    lines = []
    for place in places:
        try:
            lines.append(tell(place))
        except OSError:
            lines.append("")
    return "|".join(lines)
