"""A trained model: load it, embed items with it, index and search them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from likewise import __version__
from likewise.blocks import Blocks, as_saved, from_saved, masked
from likewise.config.overrides import as_dict, settings_from
from likewise.config.settings import FitSettings
from likewise.console import track
from likewise.data import Items, is_table, open_items, read_image
from likewise.encoders import Embedder, build_embedder
from likewise.encoders.embedder import coarse
from likewise.errors import LikewiseError
from likewise.files import as_path, atomic_write, unwritten, utf8_path
from likewise.index.asked import Query, Searched
from likewise.index.embedding_file import Embedding
from likewise.index.generations import PARTS
from likewise.index.hits import Hits, Looks, examples_shown, given
from likewise.index.index import Index
from likewise.index.servers import opened, opened_at
from likewise.metrics.saved import scores_shown
from likewise.pages.notebook import cell
from likewise.pages.pieces import listed, named, note
from likewise.stamp import Stamp, hash_of, hash_of_bytes, refuse_other_model, source_of, source_words
from likewise.text import quoted
from likewise.views.render import plain_view
from likewise.views.vectors import scales_of

Layer = Literal["embedding", "backbone", "query"]
NAME = "model.safetensors"
INDEX = "index"
VECTORS, PICTURES = 100_000, 5_000  # items from which scales and components are computed
NUMBERS = 1 << 26  # of the sample of items of several parts, 256 MB
SMALL = 64 << 20  # bytes of an index that a notebook opens to show a model
FAR = 1e9  # standard deviations of a vector's number; squares of it overflow nowhere


class Model:
    """A trained embedder with its settings and the scaling of its inputs.

    Args:
        embedder: backbone, head and normalisation; it embeds in eval mode.
        settings: the settings of the run that trained it.
        kind: the kind of its inputs, images or vectors.
        vector_mean: for vectors, float32 (D,): subtracted from the inputs.
        vector_std: for vectors, float32 (D,): the inputs are then divided by it.
        epoch: number of epochs trained.
        own_backbone: whether the user gave the backbone as a module; it can't be built from the settings alone.
        columns: for vectors of a table with a column for each number: their names in order, by which others are read.
        blocks: for items of several parts: the columns of each part.
        run: the run folder of the model, which also holds its index; None for a model without a run.
    """

    def __init__(
        self,
        embedder: Embedder,
        settings: FitSettings,
        *,
        kind: Literal["images", "vectors"],
        vector_mean: Tensor | None = None,
        vector_std: Tensor | None = None,
        epoch: float = 0.0,
        own_backbone: bool = False,
        columns: Sequence[str] = (),
        blocks: Blocks = (),
        run: Path | None = None,
    ) -> None:
        self.embedder, self.settings, self.kind, self.epoch = embedder, settings, kind, epoch
        self.own_backbone, self.run, self.columns, self.blocks = own_backbone, run, tuple(columns), tuple(blocks)
        self.vector_mean, self.vector_std = vector_mean, vector_std
        self._loaded: str | None = None
        self._looks: dict[str, Looks] = {}  # by the hash of the items' ids, opened once

    def __repr__(self) -> str:
        about: dict[str, object] = {**self.protocol("embedding"), "kind": self.kind}
        about |= {"dim": self.embedder.layers()["embedding"]}
        about |= {"parts": ", ".join(block.name for block in self.blocks)} if self.blocks else {}
        about |= {"own_backbone": self.own_backbone, "run": None if self.run is None else str(self.run)}
        del about["layer"], about["model"], about["likewise"]
        return f"Model({', '.join(f'{name}={value!r}' for name, value in about.items())})"

    @classmethod
    def untrained(cls, settings: FitSettings, items: Items, *, backbone: nn.Module | None = None) -> "Model":
        """The model of these settings before its first step, the same each time.

        ``items`` give the kind of the inputs; for vectors the scaling (see ``scales_of``) of up to about 100,000 of
        them; for images the components of ``encoder.pixels``, from up to about 5,000. Raises LikewiseError
        when the encoder can't be built or does not fit the items.
        """
        own = backbone is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            if items.kind == "images":
                model = cls(_build(settings, None, backbone), settings, kind="images", own_backbone=own)
                if model.embedder.pixels is not None:
                    parts = torch.split(_sample(items, PICTURES), 250)
                    model.embedder.pixels.fit(torch.cat([coarse(model.prepare(items.batch(part))) for part in parts]))
                return model
            embedder = _build(settings, items.values.shape[1], backbone, items.blocks)
        most = min(VECTORS, NUMBERS // items.values.shape[1]) if items.blocks else VECTORS
        rows, views = items.batch(_sample(items, most)), settings.views
        mean, std = scales_of(rows, items.blocks, mean=views.mean, std=views.std)
        too_large = ~(mean.isfinite() & std.isfinite() & (rows.amax(0) - rows.amin(0)).isfinite())
        if bool(too_large.any()):
            feature = int(too_large.nonzero()[0])
            largest = float(rows[:, feature].abs().max())
            raise LikewiseError(
                f"feature {feature} of {items.source} goes up to {largest:.2g}, and float32 can't compute with such "
                "numbers; divide the data by a constant."
            )
        return cls(
            embedder,
            settings,
            kind="vectors",
            vector_mean=mean,
            vector_std=std,
            own_backbone=own,
            columns=items.columns,
            blocks=items.blocks,
        )

    def prepare(self, batch: Tensor) -> Tensor:
        """A batch of items as the embedder takes it, scaled as in training and without random changes.

        uint8 (B, S, S, 3) images become float32 (B, 3, S, S); float32 (B, D) vectors are standardised.
        """
        if self.kind == "images":
            return plain_view(batch, self.settings.views.mean, self.settings.views.std)
        return self.standardise(batch)

    def standardise(self, batch: Tensor) -> Tensor:
        """(B, D) vectors minus the mean of the training items, divided by their standard deviation: see ``scales_of``.

        Raises LikewiseError on another width, and for a model of images.
        """
        if self.vector_mean is None or self.vector_std is None or batch.shape[1:] != self.vector_mean.shape:
            want = "images" if self.vector_mean is None else f"{len(self.vector_mean)} numbers per item"
            raise LikewiseError(f"this model takes {want}, not rows of shape {tuple(batch.shape[1:])}.")
        return masked((batch - self.vector_mean.to(batch.device)) / self.vector_std.to(batch.device), self.blocks)

    def open(
        self,
        source: object,
        *,
        labels: str = "auto",
        key: str | None = None,
        image: str | None = None,
        split: str | None = None,
        columns: Sequence[str] = (),
        progress: bool = True,
    ) -> Items:
        """Opens a source with the image size and the cache of the run; see ``open_items``.

        ``key``, ``image`` and ``columns`` name the columns of ids, images and vectors. Where they are not given, they
        are those of the run, if the source has columns: a vector's numbers are found by name. A model of several parts
        takes a mapping of their names to sources; parts that are not given are masked. Raises LikewiseError when the
        source can't be opened, or its items are not of the model's kind.
        """
        self._refuse_parts(source)
        settings = replace(self.reading(source, key=key, image=image, columns=columns), labels=labels, split=split)
        items = open_by(settings, source, blocks=self.blocks, progress=progress)
        if items.kind != self.kind:
            raise LikewiseError(f"{items.source} holds {items.kind}, but this model was trained on {self.kind}.")
        if items.blocks != self.blocks:
            raise LikewiseError(f"{items.source} has other parts than this model; open it with model.open(...).")
        return items

    def reading(
        self, source: object, *, key: str | None = None, image: str | None = None, columns: Sequence[str] = ()
    ) -> FitSettings:
        """The settings by which a source is read; ``key``, ``image`` and ``columns`` are as in ``open``."""
        own = replace(self.settings, columns=self.columns or self.settings.columns)
        own = own if self.blocks or is_table(source) else replace(own, key=None, image=None, columns=())
        return replace(
            own, key=key or own.key, image=image or own.image, split=None, columns=tuple(columns) or own.columns
        )

    def _refuse_parts(self, source: object) -> None:
        """Raises LikewiseError on a single source for a model of parts, and on parts for another model."""
        if self.blocks and not isinstance(source, Mapping | Items):
            names = ", ".join(block.name for block in self.blocks)
            raise LikewiseError(
                f"this model takes items of several parts ({names}): give each by name, with --features NAME=SOURCE, "
                "or from Python as a mapping."
            )
        if not self.blocks and isinstance(source, Mapping):
            raise LikewiseError(f"this model was trained on {self.kind}, not on parts by name; give a single source.")

    def width(self, layer: Layer) -> int:
        """The numbers of a row of a layer. Raises LikewiseError when the model has no such layer."""
        known = self.embedder.layers()
        if layer not in known:
            raise LikewiseError(f"this model has no layer {layer!r}; its layers are {', '.join(known)}.")
        return known[layer]

    @torch.no_grad()
    def features(
        self,
        items: Items,
        *,
        layer: Layer = "embedding",
        batch_size: int = 256,
        unit: bool = True,
        tick: Callable[[int], None] | None = None,
    ) -> Tensor:
        """(N, F) float32 rows of length 1 on the CPU, in the order of the items, computed in eval mode.

        Without ``unit`` the rows have the length that the layer gives them.

        F is the width of the layer: the embedding's after the head, or the backbone's. Except for rounding, the rows do
        not depend on ``batch_size``. After each batch ``tick`` is called with the number of items done. One forward
        pass over the items. Raises LikewiseError on a layer that the model does not have.
        """
        width = self.width(layer)
        device = next(self.embedder.parameters()).device
        was_training = self.embedder.training
        self.embedder.eval()
        try:
            rows = torch.empty(len(items), width)
            for start in range(0, len(items), batch_size):
                stop = min(start + batch_size, len(items))
                batch = self.prepare(items.batch(torch.arange(start, stop)).to(device))
                self._refuse_far(batch, items.ids[start:stop])
                found = self.embedder.embed(batch, layer)
                rows[start:stop] = (nn.functional.normalize(found, dim=1) if unit else found).cpu()
                if tick is not None:
                    tick(stop)
        finally:
            self.embedder.train(was_training)
        return rows

    def _refuse_far(self, batch: Tensor, ids: Sequence[str]) -> None:
        """Raises LikewiseError on a standardised vector that would overflow in the encoder."""
        if self.kind == "vectors" and bool((far := batch.abs().amax(1) > FAR).any()):
            item = ids[int(far.nonzero()[0])]
            raise LikewiseError(
                f"the vector of item {quoted(item)} is more than {FAR:g} standard deviations from those of the "
                "training; give it in their scale."
            )

    def embed(
        self,
        source: object,
        *,
        layer: Layer = "embedding",
        key: str | None = None,
        image: str | None = None,
        columns: Sequence[str] = (),
        progress: bool = True,
    ) -> Embedding:
        """Embeds a folder, table, array, Dataset, parts or Items: (N, D) float32 rows of length 1, and their ids.

        ``key``, ``image`` and ``columns`` are as in ``open``. Raises LikewiseError as ``open`` does.
        """
        items = self.open(source, labels="none", key=key, image=image, columns=columns, progress=progress)
        about = {**self.protocol(layer), **items.stamp("data")}
        with track("embedding", len(items), enabled=progress) as tick:
            return Embedding(self.features(items, layer=layer, tick=tick), items.ids, about)

    def index(
        self,
        source: object,
        *,
        layer: Layer = "embedding",
        key: str | None = None,
        image: str | None = None,
        columns: Sequence[str] = (),
        progress: bool = True,
    ) -> Index:
        """Embeds a source and returns an exact index of its items. Search it by id, by file or with a row of ``embed``.

        ``key``, ``image`` and ``columns`` are as in ``open``. Raises LikewiseError as ``open`` does.
        """
        items = self.open(source, labels="none", key=key, image=image, columns=columns, progress=progress)
        embedding, asking = self.embed(items, layer=layer, progress=progress), self.layer_of_queries(layer)
        queries = None if asking == layer else self.embed(items, layer=asking, progress=progress).rows
        index = Index(*embedding, query_rows=queries, read=self.reader(layer))
        index.look = Looks(partial(given, items))
        return index

    def embed_file(self, path: str | Path, *, layer: Layer = "embedding") -> Tensor:
        """(D,) float32 row of length 1 of an image file; of a .npy file with one vector if the model takes vectors.

        A model of several parts takes the file as its only part of that kind. Raises LikewiseError when the file holds
        anything else, or the model has no such part, or several.
        """
        from likewise.data.array_files import read_vector
        from likewise.data.parts import part_for

        settings = self.settings
        source: object
        part = part_for(path, self.blocks)
        if self.kind == "vectors" and (part is None or part.kind == "vector"):
            source = read_vector(path)
        else:
            source = read_image(path, settings.size, max_megapixels=settings.max_megapixels)[None]
        source = source if part is None else {part.name: source}
        return self.features(self.open(source, labels="none", progress=False), layer=layer)[0]

    def search(self, query: Query, k: int = 10) -> Hits:
        """The ``k`` items of the run's index that are nearest to an indexed id, a file or a row; see ``Index.search``.

        Each call reads the index from RUN/index. For many queries, search ``model.load_index()`` instead. Raises
        LikewiseError as ``load_index`` and ``Index.search`` do.
        """
        return self.load_index().search(query, k)

    def load_index(self) -> Searched:
        """The run's index, in its folder (an ``Index``) or on servers, which can be searched by file too.

        Raises LikewiseError if there is no run or no index, another model made it, or a server is away.
        """
        if self.run is None:
            raise LikewiseError(
                "this model has no run folder, so it has no index: use index = model.index(DATA) and "
                "index.search(query)."
            )
        index = searched(self.run, self.weights_hash)
        index.read = self.reader(layer_of(index))
        index.look = self._looks_of(index.protocol)
        return index

    def _looks_of(self, made: Mapping[str, object]) -> Looks:
        """Pictures of the items that an index was made of."""
        return self._looks.setdefault(str(made.get("data_ids_hash")), Looks(partial(self._indexed, made)))

    def _indexed(self, made: Mapping[str, object]) -> Items:
        """The items of an index, from where they were. Raises LikewiseError when they are gone, or were in memory."""
        source = source_of(made, "data")
        if source is None:
            raise LikewiseError("the index was made of items that are no file or folder.")
        return self.open(source, labels="none")

    def _repr_html_(self) -> str:
        about = {**self.protocol("embedding"), "dim": self.embedder.layers()["embedding"], "kind": self.kind}
        about |= {} if self.run is None else {"run": str(self.run)}
        text = listed([(name, named(str(value))) for name, value in about.items() if name != "layer"])
        if self.run is None:
            return cell(text)
        try:
            text += scores_shown(self.run, self.weights_hash) + self._examples(self.run / INDEX)
        except LikewiseError as error:  # of a file that is damaged, or is another model's
            text += note(str(error))
        return cell(text)

    def _examples(self, folder: Path) -> str:
        """Items of a small index in the run's folder with the nearest of each; empty where there is none."""
        size = sum(file.stat().st_size for file in folder.glob(PARTS))
        if not 0 < size <= SMALL:
            return ""
        index = self.load_index()
        return examples_shown(index.search, index.ids, index.look) if isinstance(index, Index) else ""

    def reader(self, layer: Layer) -> Callable[[str], Tensor]:
        """Reads a file as a query for rows of a layer."""
        return partial(self.embed_file, layer=self.layer_of_queries(layer))

    def layer_of_queries(self, layer: Layer) -> Layer:
        """The layer whose rows search rows of ``layer``: another one where queries have an encoder of their own."""
        return "query" if layer == "embedding" and self.embedder.query is not None else layer

    @property
    def weights_hash(self) -> str:
        """The hash of the file that the model was loaded from; else of the file that ``save`` writes.

        Save a loaded model after changing its weights: only then it has another hash.
        """
        return self._loaded or hash_of_bytes(self._bytes())

    def protocol(self, layer: Layer) -> Stamp:
        """What made the numbers and rows of this model: method, encoder, layer, size, epoch, seed, weights."""
        encoder = self.settings.encoder
        return {
            "method": self.settings.method,
            "encoder": type(self.embedder.backbone).__name__ if self.own_backbone else encoder.name,
            "layer": layer,
            "size": self.settings.size,
            "epoch": self.epoch,
            "seed": self.settings.seed,
            "model": self.weights_hash,
            "likewise": __version__,
        }

    def save(self, path: Path) -> None:
        """Writes a safetensors file with the settings in its metadata. Loading it runs no code.

        The file is written whole or not at all. Raises LikewiseError when it can't be written; an earlier file of that
        name then stays.
        """
        try:
            with atomic_write(path) as file:
                file.write(self._bytes())
        except OSError as error:
            raise unwritten(path, error) from error
        self._loaded = None

    def _bytes(self) -> bytes:
        tensors = {name: value.contiguous().cpu() for name, value in self.embedder.state_dict().items()}
        if self.vector_mean is not None and self.vector_std is not None:
            tensors |= {"vector.mean": self.vector_mean, "vector.std": self.vector_std}
        about: dict[str, object] = {"settings": as_dict(self.settings), "kind": self.kind, "epoch": self.epoch}
        about |= {"own": self.own_backbone} | ({"columns": self.columns} if self.columns else {})
        about |= {"blocks": as_saved(self.blocks)} if self.blocks else {}
        return to_safetensors(tensors, {"likewise": json.dumps(about)})


def open_by(settings: FitSettings, source: object, *, blocks: Blocks = (), progress: bool = True) -> Items:
    """Opens a source as the settings say; a mapping as the parts ``blocks``, if there are some."""
    return open_items(
        source,
        size=settings.size,
        labels=settings.labels,
        key=settings.key,
        image=settings.image,
        split=settings.split,
        columns=settings.columns,
        max_megapixels=settings.max_megapixels,
        cache=settings.cache,
        words=settings.words,
        blocks=blocks,
        progress=progress,
    )


def load(run: str | Path, *, backbone: nn.Module | None = None, device: str = "cpu") -> Model:
    """Loads a run folder (or its model.safetensors), in eval mode.

    ``backbone`` is required if the run was trained with your own module. Raises LikewiseError when there is no finished
    model, it is damaged, or its weights do not fit the backbone.
    """
    path = model_file(run)
    utf8_path(path)  # safetensors opens no other
    try:
        with safe_open(path, "pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})["likewise"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["kind"] == "words":
            raise LikewiseError(f"{path} holds vectors of words; load them with lw.load_words.")
        weights_hash = hash_of(path)
        settings, kind, epoch, own, columns, blocks = (
            settings_from(about["settings"]),
            about["kind"],
            about["epoch"],
            about.get("own", False),
            about.get("columns", ()),
            from_saved(about.get("blocks", ())),
        )
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError):
        raise LikewiseError(f"{path} is damaged or was not written by likewise; train it again.") from None
    if own and backbone is None:
        raise LikewiseError(f"{path} was trained with the user's own backbone; load it from Python with backbone=.")
    mean, std = tensors.pop("vector.mean", None), tensors.pop("vector.std", None)
    plain = replace(settings, encoder=replace(settings.encoder, weights=None))  # they are in the tensors already
    embedder = _build(plain, None if mean is None else len(mean), backbone, blocks)
    try:
        embedder.load_state_dict(tensors)
    except RuntimeError as error:
        raise LikewiseError(
            f"the weights in {path} are of another encoder: {str(error).splitlines()[1].strip()}"
        ) from None
    model = Model(
        embedder.to(device),
        settings,
        kind=kind,
        vector_mean=mean,
        vector_std=std,
        epoch=epoch,
        own_backbone=own,
        columns=columns,
        blocks=blocks,
        run=path.parent,
    )
    model._loaded = weights_hash
    model.embedder.eval()
    return model


def model_of(run: Model | str | Path) -> Model:
    """The model of a run, or the model itself. Raises LikewiseError as ``load``."""
    return run if isinstance(run, Model) else load(run)


def model_file(run: str | Path) -> Path:
    """The file of a run's trained model. Raises LikewiseError when there is none."""
    path = as_path(run, "RUN")
    if not path.exists():
        raise LikewiseError(f"there is no run {run}; train one first: likewise fit DATA --out {quote(str(run))}.")
    path = path / NAME if path.is_dir() else path
    if not path.exists():
        unfinished = (path.parent / "checkpoint.pt").exists()
        hint = "its training has not finished; add --resume to the fit command" if unfinished else "train one first"
        raise LikewiseError(f"{path.parent} holds no trained model ({path.name} is missing): {hint}.")
    return path


def _sample(items: Items, most: int) -> Tensor:
    """Rows evenly spread over the items, about ``most`` of them."""
    return torch.arange(0, len(items), max(1, len(items) // most))


def _build(settings: FitSettings, vector_dim: int | None, backbone: nn.Module | None, blocks: Blocks = ()) -> Embedder:
    example = torch.zeros(2, vector_dim) if vector_dim else torch.zeros(2, 3, settings.size, settings.size)
    return build_embedder(settings.encoder, vector_dim=vector_dim, blocks=blocks, backbone=backbone, example=example)


def layer_named(name: str) -> Layer:
    """The layer of that name. Raises LikewiseError for any other."""
    if name == "embedding":
        return "embedding"
    if name == "backbone":
        return "backbone"
    if name == "query":
        return "query"
    raise LikewiseError(f"there is no layer {name!r}; the layers are embedding (after the head), backbone and query.")


def layer_of(index: Searched) -> Layer:
    """The layer of an index's rows."""
    return layer_named(str(index.protocol.get("layer", "embedding")))


def searched(run: Path, weights_hash: str, place: str | None = None) -> Searched:
    """The index of a run, in its folder or on servers; or that of the same model in the folder or at the URL ``place``.

    Raises LikewiseError when there is none, another model made it, or a server is away.
    """
    index, where = opened(run / INDEX) if place is None else opened_at(place, run.resolve().name)
    layer = [] if layer_of(index) == "embedding" else ["--layer", layer_of(index)]
    renew = ["likewise", "index", str(run), *source_words(index.protocol, "data"), *layer]
    refuse_other_model(where, index.protocol, weights_hash, renew)
    return index
