"""Checkpoints: all that a run needs to go on bit for bit, written whole or not at all, loaded without running code."""

import shutil
from pathlib import Path
from typing import Any

import torch

from likewise.distributed import processes
from likewise.distributed.shard_files import load_sharded, save_sharded, saved_names
from likewise.errors import LikewiseError
from likewise.files import atomic_write
from likewise.training.session import Session

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


def save_run(folder: Path, session: Session) -> None:
    """Writes the state of a run, whole or not at all; all processes call it together.

    The first process writes what all of them hold. What is spread over them goes, with every process writing its own,
    into a folder named by the step, which the checkpoint names; the one before is removed last.
    """
    shards, state = session.shards(), session.state_dict()
    state["shards"] = f"shards-{session.step}" if shards else None
    if shards:
        save_sharded(folder / state["shards"], shards, len(session.item_ids))
    try:
        if processes.rank() == 0:
            save_checkpoint(folder / CHECKPOINT, state)
            for old in folder.glob("shards-*"):
                if old.name != state["shards"]:
                    shutil.rmtree(old, ignore_errors=True)
    finally:
        processes.wait()  # the others go on even where the first one could not write


def load_run(folder: Path, session: Session) -> list[str]:
    """Restores what ``save_run`` wrote, by however many processes. Raises LikewiseError when it does not fit.

    Returns sentences where there are other items, and other labels, pairs or triplets teach, from here on.
    """
    state = load_checkpoint(folder / CHECKPOINT)
    changed = session.load_state_dict(state)
    if session.settings.bank.sharded:
        names = saved_names(folder / state["shards"])
        session.load_shards(load_sharded(folder / state["shards"], names, len(session.item_ids), device=session.device))
    return changed


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
