"""What ``evaluate --split`` and ``retrieve --relations`` wrote is in the report."""

import json
from pathlib import Path

import pytest
import torch

from likewise.errors import LikewiseError
from likewise.evaluation import ranked
from likewise.evaluation.saved import saved_scores
from likewise.evaluation.scores import save_scores
from likewise.metrics import Score
from likewise.metrics.ranking import Ranked
from likewise.recommendation.evaluate import FILE, Evaluation, save_evaluation
from likewise.recommendation.table import Row, Table
from likewise.reports.measured import measured


def row(name: str, values: list[float]) -> Row:
    found = Ranked("ndcg@10", "linear gains", torch.tensor(values, dtype=torch.float64))
    return Row(name=name, chosen="", measures={"ndcg@10": found}, catalogue={})


def evaluation(model: str) -> Evaluation:
    table = Table(
        task="from a history",
        about="cold items: <2> users",
        asked=("a", "b"),
        rows=(row("this run", [0.25, 0.35]), row("ridge per user", [0.5, 0.6])),
        left_out=(),
        chosen_on="nothing",
    )
    stamp = {"model": model, "data": "c.csv", "split": "cold-items", "interactions": "r.csv"}
    return Evaluation(tables=(table,), stamp=stamp)


def test_measures_of_recommendation_are_a_table_with_its_verdict(tmp_path: Path) -> None:
    save_evaluation(tmp_path / FILE, evaluation("abc"))
    page = measured(tmp_path, saved_scores(tmp_path, "abc"), "abc")
    assert "<strong>A simple baseline wins: ridge per user is ahead of this run.</strong>" in page
    assert page.index("<td>ridge per user</td><td>55.0 [50.0 60.0]</td>") < page.index("<td>this run</td><td>30.0 [")
    assert "cold items: &lt;2&gt; users. All numbers: recommendation.json." in page
    with pytest.raises(LikewiseError, match=r"evaluate .* --split cold-items --interactions"):
        measured(tmp_path, saved_scores(tmp_path, "other"), "other")
    for text in ("[]", json.dumps({"made": {}, "tables": [{"rows": []}]})):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(LikewiseError, match=r"recommendation.json is damaged: it holds no measures"):
            measured(tmp_path, {name: [] for name in saved_scores(tmp_path, "abc")}, "abc")


def test_measures_of_ranked_lists_are_a_table(tmp_path: Path) -> None:
    about = {"model": "abc", "gallery": "v.csv", "relations": "graded.csv"}
    scores = [Score(name=f"{name}/ndcg@10", value=0.5, protocol=about) for name in ("raw", "learned")]
    save_scores(tmp_path / ranked.FILE, scores)
    page = measured(tmp_path, saved_scores(tmp_path, "abc"), "abc")
    assert "<td>NDCG@10</td><td>50.0</td><td>50.0</td>" in page
    with pytest.raises(LikewiseError, match=r"ranking.json was made with another model .* --relations graded.csv"):
        saved_scores(tmp_path, "other")
