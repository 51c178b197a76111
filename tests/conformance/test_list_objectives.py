"""What every objective of lists must do, once for all cases of ``list_level_cases``."""

import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from list_level_cases import CASES, Case
from torch import Tensor
from torch.func import functional_call

from likewise import objectives
from likewise.alike import TILE_FLOATS
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.kernels import lists as kernels
from likewise.kernels.numerics import as_twin
from likewise.objectives import list_level
from likewise.objectives.list_base import ListObjective
from likewise.objectives.list_level import ListMLE

pytestmark = pytest.mark.filterwarnings("ignore::likewise.errors.LikewiseWarning")
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
ALLRANK = json.loads(Path(__file__).with_name("allrank_losses.json").read_text())


def some_lists(case: Case, seed: int = 0, count: int = 12, longest: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, relevance and mask of padded lists: of one item, all equal, all 0, empty; ties, except for ListMLE."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(count, longest, dtype=torch.float64, generator=generator)
    relevance = torch.randint(0, 4, (count, longest), generator=generator).double()
    if case.name == "ListMLE":
        relevance = torch.rand(count, longest, generator=generator).argsort(1).double()
    lengths = torch.randint(2, longest + 1, (count, 1), generator=generator)
    lengths[0], lengths[1], lengths[2], lengths[3] = 1, longest, longest, 0
    if case.name != "ListMLE":
        relevance[1], relevance[2] = 2, 0
    scores[4, :2] = 0.5  # equal scores
    mask = torch.arange(longest) < lengths
    return scores, relevance, mask


def with_gradient(loss: Callable[[Tensor], Tensor], scores: Tensor) -> tuple[Tensor, Tensor]:
    leaf = scores.clone().requires_grad_()
    value = loss(leaf)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


@every_case
def test_each_list_is_its_loop(case: Case) -> None:
    scores, relevance, mask = some_lists(case)
    found = case.make(reduction="none").double()(scores, relevance, mask)
    wanted = [case.oracle(s[m].tolist(), y[m].tolist()) for s, y, m in zip(scores, relevance, mask, strict=True)]
    expected = torch.tensor([0.0 if loss is None else loss for loss in wanted], dtype=torch.float64)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-9, atol=1e-9)
    counted = sum(loss is not None for loss in wanted)
    mean = case.make().double()(scores, relevance, mask)
    torch.testing.assert_close(mean.detach(), expected.sum() / counted)
    torch.testing.assert_close(case.make(reduction="sum").double()(scores, relevance, mask).detach(), expected.sum())


@every_case
def test_the_fast_path_is_its_twin_in_values_and_gradients(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "TILE_FLOATS", 40)  # several tiles of lists and of rows
    scores, relevance, mask = some_lists(case, seed=1)

    def loss(s: Tensor) -> Tensor:
        return case.make(reduction="none").to(s.dtype)(s, relevance, mask)

    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        fast = with_gradient(loss, scores.to(dtype))
        with as_twin():
            twin = with_gradient(loss, scores.to(dtype))
        torch.testing.assert_close(fast, twin, rtol=tolerance, atol=tolerance)


@every_case
def test_gradients_of_first_and_second_order(case: Case) -> None:
    scores, relevance, mask = some_lists(case, seed=2, count=5, longest=4)
    scores = scores + torch.arange(4) * 1e-3  # no equal scores, where a hinge or a rank has a corner
    leaf = scores.requires_grad_()

    def loss(s: Tensor) -> Tensor:
        return case.make(reduction="sum").double()(s, relevance, mask)

    assert torch.autograd.gradcheck(loss, leaf)
    assert torch.autograd.gradgradcheck(loss, leaf)


@every_case
def test_padding_order_and_lists_of_their_own_change_nothing(case: Case) -> None:
    scores, relevance, mask = some_lists(case, seed=3)
    scores = scores + torch.arange(6) * 1e-3
    whole = case.make(reduction="none").double()
    found = whole(scores, relevance, mask)
    noisy = scores.masked_fill(~mask, 1e30), relevance.masked_fill(~mask, 77)
    torch.testing.assert_close(case.make(reduction="none").double()(*noisy, mask), found)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cumsum(0)])
    ragged = case.make(reduction="none").double()(scores[mask], relevance[mask], offsets=offsets)
    torch.testing.assert_close(ragged, found)
    for row in (1, 5):
        one = case.make(reduction="none").double()(scores[row, mask[row]], relevance[row, mask[row]])
        torch.testing.assert_close(one, found[row : row + 1])
    if case.moves:
        torch.testing.assert_close(case.make(reduction="none").double()(scores + 3, relevance, mask), found)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    mixed = case.make(reduction="none").double()(scores[:, order], relevance[:, order], mask[:, order])
    torch.testing.assert_close(mixed, found)


@every_case
def test_gradients_are_finite_at_the_edges(case: Case) -> None:
    for scores, relevance in (
        (torch.randn(3, 1), torch.ones(3, 1)),  # lists of one
        (torch.randn(3, 5), torch.full((3, 5), 2.0)),  # equal relevance
        (torch.randn(3, 5), torch.zeros(3, 5)),  # none relevant
        (torch.zeros(3, 5), torch.tensor([[0.0, 1, 2, 0, 1]] * 3)),  # equal scores
        (torch.tensor([[1e4, -1e4, 3e4, 0, 5]]), torch.tensor([[0.0, 2, 1, 0, 3]])),  # scores far apart
        (torch.tensor([[1e-30, -1e-30, 0]]), torch.tensor([[3.0, 2, 1]])),
    ):
        value, gradient = with_gradient(lambda s, y=relevance: case.make()(s, y), scores)  # type: ignore[misc]
        assert bool(value.isfinite().all())
        assert bool(gradient.isfinite().all())
    value, gradient = with_gradient(
        lambda s: case.make()(s, torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)), torch.randn(2, 3)
    )
    assert (float(value), float(gradient.abs().sum())) == (0, 0)


@pytest.mark.parametrize("name", list_level.__all__)
def test_the_temperature_divides_the_scores(name: str) -> None:
    generator, kind = torch.Generator().manual_seed(6), vars(list_level)[name]
    scores = torch.randn(5, 7, dtype=torch.float64, generator=generator)
    relevance = torch.rand(5, 7, dtype=torch.float64, generator=generator) * 4
    found = with_gradient(lambda s: kind(temperature=0.5).double()(s, relevance), scores)
    value, gradient = with_gradient(lambda s: kind().double()(s, relevance), scores * 2)
    torch.testing.assert_close(found, (value, gradient * 2))
    with pytest.raises(LikewiseError, match="temperature"):
        kind(temperature=0)


@every_case
def test_half_precision_and_autocast_count_in_float32(case: Case) -> None:
    scores, relevance, mask = some_lists(case, seed=4)
    half = scores.bfloat16()
    wanted = case.make()(half.float(), relevance, mask)
    assert case.make()(half, relevance, mask).dtype == torch.float32
    torch.testing.assert_close(case.make()(half, relevance, mask), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(case.make()(half.float(), relevance, mask), wanted)


@every_case
def test_it_is_a_module_with_state_and_a_repr(case: Case) -> None:
    objective = case.make(reduction="sum")
    assert "reduction='sum'" in repr(objective)
    objective.load_state_dict(case.make().state_dict())
    named = dict(objective.named_parameters())
    scores, relevance, mask = some_lists(case)
    if named:
        loss = functional_call(objective, named, (scores.float(), relevance, mask))
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, list(named.values())))


@every_case
def test_transforms(case: Case) -> None:
    scores, relevance, mask = some_lists(case, seed=5)
    made = [case.make(reduction="sum").double() for _ in range(2)]

    def loss(s: Tensor) -> Tensor:
        return made.pop()(s, relevance, mask)

    _, wanted = with_gradient(loss, scores)
    torch.testing.assert_close(torch.func.grad(loss)(scores), wanted)


def test_every_objective_of_lists_has_a_case() -> None:
    kinds = {kind for _, kind in inspect.getmembers(list_level, inspect.isclass) if issubclass(kind, ListObjective)}
    assert {type(case.make()) for case in CASES} == kinds - {ListObjective}
    assert {kind.__name__ for kind in kinds - {ListObjective}} == set(list_level.__all__) <= set(objectives.__all__)


@every_case
def test_every_docstring_has_its_parts_in_order(case: Case) -> None:
    text = inspect.getdoc(type(case.make())) or ""
    places = [text.index(f"\n{part}:") for part in ("Relations", "Departures", "Cost", "Paper", "Args")]
    assert places == sorted(places)


@pytest.mark.parametrize("number", range(len(ALLRANK["cases"])))
def test_as_allrank(number: int) -> None:
    """allRank does not install beside a torch of today, so its numbers are kept: see "made with" in the file."""
    kept = dict(ALLRANK["cases"][number])
    scores, relevance = (torch.tensor([kept.pop(name)], dtype=torch.float64) for name in ("scores", "relevance"))
    for name, value in kept.items():
        objective = vars(objectives)[name]()
        found = objective(scores, relevance.clamp(min=0), relevance >= 0)
        assert float(found) == pytest.approx(value, rel=3e-7), name


def test_list_mle_learns_no_order_of_equal_items() -> None:
    """The mean over many calls is that over all orders of the ties."""
    scores, relevance = torch.tensor([[2.0, 0.5, -1.0]]), torch.tensor([[1.0, 0, 0]])
    objective = ListMLE(generator=torch.Generator().manual_seed(0))
    found = torch.stack([objective(scores, relevance) for _ in range(400)])
    each = [float(ListMLE()(scores, torch.tensor([y]))) for y in ([2.0, 1, 0], [2.0, 0, 1])]
    assert {round(float(x), 4) for x in found} == {round(x, 4) for x in each}
    assert float(found.mean()) == pytest.approx(sum(each) / 2, abs=0.08)


def test_grades_are_sorted_as_any_number() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 8, (20, 50), generator=generator).float()
    mask, drawn = torch.rand(20, 50, generator=generator) < 0.8, torch.randperm(50, generator=generator)
    for each in (values, values.double(), values + 0.5, values * 1e5, values - 3, values * torch.nan):
        for places in (torch.arange(50), drawn):
            mixed = torch.where(mask, each, -math.inf)[:, places]
            wanted = places[mixed.argsort(dim=1, descending=True, stable=True)]
            assert torch.equal(kernels.falling_order(torch.where(mask, each, 0.0), mask, places), wanted)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 1e4), (1.0, -400.0), (29.0, 0.0), (31.0, 0.0), (1e4, 0.0)])
def test_list_mle_is_its_twin_where_scores_are_large_or_far_apart(scale: float, shift: float) -> None:
    relevance = torch.tensor([[3.0, 2, 1, 0], [1, 0, 9, 9]])
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    scores = torch.tensor([[1.0, -1, 0.5, 0.2], [1, -1, 0, 0]], dtype=torch.float64) * scale + shift
    found = with_gradient(lambda s: ListMLE(reduction="none")(s, relevance, mask), scores)
    with as_twin():
        twin = with_gradient(lambda s: ListMLE(reduction="none")(s, relevance, mask), scores)
    torch.testing.assert_close(found, twin)


def test_no_block_of_all_pairs_is_in_memory() -> None:
    for count, items in ((256, 1000), (3, 5000), (5000, 40)):
        shapes = [(a.stop - a.start, b.stop - b.start) for a, b in kernels._tiles(torch.empty(count, items))]
        assert all(lists * rows * items <= TILE_FLOATS for lists, rows in shapes)
        assert sum(lists * rows for lists, rows in shapes) == count * items


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": torch.ones(2, 3).long()}, "scores must be floating point"),
        ({"relevance": torch.ones(2, 2)}, r"scores \(2, 3\) and relevance \(2, 2\) must have one shape"),
        ({"relevance": [[1, 2, 3]] * 2}, "relevance must be a tensor of real numbers"),
        ({"mask": torch.ones(2, 2, dtype=torch.bool)}, r"mask \(2, 2\) must have the shape of the scores \(2, 3\)"),
        ({"mask": torch.ones(2, 3)}, "mask are torch.float32; they must be torch.bool"),
        ({"offsets": [0, 3]}, r"with offsets \(L \+ 1,\), scores are \(M,\), not \(2, 3\)"),
        ({"scores": torch.ones(3), "relevance": torch.ones(3), "offsets": [0, 2]}, "offsets must rise from 0 to the 3"),
        (
            {"scores": torch.ones(3), "relevance": torch.ones(3), "offsets": [0, 3], "mask": [True] * 3},
            "leave one out",
        ),
        ({"scores": torch.ones(2, 0), "relevance": torch.ones(2, 0)}, r"scores \(2, 0\) must be \(L, N\)"),
    ],
)
def test_bad_input_is_one_sentence(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"scores": torch.ones(2, 3), "relevance": torch.ones(2, 3)} | change
    with pytest.raises(LikewiseError, match=said):
        objectives.RankNet()(given.pop("scores"), given.pop("relevance"), given.pop("mask", None), **given)


def test_lists_that_teach_nothing_are_named() -> None:
    with pytest.warns(LikewiseWarning, match="RankNet: 0 of 3 anchors counted in this batch"):
        objectives.RankNet()(torch.randn(3, 4), torch.ones(3, 4))
