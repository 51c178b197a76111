"""Sampled softmax and negative sampling against the papers' formulas, written as loops in float64."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from likewise.errors import LikewiseError
from likewise.objectives.instance_level import NCE, NonParametricSoftmax, noise_contrastive
from likewise.objectives.sampled import NegativeSampling, Noise, SampledSoftmax
from likewise.objectives.sharded import ShardedSoftmax

N, DIM, BATCH, TAU = 31, 6, 5, 0.2
IDS = torch.tensor([3, 0, 30, 11, 20])
COUNTS = torch.tensor([1, 7, 0, 3] * 7 + [40, 2, 9])  # skewed; some keys never come
Case = tuple[Tensor, Tensor]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(rows: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    x = functional.normalize(torch.randn(rows, DIM, generator=generator(seed), dtype=torch.float64), dim=1)
    return x.to(dtype)


@pytest.fixture
def case() -> Case:
    """Queries and keys, both trained."""
    return normal(BATCH, 1).requires_grad_(), normal(N, 2).requires_grad_()


def gradient(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs))


def fix(objective: SampledSoftmax | NegativeSampling, rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the objective's noise draws these rows."""
    monkeypatch.setattr(objective.noise, "draw", lambda shape, n, device: rows.expand(tuple(shape)))


# The noise


def by_hand(weights: Tensor, power: float = 1.0) -> list[float]:
    raised = [float(w) ** power if w > 0 else 0.0 for w in weights.tolist()]
    return [w / math.fsum(raised) for w in raised]


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.float64])
def test_noise_draws_what_its_density_says(power: float, dtype: torch.dtype) -> None:
    noise, draws = Noise(COUNTS.to(dtype), power=power, generator=generator(0)), 200_000
    expected = torch.tensor(by_hand(COUNTS, power), dtype=torch.float64)
    torch.testing.assert_close(noise.log_density(torch.arange(N), N).exp(), expected, rtol=1e-12, atol=0)
    rows = noise.draw((draws // 4, 4), N, torch.device("cpu"))
    assert (rows.dtype, rows.shape) == (torch.int64, (draws // 4, 4))
    shares = torch.bincount(rows.flatten(), minlength=N) / draws
    assert not shares[COUNTS == 0].any()
    assert ((shares - expected).abs() <= 5 * (expected / draws).sqrt()).all()


def test_noise_without_weights_is_uniform() -> None:
    noise = Noise(generator=generator(0))
    rows = noise.draw((100_000,), N, torch.device("cpu"))
    assert ((torch.bincount(rows, minlength=N) / 1e5 - 1 / N).abs() < 5 * math.sqrt(1 / N / 1e5)).all()
    torch.testing.assert_close(
        noise.log_density(rows[:3], N), torch.full((3,), -math.log(N), dtype=torch.float64), rtol=1e-15, atol=0
    )


@pytest.mark.parametrize(("place", "row"), [(0.0, 1), (0.5, 2), (0.5 - 2**-53, 1), (1 - 2**-53, 2)])
def test_noise_at_the_edges_of_its_steps(monkeypatch: pytest.MonkeyPatch, place: float, row: int) -> None:
    """Weights (0, 1, 1, 0): neither the first nor the last row, even at the ends of [0, 1)."""
    noise = Noise(torch.tensor([0, 1, 1, 0]))
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, place, dtype=torch.float64))
    assert noise.draw((2,), 4, torch.device("cpu")).tolist() == [row, row]


def test_noise_of_more_keys_than_multinomial_takes() -> None:
    """n = 2²⁴ + 10, with the weight on the first row and the last ten: float32 sums would lose them."""
    n = 2**24 + 10
    weights = torch.ones(n)
    weights[-10:] = 2.0**20
    noise = Noise(weights, generator=generator(0))
    rows = noise.draw((100_000,), n, torch.device("cpu"))
    total = 2**24 + 10 * 2**20
    late = rows >= 2**24
    assert float(late.double().mean()) == pytest.approx(10 * 2**20 / total, abs=0.01)
    assert len(set(rows[late].tolist())) == 10
    assert float(noise.log_density(rows[~late][:1], n)) == pytest.approx(-math.log(total), rel=1e-12)


def test_noise_keeps_its_precision_and_is_not_state() -> None:
    module = nn.ModuleList([Noise(COUNTS, power=0.75), SampledSoftmax(counts=COUNTS), NegativeSampling(counts=COUNTS)])
    assert module.state_dict() == {}
    before = Noise(COUNTS, power=0.75).log_density(torch.arange(N), N)
    for cast in (module.half(), module.bfloat16(), module.float()):
        noise = cast[0]
        assert isinstance(noise, Noise)
        assert torch.equal(noise.log_density(torch.arange(N), N), before)


# Sampled softmax


def softmax_by_loops(case: Case, rows: list[int], density: list[float], removed: bool = True) -> Tensor:
    """Jean et al. §3: the partition from the target, once, and each draw over its expected count m Q."""
    queries, keys = case
    losses = []
    for query, target in zip(queries, IDS.tolist(), strict=True):
        e_t = torch.exp(query @ keys[target] / TAU)
        z = e_t
        for row in rows:
            if row != target or not removed:
                z = z + torch.exp(query @ keys[row] / TAU) / (len(rows) * density[row])
        losses.append(-torch.log(e_t / z))
    return torch.stack(losses)


@pytest.mark.parametrize("weights", [None, COUNTS])
def test_sampled_softmax_is_the_corrected_cross_entropy(case: Case, weights: Tensor | None) -> None:
    objective = SampledSoftmax(samples=12, temperature=TAU, counts=weights, generator=generator(0), reduction="none")
    density = [1 / N] * N if weights is None else by_hand(weights)
    rows = Noise(weights, generator=generator(0)).draw((12,), N, torch.device("cpu"))
    assert (rows == IDS[:, None]).any(), "the case must contain an accidental hit"
    assert len(set(rows.tolist())) < 12, "and a repeated draw"
    found, expected = objective(case[0], IDS, case[1]), softmax_by_loops(case, rows.tolist(), density)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    weight = torch.linspace(1, 2, BATCH, dtype=torch.float64)
    torch.testing.assert_close(
        gradient(found @ weight, *case), gradient(expected @ weight, *case), rtol=1e-9, atol=1e-13
    )


def test_sampled_softmax_of_every_key_once_is_the_softmax(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """m = n and uniform Q: m Q = 1, and the target's own draw is the accidental hit."""
    objective = SampledSoftmax(samples=N, temperature=TAU)
    fix(objective, torch.randperm(N, generator=generator(0)), monkeypatch)
    expected = functional.cross_entropy(case[0] @ case[1].T / TAU, IDS)
    found = objective(case[0], IDS, case[1])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient(found, *case), gradient(expected, *case), rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(found, NonParametricSoftmax(temperature=TAU)(case[0], IDS, case[1]))


@pytest.mark.parametrize("weights", [None, COUNTS + 1])
def test_the_sampled_partition_is_unbiased(case: Case, weights: Tensor | None) -> None:
    """The mean over draws of Z = e^{s_t + loss} is the whole partition, whatever Q and however few the draws."""
    queries, keys = case[0].detach(), case[1].detach()
    objective = SampledSoftmax(samples=6, temperature=0.5, counts=weights, generator=generator(0), reduction="none")
    s_t = (queries * keys[IDS]).sum(1) / 0.5
    z = torch.stack([(objective(queries, IDS, keys) + s_t).exp() for _ in range(4000)])
    exact = (queries @ keys.T / 0.5).exp().sum(1)
    error = z.std(0) / math.sqrt(len(z))
    assert (error < 0.02 * exact).all()
    assert ((z.mean(0) - exact).abs() < 4 * error).all()


@pytest.mark.parametrize("weights", [None, COUNTS + 1])
def test_the_sampled_gradient_tends_to_the_softmax(case: Case, weights: Tensor | None) -> None:
    """Averaged over draws of many samples, to queries and to keys."""
    objective = SampledSoftmax(samples=2000, temperature=TAU, counts=weights, generator=generator(0))
    exact = gradient(functional.cross_entropy(case[0] @ case[1].T / TAU, IDS), *case)
    draws = [gradient(objective(case[0], IDS, case[1]), *case) for _ in range(40)]
    for place, expected in enumerate(exact):
        found = torch.stack([draw[place] for draw in draws])
        error = found.std(0).norm() / math.sqrt(len(draws))
        assert error < 0.02 * expected.norm()
        assert (found.mean(0) - expected).norm() < 2 * error + 0.005 * expected.norm()


def test_accidental_hits_go_by_id(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw of the target, repeated, and of another key with the same id, changes nothing but the count m."""
    names = torch.arange(N) + 100
    names[5] = 103  # another key of the first query's id
    objective = SampledSoftmax(samples=6, temperature=TAU, reduction="none")
    fix(objective, torch.tensor([3, 3, 5, 7, 8, 9]), monkeypatch)
    first = objective(case[0], IDS + 100, case[1], names)[0]
    logits = case[0][0] @ case[1][[7, 8, 9]].T / TAU - math.log(6 / N)
    target = case[0][0] @ case[1][3] / TAU  # the first key of that id
    torch.testing.assert_close(first, functional.softplus(logits.logsumexp(0) - target), rtol=1e-12, atol=0)


def test_a_draw_of_nothing_but_hits_is_no_loss_and_no_gradient(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = SampledSoftmax(samples=4, temperature=TAU, reduction="none")
    fix(objective, torch.tensor([3]), monkeypatch)
    losses = objective(case[0], IDS, case[1])
    assert losses[0] == 0
    assert (losses[1:] > 0).all()
    grads = gradient(losses.sum(), *case)
    assert all(g.isfinite().all() for g in grads)
    assert not grads[0][0].any()


# Negative sampling


def skip_gram_by_loops(case: Case, rows: Tensor) -> Tensor:
    """Mikolov et al. eq. 4 as written, negated."""
    queries, keys = case
    losses = []
    for i, target in enumerate(IDS.tolist()):
        term = torch.log(1 / (1 + torch.exp(-(keys[target] @ queries[i]))))
        for row in (rows if rows.ndim == 1 else rows[i]).tolist():
            term = term + torch.log(1 / (1 + torch.exp(keys[row] @ queries[i])))
        losses.append(-term)
    return torch.stack(losses)


@pytest.mark.parametrize("draw", ["shared", "per-example"])
@pytest.mark.parametrize("weights", [None, COUNTS])
def test_negative_sampling_is_equation_4(
    draw: Literal["shared", "per-example"], weights: Tensor | None, case: Case
) -> None:
    k = 20 if draw == "shared" else 8
    objective = NegativeSampling(samples=k, counts=weights, draw=draw, generator=generator(8), reduction="none")
    shape = (k,) if draw == "shared" else (BATCH, k)
    rows = Noise(weights, power=0.75, generator=generator(8)).draw(shape, N, torch.device("cpu"))
    assert (rows == IDS[:, None]).any(), "the case must contain a draw of the positive"
    found, expected = objective(case[0], IDS, case[1]), skip_gram_by_loops(case, rows)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    weight = torch.linspace(1, 2, BATCH, dtype=torch.float64)
    torch.testing.assert_close(
        gradient(found @ weight, *case), gradient(expected @ weight, *case), rtol=1e-9, atol=1e-14
    )


def test_negative_samples_come_as_counts_to_three_quarters(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    objective = NegativeSampling(samples=4000, counts=COUNTS, generator=generator(0))
    draw = objective.noise.draw

    def watched(shape: Sequence[int], n: int, device: torch.device) -> Tensor:
        seen.append(draw(shape, n, device))
        return seen[-1]

    monkeypatch.setattr(objective.noise, "draw", watched)
    objective(case[0], IDS, case[1])
    expected = torch.tensor(by_hand(COUNTS, 0.75), dtype=torch.float64)
    shares = torch.bincount(seen[0].flatten(), minlength=N) / seen[0].numel()
    assert ((shares - expected).abs() <= 5 * (expected / seen[0].numel()).sqrt()).all()
    assert (seen[0][0] != seen[0][1]).any(), "each query has draws of its own"


def test_negative_sampling_is_nce_with_z_k_noise_1(case: Case) -> None:
    """Uniform noise P_n = 1/n: NCE whose Z is n/k has m P_n Z = 1, so h = σ(s)."""
    k = 8
    nce = NCE(temperature=1.0, noise=k, draw="per-example", generator=generator(5)).eval()
    nce.log_z.fill_(math.log(N / k))
    objective = NegativeSampling(samples=k, generator=generator(5))
    ours, theirs = objective(case[0], IDS, case[1]), nce(case[0], IDS, case[1])
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient(ours, case[0]), gradient(theirs, case[0]), rtol=1e-10, atol=1e-15)


def test_noise_contrastive_is_the_binary_loss() -> None:
    positive, noise = torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([[0.5, 3.0], [-1.0, 0.0]]).double()
    log_z, m, density = 0.7, 2, 1 / 9

    def h(s: Tensor) -> Tensor:
        p = torch.exp(s) / math.exp(log_z)
        return p / (p + m * density)

    expected = -h(positive).log() - (1 - h(noise)).log().sum(1)
    shift = log_z + math.log(m * density)
    torch.testing.assert_close(noise_contrastive(positive, noise, shift), expected, rtol=1e-12, atol=0)
    weights = torch.tensor([[2.0, 0.0], [1.0, 0.5]]).double()
    expected = -h(positive).log() - ((1 - h(noise)).log() * weights).sum(1)
    torch.testing.assert_close(noise_contrastive(positive, noise, shift, weights), expected, rtol=1e-12, atol=0)


def test_free_vectors_learn_pmi_minus_log_k() -> None:
    """The optimum over each free inner product, of the expected loss: PMI − log k (unigram noise)."""
    k, joint = 3, torch.tensor([[6.0, 1.0, 2.0], [1.0, 5.0, 4.0]]).double() / 19
    left, right = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    s = (joint / (left * right)).log() - math.log(k)
    s.requires_grad_()
    loss = torch.zeros((), dtype=torch.float64)
    for w in range(2):
        for c in range(3):
            pair = noise_contrastive(s[w, c].reshape(1), s.new_zeros(1, 0))[0]
            push = noise_contrastive(s.new_full((1,), torch.inf), s[w, c].reshape(1, 1))[0]
            loss = loss + joint[w, c] * pair + left[w, 0] * right[0, c] * k * push
    assert gradient(loss, s)[0].abs().max() < 1e-12


# Both


Make = Callable[..., SampledSoftmax | NegativeSampling]
MAKES: dict[str, Make] = {
    "softmax": lambda **more: SampledSoftmax(samples=9, temperature=TAU, **more),
    "weighted": lambda **more: SampledSoftmax(samples=9, temperature=TAU, counts=COUNTS, **more),
    "negative": lambda **more: NegativeSampling(counts=COUNTS, **more),
    "shared": lambda **more: NegativeSampling(counts=COUNTS, draw="shared", **more),
}
each_objective = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES.keys())


@each_objective
def test_reductions_and_rows_without_a_positive(make: Make, case: Case) -> None:
    ids = torch.tensor([3, -1, 30, 11, -7])
    counted = ids >= 0
    rows = make(generator=generator(0), reduction="none")(case[0], ids, case[1])
    assert rows.shape == (BATCH,)
    assert torch.equal(rows != 0, counted)
    total = make(generator=generator(0), reduction="sum")(case[0], ids, case[1])
    mean = make(generator=generator(0))(case[0], ids, case[1])
    torch.testing.assert_close(total, rows.sum(), rtol=1e-14, atol=0)
    torch.testing.assert_close(mean, rows.sum() / 3, rtol=1e-14, atol=0)
    assert torch.equal(gradient(mean, case[0])[0].any(1), counted)
    named = make(generator=generator(0), reduction="none")(case[0], ids, case[1], torch.arange(N))
    assert torch.equal(named, rows)


@each_objective
def test_keys_by_their_ids(make: Make, case: Case) -> None:
    objective, names = make(generator=generator(0)), torch.arange(N) * 3 + 5
    found = objective(case[0], names[IDS], case[1], names)
    torch.testing.assert_close(found, make(generator=generator(0))(case[0], IDS, case[1]), rtol=1e-14, atol=0)
    with pytest.raises(LikewiseError, match=r"no key has the id.*\[6\]"):
        objective(case[0], torch.tensor([5, 8, 6, -1, 5]), case[1], names)


def test_permuting_the_batch_permutes_the_losses(case: Case) -> None:
    order = torch.tensor([4, 2, 0, 1, 3])
    for key in ("softmax", "weighted", "shared"):
        losses = MAKES[key](generator=generator(0), reduction="none")(case[0], IDS, case[1])
        moved = MAKES[key](generator=generator(0), reduction="none")(case[0][order], IDS[order], case[1])
        torch.testing.assert_close(moved, losses[order], rtol=1e-12, atol=1e-14)


@each_objective
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision(make: Make, dtype: torch.dtype) -> None:
    """Inputs are rounded once; sums are float32, under autocast too, and gradients have the inputs' type."""
    queries, keys = normal(BATCH, 1, dtype).requires_grad_(), normal(N, 2, dtype).requires_grad_()
    wide = queries.detach().double().requires_grad_(), keys.detach().double().requires_grad_()
    found = make(generator=generator(0))(queries, IDS, keys)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(make(generator=generator(0))(queries, IDS, keys), found)
    expected = make(generator=generator(0))(wide[0], IDS, wide[1])
    assert (found.dtype, expected.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=2e-6)
    error = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    for ours, theirs in zip(gradient(found, queries, keys), gradient(expected, *wide), strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - theirs).norm() <= error * theirs.norm()


@pytest.mark.parametrize("temperature", [1.0, 0.07, 0.005])
@pytest.mark.parametrize("weights", [None, COUNTS])
def test_low_temperature_stays_finite_and_close(temperature: float, weights: Tensor | None) -> None:
    losses, grads = [], []
    for dtype in (torch.float32, torch.float64):
        queries, keys = normal(BATCH, 1, torch.float32).to(dtype), normal(N, 2, torch.float32).to(dtype)
        queries = functional.normalize(queries + keys[IDS], dim=1).float().to(dtype).requires_grad_()
        objective = SampledSoftmax(samples=16, temperature=temperature, counts=weights, generator=generator(1))
        losses.append(objective(queries, IDS, keys))
        grads.append(gradient(losses[-1], queries)[0].double())
    assert losses[0].isfinite()
    torch.testing.assert_close(losses[0].double(), losses[1], rtol=2e-5, atol=1e-6 / temperature)
    assert (grads[0] - grads[1]).norm() <= 1e-3 * grads[1].norm()


@each_objective
def test_compiled_whole(make: Make) -> None:
    torch.compiler.reset()  # the limit of recompilations is of `forward`, which the objectives share
    ids = torch.tensor([3, -1, 30, 11, 20])
    results = []
    for call in (make(), torch.compile(make(), fullgraph=True, backend="aot_eager")):
        queries, keys = normal(BATCH, 1, torch.float32).requires_grad_(), normal(N, 2, torch.float32).requires_grad_()
        torch.manual_seed(0)
        loss = call(queries, ids, keys)
        results.append((loss.detach(), *gradient(loss, queries, keys)))
    torch.testing.assert_close(results[1], results[0])


def test_pair_losses_are_their_formulas() -> None:
    s_p, s_n = torch.linspace(-1, 1, 6).double().reshape(2, 3), torch.linspace(0.9, -0.4, 6).double().reshape(2, 3)
    softmax = SampledSoftmax(temperature=TAU).pair_loss(s_p, s_n)
    torch.testing.assert_close(
        softmax, -torch.log(torch.exp(s_p / TAU) / (torch.exp(s_p / TAU) + torch.exp(s_n / TAU)))
    )
    negative = NegativeSampling().pair_loss(s_p, s_n)
    torch.testing.assert_close(negative, -torch.sigmoid(s_p).log() - torch.sigmoid(-s_n).log())


@pytest.mark.filterwarnings("ignore:.*not unit rows")
def test_chance_is_the_loss_of_an_embedding_that_tells_nothing_apart() -> None:
    queries, keys = torch.zeros(BATCH, DIM), torch.zeros(N, DIM)
    softmax, negative = SampledSoftmax(samples=20_000, generator=generator(0)), NegativeSampling()
    assert float(softmax(queries, IDS, keys)) == pytest.approx(softmax.chance(N), rel=0.01)
    assert float(negative(queries, IDS, keys)) == pytest.approx(negative.chance(N), rel=1e-6)


ONES = torch.ones(2, 3) / math.sqrt(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Noise(torch.tensor([1.0, -1.0])), "finite, 0 or more, and not all 0"),
        (lambda: Noise(torch.zeros(3)), "not all 0"),
        (lambda: Noise(torch.tensor([1.0, math.nan])), "finite"),
        (lambda: Noise(torch.tensor([1.0, math.inf])), "finite"),
        (lambda: Noise(torch.ones(2, 2)), r"counts \(2, 2\) must be \(n,\)"),
        (lambda: Noise(torch.ones(0)), r"counts \(0,\) must be"),
        (lambda: Noise(torch.ones(2), power=-1.0), "power=-1.0"),
        (lambda: SampledSoftmax(samples=0), "samples=0 must be at least 1"),
        (lambda: NegativeSampling(samples=0), "samples=0 must be at least 1"),
        (lambda: SampledSoftmax(temperature=0.0), "temperature=0.0 must be above 0"),
        (lambda: SampledSoftmax(temperature=math.nan), "temperature=nan must be above 0"),
        (lambda: NegativeSampling(draw="each"), "draw='each' must be one of 'shared', 'per-example'"),  # type: ignore[arg-type]
        (lambda: SampledSoftmax(reduction="max"), "reduction='max'"),  # type: ignore[arg-type]
        (lambda: SampledSoftmax(counts=torch.ones(4))(ONES, torch.arange(2), ONES), "there are 4 counts but 2 keys"),
        (lambda: NegativeSampling(counts=torch.ones(4))(ONES, torch.arange(2), ONES), "there are 4 counts but 2 keys"),
        (lambda: SampledSoftmax()(ONES, torch.tensor([0, 2]), ONES), r"ids\[1\] is 2, but there are 2 keys"),
        (lambda: SampledSoftmax()(ONES, torch.zeros(2, 2).long(), ONES), "one positive for each query"),
        (lambda: NegativeSampling()(ONES, torch.zeros(2), ONES), "ids are torch.float32; they must be integers"),
        (lambda: NegativeSampling()(ONES, torch.zeros(3).long(), ONES), "one id per query"),
        (lambda: NegativeSampling()(ONES[:0], torch.zeros(0).long(), ONES), "0 queries and 2 keys"),
        (lambda: NegativeSampling()(ONES, torch.zeros(2).long(), torch.ones(2, 4)), "same D"),
    ],
)
def test_misuse_is_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(LikewiseError, match=message):
        call()


def test_keys_that_are_spread_are_needed() -> None:
    with pytest.raises(LikewiseError, match="needs keys: use a sharded dictionary"):
        ShardedSoftmax(4).against(torch.eye(2), torch.arange(2), None)
