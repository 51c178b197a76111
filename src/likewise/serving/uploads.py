"""The bytes of a picture that a stranger sends become pixels, or a refusal."""

import io

from PIL import Image

from likewise.data.decode import decode
from likewise.data.items import Pixels
from likewise.data.source import BadItem
from likewise.serving.refused import Refused

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


def read_picture(data: bytes, size: int, megapixels: float) -> Pixels:
    """uint8 (size, size, 3) RGB. Its header is read first, and no pixel of a picture that is too large is decoded.

    Raises Refused: 415 for a format that is not on the list, 413 for too many pixels, 422 for a damaged file.
    Within ``quiet_pillow(megapixels)``, and in one thread at a time.
    """
    if not data:
        raise Refused(422, "the body is empty (zero bytes); send the bytes of a picture.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            width, height = header.size
    except Image.DecompressionBombError:
        raise Refused(413, f"the picture has more than {megapixels:g} megapixels.") from None
    except Exception:  # Pillow's parsers raise nearly every type
        known = ", ".join(FORMATS)
        raise Refused(415, f"this is no picture that can be read; the formats are {known}.") from None
    if width * height > megapixels * 1e6:
        raise Refused(
            413, f"the picture has {width * height / 1e6:,.1f} megapixels, more than the {megapixels:g} allowed."
        )
    try:
        return decode(data, size, megapixels).pixels
    except BadItem as error:
        raise Refused(422, f"the picture can't be used: {error}.") from None
