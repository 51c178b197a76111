"""A model, pictures and vectors for the tests of shards, which Ray's workers can import too."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import likewise as lw
from likewise.config.settings import EncoderSettings
from likewise.model import Model

N, D = 700, 5
VECTORS = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
PICTURES = np.random.default_rng(1).integers(0, 256, (30, 8, 8, 3), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def photos(folder: Path) -> Path:
    """29 good pictures in two folders, and one that was cut short."""
    for number, pixels in enumerate(PICTURES):
        place = folder / ("odd" if number % 2 else "even")
        place.mkdir(parents=True, exist_ok=True)
        content = png(pixels)
        (place / f"{number:02}.png").write_bytes(content[: len(content) // 2] if number == 12 else content)
    return folder


def tables(folder: Path, parts: int = 3) -> Path:
    """The vectors in parquet files with small row groups, with ids."""
    folder.mkdir()
    for part, rows in enumerate(np.array_split(np.arange(N), parts)):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS[rows].reshape(-1)), D)
        table = pa.table({"id": [f"id {row}" for row in rows], "vector": lists, "year": rows})
        pq.write_table(table, folder / f"{part}.parquet", row_group_size=100)
    return folder


def run_of_pictures(run: Path) -> Path:
    """A run folder with a model of pictures."""
    settings = lw.FitSettings(size=8, encoder=EncoderSettings(name="resnet-small", dim=4))
    return _saved(Model.untrained(settings, lw.open_items(PICTURES, size=8, progress=False)), run)


def run_of_vectors(run: Path, seed: int = 0) -> Path:
    """A run folder with a model of vectors."""
    settings = lw.FitSettings(seed=seed, encoder=EncoderSettings(name="mlp", hidden=8, dim=4))
    return _saved(Model.untrained(settings, lw.open_items(VECTORS, progress=False)), run)


def _saved(model: Model, run: Path) -> Path:
    run.mkdir()
    model.save(run / "model.safetensors")
    return run
