"""Methods that learn from a graph: planted negatives, edges that never push, clusters as classes."""

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from likewise.cli.main import main
from likewise.config.settings import ClusterSettings, FitSettings, SamplerSettings
from likewise.data import Items
from likewise.data.pair_files import Pairs
from likewise.errors import Interrupted, LikewiseError
from likewise.graph.affinity import Siblings
from likewise.graph.build import build_graph
from likewise.graph.graph_file import related_pairs
from likewise.methods import METHODS
from likewise.negatives import HardestBeyond, Random
from likewise.objectives import Mined, Triplet, from_pairs
from likewise.training import checkpoint
from likewise.training.fit import chosen, fit, prepare
from likewise.training.metrics_log import read_metrics
from likewise.training.pair_graph import PairGraph
from likewise.training.planted import Planted, PlantedSampler, Uniform, clusters_of, planted
from likewise.training.preflight import preflight
from likewise.training.recipe import with_recipe
from likewise.training.samplers import PairSampler

GROUPS, EACH = 12, 8
ITEMS = GROUPS * EACH
SMALL: dict[str, Any] = {
    **{"encoder.hidden": 16, "encoder.dim": 8, "batch_size": 40, "epochs": 4, "knn_epochs": 0, "threads": 1},
}


def group() -> np.ndarray:
    return np.arange(ITEMS) // EACH


def edges() -> np.ndarray:
    """All pairs of a group; groups are joined in fours by a weak edge between each two."""
    within = [(a, b) for a in range(ITEMS) for b in range(a + 1, ITEMS) if group()[a] == group()[b]]
    between = [(EACH * a, EACH * b) for a in range(GROUPS) for b in range(a + 1, GROUPS) if a // 4 == b // 4]
    return np.array(within + between)


def pairs() -> Pairs:
    rows = edges()
    weight = np.where(group()[rows[:, 0]] == group()[rows[:, 1]], 0.9, 0.05)
    weight += np.random.default_rng(0).uniform(0, 0.04, len(rows))
    alike = torch.ones(len(rows), dtype=torch.bool)
    return Pairs(rows=torch.from_numpy(rows), alike=alike, source="graph", weight=torch.from_numpy(weight))


def items() -> Items:
    """Content that says the group, among noise."""
    noise = np.random.default_rng(1).normal(size=(ITEMS, 24))
    values = np.concatenate([2 * np.eye(GROUPS)[group()], noise], 1).astype(np.float32)
    return Items(ids=tuple(f"i{row:02}" for row in range(ITEMS)), values=values, kind="vectors", source="content")


def folder(path: Path) -> Path:
    path.mkdir()
    known, of = pairs(), items().ids
    assert known.weight is not None
    names = [[of[row] for row in column] for column in known.rows.T.tolist()]
    table = pa.table({"item": names[0], "other": names[1], "weight": known.weight.numpy()})
    pq.write_table(table, path / "edges.parquet")
    return path


def test_a_batch_has_the_planted_items_of_one_end_of_each_pair() -> None:
    sampler = PlantedSampler(torch.from_numpy(edges()), 10, 3, Planted(Uniform(np.arange(ITEMS)), 2))
    plain = PairSampler(torch.from_numpy(edges()), 10, 3)
    drawn = list[int]()
    for step in range(sampler.steps_per_epoch):
        (rows, local, which), added = sampler.tuples(step)
        assert torch.equal(rows[local], torch.from_numpy(edges())[which])
        assert len(torch.unique(rows)) == len(rows)
        assert torch.equal(which, plain.tuples(step).which)
        assert set(added[:, 0].tolist()) <= set(local.flatten().tolist())
        assert not bool((added[:, 0] == added[:, 1]).any())
        assert set(rows.tolist()) == set(rows[local].flatten().tolist()) | set(rows[added[:, 1]].tolist())
        assert torch.equal(added, sampler.tuples(step)[1])
        drawn += rows[added[:, 1]].tolist()
    assert len(set(drawn)) == ITEMS  # uniform over all


def test_planted_siblings_are_of_the_clusters_beside() -> None:
    settings = FitSettings(alike="pairs", sampler=SamplerSettings(planted="siblings"), batch_size=12)
    added = planted(settings, pairs(), ITEMS)
    assert added is not None
    assert isinstance(added.source, Siblings)
    found = clusters_of(pairs(), ITEMS, ClusterSettings())
    anchors = np.arange(ITEMS)
    near = added.source.draw(anchors, np.random.default_rng(0))
    parent, own = found.labels[1], found.labels[0]
    siblings = [set(np.flatnonzero((parent == parent[a]) & (own != own[a]))) for a in anchors]
    assert any(siblings)
    assert all(item in beside for item, beside in zip(near, siblings, strict=True) if beside)
    assert any("clusters of level 0:" in note for note in added.notes)
    assert not any("warning" in note for note in added.notes)
    large = planted(FitSettings(alike="pairs", sampler=settings.sampler, batch_size=64), pairs(), ITEMS)
    assert large is not None
    assert any("a batch covers 67% of the 96 items" in note for note in large.notes)


def test_the_edges_within_a_batch_are_those_of_a_loop() -> None:
    graph, known = PairGraph(pairs().rows, ITEMS), {tuple(pair) for pair in edges().tolist()}
    rows = torch.from_numpy(np.random.default_rng(0).permutation(ITEMS)[:30])
    found = {tuple(sorted(pair)) for pair in rows[graph.joined(rows)].tolist()}
    names = rows.tolist()
    assert found == {(a, b) for a in names for b in names if (a, b) in known}
    assert bool((graph.joined(rows)[:, 0] < graph.joined(rows)[:, 1]).all())


@pytest.mark.parametrize("policy", [HardestBeyond(), Random(3)])
def test_the_share_of_planted_negatives_that_survive(policy: HardestBeyond | Random) -> None:
    z = torch.nn.functional.normalize(torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    places = torch.arange(20).view(10, 2)
    added = torch.stack([places[:, 0].repeat(2), torch.arange(20, 30).repeat(2)], 1)
    added[10:, 1] = (added[10:, 1] + 3 - 20) % 10 + 20
    mined = Mined(Triplet(), negatives=policy, generator=torch.Generator().manual_seed(1))
    assert "survived" not in mined.log_values()
    mined(*from_pairs(z, places, planted=added))
    wanted = {tuple(pair) for pair in added.tolist()}
    s = z @ z.T
    if isinstance(policy, HardestBeyond):
        kept = []
        for a, p in places.tolist():  # only the first end of a pair has planted negatives
            beyond = [j for j in range(30) if j not in (a, p) and s[a, j] < s[a, p]]
            if beyond:
                kept.append((a, max(beyond, key=lambda j: float(s[a, j]))) in wanted)
        assert mined.log_values()["survived"] == pytest.approx(np.mean(kept))
        assert 0 < np.mean(kept) < 1
    else:
        assert 0 <= float(mined.log_values()["survived"]) <= 1
    mined(*from_pairs(z, places))
    assert "survived" not in mined.log_values()


@pytest.mark.parametrize("method", ["cdml", "gcml", "gcml-classes"])
def test_the_methods_learn_who_goes_together(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = folder(tmp_path / "graph")
    classes = {"objective.samples": 6, "batch_size": 16, "optim.lr": 0.02} if method == "gcml-classes" else {}
    more = {"relations": made, "epochs": 10, **classes}
    model = fit(items(), out=tmp_path / "run", method=method, settings={**SMALL, **more})
    z = model.features(items())
    near = (z @ z.T).fill_diagonal_(-2).argmax(1).numpy()
    raw = torch.nn.functional.normalize(torch.from_numpy(np.array(items().values)), dim=1)
    before = (raw @ raw.T).fill_diagonal_(-2).argmax(1).numpy()
    assert (group()[near] == group()).mean() > (group()[before] == group()).mean() + 0.2
    last, said = read_metrics(tmp_path / "run")[-1], capsys.readouterr().err
    assert ("survived" in last) == (method != "gcml-classes")
    assert ("clusters of level 0: " in said) == (method != "cdml")


def test_a_run_with_planted_negatives_is_resumed_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = folder(tmp_path / "graph")
    whole = {**SMALL, "relations": made, "checkpoint_seconds": 0.0}
    one = fit(items(), out=tmp_path / "one", method="gcml", settings=whole, progress=False)
    with monkeypatch.context() as patch:
        saves, save = count(1), checkpoint.save_checkpoint

        def killed(path: Path, state: dict[str, Any]) -> None:
            save(path, state)
            if next(saves) == 70:  # within an epoch
                raise KeyboardInterrupt

        patch.setattr(checkpoint, "save_checkpoint", killed)
        with pytest.raises((Interrupted, KeyboardInterrupt)):
            fit(items(), out=tmp_path / "two", method="gcml", settings=whole, progress=False)
    assert checkpoint.load_checkpoint(tmp_path / "two" / "checkpoint.pt")["step"] == 70
    again = fit(items(), out=tmp_path / "two", resume=True, progress=False)
    assert torch.equal(one.features(items()), again.features(items()))


def test_clusters_are_the_classes_and_items_without_an_edge_have_none(tmp_path: Path) -> None:
    made, whole = folder(tmp_path / "graph"), items()
    alone = Items(ids=(*whole.ids, "alone"), values=np.concatenate([whole.values, whole.values[:1]]), kind="vectors")
    settings = chosen("gcml-classes", {"relations": made, "encoder.name": "mlp"})
    prepared = prepare(settings, alone)
    assert prepared.items.ids == whole.ids
    assert prepared.items.labels is not None
    found = clusters_of(pairs(), ITEMS, ClusterSettings()).labels[0]
    same, labels = found[:, None] == found, prepared.items.labels
    assert np.array_equal(labels[:, None] == labels, same)
    assert {each.id: each.reason for each in prepared.items.skipped} == {"alone": "no pair joins it"}
    said = "\n".join(prepared.notes)
    assert "graph gives the classes: its clusters of level 0." in said
    assert "left out, since no pair joins them: 1 of the 97 items (skipped.csv)." in said
    with pytest.raises(LikewiseError, match=r"clusters.level=8: the clusters of .* have only \d levels, from 0"):
        prepare(
            chosen(
                "gcml-classes", {"relations": made, "clusters.level": 8, "clusters.levels": 9, "encoder.name": "mlp"}
            ),
            alone,
        )


@pytest.mark.parametrize(
    ("method", "values", "said"),
    [
        ("cdml", {}, "alike=pairs needs relations=FILE, .* of pairs by item id, or the folder of a graph."),
        (
            "gcml-classes",
            {},
            "alike=clusters needs relations=FILE, a CSV or parquet file of pairs by item id, or the f",
        ),
        ("simclr", {"sampler.planted": "uniform"}, "sampler.planted=uniform adds negatives to a batch of pairs"),
        ("gcml", {"relations": "g", "clusters.level": 3}, "clusters.level=3 must be below clusters.levels=3"),
        (
            "cdml",
            {"relations": "g", "objective.margin": 0},
            "objective.margin=0 gives negatives.policies=hardest-beyond",
        ),
        (
            "cdml",
            {"relations": "g", "objective.margin": 0, "negatives": "inside-margin"},
            "objective.margin=0 gives negatives.policies=inside-margin",
        ),
        ("cdml", {"relations": "g", "sampler.per_pair": 0}, "sampler.per_pair"),
        ("gcml", {"relations": "g", "clusters.largest": 0}, "clusters.largest"),
    ],
)
def test_settings_that_do_not_fit_are_refused(method: str, values: dict[str, Any], said: str) -> None:
    with pytest.raises(LikewiseError, match=said.replace("(", r"\(")):
        chosen(method, values)


def test_clusters_that_can_not_be_are_refused() -> None:
    with pytest.raises(LikewiseError, match=r"graph have no level \(level 0: nothing joins.*; raise clusters.largest"):
        clusters_of(pairs(), ITEMS, ClusterSettings(largest=0.01))
    with pytest.raises(LikewiseError, match=r"have only 4 levels, from 0 .*; set it to 3 or less"):
        clusters_of(
            pairs(), ITEMS, chosen("gcml", {"relations": "g", "clusters.levels": 50, "clusters.level": 9}).clusters
        )


def joined(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.mkdir()
    first, second = zip(*rows, strict=True)
    pq.write_table(pa.table({"item": first, "other": second, "weight": [1.0] * len(rows)}), path / "edges.parquet")
    return path


def test_one_edge_is_one_class_but_enough_where_negatives_are_planted(tmp_path: Path) -> None:
    made, few = joined(tmp_path / "one", [("i00", "i01")]), {"encoder.name": "mlp"}
    assert len(prepare(chosen("cdml", {"relations": made, **few}), items()).relations or ()) == 1
    with pytest.raises(LikewiseError, match=r"one has one cluster of level 0 only, and alike=clusters needs two: add"):
        prepare(chosen("gcml-classes", {"relations": made, **few}), items())
    with pytest.raises(LikewiseError, match="joins every two of its items, so no item is a negative of another: make"):
        prepare(chosen("cdml", {"relations": made, "sampler.planted": "none", **few}), items())


def test_the_items_of_a_star_are_negatives_of_each_other_in_a_graph(tmp_path: Path) -> None:
    """Of a graph only an edge keeps two items from being negatives, a partner in common does not."""
    made = joined(tmp_path / "star", [("i00", f"i{leaf:02}") for leaf in range(1, 60)])
    settings = chosen("cdml", {"relations": made, "sampler.planted": "none", "encoder.name": "mlp"})
    assert len(prepare(settings, items()).relations or ()) == 59


def test_a_batch_needs_room_for_a_pair_and_its_planted_negatives(tmp_path: Path) -> None:
    made = folder(tmp_path / "graph")
    for values, said in (
        ({"batch_size": 5}, r"batch_size=5 has no room for a pair and the sampler.per_pair=4 .* at least 6, or lower"),
        ({"sampler.per_pair": 10**6}, r"batch_size=6144 has no room .* must be at least 1000002, or lower"),
        ({"batch_size": 3}, "batch_size=3 must be at least 4"),
    ):
        with pytest.raises(LikewiseError, match=said):
            prepare(chosen("cdml", {"relations": made, "encoder.name": "mlp", **values}), items())
    least = chosen("cdml", {"relations": made, "encoder.name": "mlp", "batch_size": 6})
    assert prepare(least, items()).sampler.steps_per_epoch == len(edges())


def test_the_rate_of_adamw_is_not_advised_in_proportion_to_the_batch() -> None:
    advised = preflight(chosen("cdml", {"relations": "g"}), 80, 3)
    assert {each.setting for each in advised} == {"epochs"}
    assert "SGD" not in advised[0].line()


def test_no_share_is_logged_where_no_planted_negative_had_a_chance() -> None:
    z = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [-1.0, 0.1], [1.0, 0.1], [0.9, 0.1]]), dim=1)
    mined = Mined(Triplet(), negatives=HardestBeyond())
    mined(*from_pairs(z, torch.tensor([[0, 1]]), planted=torch.tensor([[0, 2], [0, 3]])))
    assert mined.survived is not None  # the positive is the furthest: nothing is beyond it
    assert mined.survived.isnan()
    assert "survived" not in mined.log_values()


def test_pairs_that_name_negatives_need_no_planted_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", items().values)
    (tmp_path / "p.csv").write_text("a,b,alike\n0,1,1\n0,9,0\n2,3,1\n")
    data, file = str(tmp_path / "x.npy"), str(tmp_path / "p.csv")
    assert main(["fit", data, "--method", "cdml", "--relations", file, "--out", str(tmp_path / "run")]) == 2
    assert "names negatives itself, with pairs that are not alike" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    for method in ("cdml", "gcml-classes"):
        with pytest.raises(
            LikewiseError, match=r"is a folder without edges\.parquet, so it is no graph; likewise graph"
        ):
            prepare(chosen(method, {"relations": tmp_path, "encoder.name": "mlp"}), items())


def test_a_budget_of_time_keeps_the_head_of_the_method_and_judges_no_views(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe chooses an encoder only where the method's own does not suit the items."""
    rows = [str(row) for row in range(ITEMS)]
    parts = {"all": pd.DataFrame({"id": rows, "all": list(items().values)})}
    pq.write_table(pa.table({"a": [*map(str, edges()[:, 0])], "b": [*map(str, edges()[:, 1])]}), tmp_path / "p.parquet")
    settings = {**SMALL, "relations": tmp_path / "p.parquet", "minutes": 0.02, "key": "id"}
    del settings["epochs"]
    model = fit(parts, out=tmp_path / "run", method="cdml", settings=settings)
    assert (model.settings.encoder.name, model.settings.encoder.head) == ("towers", "linear")
    assert "finds the other view" not in capsys.readouterr().err
    whole = with_recipe(chosen("cdml", {**settings, "recipe": "data"}), pictures(), {"method", "relations"})
    assert whole.settings.encoder.name in ("resnet-small", "resnet-fine")


def pictures() -> Items:
    values = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3)).astype(np.uint8)
    return Items(ids=tuple(map(str, range(40))), values=values, kind="images", source="pictures")


def test_items_that_the_interactions_do_not_know_are_never_planted(tmp_path: Path) -> None:
    """A graph keeps all items of its interactions; new ones are no negatives."""
    rows = [(user, item) for user in range(30) for item in range(40) if (user + item) % 5 == 0 or item == user]
    (tmp_path / "i.csv").write_text("user,item\n" + "".join(f"{user},n{item:02}\n" for user, item in rows))
    build_graph(tmp_path / "i.csv", tmp_path / "graph", support=4)
    ids = [f"n{item:02}" for item in range(60)]
    found = related_pairs(tmp_path / "graph", ids)
    assert found.known is not None
    assert found.known.tolist() == list(range(40))
    assert len(torch.unique(found.rows)) <= 40
    for kind in ("uniform", "siblings"):
        settings = chosen("cdml", {"relations": "g", "sampler.planted": kind, "clusters.level": 1})
        added = planted(settings, found, len(ids))
        assert added is not None
        drawn = added.source.draw(np.repeat(np.arange(60), 50), np.random.default_rng(0))
        assert set(drawn.tolist()) <= set(range(40))
    (tmp_path / "graph" / "items.parquet").write_bytes(b"PAR1")
    with pytest.raises(LikewiseError, match=r"items.parquet can't be read as a graph .*; make the graph again"):
        related_pairs(tmp_path / "graph", ids)
    (tmp_path / "graph" / "items.parquet").unlink()
    assert related_pairs(tmp_path / "graph", ids).known is None  # a graph of an older version


def test_pictures_get_an_encoder_of_pictures(tmp_path: Path) -> None:
    """The methods' own encoder is of vectors."""
    pictures = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3)).astype(np.uint8)
    (tmp_path / "p.csv").write_text("a,b\n" + "".join(f"{n},{n + 20}\n" for n in range(20)))
    settings = {**SMALL, "relations": tmp_path / "p.csv", "size": 8, "epochs": 1}
    model = fit(pictures, out=tmp_path / "run", method="cdml", settings=settings, progress=False)
    assert model.settings.encoder.name == "resnet-small"


def test_the_methods_answer_to_their_long_names() -> None:
    assert {"cdml", "gcml", "gcml-classes"} <= METHODS.keys()
    assert chosen("collaborative_deep_metric_learning", {"relations": "g"}).method == "cdml"
