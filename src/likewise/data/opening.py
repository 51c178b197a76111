"""Opens whatever holds items, and reads a single image. What decodes (Pillow, simplejpeg, pyarrow) loads when used."""

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

    Sources and their ids:

    - a folder of images, recursive: the path below the folder with ``/``. Hidden files are ignored. Files with an
      image's suffix are items; others are only when their first bytes are an image's;
    - a ``.parquet`` file, or a folder of them without images, with a Hugging Face style image column (the first
      struct with ``bytes``) or else the first binary column: the column ``key`` if given, else the struct's ``path``,
      else "row 7" ("part.parquet row 7" in a folder);
    - a NumPy array or torch tensor, or a ``.npy`` file: (N, D) are vectors; (N, H, W), (N, H, W, C), (N, C, H, W)
      are images. Also a tuple (array, labels). Row numbers are the ids;
    - a map-style Dataset (``__len__`` and ``__getitem__``) of images or vectors or (image, label) tuples: row numbers.
      It is read once per call, in this process, since nothing tells whether it changed;
    - ``Items``: returned as they are.

    A bad item is left out and listed in ``Items.skipped``. The cache is found by content: a moved or touched data set
    is read again but not decoded, an unchanged one (same paths, sizes and times) is not even read.

    Args:
        source: one of the above.
        size: side of the square images in pixels; vectors ignore it.
        labels: "auto" (folder: the parent folder's name if at least two differ, none for an image beside these folders;
            parquet: the column ``label`` if there is one; arrays and Datasets: those given), "none", or the name of a
            parquet column. A column of lists, and a list, set or 1-D array as an item's label, are several labels per
            item; with an array also integers (N, L) padded with −1 or bool (N, classes). Anything hashable is one
            label, a tuple too. None, NaN and empty text are no label, nor are negative integers of an array or tensor.
        key: parquet only: the column that holds the ids.
        cache: folder of the cache; None is ``$LIKEWISE_CACHE`` or ``~/.cache/likewise``. It needs N·size²·3 bytes.
        workers: threads that decode; None is one per core.
        progress: show a bar on stderr, if it is a terminal or decoding takes more than two seconds.

    Raises:
        LikewiseError: nothing usable: missing, empty, all items bad, an unknown column, a disk that is full.

    Cost: the first time O(N) decodes; memory holds the ids and a bounded number of images at once.
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
        LikewiseError: with the reason, when it is missing or bad.
    """
    from likewise.data.decode import BadItem, decode, quiet_pillow
    from likewise.data.source import read_bytes

    try:
        with quiet_pillow():
            return decode(read_bytes(path), size)
    except BadItem as error:
        raise LikewiseError(f"{path}: {error}; give another image.") from error
