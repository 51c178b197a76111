"""A small run with pictures and an index, and pictures as bytes, for the tests of the server."""

import io
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from likewise.config.overrides import settings_from
from likewise.data import open_items
from likewise.model import Model, load
from likewise.run_index import renew_index
from likewise.serving.encoding import ModelEncoder
from likewise.serving.loaded import Loaded, load_all
from likewise.serving.settings import Serving

SIDE = 16
NAME = "a/it's <b>\r\nx-evil: 1.png"  # a name that would break a header, a page and a line of a log


def png(pixels: np.ndarray, format: str = "PNG") -> bytes:
    """The bytes of a picture."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def pictures(folder: Path, seed: int = 0) -> dict[str, bytes]:
    """Writes 20 pictures of two classes, one of them with a bad name; returns their bytes by id."""
    random, made = np.random.default_rng(seed), dict[str, bytes]()
    for number in range(20):
        label = "ab"[number % 2]
        name = NAME if number == 2 else f"{label}/{number:02}.png"
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        pixels[:, :, number % 2] //= 4  # the classes have other colours
        made[name] = png(pixels)
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(made[name])
    return made


def make_run(run: Path, data: Path, seed: int = 0) -> None:
    """An untrained model of the pictures in ``data``, and its index with metadata."""
    items = open_items(str(data), size=SIDE, progress=False)
    settings = settings_from({"size": SIDE, "seed": seed, "encoder.dim": 8})
    run.mkdir(exist_ok=True)
    Model.untrained(settings, items).save(run / "model.safetensors")
    years = data.parent / "years.csv"
    lines = ["id,year", *(f'"{name}",{2000 + row}' for row, name in enumerate(items.ids))]
    years.write_text("\n".join(lines), newline="")
    renew_index(load(run), str(data), metadata=years, anew=True, progress=False)


def small_run(place: Path) -> dict[str, bytes]:
    """Pictures in ``place``/data, and a run of them with its index in ``place``/run; the bytes of pictures by id."""
    made = pictures(place / "data")
    make_run(place / "run", place / "data")
    return made


def serving(run: Path, **others: object) -> Serving:
    """Settings of a server of the run."""
    return Serving(run=run, **others)  # type: ignore[arg-type]


def loaded_of(run: Path) -> Loaded:
    """What a server loads. The model itself embeds: to export it takes seconds."""
    with mock.patch("likewise.serving.loaded.encoder_of", lambda model, layers, run: ModelEncoder(model)):
        return load_all(serving(run), lambda stage: None)
