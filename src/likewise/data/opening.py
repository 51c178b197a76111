"""Opens whatever holds items, and reads a single image. What decodes (Pillow, simplejpeg, pyarrow) loads when used."""

from pathlib import Path

from likewise.console import say
from likewise.data.items import Items, Pixels
from likewise.data.parquet_files import is_pattern
from likewise.data.source import MEGAPIXELS, Wanted
from likewise.errors import LikewiseError


def open_items(
    source: object,
    *,
    size: int = 32,
    labels: str = "auto",
    key: str | None = None,
    image: str | None = None,
    split: str | None = None,
    max_megapixels: float = MEGAPIXELS,
    cache: str | Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Items:
    """Open a source; images are decoded once, in parallel, into a memory-mapped cache of that size.

    Sources and their ids:

    - a folder of images, recursive: the path below the folder with ``/``. Hidden files are ignored. Files with an
      image's suffix are items; others are only when their first bytes are an image's. Links are followed; a file that
      several lead to is one item, under its own path where that is below the folder;
    - a ``.parquet`` file, a folder of them without images, or a pattern such as ``"data/train-*.parquet"``, with a
      Hugging Face style image column (the first struct with ``bytes``) or else the first binary column: the column
      ``key`` if given, else the struct's ``path`` where no other row has the same, else "row 7" ("part.parquet row 7"
      of several files). A folder ``label=3`` stands for a column ``label``;
    - a NumPy array or torch tensor, or a ``.npy`` file: (N, D) are vectors; (N, H, W), (N, H, W, C), (N, C, H, W)
      are images. Also a tuple (array, labels). Row numbers are the ids;
    - a map-style Dataset (``__len__`` and ``__getitem__``) of images or vectors or (image, label) tuples: row numbers.
      It is read once per call, in this process, since nothing tells whether it changed;
    - ``Items``: returned as they are.

    Ids are in Unicode's form NFC. What is chosen for the user is in ``Items.notes``, and is said on stderr with
    ``progress``.

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
        image: parquet only: the column that holds the images.
        split: parquet only: of the files, read those of this split, such as "train", which their names say as Hugging
            Face writes them (``train-00000-of-00004.parquet``, ``train/0.parquet``).
        max_megapixels: larger images are skipped, before they are decoded; phones make 200. A new number decodes anew.
        cache: folder of the cache; None is ``$LIKEWISE_CACHE`` or ``~/.cache/likewise``. It needs N·size²·3 bytes.
        workers: threads that decode; None is one per core.
        progress: say what was chosen on stderr, and show a bar there, if it is a terminal or decoding takes more than
            two seconds.

    Raises:
        LikewiseError: nothing usable: missing, empty, all items bad, an unknown column, a disk that is full.

    Cost: the first time O(N) decodes; memory holds the ids and a bounded number of images at once.
    """
    if isinstance(source, Items):
        return source
    if not max_megapixels > 0:
        raise LikewiseError(f"max_megapixels={max_megapixels} must be above 0.")
    if size < 1:
        raise LikewiseError(f"size={size} is no image size; give the side in pixels, 1 or more.")
    from likewise.data.arrays import Vectors, exact_images
    from likewise.data.cache import cached_items
    from likewise.data.sources import find_source

    opened = find_source(source, Wanted(labels=labels, key=key, image=image, split=split))
    if isinstance(opened, Vectors):
        return opened.items()
    items = exact_images(opened, size) or cached_items(
        opened, size, megapixels=max_megapixels, cache=cache, workers=workers, progress=progress
    )
    say(items.notes if progress else ())
    return items


def is_table(source: object) -> bool:
    """Whether a source is parquet: a file, a pattern of files, or a folder with parquet files. Reads no file."""
    if not isinstance(source, str | Path):
        return False
    path = Path(source)
    if path.suffix.lower() == ".parquet" or (not path.exists() and is_pattern(str(source))):
        return True
    return any(path.rglob("*.parquet"))


def read_image(path: str | Path, size: int, *, max_megapixels: float = MEGAPIXELS) -> Pixels:
    """Read one image, such as a query, exactly as the cache does: uint8 (size, size, 3) RGB.

    Raises:
        LikewiseError: with the reason, when it is missing or bad.
    """
    from likewise.data.decode import decode, quiet_pillow
    from likewise.data.source import BadItem, read_bytes

    try:
        with quiet_pillow(max_megapixels):
            return decode(read_bytes(path), size, max_megapixels).pixels
    except BadItem as error:
        raise LikewiseError(f"{path}: {error}; give another image.") from error
