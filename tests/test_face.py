"""The public face: one order of arguments, reprs that show parameters, what is taken for ids."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from toy import another

import likewise as lw
from likewise import dictionaries, metrics, negatives, objectives
from likewise.blocks import Block
from likewise.config.objective_table import OBJECTIVES, Row
from likewise.config.settings import EncoderSettings
from likewise.dictionaries import sharded
from likewise.errors import LikewiseError
from likewise.index import embedding_file
from likewise.model import Model
from likewise.objectives.sampled import Noise
from likewise.objectives.sharded import ShardedSoftmax
from likewise.training import samplers
from likewise.views.vectors import VectorViews

# Rows and what names them: the rows come first, wherever a call takes both.
NAMED = [
    ("rows", "ids"),
    ("rows", "labels"),
    ("queries", "ids"),
    ("queries", "query_labels"),
    ("queries", "query_ids"),
    ("keys", "key_ids"),
    ("keys", "key_labels"),
    ("gallery", "gallery_labels"),
    ("gallery", "gallery_ids"),
    ("features", "labels"),
    ("test_features", "test_labels"),
    ("train_features", "train_labels"),
    ("train_labels", "train_ids"),
    ("embeddings", "pairs"),
    ("embeddings", "triplets"),
]


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function, constructor and method."""
    for home in (lw, lw.objectives, lw.negatives, dictionaries, sharded, metrics, embedding_file):
        for name, value in inspect.getmembers(home):
            if name.startswith("_") or not callable(value) or not value.__module__.startswith("likewise."):
                continue
            if inspect.isclass(value) and issubclass(value, Exception | Warning):
                continue
            yield f"{home.__name__}.{name}", value
            if inspect.isclass(value):
                for method, function in inspect.getmembers(value, inspect.isfunction):
                    if method == "forward" or not method.startswith("_"):
                        yield f"{home.__name__}.{name}.{method}", function


CALLS = dict(public())


@pytest.mark.parametrize(("first", "second"), NAMED)
def test_rows_come_before_what_names_them(first: str, second: str) -> None:
    both = {name: [*inspect.signature(call).parameters] for name, call in CALLS.items()}
    both = {name: order for name, order in both.items() if first in order and second in order}
    assert both, f"no call takes {first} and {second} any more: take the pair out"
    wrong = [name for name, order in both.items() if order.index(first) > order.index(second)]
    assert not wrong


# What is called with what; every value differs from the default, where there is one.

GENERATOR = torch.Generator().manual_seed(0)
COUNTS = torch.tensor([5, 3, 2])
LABELS = torch.tensor([0, 0, 1, 1, 2])
BLOCK = Block(name="audio", kind="vector", start=0, stop=5)
GIVEN = {"classes": 7, "dim": 5, "n": 9, "counts": COUNTS}  # to an objective by its run
GIVEN |= {"generator": GENERATOR, "noise_generator": GENERATOR}
ONLY_MEAN = (objectives.Histogram,)


def of_the_table(row: Row) -> dict[str, Any]:
    """An objective's arguments, as its constructor lists them."""
    kind = row.load()
    given = GIVEN | {"reduction": "mean" if kind in ONLY_MEAN else "sum"}
    return {
        name: another(row.parameters[name], parameter.default) if name in row.parameters else given[name]
        for name, parameter in inspect.signature(kind).parameters.items()
    }


MADE: list[tuple[type, dict[str, Any]]] = [
    *((row.load(), of_the_table(row)) for row in OBJECTIVES),
    (Noise, {"counts": COUNTS, "power": 0.6, "generator": GENERATOR}),
    (
        objectives.Mined,
        {
            "objective": objectives.Triplet(margin=0.7),
            "negatives": negatives.Random(4),
            "positives": "hard",
            "pairs": "all",
            "generator": GENERATOR,
            "reduction": "sum",
        },
    ),
    (objectives.Reduction, {"how": "sum", "owner": "Circle", "need": "a label"}),
    (ShardedSoftmax, {"n": 9, "temperature": 0.2, "proximal": 0.5, "keys_learn": False}),
    (
        dictionaries.MemoryBank,
        {
            "n": 4,
            "dim": 5,
            "momentum": 0.7,
            "samples": 3,
            "item_ids": list("abcd"),
            "generator": GENERATOR,
            "noise": GENERATOR,
        },
    ),
    (
        dictionaries.Queue,
        {
            "size": 4,
            "dim": 5,
            "start": "empty",
            "own_batch": True,
            "older_pull": True,
            "ids_each": 2,
            "generator": GENERATOR,
        },
    ),
    (sharded.ShardedMemoryBank, {"n": 4, "dim": 5, "momentum": 0.7, "generator": GENERATOR}),
    (dictionaries.Proxies, {"count": 4, "bound": "proxies of arcface"}),
    (sharded.ShardedProxies, {"n": 4, "dim": 5, "generator": GENERATOR}),
    (
        lw.Momentum,
        {"encoder": torch.nn.Linear(3, 2), "momentum": 0.7, "schedule": "cosine", "buffers": "averaged"},
    ),
    (
        lw.Embedder,
        {
            "backbone": torch.nn.Linear(3, 2),
            "head": torch.nn.Identity(),
            "feature_dim": 3,
            "dim": 2,
            "centre": True,
            "unit": False,
            "pixels": 0.25,
            "frozen": True,
            "query": lw.Embedder(torch.nn.Linear(4, 3), torch.nn.Identity(), feature_dim=3, dim=2),
        },
    ),
    (lw.GradientCache, {"embedder": torch.nn.Linear(3, 2), "parts": [torch.ones(4, 3)] * 2, "grouped": True}),
    (
        lw.Index,
        {
            **{"rows": torch.eye(2), "ids": ["a.jpg", "b.jpg"], "protocol": {"epoch": 3}},
            **{"query_rows": torch.eye(2), "read": torch.load},
            **{"columns": {"year": [1, 2]}, "contents": np.zeros((2, 16), np.uint8)},
        },
    ),
    (embedding_file.Embedding, {"rows": torch.eye(2), "ids": ("a.jpg", "b.jpg"), "metadata": {"epoch": 3}}),
    (metrics.Metric, {"measure": lw.retrieval, "device": "meta"}),
    (metrics.Ranking, {"measures": ("map",), "k": 3, "convention": metrics.Convention(gains="linear")}),
    (
        VectorViews,
        {"noise": 0.3, "dropout": 0.2, "mean": torch.zeros(6), "std": torch.ones(6), "blocks": (BLOCK,)},
    ),
    (samplers.EpochSampler, {"n": 9, "batch_size": 4, "seed": 7, "smallest": 3}),
    (samplers.ClassSampler, {"labels": LABELS, "classes": 3, "per_class": 2, "seed": 7}),
    (samplers.BalancedSampler, {"labels": LABELS, "batch_size": 4, "seed": 7, "smallest": 3}),
    (samplers.PairSampler, {"tuples": torch.tensor([[0, 1], [2, 3]]), "batch_size": 4, "seed": 7}),
    (samplers.GradedSampler, {"rows": torch.tensor([[0, 1], [2, 3]]), "batch_size": 4, "seed": 7}),
    (negatives.Random, {"count": 4}),
    (negatives.DistanceWeighted, {"count": 4, "least": 0.4, "most": 1.3}),
    (negatives.InsideMargin, {"margin": 0.7, "squared": False}),
    (negatives.MultiSimilarity, {"epsilon": 0.3}),
    (negatives.Curriculum, {"policies": (negatives.Easy(), negatives.Hard()), "at": (4,), "by": "epoch"}),
]
SHOWN = {  # what stands for a parameter that is data, or a size
    (dictionaries.MemoryBank, "n"): "MemoryBank(4 × 5,",
    (dictionaries.MemoryBank, "dim"): "MemoryBank(4 × 5,",
    (dictionaries.MemoryBank, "item_ids"): "item_ids=4 names",
    (dictionaries.Queue, "size"): "Queue(4 × 5,",
    (dictionaries.Queue, "dim"): "Queue(4 × 5,",
    (sharded.ShardedMemoryBank, "n"): "(4 × 5,",
    (sharded.ShardedMemoryBank, "dim"): "(4 × 5,",
    (sharded.ShardedProxies, "n"): "(4 × 5,",
    (sharded.ShardedProxies, "dim"): "(4 × 5,",
    (objectives.SampledSoftmax, "counts"): "(noise): Noise(counts=3, power=1.0)",
    (objectives.NegativeSampling, "counts"): "(noise): Noise(counts=3,",
    (Noise, "counts"): "counts=3",
    (objectives.Mined, "objective"): "(objective): Triplet(margin=0.7,",
    (lw.Momentum, "encoder"): "(encoder): Linear(",
    (lw.Embedder, "backbone"): "(backbone): Linear(",
    (lw.Embedder, "query"): "(query): Embedder(",
    (lw.Embedder, "head"): "(head): Identity(",
    (lw.Embedder, "centre"): "(centre): BatchNorm1d(",
    (lw.GradientCache, "parts"): "parts=2, the first (4, 3)",
    (lw.Index, "rows"): "2 × 2",
    (lw.Index, "query_rows"): "query_rows=True",
    (lw.Index, "read"): "reads_files=True",
    (lw.Index, "columns"): "columns=[year]",
    (lw.Index, "contents"): "contents=True",
    (lw.Index, "ids"): "ids='a.jpg' …",
    (embedding_file.Embedding, "rows"): "2 × 2",
    (embedding_file.Embedding, "ids"): "ids='a.jpg' …",
    (VectorViews, "mean"): "6 features",
    (VectorViews, "std"): "6 features",
    (VectorViews, "blocks"): "blocks=['audio']",
    (samplers.ClassSampler, "labels"): "labels=5 of 3 classes",
    (samplers.BalancedSampler, "labels"): "labels=5 of 3 classes",
    (samplers.PairSampler, "tuples"): "tuples=2 × 2",
    (samplers.GradedSampler, "rows"): "rows=2 of 2 queries",
}
NOT_SHOWN = {"generator", "noise_generator", (dictionaries.MemoryBank, "noise"), (lw.GradientCache, "embedder")}
SHOWN_ELSEWHERE = {lw.Model, lw.Views, lw.WordVectors}  # below
NO_PARAMETERS = {dictionaries.Dictionary, dictionaries.Batch, negatives.All, negatives.Easy, negatives.Hard}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("kind", "arguments"), MADE, ids=lambda x: x.__name__ if isinstance(x, type) else "")
def test_a_repr_shows_every_parameter(kind: type, arguments: dict[str, Any]) -> None:
    assert [*arguments] == [*inspect.signature(kind).parameters]
    shown = repr(kind(**arguments))
    assert shown.startswith(f"{kind.__name__}(")
    for name, value in arguments.items():
        if name not in NOT_SHOWN and (kind, name) not in NOT_SHOWN:
            assert SHOWN.get((kind, name), f"{name}={value!r}") in shown


def test_no_public_class_is_missing_among_those_whose_repr_is_held() -> None:
    kinds = {kind for kind in CALLS.values() if inspect.isclass(kind) and kind.__module__ != "likewise.errors"}
    kinds = {kind for kind in kinds if not inspect.isabstract(kind) and not dataclasses.is_dataclass(kind)}
    kinds = {kind for kind in kinds if not issubclass(kind, tuple)}
    assert not kinds - {kind for kind, _ in MADE} - SHOWN_ELSEWHERE - NO_PARAMETERS


def test_items_views_and_models_say_what_they_are() -> None:
    items = lw.open_items(np.zeros((3, 4), np.float32))
    assert repr(items) == f"Items(3 vectors of 4, no labels, 0 skipped, source={items.source!r})"
    views = lw.Views(lw.FitSettings().views, 32)
    assert repr(views) == f"Views({views.settings!r}, size=(32, 32))"
    settings = lw.FitSettings(encoder=EncoderSettings(name="mlp", hidden=5, dim=2))
    model = Model.untrained(settings, items)
    assert repr(model).startswith(
        "Model(method='npid', encoder='mlp', size=32, epoch=0.0, seed=0, kind='vectors', dim=2"
    )


# Two views of the same items

VIEWS = torch.nn.functional.normalize(torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1)), dim=2).double()


def test_two_views_are_simclrs_loss() -> None:
    """NT-Xent (Chen et al. 2020, Algorithm 1) over the 2N rows, by hand and by pytorch-metric-learning."""
    from pytorch_metric_learning.losses import NTXentLoss

    z, count = torch.cat([*VIEWS]), len(VIEWS[0])
    similarities = (z @ z.T / 0.2).exp()
    wanted = 0.0
    for i in range(2 * count):
        others = sum(similarities[i, k] for k in range(2 * count) if k != i)
        wanted -= (similarities[i, (i + count) % (2 * count)] / others).log() / (2 * count)
    loss = objectives.InfoNCE(temperature=0.2)(*objectives.from_views(*VIEWS))
    torch.testing.assert_close(loss, torch.as_tensor(wanted))
    rival = NTXentLoss(temperature=0.2)(z, torch.arange(count).repeat(2))
    torch.testing.assert_close(loss, rival)


def test_three_views_have_two_positives_each() -> None:
    rows, ids = objectives.from_views(*VIEWS, VIEWS[0])
    assert rows.shape == (18, 5)
    assert ids.tolist() == [*range(6)] * 3


@pytest.mark.parametrize("objective", [objectives.InfoNCE(), objectives.Circle(), objectives.Histogram()])
def test_two_float_tensors_get_a_sentence_that_names_from_views(objective: torch.nn.Module) -> None:
    with pytest.raises(lw.LikewiseError, match=r"ids are torch.float64; .* objective\(\*likewise.*from_views"):
        objective(*VIEWS)


@pytest.mark.parametrize(
    "objective", [objectives.NCE(), objectives.ArcFace(4, 5), objectives.SampledSoftmax(), objectives.Softmax(4, 5)]
)
def test_views_are_not_advised_where_they_do_not_go_in(objective: torch.nn.Module) -> None:
    with pytest.raises(
        lw.LikewiseError, match=r"^ids are torch.float64; they must be integers, such as torch.int64\.$"
    ):
        objective(VIEWS[0], VIEWS[1], VIEWS[0])


@pytest.mark.parametrize(
    "views",
    [VIEWS[:1], [VIEWS[0], VIEWS[1][:3]], [VIEWS[0][0], VIEWS[1][0]], []],
    ids=["one", "shorter", "1-d", "none"],
)
def test_what_is_not_views(views: Any) -> None:
    with pytest.raises(lw.LikewiseError, match=r"must be two or more, all of one shape \(N, D\)"):
        objectives.from_views(*views)


# Ids and labels as tensors, arrays or lists

ROWS = torch.nn.functional.normalize(torch.randn(12, 4, generator=torch.Generator().manual_seed(2)), dim=1)
CLASSES = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
ALIKE = torch.arange(12) % 3 > 0
NAMES = [f"{row}" for row in range(12)]
FEW = metrics.FewLabelsSettings(per_class=(1,), fractions=(), seeds=(0, 1), k=3)
Turn = Callable[[torch.Tensor], Any]  # a tensor into what is given


def updated(dictionary: Any, ids: Any) -> torch.Tensor:
    dictionary.update(ROWS, ids)
    return dictionary.rows


def queued(ids: Any) -> list[torch.Tensor]:
    queue = dictionaries.Queue(20, 4, start="empty")
    queue.update(ROWS, ids)
    return [*queue.keys(ids, dictionaries.Fresh(ROWS, ids))[:2]]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


TAKES_TENSORS: dict[str, Callable[[Turn], Any]] = {
    "queries": lambda t: objectives.Circle()(t(ROWS), CLASSES),
    "keys": lambda t: objectives.Circle()(ROWS, CLASSES, t(ROWS), CLASSES),
    "mined queries": lambda t: objectives.Mined(objectives.Triplet(), negatives=negatives.Hard())(t(ROWS), CLASSES),
    "queries of classes": lambda t: objectives.ArcFace(4, 4)(t(ROWS), CLASSES),
    "keys of classes": lambda t: objectives.ArcFace(4, 4)(ROWS, CLASSES, t(ROWS[:4])),
    "queries of items": lambda t: objectives.NCE()(t(ROWS), CLASSES, ROWS),
    "keys of items": lambda t: objectives.NCE()(ROWS, CLASSES, t(ROWS)),
    "queries of weights": lambda t: objectives.ParametricSoftmax(4, 4)(t(ROWS), CLASSES),
    "sharded keys": lambda t: ShardedSoftmax(12)(ROWS, CLASSES, t(ROWS)),
    "queries of shares": lambda t: objectives.triplet_shares(t(ROWS), CLASSES),
    "views[0]": lambda t: objectives.from_views(t(ROWS), ROWS),
    "embeddings": lambda t: objectives.from_pairs(t(ROWS), [[0, 1]], [True]),
    "embeddings of triplets": lambda t: objectives.from_triplets(t(ROWS), [[0, 1, 2]]),
    "rows": lambda t: dictionaries.MemoryBank(12, 4).update(t(ROWS), torch.arange(12)),
    "rows of a sharded bank": lambda t: sharded.ShardedMemoryBank(12, 4).update(t(ROWS), torch.arange(12)),
    "rows of a queue": lambda t: dictionaries.Queue(20, 4).update(t(ROWS), torch.arange(12)),
}


@pytest.mark.parametrize("name", TAKES_TENSORS)
def test_arrays_and_lists_of_rows_are_refused_where_a_gradient_is_needed(name: str) -> None:
    plain = name.removeprefix("mined ").removeprefix("sharded ").partition(" ")[0]
    for turn, kind in ((np.asarray, "of type ndarray"), (torch.Tensor.tolist, "a list")):
        said = f"{plain} must be a tensor, but is {kind}; pass torch.as_tensor({plain})."
        with pytest.raises(lw.LikewiseError, match=f"^{re.escape(said)}$"):
            TAKES_TENSORS[name](turn)


TAKES_IDS: dict[str, Callable[[Turn], Any]] = {
    "pair level": lambda t: objectives.Circle()(ROWS, t(CLASSES)),
    "several labels": lambda t: objectives.Circle()(ROWS, t(torch.stack([CLASSES, CLASSES + 1], 1))),
    "keys": lambda t: objectives.SupCon()(
        ROWS, t(CLASSES), ROWS, t(CLASSES), own=t(torch.arange(12)), pulls=t(ALIKE), pushes=t(ALIKE)
    ),
    "a β for each class": lambda t: objectives.Margin(classes=4)(ROWS, t(CLASSES)),
    "mined": lambda t: objectives.Mined(objectives.Triplet(), negatives=negatives.Hard())(ROWS, t(CLASSES)),
    "histogram": lambda t: objectives.Histogram()(ROWS, t(CLASSES), -ROWS, t(CLASSES)),
    "class level": lambda t: objectives.ArcFace(4, 4, generator=seeded())(ROWS, t(CLASSES)),
    "some proxies": lambda t: objectives.ArcFace(4, 4)(ROWS, t(CLASSES), ROWS[:4], t(torch.tensor([3, 1, 0, 2]))),
    "instance level": lambda t: objectives.NonParametricSoftmax()(ROWS, t(CLASSES), ROWS, t(torch.arange(12))),
    "weights": lambda t: objectives.ParametricSoftmax(4, 4, generator=seeded())(ROWS, t(CLASSES)),
    "sharded": lambda t: ShardedSoftmax(12)(ROWS, t(CLASSES), ROWS),
    "triplet_shares": lambda t: objectives.triplet_shares(ROWS, t(CLASSES), -ROWS, t(CLASSES)),
    "from_pairs": lambda t: objectives.Circle()(
        *objectives.from_pairs(ROWS, t(torch.tensor([[0, 1], [0, 2], [1, 2]])), t(ALIKE[:3]))
    ),
    "from_triplets": lambda t: objectives.Circle()(*objectives.from_triplets(ROWS, t(torch.tensor([[0, 1, 4]])))),
    "bank": lambda t: updated(dictionaries.MemoryBank(12, 4, generator=seeded()), t(torch.arange(12).flip(0))),
    "sharded bank": lambda t: updated(
        sharded.ShardedMemoryBank(12, 4, generator=seeded()), t(torch.arange(12).flip(0))
    ),
    "sampled bank": lambda t: dictionaries.MemoryBank(12, 4, samples=5, noise=seeded()).keys(t(CLASSES)).ids,
    "queue": lambda t: queued(t(CLASSES)),
    "batch": lambda t: dictionaries.Batch().keys(t(CLASSES), dictionaries.Fresh(ROWS, t(CLASSES))).ids,
    "class sampler": lambda t: samplers.ClassSampler(t(CLASSES), 3, 2, 0).rows(0),
    "balanced sampler": lambda t: samplers.BalancedSampler(t(CLASSES), 5, 0).rows(0),
    "pair sampler": lambda t: samplers.PairSampler(t(torch.tensor([[0, 1], [2, 3], [0, 5]])), 2, 0).tuples(0),
    "graded sampler": lambda t: samplers.GradedSampler(t(torch.tensor([[0, 1], [2, 3], [0, 5]])), 4, 0).lists(0),
    "knn_classify": lambda t: metrics.knn_classify(t(ROWS), t(-ROWS), t(CLASSES), k=3),
    "knn_accuracy": lambda t: metrics.knn_accuracy(
        t(ROWS), t(CLASSES), t(ROWS), t(CLASSES), k=3, query_ids=t(torch.arange(12)), key_ids=t(torch.arange(12))
    ),
    "top_k": lambda t: metrics.top_k(t(ROWS), t(ROWS), 3, query_ids=t(torch.arange(12)), key_ids=t(torch.arange(12))),
    "retrieval": lambda t: metrics.retrieval(t(ROWS), t(CLASSES)).per_query.map_at_r,
    "retrieval in a gallery": lambda t: (
        metrics.retrieval(
            t(ROWS), t(CLASSES), t(ROWS), t(CLASSES), query_ids=t(torch.arange(12)), gallery_ids=t(torch.arange(12))
        ).per_query.map_at_r
    ),
    "clustering": lambda t: metrics.clustering(t(ROWS), t(CLASSES)).per_seed,
    "kmeans": lambda t: metrics.kmeans(t(ROWS), 3, seed=0).labels,
    "nmi": lambda t: metrics.normalized_mutual_information(t(CLASSES), t(CLASSES // 2)),
    "ami": lambda t: metrics.adjusted_mutual_information(t(CLASSES), t(CLASSES // 2)),
    "verification": lambda t: (
        metrics.verification(
            t(ROWS), t(torch.stack([torch.arange(12), torch.arange(12).flip(0)], 1)), t(ALIKE), folds=t(CLASSES)
        ).fold_accuracies
    ),
    "roc": lambda t: metrics.roc(t(ROWS[:, 0]), t(ALIKE)).auc,
    "random_pairs": lambda t: metrics.random_pairs(t(CLASSES), 8),
    "fold_pairs": lambda t: metrics.fold_pairs(t(CLASSES), 8, folds=2),
    "linear_svm": lambda t: metrics.linear_svm(t(ROWS), t(CLASSES), t(ROWS), t(CLASSES)).weights,
    "linear_probe": lambda t: (
        metrics.linear_probe(t(ROWS), t(CLASSES), t(ROWS), t(CLASSES), metrics.ProbeSettings(epochs=2)).train_loss
    ),
    "few_labels": lambda t: metrics.few_labels(t(ROWS), t(CLASSES), NAMES, t(ROWS), t(CLASSES), FEW)[0].value,
    "effective_rank": lambda t: metrics.effective_rank(t(ROWS)),
    "collapse_std": lambda t: metrics.collapse_std(t(ROWS)),
    "index": lambda t: lw.Index(t(ROWS), NAMES).search_batch(t(ROWS[:2]), 1)[1][0].score,
}


def read_only(x: torch.Tensor) -> np.ndarray:
    """An array that no one may write to, every other one of a longer one, of fewer bits where it is whole numbers."""
    array = np.repeat(x.numpy().astype(np.int32) if x.dtype == torch.int64 else x.numpy(), 2, 0)[::2]
    array.flags.writeable = False
    return array


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("call", TAKES_IDS.values(), ids=TAKES_IDS.keys())
def test_arrays_and_lists_give_what_tensors_give(call: Callable[[Turn], Any]) -> None:
    wanted = call(lambda x: x)
    for turn in (read_only, lambda x: x.tolist() if x.dtype != torch.float32 else x.numpy()):
        torch.testing.assert_close(call(turn), wanted, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([0.0, 1.0], "ids are torch.float64; they must be integers, such as torch.int64."),
        (np.array([True, False]), "ids are torch.bool; they must be integers, such as torch.int64."),
        (
            ["cat", "dog"],
            "ids hold 'cat', which is not an integer; number them first, for example with numpy.unique(ids, ",
        ),
        ([[0, 1], [0]], "ids are rows of different lengths; pad the shorter ones with −1, which is no label."),
        ([0, None], "ids hold '0', which is not an integer; number them first"),
        (np.array([2**64 - 1, 0], np.uint64), "ids go up to 18446744073709551615, beyond 64 bits with a sign"),
        ([], "ids (0,) must be (2,), one per query, or (2, L)."),
        (3, "ids () must be (2,), one per query, or (2, L)."),
    ],
)
def test_what_cannot_be_ids_is_one_sentence(ids: Any, said: str) -> None:
    with pytest.raises(lw.LikewiseError) as caught:
        objectives.Circle()(ROWS[:2], ids)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("rows", [[[1.0], [1.0, 2.0]], np.array([["a"]]), np.array([[None]])])
def test_what_cannot_be_rows_is_one_sentence(rows: Any) -> None:
    with pytest.raises(lw.LikewiseError, match="rows can't be read as numbers: give"):
        metrics.collapse_std(rows)


VECTORS = np.eye(6, dtype=np.float32)
TAKE_MODELS: dict[str, Callable[[Any], object]] = {
    "classify": lambda run: lw.classify(run, VECTORS, labels="labels.csv"),
    "duplicates": lambda run: lw.duplicates(VECTORS, run=run),
    "evaluate": lambda run: lw.evaluate(run, train=VECTORS),
    "export": lambda run: lw.export(run, out="exported"),
    "outliers": lambda run: lw.outliers(run, VECTORS),
    "recommend": lambda run: lw.recommend(run, "taken.csv", VECTORS),
    "retrieve": lambda run: lw.retrieve(run, gallery=VECTORS),
    "select": lambda run: lw.select(run, VECTORS, 2),
}


def test_all_that_take_a_model_are_listed() -> None:
    takes = {name for name in lw.__all__ if inspect.isfunction(getattr(lw, name))}
    models = {name for name in takes if {"model", "run"} & set(inspect.signature(getattr(lw, name)).parameters)}
    assert models - {"load", "load_words", "evaluate_retrieval"} == set(TAKE_MODELS)


@pytest.mark.parametrize("name", TAKE_MODELS)
def test_a_model_may_be_the_folder_of_its_run_and_what_is_neither_is_a_sentence(name: str) -> None:
    with pytest.raises(LikewiseError, match="there is no run runs/away; train one first"):
        TAKE_MODELS[name]("runs/away")
    with pytest.raises(LikewiseError, match=r"RUN can't be a value of type int; name a file or folder\."):
        TAKE_MODELS[name](3)
