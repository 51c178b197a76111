"""The parts of a look as the bytes that a browser gets, kept in the run's folder with what made them."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from likewise.files import atomic_write, from_json
from likewise.look.groups import KINDS
from likewise.look.look import Look
from likewise.stamp import Stamp, hash_of_bytes

PARTS = ("points", "verdict", *KINDS)


def make_part(look: Look, name: str) -> bytes:
    """The bytes of a part: binary columns of the points, JSON of the others. Raises LikewiseError as ``Look``."""
    if name == "points":
        return look.points()
    if name == "verdict":
        found = look.verdict()
        said = {"sentence": None, "signs": [], "advice": []} if found is None else found._asdict()
    else:
        said = asdict(look.groups(name))
    return json.dumps(said, allow_nan=False).encode()


def read_part(folder: Path, name: str, stamp: Stamp) -> bytes | None:
    """A part that was kept; None where there is none, it is damaged, or something else made it. Runs no code."""
    try:
        with safe_open(_file(folder, name), "pt") as file:
            about = from_json((file.metadata() or {})["likewise"])
            content = file.get_tensor("content").numpy().tobytes()
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    return content if about == _about(content, stamp) else None


def write_part(folder: Path, name: str, content: bytes, stamp: Stamp) -> None:
    """Keeps a part, whole or not at all. Raises OSError from the file system."""
    held = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    text = json.dumps(_about(content, stamp))
    with atomic_write(_file(folder, name)) as file:
        file.write(save({"content": held}, {"likewise": text}))


def _about(content: bytes, stamp: Stamp) -> Mapping[str, object]:
    return {"stamp": stamp, "content": hash_of_bytes(content)}


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"
