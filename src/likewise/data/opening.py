"""Opens sources of items, and reads a single image. Pillow, simplejpeg and pyarrow are imported when they are used."""

import os
from dataclasses import replace
from pathlib import Path

from likewise.data.items import Items, Pixels
from likewise.errors import LikewiseError
from likewise.stamp import full_path


def open_items(
    source: object,
    *,
    size: int = 32,
    labels: str = "auto",
    key: str | None = None,
    cache: str | Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Items:
    """Open a source; images are decoded once, in parallel, into a memory-mapped cache of that size.

    A source is one of these:

    - a folder of images, with its subfolders. Ids are the paths below the folder, with ``/``. Hidden files are ignored.
      A file is an item if it has the suffix of an image, or an unknown suffix and the first bytes of an image;
    - a ``.parquet`` file, or a folder of them without images. Images are in a column as Hugging Face writes it (the
      first struct with ``bytes``), or else in the first binary column. Ids are the column ``key`` if given, else the
      ``path`` in the struct, else "row 7" ("part.parquet row 7" in a folder);
    - a NumPy array or torch tensor, a ``.npy`` file, or a tuple (array, labels): (N, D) are vectors; (N, H, W),
      (N, H, W, C), (N, C, H, W) are images. Ids are the row numbers;
    - a map-style Dataset (``__len__`` and ``__getitem__``) of images, vectors or (image, label) tuples. Ids are the row
      numbers. Each call reads it once, in this process, since nothing tells whether it has changed;
    - ``Items``, which are returned unchanged.

    A bad item is left out and listed in ``Items.skipped``. A cache is found by content. If a data set was moved or
    touched, it is read again but not decoded; if paths, sizes and times are unchanged, it is not even read.

    Args:
        source: one of the above.
        size: side of the square images in pixels; vectors ignore it.
        labels: "auto" (folder: the parent folder's name if at least two differ, none for an image beside these folders;
            parquet: the column ``label`` if there is one; arrays and Datasets: those given), "none", or the name of a
            parquet column. Several labels per item are given as a column of lists, or as a list, set or 1-D array for
            each item; with an array also as integers (N, L) padded with −1, or bool (N, classes). Any other hashable
            value, such as a tuple, is one label. None, NaN and empty text mean no label, and so do negative integers in
            an array or tensor.
        key: for parquet: the column of the ids.
        cache: folder of the cache, which needs N·size²·3 bytes; None: ``$LIKEWISE_CACHE`` or ``~/.cache/likewise``.
        workers: number of threads that decode; None: one per core.
        progress: show a bar on stderr, if it is a terminal or decoding takes more than two seconds.

    Raises:
        LikewiseError: the source is missing, is empty or has only bad items; a column is unknown; the disk is full.

    Cost: N images are decoded, the first time only. The ids and a limited number of images are in memory at once.
    """
    if isinstance(source, Items):
        return source
    if size < 1:
        raise LikewiseError(f"size={size} is no image size; give the side in pixels, 1 or more.")
    from likewise.data.arrays import Vectors, exact_images
    from likewise.data.cache import cached_items
    from likewise.data.sources import find_source

    opened = find_source(source, labels=labels, key=key)
    if isinstance(opened, Vectors):
        items = opened.items()
    else:
        exact = exact_images(opened, size)
        items = exact or cached_items(opened, size, cache=cache, workers=workers, progress=progress)
    return replace(items, path=full_path(os.fspath(source))) if isinstance(source, str | os.PathLike) else items


def read_image(path: str | Path, size: int) -> Pixels:
    """Read one image, such as a query, exactly as the cache does: uint8 (size, size, 3) RGB.

    Raises:
        LikewiseError: the image is missing or bad; the message has the reason.
    """
    from likewise.data.decode import BadItem, decode, quiet_pillow
    from likewise.data.source import read_bytes

    try:
        with quiet_pillow():
            return decode(read_bytes(path), size)
    except BadItem as error:
        raise LikewiseError(f"{path}: {error}; give another image.") from error
