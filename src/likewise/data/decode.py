"""Turns the bytes of one image file, or one array, into uint8 (S, S, 3) RGB; a bad image gets a plain reason."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from likewise.data.items import Pixels
from likewise.data.source import MEGAPIXELS, BadItem
from likewise.errors import LikewiseError
from likewise.plots import is_drawn

Image.init()  # loads the format plugins now, in one thread
# Formats that are recognised by their first bytes and decoded in-process: no Ghostscript, no stubs.
_WANTED = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "ICO", "QOI")
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)

# HEIC is here although it cannot be read: a phone's photos are then listed as skipped, not lost silently.
IMAGE_SUFFIXES = frozenset(
    {suffix for suffix, name in Image.EXTENSION.items() if name in (*FORMATS, "MPO")} | {".heic", ".heif"}
)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


_FEWER = (8, 12)  # bits that often lie in 16
_HIGHEST_TAGS = (341, 281)  # of TIFF: SMaxSampleValue, MaxSampleValue
_LARGE = 64e6  # pixels; above it, images that are decoded whole take turns: one of 200 megapixels needs up to 2.5 GB
_TURN = threading.Lock()
_STRIP = 256  # rows that are put over white at once


class Depth(NamedTuple):
    """What was assumed of an image of 16 bits whose file does not tell how many of them it uses; else nothing."""

    bits: int = 0  # 8, 12 or 16
    highest: int = 0  # its largest value


ASSUMED_NOTHING = Depth()


class Decoded(NamedTuple):
    """An image, and what was assumed about it."""

    pixels: Pixels
    assumed: Depth = ASSUMED_NOTHING


def decode(data: bytes, size: int, megapixels: float = MEGAPIXELS) -> Decoded:
    """Decode an image file's bytes to uint8 (size, size, 3) RGB, upright.

    The central square is resized with antialiasing (bilinear). This equals "resize the shorter side to ``size``, then
    crop the centre" without rounding between. An image of exactly size × size keeps its decoded pixels bit for bit. A
    JPEG that has 4, 8 or 16 times the pixels needed per side is decoded by libjpeg at 1/2, 1/4 or 1/8 of its size; this
    changes pixels by one or two grey levels. Alpha is put over white; of an animation the first frame is used; 16-bit
    grey is scaled, not clipped: by the bits that a TIFF's BitsPerSample or (S)MaxSampleValue or a grey PNG's sBIT
    tells, else as 12 or 8 bits if no value needs more; of 16-bit colour Pillow reads the upper 8 bits, which count as
    12 bits if no value needs more; CMYK is converted by Pillow.

    Args:
        data: the whole file.
        size: side of the result in pixels, ≥ 1.
        megapixels: of the largest image that is decoded; the header says how large it is. Decode within
            :func:`quiet_pillow` of the same number, as Pillow has a limit too.

    Raises:
        BadItem: zero bytes, a plot that likewise drew, truncated, not an image, or more than ``megapixels`` (the header
            tells, before any pixel is decoded).
    """
    if not data:
        raise BadItem("empty file (zero bytes)")
    if is_drawn(data):
        raise BadItem("a plot that likewise drew")
    try:
        pixels = _decode_jpeg(data, size, megapixels) if data.startswith(b"\xff\xd8\xff") else None
        return _decode_any(data, size, megapixels) if pixels is None else Decoded(pixels)
    except BadItem:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged files
        raise BadItem(_reason(error, data, megapixels)) from error


def sides(loaded: bytes | npt.NDArray[Any]) -> tuple[int, int]:
    """Two sides in pixels of a file's bytes, of which the header is read, or of an array; 0 of what is bad."""
    if not isinstance(loaded, bytes):
        return (loaded.shape[0], loaded.shape[1]) if loaded.ndim > 1 else (0, 0)
    try:
        with Image.open(io.BytesIO(loaded), formats=FORMATS) as image:
            return image.size
    except Exception:  # Pillow raises many kinds; decoding says the reason
        return 0, 0


def decode_array(array: npt.NDArray[Any], size: int) -> Decoded:
    """Turn one image given as an array into uint8 (size, size, 3) RGB, as :func:`decode` does with files.

    Args:
        array: (H, W), (H, W, C) or (C, H, W) with C = 1, 3 or 4 (RGBA); if both fit, the last axis is C. uint8, bool,
            uint16 (as 12 or 8 bits if no value needs more), or float in [0, 1].
        size: side of the result in pixels, ≥ 1.

    Raises:
        BadItem: not finite, of another shape, or without pixels.
        LikewiseError: another dtype, or floats outside [0, 1]: the scale of the whole source is then wrong.
    """
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise BadItem(f"an array of shape {array.shape} is not an image; expected (H, W), (H, W, C) or (C, H, W)")
    pixels, assumed = _to_uint8(array)
    return Decoded(_fit(to_rgb(Image.fromarray(np.ascontiguousarray(pixels))), size), assumed)


def to_rgb(image: Image.Image) -> Image.Image:
    """:func:`as_rgb` without what was assumed."""
    return as_rgb(image)[0]


def as_rgb(image: Image.Image, told: int = 0) -> tuple[Image.Image, Depth]:
    """Convert any Pillow image to RGB: scale 16-bit grey to 8 bits, look up palettes, put alpha over white.

    ``told`` is the number of bits that its file tells; 0 where it tells none. Returns the image and what was assumed.

    Raises:
        BadItem: 32-bit pixels outside 0..65535, or float pixels outside [0, 1], whose scale is unknown.
    """
    assumed = ASSUMED_NOTHING
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        deep = np.asarray(image)
        pixels, assumed = (
            _from_32_bit(deep, told) if image.mode in ("I", "F") else _to_uint8(deep.astype(np.uint16), told)
        )
        image = Image.fromarray(pixels)
    if image.has_transparency_data:
        canvas = Image.new("RGB", image.size)
        for top in range(0, image.height, _STRIP):  # whole, it would be in memory four times
            part = image.crop((0, top, image.width, min(top + _STRIP, image.height))).convert("RGBA")
            canvas.paste(Image.alpha_composite(Image.new("RGBA", part.size, "white"), part).convert("RGB"), (0, top))
        image = canvas
    return image if image.mode == "RGB" else image.convert("RGB"), assumed


def looks_like_image(head: bytes) -> bool:
    """Whether a file's first 16 bytes or more are those of a common image format."""
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        return head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1")
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"BM")
    return head.startswith(starts)


@contextmanager
def quiet_pillow(megapixels: float = MEGAPIXELS) -> Iterator[None]:
    """Hide Pillow's warnings about single files and set its limit. A real problem is the reason to skip the item."""
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        Image.MAX_IMAGE_PIXELS = int(megapixels * 1e6)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _turn(pixels: int) -> AbstractContextManager[object]:
    """Waits for the other large images."""
    return _TURN if pixels > _LARGE else nullcontext()


def _decode_jpeg(data: bytes, size: int, megapixels: float) -> Pixels | None:
    """Decode a plain JPEG with simplejpeg; None for other files: Pillow reads more of them and has clearer errors."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        _refuse_bomb(width, height, megapixels)
        if space not in ("YCbCr", "Gray"):
            return None
        progressive = b"\xff\xc2" in data  # then libjpeg keeps all coefficients
        part = _part(width, height, size)
        with _turn(width * height if progressive else 0):
            pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=-(-height // part), min_width=-(-width // part))
    except ValueError:
        return None
    image = Image.fromarray(pixels)
    if b"Exif\0\0" in data or b"tiff:Orientation" in data:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            image = _upright(image, header)
    return _fit(image, size)


def _part(width: int, height: int, size: int) -> int:
    """Of how many pixels per side one is decoded, as Pillow's ``draft`` chooses it: its readers get the same pixels."""
    return next(part for part in (8, 4, 2, 1) if min(width, height) // (2 * size) >= part or part == 1)


def _decode_any(data: bytes, size: int, megapixels: float) -> Decoded:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _refuse_bomb(*image.size, megapixels)
        deep = any(";16" in str(tile[3]) for tile in image.tile)  # the encoding of the pixels, such as RGB;16B
        image.draft("RGB", (2 * size, 2 * size))  # of a JPEG; other images stay as they are
        with _turn(image.width * image.height):
            image.load()
            read = _from_deep_colour if deep and image.mode in ("RGB", "RGBA") else as_rgb
            rgb, assumed = read(_upright(image, image), _told_bits(image, data))
            return Decoded(_fit(rgb, size), assumed)


def _told_bits(image: Image.Image, data: bytes) -> int:
    """How many of 16 bits a loaded image uses, as its file tells; 0 where it does not."""
    if image.format in ("PPM", "JPEG2000"):
        return 16  # Pillow has scaled the values by the largest one, which these files tell
    if isinstance(image, TiffImageFile):
        bits, *_ = image.tag_v2.get(BITSPERSAMPLE, (1,))
        highest = [int(np.max(image.tag_v2[tag])) for tag in _HIGHEST_TAGS if tag in image.tag_v2]
        told = [top.bit_length() for top in highest if top == 2 ** top.bit_length() - 1 and 8 < top.bit_length() <= 16]
        return int(bits) if 8 < bits < 16 else next(iter(told), 0)
    if image.format != "PNG" or not image.mode.startswith("I"):
        return 0
    _, found, body = data[: data.find(b"IDAT")].partition(b"sBIT")
    if not found or not 8 < body[0] < 16:
        return 0
    low = np.asarray(image) & (2 ** (16 - body[0]) - 1)
    return body[0] if low.any() else 16  # without these the values are scaled, as the standard wants it


def _from_deep_colour(image: Image.Image, told: int) -> tuple[Image.Image, Depth]:
    """16-bit colour, of which Pillow keeps the upper 8 bits: where these have 4 only, the image has 12 bits."""
    pixels = np.array(image)
    colour = pixels[:, :, :3]
    highest = int(colour.max())
    bits = told or (12 if 0 < highest < 16 else 16)
    whole = 2 ** (bits - 8) - 1
    if highest <= whole < 255:
        colour[:] = np.rint(colour * (255 / whole))
    return to_rgb(Image.fromarray(pixels)), ASSUMED_NOTHING if told else Depth(bits, highest * 256 + 255)


def _upright(image: Image.Image, header: Image.Image) -> Image.Image:
    """Rotate ``image`` as the EXIF of ``header`` says; unreadable EXIF rotates nothing."""
    try:
        turn = _UPRIGHT.get(header.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata of any kind is no reason to skip a good picture
        turn = None
    return image if turn is None else image.transpose(turn)


def _fit(image: Image.Image, size: int) -> Pixels:
    if image.size != (size, size):
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image)


def _to_uint8(array: npt.NDArray[Any], told: int = 0) -> tuple[Pixels, Depth]:
    """An array as 8 bits, and what was assumed where ``told`` is no number of bits. Byte order does not matter."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == np.uint8:
        return array.view(np.uint8), ASSUMED_NOTHING
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255), ASSUMED_NOTHING
    if array.dtype == np.uint16:
        highest = int(array.max())
        bits = next((bits for bits in ((told,) if told else _FEWER) if 0 < highest < 2**bits), 16)
        whole = 2**bits - 1
        pixels = ((array.astype(np.uint32) * 255 + whole // 2) // whole).astype(np.uint8)
        return pixels, ASSUMED_NOTHING if told else Depth(bits, highest)
    if not np.issubdtype(array.dtype, np.floating):
        raise LikewiseError(f"images of type {array.dtype} have no known scale; convert them to uint8 (0 to 255).")
    if not np.isfinite(array).all():
        raise BadItem("not finite (holds NaN or infinity)")
    low, high = float(array.min()), float(array.max())
    if low < -1e-3 or high > 1 + 1e-3:  # interpolation leaves values a little outside
        raise LikewiseError(
            f"float images must be in [0, 1], this one goes from {low:.3g} to {high:.3g}; "
            "divide by 255 or leave out the normalisation, or give uint8."
        )
    scaled: Pixels = np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
    return scaled, ASSUMED_NOTHING


def _from_32_bit(array: npt.NDArray[Any], told: int) -> tuple[Pixels, Depth]:
    """Pillow's modes I (16-bit PNG and PGM in some versions; 32-bit TIFF) and F (float TIFF, PFM)."""
    low, high = float(array.min()), float(array.max())
    if array.dtype == np.float32 and 0 <= low <= high <= 1:
        return _to_uint8(array)
    if array.dtype == np.int32 and 0 <= low <= high <= 65535:
        return _to_uint8(array.astype(np.uint16), told)
    expected = "[0, 1]" if array.dtype == np.float32 else "0 to 65535"
    raise BadItem(f"32-bit pixels of unknown scale, from {low:g} to {high:g}; expected {expected}")


def _refuse_bomb(width: int, height: int, megapixels: float) -> None:
    if width * height > megapixels * 1e6:
        raise BadItem(f"too large: {width * height / 1e6:,.0f} megapixels, {_limit(megapixels)}")


def _limit(megapixels: float) -> str:
    return f"more than max_megapixels={megapixels:g}; raise it for a real photo (or this is a decompression bomb)"


def _reason(error: Exception, data: bytes, megapixels: float) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: {_limit(megapixels)}"
    if isinstance(error, UnidentifiedImageError):
        if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1"):
            return "HEIC cannot be read; convert it to JPEG or PNG"
        if data[:512].lstrip().startswith(b"<"):
            return "not an image (starts like a web page or SVG)"
        if looks_like_image(data):
            return "broken: it starts like an image but its header cannot be read"
        return "not an image"
    text = str(error) or type(error).__name__
    if "truncated" in text.lower():
        return "truncated (the file ends before the picture does)"
    return f"broken: cannot be decoded ({text})"
