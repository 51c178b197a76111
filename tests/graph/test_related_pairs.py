"""A graph as what `fit` learns from: its edges are pairs that are alike."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from likewise.config.settings import OptimSettings
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.graph.graph_file import related_pairs
from likewise.training.build import build_optimizer
from likewise.training.fit import fit
from likewise.training.run_folder import read_config

IDS = [f"i{number:02}" for number in range(40)]


def graph(folder: Path, edges: list[tuple[str, str]]) -> Path:
    folder.mkdir()
    table = pa.table({"item": [a for a, _ in edges], "other": [b for _, b in edges], "weight": [1.0] * len(edges)})
    pq.write_table(table, folder / "edges.parquet")
    return folder


def test_both_directions_are_one_pair_and_items_without_content_are_counted(tmp_path: Path) -> None:
    made = graph(tmp_path / "g", [("i03", "i01"), ("i01", "i03"), ("i02", "i04"), ("i02", "new"), ("i05", "i05")])
    pairs = related_pairs(made, IDS)
    assert pairs.rows.tolist() == [[1, 3], [2, 4]]
    assert pairs.all_alike
    assert pairs.merged == 1
    assert pairs.source == f"{made}, without 2 of its 5 edges, whose items are not all in DATA,"
    with pytest.raises(LikewiseError, match=r"no edge of .*g joins two of the items: it has ids such as '.*\. Name "):
        related_pairs(made, ["a", "b"])
    with pytest.raises(
        LikewiseError, match=r"The ids of photos are their paths: write 'i03.jpg' in the place of 'i03'"
    ):
        related_pairs(made, ["a.jpg", "i03.jpg", "i01.jpg"])
    (made / "edges.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(LikewiseError, match=r"edges.parquet can't be read as a graph"):
        related_pairs(made, IDS)
    pq.write_table(pa.table({"item": ["i01"]}), made / "edges.parquet")
    with pytest.raises(LikewiseError, match=r"edges.parquet is no graph: it needs the columns item, other and weight"):
        related_pairs(made, IDS)


def test_fit_learns_who_goes_together(tmp_path: Path) -> None:
    """Items of a group share users, and their content says the group, hidden in noise."""
    rng = np.random.default_rng(0)
    group = np.arange(40) // 8
    content = np.concatenate([np.eye(5)[group], 3 * rng.normal(size=(40, 20))], 1).astype(np.float32)
    edges = [(IDS[a], IDS[b]) for a in range(40) for b in range(40) if a != b and group[a] == group[b]]
    made = graph(tmp_path / "g", edges)
    items = Items(ids=tuple(IDS), values=content, kind="vectors", source="content")
    settings = {
        **{"alike": "pairs", "relations": str(made), "optim.name": "adamw", "optim.lr": 5e-3, "epochs": 12},
        **{"encoder.hidden": 32, "encoder.dim": 8, "batch_size": 32, "views.noise": 0.0, "views.dropout": 0.1},
        **{"knn_epochs": 0, "threads": 1},
    }
    model = fit(items, out=tmp_path / "run", method="facenet", settings=settings, progress=False)
    assert read_config(tmp_path / "run").encoder.name == "mlp"
    rows = torch.as_tensor(model.embed(items, progress=False).rows)
    alike = rows @ rows.T
    same = torch.from_numpy(group[:, None] == group[None]) & ~torch.eye(40, dtype=torch.bool)
    other = torch.from_numpy(group[:, None] != group[None])
    assert float(alike[same].mean()) > float(alike[other].mean()) + 0.5


def test_adamw_is_torchs() -> None:
    chosen = OptimSettings(name="adamw", lr=0.002, momentum=0.8, weight_decay=0.01)
    found = build_optimizer(chosen, [torch.nn.Parameter(torch.ones(3))])
    assert isinstance(found, torch.optim.AdamW)
    assert {name: found.defaults[name] for name in ("lr", "betas", "weight_decay")} == {
        "lr": 0.002,
        "betas": (0.8, 0.999),
        "weight_decay": 0.01,
    }
