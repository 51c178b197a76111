"""Opens sources of items, and reads a single image. Pillow, simplejpeg and pyarrow are imported when they are used."""

import math
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from likewise.blocks import Blocks
from likewise.console import say
from likewise.data.frames import Frame
from likewise.data.items import Items, Pixels, as_id
from likewise.data.parquet_files import is_pattern
from likewise.data.source import MEGAPIXELS, Wanted
from likewise.data.words import WORDS
from likewise.errors import LikewiseError
from likewise.files import as_path
from likewise.remote import is_url
from likewise.stamp import full_path

FIRST = 100  # images that tell the size of the others


def open_items(
    source: object,
    *,
    size: int = 32,
    labels: str = "auto",
    key: str | None = None,
    image: str | None = None,
    split: str | None = None,
    columns: Sequence[str] = (),
    max_megapixels: float = MEGAPIXELS,
    cache: str | Path | None = None,
    words: int = WORDS,
    blocks: Blocks = (),
    workers: int | None = None,
    progress: bool = True,
) -> Items:
    """Open a source; images are decoded once, in parallel, into a memory-mapped cache of that size.

    A source is one of these:

    - a folder of images, with its subfolders. Ids are the paths below the folder, with ``/``. Hidden files are ignored.
      A file is an item if it has the suffix of an image, or an unknown suffix and the first bytes of an image. Links
      are followed; a file is one item, however many links lead to it;
    - a ``.parquet`` file, a folder of them without images, or a pattern such as ``"data/train-*.parquet"``. Images are
      in a column as Hugging Face writes it (the first struct with ``bytes``), or else in the first binary column. Ids
      are the column ``key`` if given, else the ``path`` in the struct if no other row has the same, else "row 7"
      ("part.parquet row 7" of several files). A folder ``label=3`` stands for a column ``label``;
    - parquet without images, a ``.csv`` file, or a frame (whatever has Arrow's stream: a DataFrame of pandas or polars,
      a Table of pyarrow). Vectors are in ``columns``, else in the first column of lists of numbers, else all columns of
      numbers are one vector. Ids are the column ``key``, else ``id`` or pandas' index, else "row 7"; ``ID`` and
      ``Label`` count where these names are missing. The rows are read into memory, above 256 MB into a file of the
      cache's folder, which is mapped;
    - a NumPy array or torch tensor, a ``.npy`` file, or a tuple (array, labels): (N, D) are vectors; (N, H, W),
      (N, H, W, C), (N, C, H, W) are images. Ids are the row numbers, or those that ``likewise embed`` wrote beside it;
    - a ``.npz`` file with such an array, ``x`` or the only one, and labels ``y``;
    - a map-style Dataset (``__len__`` and ``__getitem__``) of images, vectors or (image, label) tuples. Ids are the row
      numbers. Each call reads it once, in this process, since nothing tells whether it has changed;
    - a mapping of names to sources, such as ``{"image": "photos/", "title": "titles.csv"}``: items of several parts.
      See ``open_parts``;
    - ``Items``, which are returned unchanged.

    Ids are in Unicode's form NFC. Choices made for the user are in ``Items.notes``.

    A bad item is left out and listed in ``Items.skipped``. Items with the same content are kept, and a note counts
    them. A cache is found by content. If a data set was moved or touched, it is read again but not decoded; if paths,
    sizes and times are unchanged, it is not even read.

    Args:
        source: one of the above.
        size: side of the square images in pixels; vectors ignore it.
        labels: "auto" (folder: the parent folder's name if at least two differ, none for an image beside these folders;
            tables: the column ``label`` if there is one; arrays and Datasets: those given), "none", the name of a
            column, or a file: ``.npy`` with a label per row, ``.parquet`` or ``.csv`` with the columns id and label.
            Several labels per item are given as a column of lists, or as a list, set or 1-D array for each item; with
            an array also as integers (N, L) padded with −1, or bool (N, classes). Any other hashable value, such as a
            tuple, is one label. None, NaN and empty text mean no label, and so do negative integers in an array or
            tensor.
        key: for tables: the column of the ids.
        image: for parquet: the column of the images.
        split: for parquet: read only the files of this split, such as "train". Their names say it as Hugging Face
            writes them (``train-00000-of-00004.parquet``, ``train/0.parquet``).
        columns: for tables: the columns of the vectors, names or patterns such as "pixel*"; of .npz the array of items.
        max_megapixels: larger images are skipped before they are decoded; phones make 200. A new number decodes anew.
        cache: folder of the cache, which needs N·size²·3 bytes; None: ``$LIKEWISE_CACHE`` or ``~/.cache/likewise``.
        words: of a part that is text: number of columns that its words are hashed to.
        blocks: of a mapping: the parts that the items get, as a model was trained. One that is not given is masked.
        workers: number of threads that decode; None: one per core.
        progress: say the choices on stderr, and show a bar there, if it is a terminal or decoding takes more than two
            seconds.

    Raises:
        LikewiseError: the source is missing, is empty or has only bad items; a column is unknown; the disk is full.

    Cost: N images are decoded, the first time only. The ids and a limited number of images are in memory at once. Of
    vectors every number is read twice: to find what is not finite, and to find copies.
    """
    if isinstance(source, Items):
        return source
    if not 0 < max_megapixels < math.inf:
        raise LikewiseError(f"max_megapixels={max_megapixels} must be above 0, and finite.")
    if size < 1:
        raise LikewiseError(f"size={size} is no image size; give the side in pixels, 1 or more.")
    from likewise.data.cache import cache_folder
    from likewise.data.label_files import label_by_id, label_file, read_by_row

    file = label_file(labels)
    by_row = None if file is None else read_by_row(file)
    wanted = Wanted(
        labels=labels if file is None else "none",
        key=key,
        image=image,
        split=split,
        columns=(columns,) if isinstance(columns, str) else tuple(columns),
        by_row=by_row,
        scratch=partial(cache_folder, cache),
    )
    opened = partial(_opened, size=size, megapixels=max_megapixels, cache=cache, workers=workers, progress=progress)
    if isinstance(source, Mapping):
        from likewise.data.parts import open_parts

        items = _copies_told(open_parts(source, wanted, opened, words=words, blocks=blocks))
    else:
        items = opened(source, wanted)
    if file is not None and by_row is None:
        items = label_by_id(items, file, key)
    say(items.notes if progress else ())
    return items


def _opened(
    source: object,
    wanted: Wanted,
    *,
    size: int,
    megapixels: float,
    cache: str | Path | None,
    workers: int | None,
    progress: bool,
) -> Items:
    """A single source."""
    from likewise.data.arrays import exact_images
    from likewise.data.cache import cached_items
    from likewise.data.sources import find_source

    if wanted.part and not is_table(source):  # what names a column is for the parts that have columns
        labels = "auto" if wanted.labels == "auto" else "none"
        wanted = replace(wanted, key=None, columns=(), labels=labels)
    opened = find_source(source, wanted)
    held = opened if isinstance(opened, Items) else exact_images(opened, size) or opened
    if not isinstance(held, Items):
        items = cached_items(held, size, megapixels=megapixels, cache=cache, workers=workers, progress=progress)
    else:
        items = held if wanted.part else _copies_told(held)
    return replace(items, path=full_path(os.fspath(source))) if isinstance(source, str | os.PathLike) else items


def native_side(source: object, *, key: str | None = None, image: str | None = None, split: str | None = None) -> int:
    """The median of the shorter sides, in pixels, of the first images of a source; 0 of vectors and of opened Items.

    Cost: 100 images are read, and of these the headers alone are decoded.
    """
    from likewise.data.decode import quiet_pillow, sides
    from likewise.data.source import BadItem
    from likewise.data.sources import find_source

    if isinstance(source, Items):
        return 0
    opened = find_source(source, Wanted(labels="none", key=key, image=image, split=split))
    if isinstance(opened, Items):
        return 0
    shorter = list[int]()
    with quiet_pillow(MEGAPIXELS):
        for entry in islice(opened.entries(), FIRST):
            with suppress(BadItem):
                shorter.append(min(sides(entry.load())))
    return sorted(shorter)[len(shorter) // 2] if shorter else 0


def file_sizes(
    source: object, ids: Collection[str], *, key: str | None = None, image: str | None = None
) -> dict[str, tuple[int, int]]:
    """Pixels and bytes of the images of some ids, as they are in the source, before they were decoded to one size.

    Raises LikewiseError for what holds no images as they were, such as vectors. Cost: these images are read, and of
    these the headers alone are decoded.
    """
    from likewise.data.decode import quiet_pillow, sides
    from likewise.data.source import BadItem
    from likewise.data.sources import find_source

    opened = source if isinstance(source, Items) else find_source(source, Wanted(labels="none", key=key, image=image))
    if isinstance(opened, Items):
        raise LikewiseError(f"the items of {opened.source} are all of one size, so none is the largest.")
    found = dict[str, tuple[int, int]]()
    with quiet_pillow(MEGAPIXELS):
        for entry in opened.entries() if ids else ():
            name = as_id(entry.id)
            if name in ids and name not in found:
                with suppress(BadItem):
                    loaded = entry.load()
                    found[name] = math.prod(sides(loaded)), len(loaded) if isinstance(loaded, bytes) else loaded.nbytes
    return found


def _copies_told(items: Items) -> Items:
    """The items with a note that counts those of the same content."""
    from likewise.data.copies import copies_in, describe_copies_in

    return replace(items, notes=(*items.notes, *describe_copies_in(items, copies_in(items.values, items.source))))


def is_table(source: object) -> bool:
    """Whether a source has columns: parquet (a file, a pattern, a folder with such files), .csv, or a frame."""
    if not isinstance(source, str | Path):
        return isinstance(source, Frame)
    if is_url(source):
        from likewise.data.remote_sources import holds_parquet

        return holds_parquet(str(source))
    path = as_path(source, "DATA")
    if path.suffix.lower() in (".parquet", ".csv") or (not path.exists() and is_pattern(str(path))):
        return True
    return any(path.rglob("*.parquet"))


def read_image(path: str | Path, size: int, *, max_megapixels: float = MEGAPIXELS) -> Pixels:
    """Read one image, such as a query, exactly as the cache does: uint8 (size, size, 3) RGB.

    Raises:
        LikewiseError: the image is missing or bad; the message has the reason.
    """
    from likewise.data.decode import decode, quiet_pillow
    from likewise.data.source import BadItem, read_bytes

    try:
        with quiet_pillow(max_megapixels):
            return decode(read_bytes(path), size, max_megapixels).pixels
    except BadItem as error:
        raise LikewiseError(f"{path}: {error}; give another image.") from error
