"""``alike=graded``: whole lists of graded relevance teach an embedding, by any objective of lists."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import likewise as lw
from likewise.cli.main import main
from likewise.config.objective_table import OBJECTIVES
from likewise.data import read_graded
from likewise.errors import Interrupted, LikewiseError
from likewise.metrics.saved import read_scores
from likewise.objectives import LambdaRank
from likewise.training import loop, step
from likewise.training.checkpoint import CHECKPOINT, load_checkpoint
from likewise.training.fit import fit
from likewise.training.run_folder import read_config

KINDS = [row.name for row in OBJECTIVES if row.level == "list"]
SETTINGS: dict[str, Any] = {
    "encoder": {"name": "mlp", "hidden": 32, "dim": 8},
    **{"batch_size": 24, "epochs": 2, "knn_epochs": 0, "device": "cpu", "threads": 1},
}
Row = tuple[int, int, float]


def graded_file(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text("query,item,relevance\n" + "".join(f"{q},{i},{y:g}\n" for q, i, y in rows))
    return path


def vectors(n: int = 80, d: int = 12) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)


def judged(x: np.ndarray, queries: Sequence[int], each: int = 6) -> list[Row]:
    """Items with grades 0 to 3 by the cosine in a hidden linear map of the vectors."""
    random = np.random.default_rng(len(queries))
    hidden = x @ np.linalg.qr(np.random.default_rng(1).normal(size=(x.shape[1], x.shape[1])))[0][:, :3]
    hidden /= np.linalg.norm(hidden, axis=1, keepdims=True)
    rows = []
    for query in queries:
        items = random.choice(np.delete(np.arange(len(x)), query), each, replace=False)
        grades = np.digitize(hidden[items] @ hidden[query], [0.0, 0.5, 0.8])
        rows += [(query, int(item), float(grade)) for item, grade in zip(items, grades, strict=True)]
    return rows


def test_a_run_has_the_loss_of_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RankNet of the cosines of each query and its items, in float64."""
    x = vectors()
    rows = judged(x, range(30))
    seen = list[tuple[list[int], Tensor, float]]()

    def look_up(session: Any, batch: Any, queries: Any, keys: Any) -> Tensor:
        loss = original(session, batch, queries, keys)
        seen.append((batch.items.tolist(), queries[0].detach().double(), float(loss.detach())))
        return loss

    original = step.look_up
    monkeypatch.setattr(step, "look_up", look_up)
    settings = {**SETTINGS, "relations": graded_file(tmp_path / "g.csv", rows), "epochs": 1, "objective": "ranknet"}
    fit(x, out=tmp_path / "run", method="ranking", settings=settings, progress=False)
    assert read_config(tmp_path / "run").objective.parameters == {"sigma": 1.0, "temperature": 0.1}
    of_query = {q: [(i, y) for query, i, y in rows if query == q] for q in range(30)}
    met = list[int]()
    for items, z, found in seen:
        place = {item: at for at, item in enumerate(items)}
        here = [q for q, listed in of_query.items() if {q, *(i for i, _ in listed)} <= place.keys()]
        losses = list[float]()
        for query in here:
            scored = [(float(z[place[query]] @ z[place[i]]) / 0.1, y) for i, y in of_query[query]]
            each = [math.log1p(math.exp(low - high)) for high, y in scored for low, other in scored if y > other]
            losses += [sum(each) / len(each)] if each else []
        met += here
        assert found == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert sorted(met) == list(range(30))


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_goes_on_bit_for_bit(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = vectors()
    file = graded_file(tmp_path / "g.csv", judged(x, range(30)))
    settings = {**SETTINGS, "relations": file, "objective": kind, "checkpoint_seconds": 0.0}
    fit(x, out=tmp_path / "whole", method="ranking", settings=settings, progress=False)
    original, calls = loop.train_step, list[int]()

    def stopping(session: Any, batch: Any) -> Any:
        calls.append(session.step)
        if len(calls) == 13:
            raise Interrupted("stopped", 2)
        return original(session, batch)

    monkeypatch.setattr(loop, "train_step", stopping)
    with pytest.raises(Interrupted):
        fit(x, out=tmp_path / "run", method="ranking", settings=settings, progress=False)
    monkeypatch.setattr(loop, "train_step", original)
    fit(x, out=tmp_path / "run", resume=True, progress=False)
    one, other = (load_checkpoint(tmp_path / name / CHECKPOINT) for name in ("whole", "run"))
    assert one["step"] == other["step"] > 13
    for part in ("embedder", "objective"):
        assert one[part].keys() == other[part].keys()
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])


def test_held_out_queries_are_ranked_better_than_by_raw_vectors(tmp_path: Path) -> None:
    x = vectors(300, 24)
    file = graded_file(tmp_path / "g.csv", judged(x, range(200), 20))
    held = read_graded(graded_file(tmp_path / "held.csv", judged(x, range(200, 260), 20)), [str(n) for n in range(300)])

    def ndcg(z: Tensor) -> float:
        z = functional.normalize(z, dim=1)
        scores = (z[held.rows[:, 0]] * z[held.rows[:, 1]]).sum(1)
        return float(lw.ndcg(scores.view(60, 20), held.relevance.view(60, 20), k=10))

    settings = {**SETTINGS, "relations": file, "epochs": 8, "batch_size": 128}
    model = fit(x, out=tmp_path / "run", method="ranking", settings=settings, progress=False)
    raw, learned = ndcg(torch.from_numpy(x)), ndcg(model.features(lw.open_items(x)))
    assert learned > raw + 0.15, (raw, learned)
    assert read_config(tmp_path / "run").objective.kind == "lambdarank"


def test_auto_and_the_temperature_of_a_run(tmp_path: Path) -> None:
    x = vectors(20)
    settings = {**SETTINGS, "relations": graded_file(tmp_path / "g.csv", judged(x, range(9))), "epochs": 1}
    for values, wanted in (
        ({"objective": "auto"}, ("lambdarank", 0.1)),
        ({"objective": "listnet"}, ("listnet", 0.1)),
        ({"objective": "listnet", "objective.temperature": 0.3}, ("listnet", 0.3)),
        ({"objective": "listnet", "encoder.unit": False, "encoder.centre": False}, ("listnet", 1.0)),
    ):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        fit(x, out=out, method="ranking", settings={**settings, **values}, progress=False)
        chosen = read_config(out).objective
        assert (chosen.kind, chosen.parameters["temperature"]) == wanted


@pytest.mark.filterwarnings("ignore::likewise.errors.LikewiseWarning")
def test_lists_that_teach_less_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = vectors(40)
    rows = [(0, i, 1.0) for i in range(1, 30)] + [(1, 2, 1), (1, 3, 0), (2, 5, 2), (2, 6, 2)]
    settings = {**SETTINGS, "relations": graded_file(tmp_path / "g.csv", rows), "epochs": 1, "batch_size": 8}
    fit(x, out=tmp_path / "run", method="ranking", settings=settings)
    said = capsys.readouterr().err
    assert (
        f"the items of 2 of the 3 queries of {tmp_path / 'g.csv'} are all equally relevant: these queries teach" in said
    )
    assert "1 of the queries have more items than fit into batch_size=8: in each epoch they have others of them" in said
    fit(x, out=tmp_path / "other", method="ranking", settings={**settings, "objective": "regression"})
    assert "equally relevant" not in capsys.readouterr().err


EQUAL, ZERO, UP_TO_7 = [(0, 1, 2), (0, 2, 2), (3, 4, 1)], [(0, 1, 0), (0, 2, 0)], [(0, 1, 7), (0, 2, 0)]
BAD: list[tuple[Sequence[Row], dict[str, Any], str]] = [
    (EQUAL, {}, "has no query with items of different relevance, and lambdarank learns which items of a query are"),
    (ZERO, {"objective": "regression"}, "has no relevance above 0, so nothing is relevant; add some"),
    (
        UP_TO_7,
        {"objective": "ordinal"},
        "has relevance up to 7, but objective.grades=4 is the highest grade .*set it to 7",
    ),
    ([(0, 1, 100), (0, 2, 0)], {}, "has relevance up to 100, and a gain of 2.relevance − 1 is too large above 60"),
    (UP_TO_7, {"batch_size": 2}, "batch_size=2 has no room for a query and two items"),
    (UP_TO_7, {"alike": "pairs"}, "alike=pairs|objective lambdarank takes the graded relevance"),
    ([(0, 0, 1)], {}, "'0' is query and item"),
    ([(0, 99, 1)], {}, "item: no item has the id '99'"),
    (UP_TO_7, {"encoder.bn_groups": 2}, "too few for encoder.bn_groups=2 groups of two: the same items are in many"),
]


@pytest.mark.parametrize(("rows", "values", "said"), BAD, ids=[said[:30] for _, _, said in BAD])
def test_what_teaches_nothing_is_one_sentence(
    rows: Sequence[Row], values: dict[str, Any], said: str, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "relations": graded_file(tmp_path / "g.csv", rows), **values}
    with pytest.raises(LikewiseError, match=said):
        fit(vectors(10), out=tmp_path / "run", method="ranking", settings=settings, progress=False)
    assert not (tmp_path / "run").exists()


def test_changed_relevance_is_told_on_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = vectors(20)
    rows = judged(x, range(9))
    settings = {**SETTINGS, "relations": graded_file(tmp_path / "g.csv", rows), "epochs": 1}
    fit(x, out=tmp_path / "run", method="ranking", settings=settings, progress=False)
    graded_file(tmp_path / "g.csv", [(*rows[0][:2], 3 - rows[0][2]), *rows[1:]])
    fit(x, out=tmp_path / "run", resume=True, settings={"epochs": 2})
    assert "warning: the pairs, triplets or graded relevance changed since the checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("give", [torch.float32, torch.float64])
def test_the_step_takes_whole_lists_as_the_objective_does(give: torch.dtype) -> None:
    """The padded lists of a step and the lists that follow each other give one loss, and one gradient."""
    from likewise.training.batches import padded
    from likewise.training.samplers import GradedSampler

    x = vectors(40)
    rows = judged(x, range(12), 5)[:-3]
    sampler = GradedSampler([row[:2] for row in rows], 30, 0)
    relevance = torch.tensor([row[2] for row in rows])
    lists = sampler.lists(1)
    z = functional.normalize(torch.from_numpy(x)[lists.rows].to(give), dim=1)
    given = padded(lists, relevance[lists.which])

    def gradient(loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        leaf = z.clone().requires_grad_()
        value = loss(leaf)
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    objective = LambdaRank(temperature=0.1)
    by_step = gradient(
        lambda z: objective((z[given.queries] @ z.T).gather(1, given.items), given.relevance, given.mask)
    )
    by_hand = gradient(
        lambda z: objective(
            (z[lists.places[:, 0]] * z[lists.places[:, 1]]).sum(1), relevance[lists.which], offsets=lists.offsets
        )
    )
    torch.testing.assert_close(by_step, by_hand)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = vectors(30)
    np.save(tmp_path / "x.npy", x)
    file = graded_file(tmp_path / "g.csv", judged(x, range(12)))
    options = ["--method", "ranking", "--relations", str(file), "--encoder.name", "mlp", "--epochs", "1"]
    assert main(["fit", str(tmp_path / "x.npy"), "--out", str(tmp_path / "run"), *options, "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert f"Next: likewise retrieve {tmp_path / 'run'} --gallery DATA --relations FILE; likewise index" in said
    assert main(["embed", str(tmp_path / "run"), str(tmp_path / "x.npy"), "--out", str(tmp_path / "z.parquet")]) == 0
    assert main(["report", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    held = graded_file(tmp_path / "held.csv", judged(x, range(12, 30)))
    command = ["retrieve", str(tmp_path / "run"), "--gallery", str(tmp_path / "x.npy"), "--relations", str(held)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("NDCG@10", "Recall@10", "learned"))
    graded = read_graded(held, [str(n) for n in range(30)])
    order, offsets = graded.by_query()
    z, pairs = lw.load(tmp_path / "run").features(lw.open_items(x)), graded.rows[order]
    cosines = (z[pairs[:, 0]] * z[pairs[:, 1]]).sum(1)
    scores = {score.name: score for score in read_scores(tmp_path / "run" / "ranking.json")}
    wanted = lw.ndcg(cosines, graded.relevance[order], offsets=offsets)
    assert scores["learned/ndcg@10"].value == pytest.approx(float(wanted))
    assert scores["learned/ndcg@10"].protocol["convention"] == wanted.convention
    assert {name.split("/")[0] for name in scores} == {"raw", "untrained", "learned"}
    assert main([*command, "--ks", "3"]) == 2
    assert "--relations says which items are ranked for which query; leave --ks out." in capsys.readouterr().err
    held.write_text("query,item,relevance\n1,2,0\n1,3,0\n4,5,1\n4,6,0\n")
    assert main(command) == 0
    assert "held.csv: 1 of the 2 queries have items of one relevance alone, so that any" in capsys.readouterr().err
    held.write_text("query,item,relevance\n1,2,0\n1,3,0\n")
    assert main(command) == 2
    assert "held.csv has no relevance above 0, so nothing is relevant; add some." in capsys.readouterr().err
