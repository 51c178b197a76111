"""What every objective of the family must do, once for all cases of the files next to this one.

Each module of ``likewise.objectives`` has a file here with the oracles, peers and cases of its objectives.
A test of the decorator ``every_case`` is a property; a case takes it unless its ``skips`` say why not.
"""

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import class_level_cases
import hinge_cases
import instance_level_cases
import joined_cases
import mined_cases
import pair_level_cases
import pytest
import sampled_cases
import sampled_classes_cases
import torch
from objective_case import Case, Given, Oracle, Problem, balanced, bank, problems, rows, seeded, shuffled
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from likewise import alike
from likewise.alike import Listed, relate
from likewise.config.objective_table import OBJECTIVES
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.kernels import class_losses, logsumexp, numerics
from likewise.kernels.row_losses import naive_row_losses, row_losses
from likewise.negatives import Pick
from likewise.objectives import Histogram, Mined, SupCon
from likewise.objectives.base import PairObjective

pytestmark = pytest.mark.filterwarnings("ignore::likewise.errors.LikewiseWarning")


@pytest.fixture(autouse=True)
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The problems here are small, for which the naive twin would run; these tests are of the fast path."""
    plain_pairs(monkeypatch, 0)


def plain_pairs(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(PairObjective, "plain_pairs", count)
    monkeypatch.setattr(SupCon, "plain_pairs", count)


CASES = [
    *pair_level_cases.CASES,
    *hinge_cases.CASES,
    *joined_cases.CASES,
    *mined_cases.CASES,
    *class_level_cases.CASES,
    *instance_level_cases.CASES,
    *sampled_cases.CASES,
    *sampled_classes_cases.CASES,
]
WITH_PEER = sorted((case for case in CASES if case.peer), key=lambda case: case.name)
TAKEN: set[tuple[str, str]] = set()  # (property, case), as parametrised
PROPERTIES: list[str] = []
Test = Callable[..., None]


def every_case(test: Test) -> Test:
    """Runs a test for each case that does not skip it."""
    name = test.__name__.removeprefix("test_")
    PROPERTIES.append(name)
    taken = [case for case in CASES if name not in case.skips]
    TAKEN.update((name, case.name) for case in taken)
    return pytest.mark.parametrize("case", taken, ids=lambda case: case.name)(test)


def usual(case: Case) -> Problem:
    """An ordinary problem of this case."""
    return bank() if case.against == "bank" else balanced()


def weights(count: int) -> Tensor:
    return torch.randn(count, generator=seeded(99), dtype=torch.float64)


def leaves_of(case: Case, problem: Problem, objective: nn.Module) -> list[Tensor]:
    """Queries, keys where they may have a gradient, and learned parameters."""
    leaves = [problem.queries.detach().clone().requires_grad_()]
    if problem.keys is not None:
        leaves.append(problem.keys.detach().clone().requires_grad_(not case.constant_keys))
    return [*leaves, *objective.parameters()]


def total(loss: Tensor) -> Tensor:
    """A scalar of it: losses of rows get weights that differ."""
    return loss if loss.ndim == 0 else (loss * weights(len(loss)).to(loss.dtype)).sum()


def gradient(loss: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of those leaves that want one; zeros where the loss does not depend on them."""
    sought = [x for x in leaves if x.requires_grad]
    if not loss.requires_grad:
        return [torch.zeros_like(x) for x in sought]
    return list(torch.autograd.grad(loss, sought, retain_graph=True, allow_unused=True, materialize_grads=True))


def outcome(
    case: Case, problem: Problem, how: str = "mean", objective: nn.Module | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients in float64, through the normalisation of the rows."""
    objective = case.make(how).double() if objective is None else objective
    leaves = leaves_of(case, problem, objective)
    loss = problem.call(
        objective, case.features(leaves[0]), case.key_features(leaves[1] if problem.keys is not None else None)
    )
    return loss.detach(), gradient(total(loss), leaves)


def expected(case: Case, problem: Problem, reductions: Sequence[str]) -> dict[str, tuple[Tensor, list[Tensor]]]:
    """The same by the oracle's loops, for each reduction."""
    objective = case.make("mean").double()
    leaves = leaves_of(case, problem, objective)
    state = dict(objective.named_parameters()) | dict(objective.named_buffers())
    keys = case.key_features(leaves[1] if problem.keys is not None else None)
    losses, counted = case.oracle(
        Given(case.features(leaves[0]), problem.ids, keys, problem.key_ids, problem.own, state)
    )
    stacked, number = torch.stack(losses), max(1, sum(counted))
    whole = gradient(stacked.sum(), leaves)
    found = {
        "mean": (stacked.detach().sum() / number, [g / number for g in whole]),
        "sum": (stacked.detach().sum(), whole),
    }
    if "none" in reductions:
        found["none"] = stacked.detach(), gradient(total(stacked), leaves)
    return {how: found[how] for how in case.reductions if how in reductions}


@torch.no_grad()
def counted_by_oracle(case: Case, problem: Problem, oracle: Oracle | None = None) -> int:
    objective = case.make("mean").double()
    state = dict(objective.named_parameters()) | dict(objective.named_buffers())
    features = case.features(problem.queries), case.key_features(problem.keys)
    oracle = oracle or case.oracle
    return sum(oracle(Given(features[0], problem.ids, features[1], problem.key_ids, problem.own, state))[1])


def same(found: object, wanted: object, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol)


def equals_oracle(case: Case, kind: str, reductions: Sequence[str] = ("mean", "sum", "none")) -> None:
    for problem in problems(kind, case.against):
        for how, answer in expected(case, problem, reductions).items():
            same(outcome(case, problem, how), answer)


# Value and gradient against the loops


@every_case
def test_batch(case: Case) -> None:
    equals_oracle(case, "batch")


@every_case
def test_keys(case: Case) -> None:
    """Against keys with ids, and against a bank whose ids are the row numbers."""
    equals_oracle(case, "keys")


@every_case
def test_bank(case: Case) -> None:
    """Against a bank, by row numbers and by ids of the keys."""
    equals_oracle(case, "bank")


@every_case
def test_a_row_that_is_no_number_is_not_hidden(case: Case) -> None:
    """Comparisons with NaN are false, so that mining and hinges would pass it over."""
    problem = bank() if case.against == "bank" else balanced()
    rows = problem.queries.detach().clone()
    rows[0] = torch.nan
    for how in case.reductions:
        assert not outcome(case, replace(problem, queries=rows.requires_grad_()), how)[0].isfinite().all()


@every_case
def test_gathered(case: Case) -> None:
    """Some rows of a gathered batch, which never meet themselves."""
    equals_oracle(case, "gathered")


@every_case
def test_unlabelled(case: Case) -> None:
    """An id below 0 is alike to nothing."""
    equals_oracle(case, "unlabelled")


@every_case
def test_several(case: Case) -> None:
    """Several labels a row: alike where any agrees."""
    equals_oracle(case, "several")


@every_case
def test_ragged(case: Case) -> None:
    """Classes of 1, 2, 3, 7 and 20."""
    equals_oracle(case, "ragged", ["mean"])


@every_case
def test_gradcheck(case: Case) -> None:
    """Central differences in float64, away from kinks."""
    problem, objective = usual(case), case.make(case.reductions[-1]).double()
    names = [name for name, _ in objective.named_parameters()]

    def loss(queries: Tensor, *parameters: Tensor) -> Tensor:
        call = Caller(objective, problem, case.key_features(problem.keys))
        state = {f"objective.{name}": x for name, x in zip(names, parameters, strict=True)}
        return torch.func.functional_call(call, state, case.features(queries))

    inputs = problem.queries.clone().requires_grad_(), *objective.parameters()
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


def second_gradient(loss: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of the gradient's product with fixed numbers."""
    sought = [x for x in leaves if x.requires_grad]
    first = torch.autograd.grad(total(loss), sought, create_graph=True, allow_unused=True, materialize_grads=True)
    return gradient(torch.stack([(g * weights(g.numel()).view_as(g)).sum() for g in first]).sum(), sought)


@every_case
def test_second_order(case: Case) -> None:
    """Gradients of gradients are those of the oracle's loops, for queries, keys and parameters."""
    tried = [usual(case)]
    if case.against == "batch":
        tried += [problems("keys")[0], problems("gathered")[0], problems("unlabelled")[0]]
        tried += [] if "several" in case.skips else [problems("several")[1]]
    for problem in tried:
        objective, twin = (case.make(case.reductions[-1]).double() for _ in range(2))
        leaves = leaves_of(case, problem, objective)
        keys = case.key_features(leaves[1] if problem.keys is not None else None)
        found = second_gradient(problem.call(objective, case.features(leaves[0]), keys), leaves)
        leaves = leaves_of(case, problem, twin)
        keys = case.key_features(leaves[1] if problem.keys is not None else None)
        state = dict(twin.named_parameters()) | dict(twin.named_buffers())
        given = Given(case.features(leaves[0]), problem.ids, keys, problem.key_ids, problem.own, state)
        losses, counted = case.oracle(given)
        stacked = torch.stack(losses)
        wanted = stacked.sum() / max(1, sum(counted)) if case.whole_batch else stacked
        same(found, second_gradient(wanted, leaves), 1e-8, 1e-10)


@every_case
def test_transforms(case: Case) -> None:
    """torch.func.grad, vmap and batched gradients: as usual; or one sentence, for picks."""
    problem = usual(case)
    keys = case.key_features(problem.keys)
    batch = torch.stack([problem.queries, problem.queries.flip(0)])

    def fresh() -> Callable[[Tensor], Tensor]:
        objective = case.make("mean").double()
        return lambda queries: problem.call(objective, case.features(queries), keys)

    leaf = problem.queries.clone().requires_grad_()
    wanted = gradient(fresh()(leaf), [leaf])[0]
    objective = case.make("mean")
    if isinstance(objective, Mined) and isinstance(objective.policy, Pick):
        with pytest.raises(LikewiseError, match=r"transforms of torch\.func"):
            torch.func.grad(fresh())(problem.queries)
    else:
        same(torch.func.grad(fresh())(problem.queries), wanted)
        same(torch.func.vmap(fresh(), randomness="same")(batch), torch.stack([fresh()(x) for x in batch]))
    upstream = torch.tensor([1.0, -2.0], dtype=torch.float64)
    found = torch.autograd.grad(fresh()(leaf), leaf, upstream, is_grads_batched=True)[0]
    same(found, upstream.view(2, 1, 1) * wanted)


class Caller(nn.Module):
    """An objective with its problem, as a module of the queries alone."""

    def __init__(self, objective: nn.Module, problem: Problem, keys: Tensor | None) -> None:
        super().__init__()
        self.objective, self.problem, self.keys = objective, problem, keys

    def forward(self, queries: Tensor) -> Tensor:
        return self.problem.call(self.objective, queries, self.keys)


@pytest.mark.parametrize("case", [case for case in CASES if case.against == "batch"], ids=lambda case: case.name)
def test_few_pairs(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive twin, which runs for few pairs, equals the loops too; twice, and its gradient has a gradient."""
    plain_pairs(monkeypatch, 1000)
    for kind in ("batch", "keys", "gathered", "unlabelled", "several", "ragged"):
        if kind not in case.skips:
            equals_oracle(case, kind, ["mean"])
    if "second_order" not in case.skips:
        test_second_order(case)
    if "precision" not in case.skips:
        test_precision(case, torch.float32)


# Symmetries


@every_case
def test_permuted_batch(case: Case) -> None:
    """Rows in another order: the same losses and gradients in that order."""
    problem, order = usual(case), torch.randperm(len(usual(case).queries), generator=seeded(5))
    other = replace(problem, queries=problem.queries[order], ids=problem.ids[order])
    for how in case.reductions:
        (loss, grads), (other_loss, other_grads) = (outcome(case, p, how) for p in (problem, other))
        if how == "none":
            same(other_loss, loss[order])
            continue
        same(other_loss, loss)
        same(other_grads, [grads[0][order], *grads[1:]])


@every_case
def test_duplicated_queries(case: Case) -> None:
    """Every query twice against keys or proxies: the mean stays, each copy has half the gradient; the sum doubles."""
    problem = problems("keys")[0] if case.against == "batch" else usual(case)
    twice = replace(problem, queries=problem.queries.repeat(2, 1), ids=problem.ids.repeat(2))
    for how, factor in (("mean", 1), ("sum", 2)):
        (loss, grads), (double, double_grads) = (outcome(case, p, how) for p in (problem, twice))
        same(double, factor * loss)
        same(double_grads, [grads[0].repeat(2, 1) * factor / 2, *(factor * g for g in grads[1:])])


@every_case
def test_shared_rows(case: Case) -> None:
    """Two processes with a part of the queries each, against all keys: their sums add up, as do their gradients."""
    problem = problems("gathered")[0] if case.against == "batch" else usual(case)
    parts = [slice(0, 4), slice(4, len(problem.queries))]
    whole, grads = outcome(case, problem, "sum")
    shares = [
        outcome(
            case,
            replace(
                problem,
                queries=problem.queries[part],
                ids=problem.ids[part],
                own=None if problem.own is None else problem.own[part],
            ),
            "sum",
        )
        for part in parts
    ]
    same(shares[0][0] + shares[1][0], whole)
    same(torch.cat([share[1][0] for share in shares]), grads[0])
    same([a + b for a, b in zip(shares[0][1][1:], shares[1][1][1:], strict=True)], grads[1:])


@every_case
def test_roles(case: Case) -> None:
    """Keys that may not pull or push are neither positive nor negative: as pairs listed one by one, in any tile."""
    problem = problems("keys")[0]
    assert problem.keys is not None
    assert problem.key_ids is not None
    pulls = torch.tensor([True, False, True, True, True, False, True, True, False, True, False])
    pushes = torch.tensor([True, True, False, True, True, True, False, True, True, False, False])
    alike = problem.ids[:, None] == problem.key_ids
    listed = Listed((alike & pulls).nonzero(), (~alike & pushes).nonzero(), *alike.shape)
    for several in (False, True):  # one label a row goes by sorted columns, several by masks
        objective = case.make("mean").double()
        queries, keys = (x.clone().requires_grad_() for x in (problem.queries, problem.keys))
        features = case.features(queries), case.features(keys)
        ids, key_ids = (x[:, None].expand(-1, 2) if several else x for x in (problem.ids, problem.key_ids))
        wanted_objective = copy.deepcopy(objective)
        found = objective(features[0], ids, features[1], key_ids, pulls=pulls, pushes=pushes)
        wanted = wanted_objective(features[0], listed, features[1])
        same(found.detach(), wanted.detach())
        same(gradient(found, [queries, keys]), gradient(wanted, [queries, keys]))


def test_histogram_of_duplicates() -> None:
    """Every query and every key twice: the same histograms."""
    case, problem = next(c for c in CASES if c.name == "Histogram"), problems("keys")[0]
    assert problem.keys is not None
    assert problem.key_ids is not None
    twice = Problem(
        problem.queries.repeat(2, 1), problem.ids.repeat(2), problem.keys.repeat(2, 1), problem.key_ids.repeat(2)
    )
    same(outcome(case, twice)[0], outcome(case, problem)[0])
    with pytest.raises(ValueError, match="no meaning"):
        Histogram(reduction="sum")


# Degenerate batches


def degenerate() -> dict[str, Problem]:
    same_rows = rows(1, 20).expand(6, -1).clone()
    return {
        "one item": Problem(rows(1, 21), torch.tensor([2])),
        "one class": Problem(rows(6, 22), torch.full((6,), 3)),
        "all classes differ": Problem(rows(8, 23), torch.arange(8)),
        "zero vectors": Problem(torch.zeros(6, 5, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 2, 2])),
        "identical vectors": Problem(same_rows, torch.tensor([0, 0, 1, 1, 2, 2])),
        "few anchors": Problem(rows(8, 24), torch.tensor([0, 0, 1, 2, 3, 4, 5, 6])),
        "no labels": Problem(rows(5, 25), torch.full((5,), -1)),
    }


@every_case
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_degenerate(case: Case, dtype: torch.dtype) -> None:
    """Finite loss and gradient; the mean of nothing is 0; few anchors that count are warned of, once, with numbers."""
    for name, problem in degenerate().items():
        if case.against == "bank":
            problem = replace(problem, keys=torch.zeros(9, 5, dtype=torch.float64))
        number, size = counted_by_oracle(case, problem), len(problem.queries)
        able = counted_by_oracle(case, problem, case.able)
        cast = replace(
            problem, queries=problem.queries.to(dtype), keys=None if problem.keys is None else problem.keys.to(dtype)
        )
        for how in case.reductions:
            objective = case.make(how).to(dtype)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", LikewiseWarning)
                loss, grads = outcome(case, cast, how, objective)
            assert all(x.isfinite().all() for x in (loss, *grads)), f"{name}, {how}: {loss} {grads}"
            if number == 0:
                assert not loss.any(), name
                assert not any(g.any() for g in grads), name
            told = [str(w.message) for w in said if "anchors counted" in str(w.message)]
            assert len(told) == (2 * able < size), f"{name}, {how}: {told}"
            assert all(f": {able} of {size} anchors counted" in message for message in told), told
            with warnings.catch_warnings():
                warnings.simplefilter("error", LikewiseWarning)
                outcome(case, cast, how, objective)


# Precision


@every_case
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["float32", "bfloat16", "float16"]
)
def test_precision(case: Case, dtype: torch.dtype) -> None:
    """From flat to sharp, in each dtype, against float64 of the same rounded rows.

    Sums are made in float32 whatever the rows are. A similarity is wrong by some ε = 2⁻²⁴ D, an exponent by sharpness
    times that, and so are its exponential and the gradient's weights, relatively; the loss adds its own ε. Gradients
    come back in the dtype of the rows and are rounded to it. Autocast must change nothing.
    """
    problem, limit = usual(case), torch.finfo(dtype).eps
    for sharpness, make in case.sharp or [(4.0, case.make)]:
        tolerance = 32 * max(4.0, sharpness) * 2**-24
        found, answers = make().float(), make().double()
        low = [None if x is None else case.features(x).to(dtype) for x in (problem.queries, problem.keys)]
        results = []
        for objective, cast in ((found, lambda x: x), (answers, torch.Tensor.double)):
            leaves = [None if x is None else cast(x).detach().clone().requires_grad_() for x in low]
            loss = problem.call(objective, *leaves)
            results.append((loss, gradient(loss, [leaves[0], *objective.parameters()])))
        (loss, grads), (answer, answer_grads) = results
        assert loss.dtype == torch.float32
        assert grads[0].dtype == dtype
        scale = max(1.0, abs(answer.item()))
        assert abs(loss.item() - answer.item()) <= tolerance * scale, f"{sharpness}: {loss.item()} {answer.item()}"
        for grad, wanted in zip(grads, answer_grads, strict=True):
            top = float(wanted.abs().max())
            error = float((grad.double() - wanted).abs().max())
            own = limit if grad.dtype == dtype else 2**-24
            floor = torch.finfo(grad.dtype).smallest_normal
            assert error <= (tolerance + own) * top + tolerance * 2**-12 + floor, f"{sharpness}: {error} of {top}"
        if dtype == torch.float32:
            leaf = low[0].clone().requires_grad_()
            again = make().float()
            with torch.autocast("cpu", torch.bfloat16):
                there = problem.call(again, leaf, low[1])
                there_grads = gradient(there, [leaf, *again.parameters()])
            same((there.detach(), there_grads), (loss.detach(), grads), 0, 0)


@every_case
@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float16, torch.bfloat16)], ids=str)
def test_keys_of_another_dtype(case: Case, dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    """Queries and keys of two dtypes: the loss of both in float64."""
    for problem in [bank(), *([] if case.against != "batch" else problems("gathered"))]:
        assert problem.keys is not None
        queries, keys = (case.features(x).to(d) for x, d in zip((problem.queries, problem.keys), dtypes, strict=True))
        found = problem.call(case.make("mean").float(), queries.requires_grad_(), keys)
        wanted = problem.call(case.make("mean").double(), queries.detach().double(), keys.double())
        assert float(found) == pytest.approx(float(wanted), rel=1e-4, abs=1e-4)
        if found.requires_grad:
            found.backward()


# Tiles


@every_case
@pytest.mark.parametrize("tile_rows", [1, 3, 7, 12])
def test_tiled_rows(case: Case, tile_rows: int) -> None:
    """row_losses, ahead or not, equals naive_row_losses; also with upstream gradients that differ by row."""
    for problem in (*problems("batch"), problems("keys")[0], *problems("gathered"), problems("several")[0]):
        if problem.ids.ndim == 2 and "several" in case.skips:
            continue
        objective = case.make("none").double()
        assert isinstance(objective, PairObjective)
        answers = []
        for ahead in (None, True, False):
            for upstream in (total, torch.Tensor.mean):
                leaves = leaves_of(case, problem, objective)
                queries, keys = (
                    case.features(leaves[0]),
                    case.key_features(leaves[1] if problem.keys is not None else None),
                )
                relation = relate(queries, problem.ids, keys, problem.key_ids, problem.own)
                given = objective.rows, queries, keys, relation, objective.row_inputs(queries, problem.ids)
                if ahead is None:
                    losses, counted = naive_row_losses(*given)
                else:
                    losses, counted = row_losses(*given, ahead=ahead, tile_rows=tile_rows)
                answers.append((losses.detach(), counted, gradient(upstream(losses), leaves)))
        same(answers[2:4], answers[:2])
        same(answers[4:], answers[:2])


def small_tiles(monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    """Every tile of the package as small as this."""
    monkeypatch.setattr(alike, "TILE_FLOATS", 1)
    monkeypatch.setattr(alike, "LEAST_ROWS", tile)
    monkeypatch.setattr(numerics, "GATHER_FLOATS", 1)
    monkeypatch.setattr(class_losses, "TILE_FLOATS", 1)
    monkeypatch.setattr(class_losses, "LEAST_ROWS", tile)
    assert logsumexp.row_logsumexp.__kwdefaults__ is not None
    monkeypatch.setitem(logsumexp.row_logsumexp.__kwdefaults__, "tile", tile)


@every_case
def test_small_tiles(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The objective itself with tiles of 1, 3 and 7 rows or keys: the same for every reduction."""
    tried = [usual(case)] if case.against != "batch" else [balanced(), problems("keys")[0], problems("several")[2]]
    for problem in tried:
        if problem.ids.ndim == 2 and "several" in case.skips:
            continue
        whole = {how: outcome(case, problem, how) for how in case.reductions}
        for tile in (1, 3, 7):
            with monkeypatch.context() as patch:
                small_tiles(patch, tile)
                for how, answer in whole.items():
                    same(outcome(case, problem, how), answer)


class Largest(TorchDispatchMode):
    """Remembers the most elements of any tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for x in torch.utils._pytree.tree_leaves(result):
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.untyped_storage().nbytes() // x.element_size())
        return result


@every_case
def test_memory(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of size Q×K, forwards or backwards: with small tiles no tensor comes near it."""
    small_tiles(monkeypatch, 4)
    count = 192  # Q = K, pairs of two
    problem = Problem(rows(count, 30), torch.arange(count) // 2)
    if case.against != "batch":
        problem = replace(problem, keys=rows(count, 31), ids=torch.arange(count))
    if "classes" in case.name:
        problem = replace(problem, ids=problem.ids % 12)
    objective = case.make(case.reductions[-1])
    leaves = leaves_of(case, problem, objective)
    with Largest() as largest:
        loss = problem.call(
            objective, case.features(leaves[0]), case.key_features(leaves[1] if problem.keys is not None else None)
        )
        gradient(total(loss), leaves)
    assert largest.elements <= count * count // 8, f"{largest.elements} elements against Q×K = {count * count}"


# Modules


@every_case
def test_saved(case: Case) -> None:
    """state_dict into a fresh module, deepcopy and pickle: the identical next loss."""
    problem, objective = usual(case), case.make("mean").double()
    with torch.no_grad():
        for x in objective.parameters():
            x += 0.01 * torch.randn(x.shape, generator=seeded(6), dtype=x.dtype)
    outcome(case, problem, objective=objective)
    stored = io.BytesIO()
    torch.save(objective.state_dict(), stored)
    stored.seek(0)
    fresh = case.make("mean").double()
    fresh.load_state_dict(torch.load(stored))
    others = fresh, copy.deepcopy(objective), pickle.loads(pickle.dumps(objective))
    answer = outcome(case, problem, objective=objective)
    for other in others:
        same(outcome(case, problem, objective=other), answer, 0, 0)


@every_case
def test_compiled(case: Case) -> None:
    """torch.compile without graph breaks, forwards and backwards, and torch.export: as eager."""
    problem, objective = usual(case), case.make("mean").double()
    answer = outcome(case, problem, objective=objective)
    torch._dynamo.reset()
    compiled = torch.compile(objective, fullgraph=True, backend="eager")
    same(outcome(case, problem, objective=compiled), answer)
    queries, keys = case.features(problem.queries), case.key_features(problem.keys)
    inputs = (queries, problem.ids) if keys is None else (queries, problem.ids, keys)
    with torch.no_grad():
        exported = torch.export.export(objective, inputs)
        same(exported.module()(*inputs), answer[0])


@every_case
def test_forward_mode(case: Case) -> None:
    """torch.autograd.forward_ad: the tangent is the gradient along a direction."""
    problem, objective = usual(case), case.make("mean").double()
    step, keys = torch.randn(problem.queries.shape, generator=seeded(7), dtype=torch.float64), problem.keys
    with forward_ad.dual_level():
        queries = case.features(forward_ad.make_dual(problem.queries, step))
        found = forward_ad.unpack_dual(problem.call(objective, queries, case.key_features(keys))).tangent
    same(found, (outcome(case, problem)[1][0] * step).sum(), 1e-7, 1e-9)


@every_case
def test_reductions(case: Case) -> None:
    """none summed = sum; sum over the number that counted = mean; rows that do not count have loss 0."""
    ragged = Problem(rows(9, 40), shuffled([0, 0, 1, 1, 1, 2, 3, 4, 5]))
    problem = ragged if case.against == "batch" else problems("unlabelled", case.against)[0]
    number = counted_by_oracle(case, problem)
    found = {how: outcome(case, problem, how)[0] for how in ("mean", "sum", "none")}
    assert found["none"].shape == (len(problem.queries),)
    same(found["none"].sum(), found["sum"])
    same(found["sum"] / number, found["mean"])
    with pytest.raises(ValueError, match="reduction="):
        case.make("median")


def test_refusals() -> None:
    """What a skip says is refused: several labels a row, and several keys of a class."""
    for case in CASES:
        problem = problems("several")[0 if case.against != "bank" else 2]
        if "several" in case.skips:
            with pytest.raises(LikewiseError):
                outcome(case, problem)
        if "refused" in case.skips.get("keys", ""):
            with pytest.raises(LikewiseError, match="more than once"):
                outcome(case, problems("keys")[0])


# Peers


@pytest.mark.parametrize("case", WITH_PEER, ids=lambda case: case.name)
def test_pytorch_metric_learning(case: Case) -> None:
    """Value and gradient of pytorch-metric-learning, where the definitions coincide, on a balanced batch."""
    problem = Problem(rows(12, 50), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]))
    queries = problem.queries.clone().requires_grad_()
    unit = functional.normalize(queries, dim=1)
    assert case.peer
    ours, theirs, *proxies = case.peer(unit, problem.ids)
    same(ours.detach(), theirs.detach(), 1e-6, 1e-7)  # some of the peer's constants are float32
    same(gradient(ours, [queries]), gradient(theirs, [queries]), 1e-6, 1e-7)
    if proxies:
        same(gradient(ours, proxies[:1])[0], gradient(theirs, proxies[1:])[0].T, 1e-6, 1e-7)


def test_every_objective_of_the_table_has_a_case() -> None:
    cases = {type(case.make()) for case in CASES}
    assert {row.load() for row in OBJECTIVES if row.level != "list"} <= cases  # test_list_objectives has the others


def test_every_case_has_a_peer_or_a_reason() -> None:
    assert [case.name for case in CASES if bool(case.peer) == bool(case.no_peer)] == []
    assert len({case.name for case in CASES}) == len(CASES)


def test_what_is_left_out_is_documented() -> None:
    """Every case takes every property, but for those it lists with a reason; ``pytest -s`` prints them."""
    left_out = {(name, case.name) for name in PROPERTIES for case in CASES} - TAKEN
    assert left_out == {(name, case.name) for case in CASES for name in case.skips}
    print(f"\n{len(CASES)} cases, {len(PROPERTIES)} properties, {len(TAKEN)} taken, {len(left_out)} left out:")
    for case in CASES:
        for name, reason in case.skips.items():
            assert reason
            print(f"| {case.name} | {name} | {reason} |")
