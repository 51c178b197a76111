"""Queries with an encoder of their own: what a step computes, and which of the two encoders every use takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from likewise.cli.main import main
from likewise.config.overrides import settings_from
from likewise.data import open_items, read_graded
from likewise.encoders import Embedder, build_embedder
from likewise.errors import LikewiseError
from likewise.evaluation.ranked import ranked
from likewise.index import Index
from likewise.metrics import ndcg
from likewise.model import Model, load
from likewise.objectives import LambdaRank
from likewise.run_index import search_run
from likewise.training.fit import fit, prepare

N, D = 24, 6
VECTORS = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
SETTINGS: dict[str, Any] = {
    **{"method": "ranking", "relations": "graded.csv", "epochs": 3, "batch_size": 18, "knn_epochs": 0},
    **{"encoder.apart": True, "encoder.hidden": 8, "encoder.dim": 4, "encoder.name": "mlp"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directed relation that one encoder can't learn: b follows a, never a follows b. Vectors, and a run of them."""
    place = tmp_path_factory.mktemp("apart")
    rows = [f"{a},{(a + step) % N},{grade}" for a in range(N) for step, grade in ((1, 2), (2, 1), (-1, 0), (-2, 0))]
    (place / "graded.csv").write_text("\n".join(["query,item,relevance", *rows]))
    np.save(place / "vectors.npy", VECTORS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        fit("vectors.npy", out="run", settings=SETTINGS, progress=False)
        assert main(["index", "run", "vectors.npy"]) == 0
    return place


def rows_of(model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows as queries and as items, from the two encoders themselves."""
    embedder, x = model.embedder.eval(), model.standardise(torch.from_numpy(VECTORS))
    assert embedder.query is not None
    halves = []
    for each in (embedder.query, embedder):
        with torch.no_grad():
            halves.append(functional.normalize(each.centre(each.head(each.backbone(x))), dim=1))
    return halves[0], halves[1]


def test_a_step_compares_rows_of_the_two_encoders() -> None:
    torch.manual_seed(0)
    settings = settings_from(SETTINGS).encoder
    embedder = build_embedder(settings, vector_dim=D)
    assert embedder.query is not None
    for mine, theirs in zip(embedder.query.parameters(), embedder.backbone.parameters(), strict=False):
        assert torch.equal(mine, theirs)  # it starts as a copy
        assert mine is not theirs
    with torch.no_grad():
        embedder.query.head.weight.mul_(-0.5)  # type: ignore[operator, union-attr]
    x, dim = torch.from_numpy(VECTORS), embedder.dim
    both = embedder.train()(x)
    alone = build_embedder(settings_from({**SETTINGS, "encoder.apart": False}).encoder, vector_dim=D).train()
    for part, rows in zip((embedder.query, embedder), embedder.roles(both), strict=True):
        weights = {name: value for name, value in part.state_dict().items() if not name.startswith("query.")}
        alone.load_state_dict(weights)
        assert torch.allclose(rows, alone(x), atol=1e-6)
    assert both.shape == (N, 2 * dim)
    assert torch.equal(embedder.embed(x), embedder.roles(embedder(x))[1])
    assert alone.roles(x)[0] is alone.roles(x)[1] is x
    assert embedder.eval().layers() == {"embedding": 4, "backbone": 8, "query": 4}


def test_the_loss_of_a_run_is_that_of_the_two_encoders(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from likewise.training.batches import batches
    from likewise.training.build import build_session, build_views
    from likewise.training.step import train_step

    monkeypatch.chdir(place)
    settings = settings_from({**SETTINGS, "views.noise": 0.0, "views.dropout": 0.0}, load("run").settings)
    items = open_items("vectors.npy", progress=False)
    ready = prepare(settings, items)
    model = Model.untrained(ready.settings, items)
    session = build_session(ready.settings, model.embedder, items, 9, torch.device("cpu"), ready.relations)
    session.train()
    batch = next(batches(items, ready.sampler, build_views(model), session, ready.relations))
    assert batch.judged is not None
    queries, found = model.embedder.roles(model.embedder.train()(model.standardise(items.batch(batch.items))))
    lists = zip(batch.judged.queries, batch.judged.items, strict=True)
    scores = [[float((queries[query] @ found[item]).detach()) for item in row] for query, row in lists]
    loss = LambdaRank(temperature=0.1)(torch.tensor(scores), batch.judged.relevance, batch.judged.mask)
    assert float(train_step(session, batch)[0]) == pytest.approx(float(loss), rel=1e-4)


def test_each_use_takes_the_right_encoder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    model = load("run")
    queries, items = rows_of(model)
    assert not torch.allclose(queries, items, atol=0.01)
    assert torch.allclose(model.embed("vectors.npy", progress=False).rows, items, atol=1e-6)
    assert torch.allclose(model.embed("vectors.npy", layer="query", progress=False).rows, queries, atol=1e-6)
    np.save("one.npy", VECTORS[5])
    cosines = queries[5] @ items.T
    for hits in (search_run(Path("run"), "one.npy", 3), model.search("one.npy", 3)):
        assert [hit.id for hit in hits] == [str(row) for row in cosines.topk(3).indices.tolist()]
        assert hits[0].score == pytest.approx(float(cosines.max()), abs=1e-5)
    cosines[5] = -2.0  # an id is not its own hit
    for hits in (search_run(Path("run"), "5", 3), model.index("vectors.npy", progress=False).search("5", 3)):
        assert [hit.id for hit in hits] == [str(row) for row in cosines.topk(3).indices.tolist()]
    scores = {
        score.name: score for score in ranked(model, gallery="vectors.npy", relations="graded.csv", progress=False)
    }
    graded = read_graded("graded.csv", [str(row) for row in range(N)])
    order, offsets = graded.by_query()
    pairs = graded.rows[order]
    by_hand = ndcg((queries[pairs[:, 0]] * items[pairs[:, 1]]).sum(1), graded.relevance[order], offsets=offsets)
    assert scores["learned/ndcg@10"].value == pytest.approx(by_hand.mean, abs=1e-6)


def test_a_directed_relation_needs_two_encoders(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    found = {}
    for apart in (False, True):
        chosen = {**SETTINGS, "encoder.apart": apart, "epochs": 60, "encoder.hidden": 32, "views.noise": 0.0}
        chosen |= {"encoder.dim": 8, "views.dropout": 0.0}
        model = fit("vectors.npy", out=tmp_path / str(apart), settings=chosen, progress=False)
        scores = ranked(model, gallery="vectors.npy", relations="graded.csv", progress=False)
        found[apart] = next(score.value for score in scores if score.name == "learned/ndcg@10")
    assert found[True] > found[False] + 0.1


def test_an_index_without_queries_forgets_those_of_before(tmp_path: Path) -> None:
    rows, ids = torch.eye(3), ["a", "b", "c"]
    Index(rows, ids, {"model": "x"}, query_rows=rows.flip(0)).save(tmp_path)
    assert [hit.id for hit in Index.load(tmp_path).search("a", 1)] == ["c"]
    Index(rows, ids, {"model": "y"}).save(tmp_path)
    assert Index.load(tmp_path).query_rows is None


def test_what_does_not_go_together_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for settings, sentence in (
        ({"encoder.apart": True}, "encoder.apart=true needs a file that says what is a query: set alike=graded"),
        ({**SETTINGS, "encoder.pixels": 0.2}, "encoder.apart and encoder.pixels do not work together"),
    ):
        with pytest.raises(LikewiseError, match=sentence):
            fit("vectors.npy", out="x", settings=settings, progress=False)
    plain = Model.untrained(settings_from({"encoder.name": "mlp"}), open_items("vectors.npy", progress=False))
    with pytest.raises(LikewiseError, match="this model has no layer 'query'; its layers are embedding, backbone"):
        plain.embed("vectors.npy", layer="query", progress=False)
    with pytest.raises(LikewiseError, match="there is no layer 'query' to embed; choose one of: embedding, backbone"):
        plain.embedder.embed(torch.zeros(2, D), "query")
    assert isinstance(plain.embedder, Embedder)
