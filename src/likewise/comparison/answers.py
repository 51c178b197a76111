"""The files of a comparison: a JSON line for each answer, with its question and its state, and a folder for each cell.

A question is all that an answer depends on, except the state: versions, code and kind of device.

See ``likewise.comparison.run``.
"""

import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from likewise import __version__
from likewise.comparison.table import MEASURES
from likewise.data import Items
from likewise.data.items import add_text
from likewise.errors import LikewiseError
from likewise.files import atomic_write, from_json
from likewise.stamp import code_digest
from likewise.training.checkpoint import CHECKPOINT
from likewise.training.run_folder import make_folder
from likewise.training.run_lock import FILES, clear

QUESTION, PER_QUERY = "question.json", "per_query.npy"
Question = dict[str, Any]
State = dict[str, str]
UNKNOWN: list[State] = [{}]  # of answers written before states were recorded


class Answers:
    """A JSONL file of answers: a question with its measures, or with the reason why it failed.

    Lines are only added; the last line for a question counts. Each line is added in one write, so two processes with
    the same file lose no line. A last line without an end was cut off (by a kill or a full disk) and is ignored; the
    next answer puts an empty line after it, which marks it as cut off.

    Raises LikewiseError, with the number of the line, if any other line is not an answer.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.known = path, dict[str, dict[str, Any]]()
        *lines, tail = path.read_bytes().split(b"\n") if path.exists() else [b""]
        for number, line in enumerate(lines, 1):
            cut = lines[number : number + 1] == [b""]
            if line.strip() and not self._keep(line) and not cut:
                raise LikewiseError(f"{path} is damaged in line {number}; delete that line to go on.")
        self._keep(tail)

    def _keep(self, line: bytes) -> bool:
        answer = _answer(line)
        if answer is not None:
            self.known[_key(answer["question"])] = answer
        return answer is not None

    def find(self, question: Question) -> dict[str, Any] | None:
        """The answer to exactly this question; None without one."""
        return self.known.get(_key(question))

    def add(self, question: Question, answer: Mapping[str, Any]) -> None:
        """Adds an answer. Raises OSError if it can't be written; then ``find`` does not return it."""
        line = json.dumps({"question": question, **answer}, ensure_ascii=False).encode(errors="backslashreplace")
        with open(self.path, "a+b", buffering=0) as file:
            whole = file.seek(0, os.SEEK_END) == 0 or (file.seek(-1, os.SEEK_END) >= 0 and file.read(1) == b"\n")
            text = (b"" if whole else b"\n\n") + line + b"\n"
            if file.write(text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.fsync(file.fileno())
        self._keep(line)


def _answer(line: bytes) -> dict[str, Any] | None:
    """The answer in a line; None if the line is not an answer."""
    try:
        said = from_json(line)
    except ValueError:  # no JSON, or no UTF-8
        return None
    if not isinstance(said, dict) or not isinstance(said.get("question"), dict):
        return None
    measures, made = said.get("found"), said.get("made", UNKNOWN)
    if not isinstance(made, list) or not all(isinstance(state, dict) for state in made):
        return None
    if isinstance(measures, dict) and all(isinstance(measures.get(name), int | float) for name in MEASURES):
        return said
    return said if measures is None and isinstance(said.get("failed"), str) else None


def _key(question: Question) -> str:
    return json.dumps(question, sort_keys=True)


def fingerprint(items: Items) -> str:
    """A 128-bit hash of ids, labels and values: equal only for the same items. One pass over the values."""
    digest = hashlib.blake2b(digest_size=16)
    add_text(digest, items.ids_hash)
    for name in items.label_names:
        add_text(digest, name)
    digest.update(np.ascontiguousarray(items.labels).tobytes())
    for start in range(0, len(items), 4096):
        items.refuse_cut()
        digest.update(np.ascontiguousarray(items.values[start : start + 4096]).tobytes())
    return digest.hexdigest()


def question_in(folder: Path) -> tuple[Question, list[State]]:
    """The question of a folder, and the states that worked on it; both are empty if they can't be read."""
    try:
        kept = from_json((folder / QUESTION).read_bytes())
    except (OSError, ValueError):
        kept = None
    if not isinstance(kept, dict):
        return {}, []
    made = kept.pop("made", UNKNOWN)
    return kept, made if isinstance(made, list) else UNKNOWN


def per_query_in(folder: Path, question: Question, items: int) -> NDArray[np.float64] | None:
    """The measures of every query in the folder; None if they are of another question or damaged."""
    try:
        figures = np.load(folder / PER_QUERY) if question_in(folder)[0] == question else None
    except (OSError, ValueError, EOFError, BadZipFile):
        return None
    fits = isinstance(figures, np.ndarray) and figures.dtype == np.float64 and figures.shape == (len(MEASURES), items)
    return figures if fits else None


def claim_folder(folder: Path, question: Question, state: State) -> None:
    """Makes a folder for a question, and empties an earlier one, unless a training of the same question stopped in it.

    Raises LikewiseError if an earlier folder was not made by compare, or if the folder can't be written.
    """
    make_folder(folder)
    holds = [entry for entry in folder.iterdir() if entry.name not in FILES]
    if any(not entry.name.startswith(f".{QUESTION}.tmp-") for entry in holds):
        if not (folder / QUESTION).exists():
            raise LikewiseError(f"{folder} was not made by compare, so it is not changed; name another --out.")
        if question_in(folder)[0] != question:
            clear(folder)
    before = (
        [earlier for earlier in question_in(folder)[1] if earlier != state] if (folder / CHECKPOINT).exists() else []
    )
    with atomic_write(folder / QUESTION) as file:
        file.write(json.dumps({**question, "made": [*before, state]}).encode())


def state_now(device: torch.device) -> State:
    """The state that an answer depends on beside its question: versions, code, and kind of device."""
    return {"likewise": __version__, "code": code_digest(), "torch": str(torch.__version__), "device": device.type}


def describe_states(made: Mapping[str, Sequence[State]], now: State, path: Path) -> str:
    """A sentence on the answers that were made, wholly or partly, in another state than ``now``; empty if none were."""
    others = dict[str, list[str]]()
    for name, states in made.items():
        if list(states) != [now]:
            others.setdefault(", then ".join(map(_state, states)), []).append(name)
    if not others:
        return ""
    each = "; ".join(f"{', '.join(names)} ({text})" for text, names in others.items())
    return (
        f"{sum(map(len, others.values()))} of {len(made)} cells were made with another state of likewise, torch or the "
        f"device than the present one ({_state(now)}), and may differ for this reason alone: {each}. To make all cells "
        f"again, delete {path}, or name a new --out."
    )


def _state(state: State) -> str:
    return ", ".join(f"{name} {value}" for name, value in state.items()) or "state not recorded"
