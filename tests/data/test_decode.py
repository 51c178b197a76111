"""Decoding against Pillow and NumPy oracles, and every sort of bad image with its reason."""

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from likewise.data import decode as decoding
from likewise.data import read_image
from likewise.data.decode import looks_like_image, quiet_pillow
from likewise.data.source import BadItem
from likewise.errors import LikewiseError


def decode(data: bytes, size: int) -> np.ndarray:
    return decoding.decode(data, size).pixels


def decode_array(array: np.ndarray, size: int) -> np.ndarray:
    return decoding.decode_array(array, size).pixels


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture with large soft shapes, which JPEG and resizing keep well."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def encode(image: Image.Image | np.ndarray, format: str, **options: Any) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def oracle(image: np.ndarray, size: int) -> np.ndarray:
    """Antialiased bilinear resize of the central square by its definition: a triangle filter in float64."""
    height, width = image.shape[:2]
    side = min(height, width)

    def weights(length: int) -> np.ndarray:
        scale = side / size
        centres = (length - side) / 2 + (np.arange(size) + 0.5) * scale
        distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / max(scale, 1)
        triangle = np.maximum(0, 1 - distance)
        return triangle / triangle.sum(axis=1, keepdims=True)

    return np.einsum("yh,hwc,xw->yxc", weights(height), image.astype(float), weights(width), optimize=True)


def reason(data: bytes, size: int = 16) -> str:
    with pytest.raises(BadItem) as caught:
        decode(data, size)
    return str(caught.value)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_exact_size_is_bit_identical_to_the_plain_decode(format: str) -> None:
    data = encode(smooth(24, 24), format)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    found = decode(data, 24)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(("height", "width"), [(30, 50), (50, 30), (31, 31), (9, 40), (7, 7)])
def test_resize_is_shorter_side_then_centre_crop(height: int, width: int) -> None:
    image = smooth(height, width)
    assert np.abs(decode(encode(image, "PNG"), 16) - oracle(image, 16)).max() < 1.6


def test_resize_antialiases() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(decode(encode(stripes, "PNG"), 8)[:, 1:-1].astype(int) - 127).max() <= 2


def test_a_very_long_image_costs_no_more_than_its_square() -> None:
    strip = np.zeros((1, 60_000, 3), np.uint8)
    assert decode(encode(strip, "PNG"), 64).shape == (64, 64, 3)


@pytest.mark.parametrize("size", [16, 33, 64, 150])
def test_large_jpeg_is_decoded_scaled_and_stays_close(size: int) -> None:
    data = encode(smooth(300, 400), "JPEG", quality=92)
    with Image.open(io.BytesIO(data)) as image:
        assert np.abs(decode(data, size) - oracle(np.asarray(image.convert("RGB")), size)).mean() < 2.2


def test_grey_jpeg() -> None:
    data = encode(Image.fromarray(smooth(20, 20)).convert("L"), "JPEG")
    found = decode(data, 20)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(found, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_as_pillow_turns_it(orientation: int, format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(smooth(24, 24), format, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(decode(data, 24), expected)


def test_damaged_exif_does_not_lose_the_picture() -> None:
    data = encode(smooth(24, 24), "JPEG", exif=b"Exif\0\0garbage, no TIFF header")
    assert decode(data, 24).shape == (24, 24, 3)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(format: str) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    found = decode(encode(Image.fromarray(ramp), format), 16)
    expected = np.rint(ramp / 65535 * 255).astype(np.uint8)
    assert np.array_equal(found, np.repeat(expected[:, :, None], 3, axis=2))


def test_float_and_32_bit_tiff() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    assert np.array_equal(decode(encode(Image.fromarray(ramp), "TIFF"), 16)[:, :, 0], np.rint(ramp * 255))
    assert "unknown scale, from 0 to 9" in reason(encode(Image.fromarray(ramp * 9), "TIFF"))
    wide = np.full((4, 4), 70_000, np.int32)
    assert "expected 0 to 65535" in reason(encode(Image.fromarray(wide), "TIFF"))


def test_cmyk_keeps_its_colours() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    found = decode(encode(red, "JPEG", quality=95), 16)
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 3
    data = encode(Image.fromarray(smooth(24, 24)).convert("CMYK"), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(decode(data, 24), np.asarray(image.convert("RGB")))


def test_adobe_ycck_jpeg_is_inverted_as_pillow_does() -> None:
    plain = encode(Image.fromarray(smooth(24, 24)).convert("CMYK"), "JPEG")
    # Adobe's marker with transform 2 says that the four channels are YCCK; put in after the first two bytes.
    marker = b"\xff\xee\x00\x0eAdobe" + bytes([0, 100, 0, 0, 0, 0, 2])
    at = plain.find(b"\xff\xee")
    rest = plain[2:] if at < 0 else plain[2:at] + plain[at + 2 + int.from_bytes(plain[at + 2 : at + 4], "big") :]
    data = plain[:2] + marker + rest
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "CMYK"
        expected = np.asarray(image.convert("RGB"))
        assert not np.array_equal(expected, decode(plain, 24))
    assert np.array_equal(decode(data, 24), expected)


def test_palette_and_one_bit() -> None:
    image = Image.fromarray(smooth(16, 16)).quantize(16)
    assert np.array_equal(decode(encode(image, "PNG"), 16), np.asarray(image.convert("RGB")))
    checks = np.indices((16, 16)).sum(0) % 2 == 1
    found = decode(encode(Image.fromarray(checks), "PNG"), 16)
    assert np.array_equal(found[:, :, 0], np.where(checks, 255, 0))


def test_alpha_is_composited_over_white() -> None:
    rgba = np.dstack([smooth(16, 16), np.arange(256, dtype=np.uint8).reshape(16, 16)])
    alpha = rgba[:, :, 3:] / 255
    expected = rgba[:, :, :3] * alpha + 255 * (1 - alpha)
    assert np.abs(decode(encode(rgba, "PNG"), 16) - expected).max() <= 1
    grey = np.dstack([rgba[:, :, 0], rgba[:, :, 3]])
    expected_grey = grey[:, :, 0] * alpha[:, :, 0] + 255 * (1 - alpha[:, :, 0])
    assert np.abs(decode(encode(Image.fromarray(grey, "LA"), "PNG"), 16)[:, :, 1] - expected_grey).max() <= 1


@pytest.mark.parametrize("palette", [False, True])
def test_alpha_strip_by_strip_is_that_of_the_whole(palette: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(np.dstack([smooth(30, 20), smooth(30, 20, 1)[:, :, 0]]))
    data = encode(image.quantize(16) if palette else image, "PNG")
    whole = decode(data, 20)
    monkeypatch.setattr(decoding, "_STRIP", 7)
    assert np.array_equal(decode(data, 20), whole)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_large_images_that_are_decoded_whole_take_turns(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, image = encode(smooth(40, 40), format, progressive=True), smooth(40, 40)
    monkeypatch.setattr(decoding, "_LARGE", 1599)
    module, name = (decoding.simplejpeg, "decode_jpeg") if format == "JPEG" else (decoding, "_fit")
    real, held = getattr(module, name), []

    def seen(*given: Any, **more: Any) -> Any:
        held.append(decoding._TURN.locked())
        return real(*given, **more)

    monkeypatch.setattr(module, name, seen)
    assert np.abs(decode(data, 40).astype(int) - image).max() < 30
    assert held == [True]
    monkeypatch.setattr(decoding, "_LARGE", 1600)
    decode(data, 40)
    assert held == [True, False]


def test_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(0, (0, 0, 8, 16))
    found = decode(encode(image, "PNG", transparency=0), 16)
    assert (found[:, :8] == 255).all()
    assert (found[:, 8:] == [200, 100, 50]).all()


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert (decode(data, 16) == [255, 0, 0]).all()


def test_zero_bytes() -> None:
    assert reason(b"") == "empty file (zero bytes)"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_truncated(format: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(noise, format)
    assert reason(data[: len(data) // 2]).startswith(("truncated", "broken"))
    if format in ("JPEG", "PNG"):
        assert reason(data[: len(data) // 2]) == "truncated (the file ends before the picture does)"


def test_every_short_prefix_is_a_reason_not_a_crash() -> None:
    for format in ("JPEG", "PNG", "GIF", "WEBP", "BMP"):
        data = encode(smooth(16, 16), format)
        for end in range(1, 64):
            assert reason(data[:end])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["JPEG", "PNG", "GIF", "TIFF"]), st.integers(0, 400))
def test_garbage_is_a_reason_or_an_image(garbage: bytes, format: str, at: int) -> None:
    data = encode(smooth(16, 16), format)
    for bad in (garbage, data[:at] + garbage + data[at + len(garbage) :]):
        with quiet_pillow(), contextlib.suppress(BadItem):
            assert decode(bad, 8).shape == (8, 8, 3)


def test_not_an_image() -> None:
    assert reason(b"hello, this is text") == "not an image"
    assert reason(b"<!DOCTYPE html><html>404</html>") == "not an image (starts like a web page or SVG)"
    assert "HEIC" in reason(b"\0\0\0\x18ftypheic" + bytes(100))
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "not an image"  # no Ghostscript


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def jpeg_with_size(width: int, height: int) -> bytes:
    data = encode(smooth(16, 16), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


@pytest.mark.parametrize("make", [png_header, jpeg_with_size])
@pytest.mark.parametrize(("side", "megapixels"), [(16_100, "259"), (20_000, "400"), (40_000, "1,600")])
def test_decompression_bomb_is_refused_from_the_header(make: Any, side: int, megapixels: str) -> None:
    """The reason names the setting that allows more. Pillow's own limits warn and raise below it."""
    with quiet_pillow():
        said = reason(make(side, side))
    assert said.startswith("too large: ")
    assert "more than max_megapixels=256; raise it for a real photo" in said
    assert megapixels in said or side > 22_600  # from twice the limit on, Pillow refuses to say how many they are


def test_photos_of_phones_are_decoded() -> None:
    """200 megapixels pass; Pillow's own limits, 89 and 179, are out of the way."""
    assert (decode(encode(Image.new("L", (16_320, 12_240), 255), "JPEG"), 8) == 255).all()
    with quiet_pillow():
        assert "truncated" in reason(png_header(16_320, 12_240))


def test_bomb_limit_can_be_moved_and_pillows_own_stays() -> None:
    data, before = encode(smooth(40, 40), "JPEG"), Image.MAX_IMAGE_PIXELS
    with pytest.raises(BadItem, match=r"max_megapixels=0\.0015"):
        decoding.decode(data, 16, 0.0015)
    with quiet_pillow(1e6):
        assert Image.MAX_IMAGE_PIXELS == 10**12
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("highest", "bits"), [(65_535, 16), (4_096, 16), (4_095, 12), (256, 12), (255, 8), (1, 8), (0, 16)]
)
@pytest.mark.parametrize("format", ["TIFF", "PNG", "array", "big-endian array"])
def test_fewer_bits_in_16(highest: int, bits: int, format: str) -> None:
    deep = np.linspace(0, highest, 16 * 16).round().astype(np.uint16).reshape(16, 16)
    if "array" in format:
        found = decoding.decode_array(deep.astype(">u2") if "big" in format else deep, 16)
    else:
        found = decoding.decode(encode(deep, format), 16)
    whole = 2**bits - 1
    assert found.assumed == (bits, highest)
    assert np.array_equal(found.pixels[:, :, 1], np.rint(deep * (255 / whole)))


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("form", ["sBIT", "TIFF", "TIFF in colour"])
def test_bits_that_the_file_tells(bits: int, form: str) -> None:
    """A dark picture stays dark."""
    whole = 2**bits - 1
    deep = np.linspace(0, whole // 5, 16 * 16).round().astype(np.uint16).reshape(16, 16)
    data = {
        "sBIT": with_sbit(encode(deep, "PNG"), bits),
        "TIFF": encode(deep, "TIFF", tiffinfo={341: whole}),
        "TIFF in colour": tiff16(np.repeat(deep[:, :, None], 3, axis=2), whole),
    }
    found = decoding.decode(data[form], 16)
    assert found.assumed.bits == 0
    unread = 255 * 255 / whole if "colour" in form else 0  # the lower 8 bits
    assert np.abs(found.pixels[:, :, 1] - deep * (255 / whole)).max() <= 0.5 + unread


def test_a_dark_tiff_of_12_bits_stays_dark() -> None:
    found = decoding.decode(tiff(16, 16, [12], b"\x0f\0\xf0" * 128), 16)  # every value is 240, of 4095
    assert (found.pixels == 15).all()
    assert found.assumed.bits == 0


def test_files_whose_values_pillow_scales_are_not_scaled_twice() -> None:
    deep = np.linspace(0, 100, 256).round().astype(np.uint16).reshape(16, 16)
    assert decoding.decode(b"P5 16 16 1023\n" + deep.astype(">u2").tobytes(), 16).pixels.max() == 25
    assert decoding.decode(b"P5 16 16 65535\n" + deep.astype(">u2").tobytes(), 16).pixels.max() == 0
    scaled = with_sbit(encode(deep << 4, "PNG"), 12)  # as the standard wants it, if the picture is dark
    assert decoding.decode(scaled, 16).pixels.max() == 6


def test_read_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(smooth(40, 30), "JPEG"))
    assert np.array_equal(read_image(path, 20), decode(path.read_bytes(), 20))
    with pytest.raises(LikewiseError, match=r"missing\.jpg: file not found"):
        read_image(tmp_path / "missing.jpg", 20)
    with pytest.raises(LikewiseError, match="cannot be read"):
        read_image(tmp_path, 20)

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(LikewiseError, match=r"a\.jpg: permission denied"):
        read_image(path, 20)


def test_arrays_of_each_shape_and_type() -> None:
    image = smooth(16, 16)
    assert np.array_equal(decode_array(image, 16), image)
    assert np.array_equal(decode_array(image.transpose(2, 0, 1), 16), image)
    assert np.array_equal(decode_array(image[:, :, 0], 16), np.repeat(image[:, :, :1], 3, axis=2))
    assert np.array_equal(decode_array(image[:, :, :1], 16), np.repeat(image[:, :, :1], 3, axis=2))
    assert np.array_equal(decode_array((image / 255).astype(np.float32), 16), image)
    assert np.array_equal(decode_array(image.astype(np.uint16) * 257, 16), image)
    assert np.array_equal(decode_array(image[:, :, 0] > 99, 16)[:, :, 2], np.where(image[:, :, 0] > 99, 255, 0))
    clear = np.dstack([image, np.zeros((16, 16), np.uint8)])
    assert (decode_array(clear, 16) == 255).all()
    assert np.abs(decode_array(image, 8) - oracle(image, 8)).max() < 1.6


@pytest.mark.parametrize("bad", [-1.0, 2.0, 255.0])
def test_floats_on_another_scale_are_the_users_mistake(bad: float) -> None:
    with pytest.raises(LikewiseError, match=r"float images must be in \[0, 1\]"):
        decode_array(np.full((8, 8, 3), bad, np.float32), 8)


def test_bad_arrays() -> None:
    with pytest.raises(BadItem, match="not finite"):
        decode_array(np.full((8, 8), np.nan, np.float32), 8)
    with pytest.raises(BadItem, match="not an image"):
        decode_array(np.zeros((8, 8, 5), np.uint8), 8)
    with pytest.raises(BadItem, match="not an image"):
        decode_array(np.zeros((0, 8, 3), np.uint8), 8)
    with pytest.raises(LikewiseError, match="int64"):
        decode_array(torch.zeros(8, 8, dtype=torch.int64).numpy(), 8)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "AVIF"])
def test_files_of_images_are_known_by_their_first_bytes(format: str) -> None:
    file = io.BytesIO()
    try:
        Image.new("RGB", (32, 32), "red").save(file, format)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {format}")
    assert looks_like_image(file.getvalue()[:16])


def test_films_and_texts_are_no_images() -> None:
    for head in (b"\0\0\0\x20ftypisom\0\0\2\0", b"RIFF\0\0\0\0WAVEfmt ", b"id,label\n1,2\n3,4\n", b""):
        assert not looks_like_image(head)


def test_12_bits_in_16_bit_colour_are_not_dark() -> None:
    """Pillow keeps the upper 8 of 16 bits, which are 4 bits of the 12."""
    deep = np.random.default_rng(0).integers(0, 4096, (8, 8, 3))
    read = decoding.decode(png16(deep), 8)
    assert read.assumed.bits == 12
    np.testing.assert_array_equal(read.pixels, (deep >> 8) * 17)
    whole = decoding.decode(png16(deep * 16), 8)
    assert whole.assumed.bits == 16
    np.testing.assert_array_equal(whole.pixels, deep >> 4)
    assert not decoding.decode(png16(deep * 0), 8).pixels.any()


def png16(colour: np.ndarray) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width, _ = colour.shape
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colour)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def with_sbit(png: bytes, bits: int) -> bytes:
    body = b"sBIT" + bytes([bits])
    return png[:33] + struct.pack(">I", 1) + body + struct.pack(">I", zlib.crc32(body)) + png[33:]


def tiff16(colour: np.ndarray, highest: int) -> bytes:
    height, width, _ = colour.shape
    return tiff(width, height, [16] * 3, colour.astype("<u2").tobytes(), highest)


def tiff(width: int, height: int, bits: list[int], pixels: bytes, highest: int = 0) -> bytes:
    colours, start = len(bits), 200
    depth = start - 8 if colours > 1 else bits[0]
    short = {256: width, 257: height, 258: depth, 259: 1, 262: 2 if colours > 1 else 1, 273: start, 277: colours}
    tags = short | {278: height, 279: len(pixels)} | ({341: highest} if highest else {})
    entries = b"".join(struct.pack("<HHII", tag, 3, colours if tag == 258 else 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head.ljust(start - 8, b"\0") + np.array(bits, "<u2").tobytes().ljust(8, b"\0") + pixels
