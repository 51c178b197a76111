"""Saves sharded rows, so that any number of processes can load them."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from likewise.distributed.processes import any_of, gather_rows, rank, shares, size, starts
from likewise.distributed.shares import own_share
from likewise.errors import LikewiseError
from likewise.files import from_json, held_folder, remove_abandoned, replace_folder, temporary_name

FORMAT, CONTENTS = 1, "shards.json"
PIECE_BYTES = 1 << 30  # largest file; saving needs this much memory beyond the rows
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8)
}


def save_sharded(folder: Path, tensors: dict[str, Tensor], n: int) -> None:
    """Saves sharded rows, completely or not at all, so that any number of processes can load them.

    Afterwards ``folder`` holds safetensors files, each with consecutive rows of all tensors (at most 1 GiB), and
    ``shards.json``, which lists the rows of each file. The files are written to a temporary folder; when every process
    has written its files, this folder is renamed and replaces an older one. All processes call it together, on a file
    system that they share.

    It does not use torch.distributed.checkpoint, because loading a checkpoint of that module can run code: its
    ``.metadata`` is a pickle, which torch 2.13 reads without restriction. The module's safetensors writer is not in
    torch 2.6, which likewise supports.

    Args:
        folder: its parent must exist.
        tensors: name → (n_r, ...), this process' rows. Names, dtypes and other dimensions are equal in all processes.
        n: the number of rows of all processes.

    Raises:
        LikewiseError: in all processes, when one of them can't write; or when the tensors are not this process' share.

    Cost: each process writes its rows once, and needs up to 1 GiB of memory beyond them.
    """
    start, count = own_share(n)
    for name, tensor in tensors.items():
        if len(tensor) != count or _dtype_name(tensor) not in DTYPES:
            raise LikewiseError(
                f"{name} is {tuple(tensor.shape)} {tensor.dtype}; this process' share of {n} rows is {count} rows, "
                f"of a dtype among {', '.join(DTYPES)}."
            )
    device = next(iter(tensors.values())).device
    prefix = f".{folder.name}.tmp-"
    temporary = folder.parent / _as_the_first_says(temporary_name(prefix), device)
    row_bytes = sum(tensor.shape[1:].numel() * tensor.element_size() for tensor in tensors.values())
    pieces = [_pieces(*bounds, row_bytes) for bounds in zip(starts(shares(n, size())), shares(n, size()), strict=True)]

    held = ExitStack()

    def begin() -> None:
        if rank() == 0:
            remove_abandoned(folder.parent, prefix)
            held.enter_context(held_folder(temporary))

    def write() -> None:
        for a, b in pieces[rank()]:
            rows = {name: x.detach()[a - start : b - start].cpu().contiguous() for name, x in tensors.items()}
            save_file(rows, temporary / _piece_name(a, b))
            _sync(temporary / _piece_name(a, b))

    def finish() -> None:
        if rank() == 0:
            rows = {name: {"dtype": _dtype_name(x), "shape": list(x.shape[1:])} for name, x in tensors.items()}
            contents = {"format": FORMAT, "n": n, "rows": rows, "pieces": [piece for some in pieces for piece in some]}
            (temporary / CONTENTS).write_text(json.dumps(contents), encoding="utf-8")
            _sync(temporary / CONTENTS)
            replace_folder(temporary, folder)

    try:
        for step in (begin, write, finish):
            _all_or_none(step, f"could not save {folder}", device)
    finally:
        if rank() == 0:
            shutil.rmtree(temporary, ignore_errors=True)
        held.close()


def load_sharded(
    folder: Path, names: Sequence[str], n: int, *, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Loads this process' rows of a folder that :func:`save_sharded` wrote with any number of processes.

    It runs no code of the files. All processes call it together.

    Args:
        folder: the saved folder.
        names: the names of the tensors to load.
        n: the number of rows of all processes.
        device: the device of the loaded tensors; with NCCL, a CUDA device.

    Returns:
        name → (n_r, ...).

    Raises:
        LikewiseError: in all processes, when in one of them the folder is missing, damaged, has another n, or lacks a
            tensor of ``names``.

    Cost: each process reads only its own rows.
    """
    loaded: dict[str, Tensor] = {}
    _all_or_none(lambda: loaded.update(_read(folder, names, n)), f"could not load {folder}", torch.device(device))
    return {name: rows.to(device) for name, rows in loaded.items()}


def saved_names(folder: Path) -> list[str]:
    """The names of the tensors in ``folder``. Raises LikewiseError when it is missing or damaged."""
    try:
        return list(from_json((folder / CONTENTS).read_bytes())["rows"])
    except FileNotFoundError:
        raise LikewiseError(f"{folder / CONTENTS} is missing; give a folder that save_sharded wrote.") from None
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise LikewiseError(f"{folder} is damaged ({type(error).__name__}: {error}); use another copy.") from error


def _read(folder: Path, names: Sequence[str], n: int) -> dict[str, Tensor]:
    try:
        contents = from_json((folder / CONTENTS).read_bytes())
        if contents["format"] != FORMAT:
            raise LikewiseError(f"{folder} was written by another version of likewise; save it anew.")
        pieces = [(int(a), int(b)) for a, b in contents["pieces"]]
        saved = {
            name: (DTYPES[rows["dtype"]], tuple(int(length) for length in rows["shape"]))
            for name, rows in contents["rows"].items()
        }
        if contents["n"] != n:
            raise LikewiseError(f"{folder} holds {contents['n']} rows, not {n}: it is of another data set.")
        missing = [name for name in names if name not in saved]
        if missing:
            raise LikewiseError(f"{folder} has no {missing[0]!r}; it has {', '.join(saved)}.")
        start, count = own_share(n)
        tensors = {name: torch.empty(count, *saved[name][1], dtype=saved[name][0]) for name in names}
        filled = 0
        for a, b in pieces:
            first, last = max(a, start), min(b, start + count)
            if first < last:
                _read_piece(folder / _piece_name(a, b), a, first, last, start, tensors)
                filled += last - first
    except FileNotFoundError as error:
        raise LikewiseError(f"{error.filename} is missing; give a folder that save_sharded wrote.") from None
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise LikewiseError(f"{folder} is damaged ({type(error).__name__}: {error}); use another copy.") from error
    if filled != count:
        raise LikewiseError(
            f"{folder} is damaged (rows {start} to {start + count} are not all there); use another copy."
        )
    return tensors


def _read_piece(path: Path, a: int, first: int, last: int, start: int, tensors: dict[str, Tensor]) -> None:
    """Copies rows ``first`` to ``last`` of all n. The file begins with row ``a``, the tensors with row ``start``."""
    with safe_open(path, framework="pt") as file:
        for name, rows in tensors.items():
            piece = file.get_slice(name)[first - a : last - a]
            into = rows[first - start : last - start]
            if piece.shape != into.shape or piece.dtype != into.dtype:
                raise TypeError(f"{path.name}: {name} is {tuple(piece.shape)} {piece.dtype}")
            into.copy_(piece)


def _all_or_none(step: Callable[[], None], what: str, device: torch.device) -> None:
    """Runs the step. If it fails in one process it fails in all, so that no process waits for another."""
    problem: LikewiseError | None = None
    try:
        step()
    except LikewiseError as error:
        problem = error
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problem = LikewiseError(f"{what} ({reason}); check that the disk is there, writable and not full.")
        problem.__cause__ = error
    failed = any_of([problem is not None], device)[0]
    if problem is not None:
        raise problem
    if failed:
        raise LikewiseError(f"{what}: another process could not; its message says why.")


def _as_the_first_says(text: str, device: torch.device) -> str:
    """The text of process 0, in all processes."""
    letters = torch.tensor(list(text.encode()) if rank() == 0 else [], dtype=torch.uint8, device=device)
    return bytes(gather_rows(letters).tolist()).decode()


def _pieces(start: int, count: int, row_bytes: int) -> list[tuple[int, int]]:
    """Divides a share into files: the first row and the end row of each."""
    step = max(1, PIECE_BYTES // max(1, row_bytes))
    return [(a, min(a + step, start + count)) for a in range(start, start + count, step)]


def _piece_name(a: int, b: int) -> str:
    return f"rows-{a}-{b}.safetensors"


def _dtype_name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
