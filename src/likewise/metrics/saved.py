"""The files of scores in a run folder."""

from pathlib import Path
from typing import Any

from likewise.errors import LikewiseError
from likewise.files import from_json
from likewise.metrics.score import Score
from likewise.pages.pieces import grid, note

SCORES = {"evaluate": "evaluation.json", "retrieve": "retrieval.json"}  # of a run, by the command that writes it


def read_scores(path: Path) -> list[Score]:
    """The scores of a file that ``save_scores`` wrote. Raises LikewiseError when it holds anything else."""
    try:
        return [_score(entry) for entry in from_json(path.read_bytes())]
    except (ValueError, TypeError, KeyError, AttributeError):  # no JSON, or not of scores
        raise LikewiseError(f"{path} is damaged: it holds no scores; delete it, and measure again.") from None


def _score(entry: dict[str, Any]) -> Score:
    value, std = (None if entry[name] is None else float(entry[name]) for name in ("value", "std"))
    value = float("nan") if value is None else value
    return Score(name=str(entry["name"]), value=value, std=std, protocol=dict(entry["protocol"].items()))


def scores_shown(run: Path, model: str) -> str:
    """The saved scores of the learned embedding, beside those of raw pixels or vectors, as HTML for a notebook.

    Scores of another model than the one with the hash ``model`` are not shown; a note says so. Raises LikewiseError
    when a file is damaged.
    """
    rows, others = [], ""
    for command, name in SCORES.items():
        found = {score.name: score for score in read_scores(run / name)} if (run / name).exists() else {}
        learned = {key.partition("/")[2]: score for key, score in found.items() if key.startswith("learned/")}
        if any(score.protocol.get("model") != model for score in learned.values()):
            others += note(f"{name} is of another model; measure again with likewise {command}.")
            continue
        for key, score in learned.items():
            raw = found.get(f"raw/{key}")
            rows.append([key, _number(score), "" if raw is None else _number(raw)])
    return others + (grid(["saved scores", "learned", "raw"], rows) if rows else "")


def _number(score: Score) -> str:
    return f"{score.value:.3f}"
