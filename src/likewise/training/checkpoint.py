"""Checkpoints: the whole state of a run. A resumed run is bit-identical; writing is atomic; loading runs no code."""

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
    """Writes ``state`` (tensors, numbers, strings, lists, dicts) to a temporary file, syncs it, and renames it.

    Raises LikewiseError when it can't be written (for example, the disk is full). The old file is then untouched.
    """
    try:
        with atomic_write(path) as file:
            torch.save({"format": FORMAT, **state}, file)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = cause.strerror if isinstance(cause, OSError) else str(cause).splitlines()[0]
        kept = "the last good checkpoint is kept" if path.exists() else "there is no checkpoint yet"
        raise LikewiseError(
            f"could not write {path} ({reason}); {kept}. Check that the folder is there, writable and not full."
        ) from error


def save_run(folder: Path, session: Session) -> None:
    """Writes the state of a run completely or not at all. All processes call it together.

    The first process writes the state that all of them share. Sharded state goes into a folder named by the step: every
    process writes its own shard there. The checkpoint names this folder. The old folder is removed last.
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
        processes.wait()  # the others go on even if the first one could not write


def load_run(folder: Path, session: Session) -> list[str]:
    """Restores what ``save_run`` wrote, with any number of processes. Raises LikewiseError when it does not fit.

    Returns one sentence for each change of the items or the supervision since the checkpoint.
    """
    state = load_checkpoint(folder / CHECKPOINT)
    changes = session.load_state_dict(state)
    if session.settings.bank.sharded:
        names = saved_names(folder / state["shards"])
        session.load_shards(load_sharded(folder / state["shards"], names, len(session.item_ids), device=session.device))
    return changes


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint with ``weights_only=True``, so that no code of the file runs.

    Raises LikewiseError when the file is missing, damaged, or of another version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise LikewiseError(f"{path.parent} has no checkpoint to resume from; start without --resume.") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise LikewiseError(
            f"{path} is not a readable checkpoint ({type(error).__name__}); start a new run."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise LikewiseError(f"{path} was not written by this version of likewise; start a new run.")
    return state
