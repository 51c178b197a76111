"""``alike=pairs`` with pairs that are all alike: the other items of a batch push, except those that a pair links."""

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from toy import clusters

from likewise.config.overrides import settings_from
from likewise.data import open_items
from likewise.data.pair_files import read_pairs
from likewise.errors import LikewiseError
from likewise.model import load
from likewise.training import loop, step
from likewise.training.checkpoint import load_checkpoint
from likewise.training.fit import fit
from likewise.training.pair_graph import PairGraph
from likewise.training.supervision import read_relations

KINDS = (
    *("infonce", "supcon", "triplet", "circle", "multi-similarity", "npair", "unified", "contrastive", "margin"),
    *("angular", "lifted", "histogram"),
)
SETTINGS: dict[str, Any] = {
    "encoder": {"name": "mlp", "hidden": 32, "dim": 8},
    **{"alike": "pairs", "dictionary": "batch", "batch.keys": "same", "objective.kind": "infonce"},
    **{"batch_size": 24, "epochs": 2, "knn_epochs": 0, "optim.lr": 0.05},
}


def chain(labels: np.ndarray) -> list[tuple[int, int]]:
    """Each item with the next two of its label."""
    groups = [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]
    return [(a, b) for rows in groups for place, a in enumerate(rows) for b in rows[place + 1 : place + 3]]


def pairs_file(path: Path, pairs: list[tuple[int, int]]) -> Path:
    path.write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in pairs))
    return path


def linked(pairs: list[tuple[int, int]]) -> dict[int, set[int]]:
    partners: dict[int, set[int]] = {}
    for a, b in pairs:
        partners.setdefault(a, set()).add(b)
        partners.setdefault(b, set()).add(a)
    return partners


def roles(pairs: list[tuple[int, int]], rows: list[int]) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """The places of items that are alike, and of those that are neither, by sets."""
    partners = linked(pairs)
    alike, neither = set[tuple[int, int]](), set[tuple[int, int]]()
    for i, j in combinations(range(len(rows)), 2):
        one, other = partners.get(rows[i], set()), partners.get(rows[j], set())
        if rows[j] in one:
            alike.add((i, j))
        elif one & other:
            neither.add((i, j))
    return alike, neither


@pytest.mark.parametrize("columns", [1, 4096])
def test_a_graph_knows_what_sets_know(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likewise.training.pair_graph._COLUMNS", columns)
    random = np.random.default_rng(0)
    for items, count in ((6, 4), (30, 25), (30, 120), (200, 90)):
        every = list(combinations(range(items), 2))
        pairs = [every[place] for place in random.choice(len(every), min(count, len(every)), replace=False)]
        graph = PairGraph(torch.tensor(pairs), items)
        for size in (2, 5, items):
            rows = random.permutation(items)[:size]
            joined, neither = graph.within(torch.from_numpy(rows))
            wanted = roles(pairs, rows.tolist())
            assert ({*map(tuple, joined.tolist())}, {*map(tuple, neither.tolist())}) == wanted
            assert len(joined) == len(wanted[0])


def test_a_run_has_the_loss_of_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """InfoNCE of each positive among all items of the batch that no pair links with the anchor."""
    x, labels = clusters()
    pairs = chain(labels)
    seen = list[tuple[list[int], Tensor, float]]()

    def look_up(session: Any, batch: Any, queries: Any, keys: Any) -> Tensor:
        loss = original(session, batch, queries, keys)
        seen.append((batch.items.tolist(), queries[0].detach(), float(loss.detach())))
        return loss

    original = step.look_up
    monkeypatch.setattr(step, "look_up", look_up)
    settings = {**SETTINGS, "relations": pairs_file(tmp_path / "p.csv", pairs), "epochs": 1}
    fit(x, out=tmp_path / "run", settings=settings, progress=False)
    assert len(seen) == math.ceil(len(pairs) / 12)
    assert any(roles(pairs, rows)[1] for rows, _, _ in seen)
    for rows, z, found in seen:
        alike, neither = roles(pairs, rows)
        assert alike
        s = (z @ z.T / 0.1).tolist()
        losses = []
        for i in range(len(rows)):
            pulls = [j for j in range(len(rows)) if (min(i, j), max(i, j)) in alike]
            pushes = [
                j for j in range(len(rows)) if j != i and j not in pulls and (min(i, j), max(i, j)) not in neither
            ]
            push = sum(math.exp(s[i][j]) for j in pushes)
            losses.append(np.mean([-math.log(math.exp(s[i][p]) / (math.exp(s[i][p]) + push)) for p in pulls]))
        assert found == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_objective_of_pairs_learns_from_pairs_that_are_alike(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, labels = clusters()
    path = pairs_file(tmp_path / "p.csv", chain(labels))
    settings = {**SETTINGS, "relations": path, "objective.kind": kind, "epochs": 12}
    model = fit(x, out=tmp_path / "run", settings=settings)
    assert f"{path} has only pairs that are alike, so the other items of a batch are the neg" in capsys.readouterr().err
    similarity = torch.from_numpy(np.asarray(model.embed(x, progress=False).rows))
    similarity = (similarity @ similarity.T).fill_diagonal_(-9)
    assert (labels[similarity.argmax(1).numpy()] == labels).mean() > 0.6  # raw vectors: 0.27


def test_mining_takes_them_too(tmp_path: Path) -> None:
    x, labels = clusters()
    mined = {"objective.kind": "triplet", "negatives.policies": ["hard"], "negatives.positives": "hard"}
    path = pairs_file(tmp_path / "p.csv", chain(labels))
    fit(x, out=tmp_path / "run", settings={**SETTINGS, **mined, "relations": path}, progress=False)


class Killed(BaseException):
    """What no handler of the program catches."""


def test_it_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = clusters()
    settings = {**SETTINGS, "relations": pairs_file(tmp_path / "p.csv", chain(labels)), "checkpoint_seconds": 0.0}
    fit(x, out=tmp_path / "whole", settings=settings, progress=False)
    train_step, steps = loop.train_step, iter(range(100))

    def stopping(*known: Any) -> Any:
        if next(steps) == 9:
            raise Killed
        return train_step(*known)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stopping)
        with pytest.raises(Killed):
            fit(x, out=tmp_path / "parts", settings=settings, progress=False)
    assert load_checkpoint(tmp_path / "parts" / "checkpoint.pt")["step"] == 9
    fit(x, out=tmp_path / "parts", resume=True, progress=False)
    one, two = (load(tmp_path / name).embedder.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_of_two_columns(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"p{suffix}"

    def write(columns: dict[str, list[Any]]) -> None:
        if suffix == ".parquet":
            pq.write_table(pa.table(columns), path)
        else:
            rows = zip(*columns.values(), strict=True)
            path.write_text("\n".join(",".join(map(str, row)) for row in [list(columns), *rows]) + "\n")

    write({"b": ["y", "z"], "a": ["x", "y"]})
    pairs = read_pairs(path, ["x", "y", "z"])
    assert pairs.all_alike
    assert pairs.rows.tolist() == [[0, 1], [1, 2]]
    write({"a": ["x"], "b": ["y"], "alik": [0]})
    with pytest.raises(LikewiseError, match=r"no column 'alike'\. Did you mean 'alik'\? Name so the .* a,b,alik"):
        read_pairs(path, ["x", "y"])
    write({"a": ["x"], "b": ["q"]})
    with pytest.raises(LikewiseError, match=r"b: no item has the id 'q'"):
        read_pairs(path, ["x", "y"])


def test_a_batch_needs_two_pairs(tmp_path: Path) -> None:
    settings = {**SETTINGS, "relations": pairs_file(tmp_path / "p.csv", [(0, 1), (2, 3)]), "batch_size": 3}
    with pytest.raises(LikewiseError, match=r"only pairs that are alike, .*: batch_size=3 must be at least 4, for two"):
        fit(clusters()[0], out=tmp_path / "run", settings=settings, progress=False)


@pytest.mark.parametrize("pairs", [[(0, leaf) for leaf in range(1, 60)], list(combinations(range(4), 2))])
def test_pairs_without_any_negative_are_refused(pairs: list[tuple[int, int]], tmp_path: Path) -> None:
    """A star has a partner in common for every two items."""
    settings = SETTINGS | {"relations": pairs_file(tmp_path / "pairs.csv", pairs)}
    with pytest.raises(LikewiseError, match=r"join every two of its items, .* such as '0', so no item is a negative"):
        fit(clusters()[0], out=tmp_path / "run", settings=settings, progress=False)
    far = pairs_file(tmp_path / "pairs.csv", [*pairs, (70, 71)])
    items = open_items(clusters()[0], progress=False)
    assert len(read_relations(settings_from(settings | {"relations": str(far)}), items) or ()) == len(pairs) + 1
