"""The scores that a run holds: the files that ``evaluate`` and ``retrieve`` wrote."""

from pathlib import Path

from likewise.evaluation import classify, ranked, retrieve
from likewise.evaluation.scores import EVALUATION, learned_protocol
from likewise.metrics import Score
from likewise.metrics.saved import read_scores
from likewise.stamp import refuse_other_model

SAVED = (EVALUATION, retrieve.FILE, ranked.FILE)  # in a run folder


def saved_scores(run: Path, model: str) -> dict[str, list[Score]]:
    """The saved scores of this model, by file. Raises LikewiseError when a file is damaged or another model's."""
    saved: dict[str, list[Score]] = {}
    for name, renewal in (
        (EVALUATION, classify.renewal),
        (retrieve.FILE, retrieve.renewal),
        (ranked.FILE, ranked.renewal),
    ):
        path = run / name
        saved[name] = read_scores(path) if path.exists() else []
        if path.exists():
            protocol = learned_protocol(saved[name])
            refuse_other_model(path, protocol, model, renewal(run, protocol))
    return saved
