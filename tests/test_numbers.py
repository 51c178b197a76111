"""What is no number, or asks for more memory than there is, is one sentence: of constructors and of functions."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import likewise as lw
from likewise import metrics
from likewise.config.objective_table import OBJECTIVES, Row
from likewise.config.policy_table import POLICIES, PolicyRow
from likewise.objectives import NCE, Margin, NegativeSampling, Softmax

ROWS, LABELS = torch.eye(4), torch.tensor([0, 0, 1, 1])
SIZES = {"classes": 3, "dim": 2, "n": 4}
BAD = ("3", math.nan, [1])


@pytest.mark.parametrize("row", [*OBJECTIVES, *POLICIES], ids=lambda row: row.name)
def test_each_number_of_a_constructor(row: Row | PolicyRow) -> None:
    sizes = {name: SIZES[name] for name in row.given if name in SIZES} if isinstance(row, Row) else {}
    numbers = [name for name, value in row.parameters.items() if value.kind in (int, float)]
    for name, bad in [(name, bad) for name in [*numbers, *sizes] for bad in BAD]:
        with pytest.raises(lw.LikewiseError, match=name):
            row.load()(**{**sizes, name: bad})


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("k", lambda bad: metrics.top_k(ROWS, ROWS, bad)),
        ("tile", lambda bad: metrics.top_k(ROWS, ROWS, 1, tile=bad)),
        ("temperature", lambda bad: lw.knn_accuracy(ROWS, LABELS, ROWS, LABELS, temperature=bad)),
        ("ks", lambda bad: lw.retrieval(ROWS, LABELS, ks=(bad,))),
        ("worst", lambda bad: lw.retrieval(ROWS, LABELS, worst=bad)),
        ("clusters", lambda bad: metrics.kmeans(ROWS, bad, seed=0)),
        ("starts", lambda bad: metrics.kmeans(ROWS, 2, seed=0, starts=bad)),
        ("C", lambda bad: metrics.linear_svm(ROWS, LABELS, ROWS, LABELS, C=bad)),
        ("count", lambda bad: metrics.random_pairs(LABELS, bad)),
        ("folds", lambda bad: metrics.fold_pairs(LABELS, folds=bad)),
        ("n", lambda bad: lw.MemoryBank(bad, 8)),
        ("dim", lambda bad: lw.MemoryBank(8, bad)),
        ("momentum", lambda bad: lw.MemoryBank(8, 8, momentum=bad)),
        ("size", lambda bad: lw.Queue(bad, 8)),
        ("momentum", lambda bad: lw.Momentum(nn.Linear(2, 2), bad)),
        ("per_class", lambda bad: lw.samplers.ClassSampler(LABELS, 2, bad, 0)),
    ],
)
def test_each_number_of_a_call(name: str, call: Callable[[object], object]) -> None:
    for bad in BAD:
        with pytest.raises(lw.LikewiseError, match=name):
            call(bad)


def test_more_than_there_is() -> None:
    for make in (lambda: lw.MemoryBank(10**12, 128), lambda: lw.Queue(10**13, 64), lambda: Softmax(10**13, 64)):
        with pytest.raises(lw.LikewiseError, match="need more memory than there is"):
            make()
    with pytest.raises(lw.LikewiseError, match=r"n=1180591620717411303424 must be at least 1 and below 2\^63"):
        lw.MemoryBank(2**70, 8)
    with pytest.raises(lw.LikewiseError, match="beta=1e\\+300 must be a distance"):
        Margin(beta=1e300)
    with pytest.raises(lw.LikewiseError, match=r"counts must be a tensor \(n,\)"):
        NegativeSampling(counts=[1, 2])  # type: ignore[arg-type]


def test_settings_and_folders_of_fit(tmp_path: object) -> None:
    for bad in ("npid", 3, [3]):
        with pytest.raises(lw.LikewiseError, match=r"settings can't be .*; give FitSettings, or a mapping"):
            lw.fit(ROWS, out=str(tmp_path), settings=bad)  # type: ignore[arg-type]
    with pytest.raises(lw.LikewiseError, match="--out can't be a value of type int; name a file or folder"):
        lw.fit(ROWS, out=3)  # type: ignore[arg-type]


def test_chance_under_transforms() -> None:
    """An objective that draws says what to give; NCE after a call, in eval mode, has derivatives of every kind."""
    queries, keys, ids = torch.eye(4, dtype=torch.float64)[:2], torch.eye(4, dtype=torch.float64), torch.arange(2)
    nce = NCE(noise=4).double()
    with pytest.raises(lw.LikewiseError, match="log Z moves with each call in training mode"):
        torch.func.grad(lambda x: nce(x, ids, keys))(queries)
    nce(queries, ids, keys)
    for objective in (nce.eval(), NegativeSampling(samples=2), NegativeSampling(counts=torch.ones(4), samples=2)):

        def loss(x: torch.Tensor, objective: nn.Module = objective) -> torch.Tensor:
            return objective(x, ids, keys)

        with pytest.raises(lw.LikewiseError, match="give vmap or jacfwd randomness='same'"):
            torch.func.hessian(loss)(queries)
        found = torch.func.jacfwd(torch.func.jacrev(loss), randomness="same")(queries)
        assert found.isfinite().all()


def test_masked_arrays_are_not_read_through_their_mask() -> None:
    rows = np.ma.array(np.eye(4, dtype=np.float32), mask=np.eye(4, dtype=bool))
    labels = np.ma.array([0, 0, 1, 1], mask=[1, 0, 0, 0])
    bank = lw.MemoryBank(4, 4)
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: lw.retrieval(ROWS, labels), "labels have masked values; fill them with filled()"),
        (lambda: lw.knn_accuracy(rows, LABELS, ROWS, LABELS), "queries have masked values"),
        (lambda: lw.ndcg(rows, np.eye(4)), "scores have masked values"),
        (lambda: lw.objectives.InfoNCE()(ROWS, labels), "ids have masked values"),
        (lambda: bank.update(ROWS, labels), "ids have masked values"),
        (lambda: metrics.roc(rows[0], [True, False, True, False]), "scores have masked values"),
        (lambda: metrics.roc(np.arange(4.0), labels > 0), "alike have masked values"),
    ]
    for call, said in refused:
        with pytest.raises(lw.LikewiseError, match=said):
            call()
    whole = np.ma.array([0, 0, 1, 1])  # nothing is masked
    assert lw.retrieval(ROWS, whole).recall == lw.retrieval(ROWS, LABELS).recall


def test_what_is_no_encoder() -> None:
    with pytest.raises(lw.LikewiseError, match=r"the encoder that it follows must be a torch.nn.Module, not 3"):
        lw.Momentum(nn.Linear(2, 2)).update(3)  # type: ignore[arg-type]
    with pytest.raises(lw.LikewiseError, match=r"needs the parts of a batch as a list of tensors"):
        lw.GradientCache(nn.Linear(2, 2), 4)  # type: ignore[arg-type]
