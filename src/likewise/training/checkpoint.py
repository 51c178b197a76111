"""Checkpoints: all that a run needs to go on bit for bit, written whole or not at all, loaded without running code."""

from pathlib import Path
from typing import Any

import torch

from likewise.errors import LikewiseError
from likewise.files import atomic_write

FORMAT = 1
CHECKPOINT = "checkpoint.pt"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes ``state`` (tensors, numbers, strings, lists, dicts) to a temporary name, syncs, and renames.

    Raises LikewiseError when it can't be written (a full disk, say); the file that was there before is untouched.
    """
    try:
        with atomic_write(path) as file:
            torch.save({"format": FORMAT, **state}, file)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = cause.strerror if isinstance(cause, OSError) else str(cause).splitlines()[0]
        raise LikewiseError(
            f"could not write {path} ({reason}); the last good checkpoint is kept. Free some space."
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint with ``weights_only=True``: no code of the file runs. LikewiseError when it is unusable."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise LikewiseError(f"{path.parent} has no checkpoint to resume from; start it without --resume.") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise LikewiseError(
            f"{path} is not a readable checkpoint ({type(error).__name__}); start a new run."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise LikewiseError(f"{path} was not written by this version of likewise; start a new run.")
    return state
