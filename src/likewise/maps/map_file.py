"""The file of a run's map, ``RUN/map.safetensors``. Reading it runs no code."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from likewise.errors import LikewiseError
from likewise.files import atomic_write, from_json, utf8_path
from likewise.maps.layout import NAMES, Map
from likewise.stamp import Stamp, hash_of_bytes, refuse_other_model

FILE = "map.safetensors"  # in a run folder


def stamp_of(rows: Tensor, model: str) -> Stamp:
    """What a map of (N, D) rows is of: the hash of the model that made them, and of the rows, in their order."""
    return {"model": model, "rows": hash_of_bytes(np.ascontiguousarray(rows.numpy()).tobytes())}


def write_map(path: Path, made: Map, stamp: Mapping[str, str | int | float]) -> None:
    """Writes a map, whole or not at all. Raises OSError from the file system.

    Args:
        path: usually ``RUN / FILE``.
        made: the map.
        stamp: ``stamp_of`` what it is of, and more.
    """
    about = {
        "method": made.method,
        "settings": dict(made.settings),
        "kept": made.kept,
        "neighbours": made.neighbours,
        "asked": made.asked,
        "stamp": dict(stamp),
    }
    text = json.dumps(about, ensure_ascii=False).encode(errors="backslashreplace").decode()
    with atomic_write(path) as file:
        file.write(save({"xy": torch.from_numpy(made.xy)}, {"likewise": text}))


def read_map(path: Path, stamp: Mapping[str, str | int | float], renew: Sequence[str]) -> Map | None:
    """The map of a file; None if there is no file.

    Args:
        path: usually ``RUN / FILE``.
        stamp: ``stamp_of`` what the map must be of.
        renew: the command that makes the map again, word by word.

    Raises:
        LikewiseError: the file is damaged, or is of another model or of other rows.
    """
    if not path.is_file():
        return None
    utf8_path(path)  # safetensors opens no other
    try:
        with safe_open(path, "pt") as file:
            about = from_json((file.metadata() or {})["likewise"])
            xy = file.get_tensor("xy")
        made = Map(
            xy=xy.float().numpy(),
            method=str(about["method"]),
            settings=dict(about["settings"].items()),
            kept=float(about["kept"]),
            neighbours=int(about["neighbours"]),
            asked=int(about["asked"]),
        )
        of: Stamp = dict(about["stamp"].items())
        damaged = xy.shape != (len(xy), 2) or made.method not in NAMES or not bool(xy.isfinite().all())
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError):
        damaged = True
    if damaged:
        raise LikewiseError(f"{path} is damaged or is no map; delete it, and it is made again.")
    refuse_other_model(path, of, str(stamp["model"]), renew)
    if of.get("rows") != stamp["rows"]:
        raise LikewiseError(f"{path} is of other items than there are now; delete it, and it is made again.")
    return made
