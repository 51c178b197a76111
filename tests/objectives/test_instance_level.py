"""The instance objectives against the paper's formulas, written as loops in float64."""

import math
import re

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from likewise.errors import LikewiseError, LikewiseWarning
from likewise.kernels.logsumexp import row_logsumexp
from likewise.kernels.numerics import gathered_similarities
from likewise.objectives import NCE, NonParametricSoftmax, ParametricSoftmax, proximal_penalty
from likewise.objectives.base import How
from likewise.objectives.instance_level import LogZ, NoiseDraw

N, DIM, BATCH, TAU = 37, 6, 5, 0.2


def unit(rows: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, DIM, generator=generator, dtype=torch.float64), dim=1).to(dtype)


@pytest.fixture
def case() -> tuple[Tensor, Tensor, Tensor]:
    queries = unit(BATCH, 1).requires_grad_()
    return queries, torch.tensor([3, 0, 36, 11, 20]), unit(N, 2)


def gradient(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs))


def test_softmax_is_equation_2(case: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, ids, keys = case
    expected = torch.zeros((), dtype=torch.float64)
    for i in range(BATCH):
        z = sum(torch.exp(keys[j] @ queries[i] / TAU) for j in range(N))
        expected = expected - torch.log(torch.exp(keys[ids[i]] @ queries[i] / TAU) / z) / BATCH
    found = NonParametricSoftmax(temperature=TAU)(queries, ids, keys)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient(found, queries), gradient(expected, queries), rtol=1e-10, atol=1e-14)


def test_softmax_finds_keys_by_their_ids(case: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, ids, keys = case
    order = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    loss = NonParametricSoftmax(temperature=TAU)
    torch.testing.assert_close(loss(queries, ids, keys[order], order), loss(queries, ids, keys), rtol=1e-12, atol=0)
    with pytest.raises(LikewiseError, match=r"no key has the id.*\[99\]"):
        loss(queries, torch.tensor([3, 0, 99, 11, 20]), keys, torch.arange(N))


def noise_rows(nce: NCE, seed: int) -> Tensor:
    shape = (nce.noise,) if nce.draw == "shared" else (BATCH, nce.noise)
    return torch.randint(N, shape, generator=torch.Generator().manual_seed(seed))


def nce_by_loops(case: tuple[Tensor, Tensor, Tensor], rows: Tensor, log_z: float, inside: bool, lam: float) -> Tensor:
    """Eq. 5–7 and 9–10 term by term; without the positive the samples left stand for m of them."""
    queries, ids, keys = case
    m, total = rows.shape[-1], torch.zeros((), dtype=torch.float64)
    density = 1 / N if inside else 1 / (N - 1)
    for i in range(BATCH):

        def h(row: int, query: Tensor = queries[i]) -> Tensor:
            p = torch.exp(keys[row] @ query / TAU) / math.exp(log_z)
            return p / (p + m * density)

        drawn = (rows if rows.ndim == 1 else rows[i]).tolist()
        used = drawn if inside else [row for row in drawn if row != ids[i]]
        push = sum(-torch.log(1 - h(row)) for row in used) * (m / len(used))
        previous = keys[ids[i]]
        total = total - torch.log(h(int(ids[i]))) + push + lam * ((queries[i] - previous) ** 2).sum()
    return total / BATCH


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("draw", ["shared", "per-example"])
@pytest.mark.parametrize("lam", [0.0, 30.0])
def test_nce_is_equations_5_to_10(case: tuple[Tensor, Tensor, Tensor], draw: str, inside: bool, lam: float) -> None:
    queries, ids, keys = case
    generator = torch.Generator().manual_seed(9)
    nce = NCE(temperature=TAU, noise=16, draw=draw, positive_in_noise=inside, proximal=lam, generator=generator)  # type: ignore[arg-type]
    nce.log_z.fill_(3.1)
    nce.eval()  # Z stays
    rows = noise_rows(nce, 9)
    assert (rows == ids.unsqueeze(1)).any(), "the case must contain a draw of the positive"
    found, expected = nce(queries, ids, keys), nce_by_loops(case, rows, 3.1, inside, lam)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient(found, queries), gradient(expected, queries), rtol=1e-9, atol=1e-13)


def test_nce_h_is_a_sigmoid(case: tuple[Tensor, Tensor, Tensor]) -> None:
    """h(i, v) = σ(s/τ − log Z − log(m/n)), facts of §7."""
    s, log_z, m = torch.linspace(-1, 1, 9, dtype=torch.float64), 2.5, 16
    p = torch.exp(s / TAU) / math.exp(log_z)
    torch.testing.assert_close(p / (p + m / N), torch.sigmoid(s / TAU - log_z - math.log(m / N)))


@pytest.mark.parametrize("inside", [True, False])
def test_shared_and_per_example_noise_estimate_the_same_loss(case: tuple[Tensor, Tensor, Tensor], inside: bool) -> None:
    """Both are unbiased: the mean over many draws agrees with the expectation, computed over all n rows."""
    queries, ids, keys = case
    m, log_z = 8, 3.0
    others = torch.arange(N) != ids.unsqueeze(1)
    shift = log_z + math.log(m / (N if inside else N - 1))
    logits = (queries @ keys.T / TAU - shift).detach()
    push = functional.softplus(logits)
    push = push.mean(1) if inside else (push * others).sum(1) / (N - 1)
    positive = logits.gather(1, ids.unsqueeze(1)).squeeze(1)
    expected = float((functional.softplus(-positive) + m * push).mean())
    for draw in ("shared", "per-example"):
        nce = NCE(
            temperature=TAU, noise=m, draw=draw, positive_in_noise=inside, generator=torch.Generator().manual_seed(0)
        )
        nce.log_z.fill_(log_z)
        nce.eval()
        losses = torch.stack([nce(queries.detach(), ids, keys) for _ in range(3000)])
        error = float(losses.std()) / math.sqrt(len(losses))
        assert abs(float(losses.mean()) - expected) < 4 * error, draw
        assert error < 0.02 * expected


def test_proximal_gradient_is_autograd_of_the_formula(case: tuple[Tensor, Tensor, Tensor]) -> None:
    """λ‖v − v'‖² on the unit sphere pulls with 2λ(v − v'); also through the normalisation."""
    raw = torch.randn(BATCH, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    previous = unit(BATCH, 4)
    queries = functional.normalize(raw, dim=1)
    torch.testing.assert_close(proximal_penalty(queries, previous), 2 - 2 * (queries * previous).sum(1))
    direct = gradient(proximal_penalty(queries, previous).sum(), queries)[0]
    torch.testing.assert_close(direct, 2 * (queries - previous))
    assert torch.autograd.gradcheck(lambda x: proximal_penalty(functional.normalize(x, dim=1), previous), (raw,))


def test_parametric_is_equation_1() -> None:
    parametric = ParametricSoftmax(N, DIM).double()
    queries, ids = unit(BATCH, 1).requires_grad_(), torch.arange(BATCH)
    expected = functional.cross_entropy(queries @ parametric.weight.T, ids)
    found = parametric(queries, ids)
    torch.testing.assert_close(found, expected)
    inputs = (queries, parametric.weight)
    torch.testing.assert_close(gradient(found, *inputs), gradient(expected, *inputs), rtol=1e-10, atol=1e-14)
    assert [name for name, _ in parametric.named_parameters()] == ["weight"]


@pytest.mark.parametrize("tile", [1, 4, 37, 100])
@pytest.mark.parametrize("scale", [1.0, 1 / 0.005])
def test_tiles_do_not_change_the_sum(tile: int, scale: float) -> None:
    queries, keys = unit(BATCH, 1).requires_grad_(), unit(N, 2).requires_grad_()
    expected = (scale * queries @ keys.T).logsumexp(1)
    found = row_logsumexp(queries, keys, scale, tile=tile)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    inputs, weight = (queries, keys), torch.linspace(1, 2, BATCH, dtype=torch.float64)
    torch.testing.assert_close(
        gradient(found @ weight, *inputs), gradient(expected @ weight, *inputs), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("temperature", [1.0, 0.07, 0.005])
def test_low_precision_and_low_temperature_stay_close(dtype: torch.dtype, temperature: float) -> None:
    """Half-precision inputs are rounded once; similarities and sums are float32, so the loss is theirs to ~1e-5."""
    queries, ids, keys = unit(BATCH, 1, dtype).requires_grad_(), torch.tensor([3, 0, 36, 11, 20]), unit(N, 2, dtype)
    found = NonParametricSoftmax(temperature=temperature)(queries, ids, keys)
    exact = queries.detach().double().requires_grad_()
    expected = NonParametricSoftmax(temperature=temperature)(exact, ids, keys.double())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=1e-5 / temperature)
    error = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    ours, theirs = gradient(found, queries)[0].double(), gradient(expected, exact)[0]
    assert (ours - theirs).norm() <= error * theirs.norm()


def test_gathered_similarities_match_the_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likewise.kernels.numerics.GATHER_FLOATS", 2 * 7 * DIM)  # two queries at a time
    queries, keys = unit(BATCH, 1).requires_grad_(), unit(N, 2)
    rows = torch.randint(N, (BATCH, 7), generator=torch.Generator().manual_seed(0))
    expected = (keys[rows] * queries.unsqueeze(1)).sum(-1)
    found = gathered_similarities(queries, keys, rows)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found.square().sum(), queries), gradient(expected.square().sum(), queries))


def true_log_z(queries: Tensor, keys: Tensor) -> float:
    return float((queries @ keys.T / TAU).exp().sum(1).mean().log())


@pytest.mark.filterwarnings("ignore:.*not unit rows")
def test_log_z_exact_is_exact(case: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, ids, keys = case
    nce = NCE(temperature=TAU, noise=4, log_z="exact")
    for scale in (1.0, 0.5):
        nce(queries * scale, ids, keys)
        assert float(nce.log_z) == pytest.approx(true_log_z(queries.detach() * scale, keys), rel=1e-12)


def test_log_z_first_freezes_and_is_saved(case: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, ids, keys = case
    nce = NCE(temperature=TAU, noise=4096, log_z="first", generator=torch.Generator().manual_seed(0))
    assert nce.log_z.isnan()
    nce(queries, ids, keys)
    first = float(nce.log_z)
    assert first == pytest.approx(true_log_z(queries.detach(), keys), abs=0.05)
    nce(-queries, ids, keys)
    assert float(nce.log_z) == first
    other = NCE(temperature=TAU, noise=4096, log_z="first")
    other.load_state_dict(nce.state_dict())
    assert float(other.log_z) == first


@torch.no_grad()
def test_log_z_ema_follows_a_moving_bank_within_5_percent() -> None:
    """Queries drift towards their keys, as in training, until the positive's own term dominates Z."""
    n, dim, steps, errors = 500, 32, 4000, []
    generator = torch.Generator().manual_seed(0)
    keys = functional.normalize(torch.randn(n, dim, generator=generator), dim=1)
    start = torch.randn(n, dim, generator=generator) / 5
    nce = NCE(temperature=0.07, noise=256, log_z="ema", generator=generator)
    frozen = NCE(temperature=0.07, noise=256, log_z="first", generator=generator)
    for step in range(steps):
        ids = torch.randint(n, (128,), generator=generator)
        share = step / steps
        queries = functional.normalize(keys[ids] * share + start[ids], dim=1)
        nce(queries, ids, keys)
        if step % 50 == 0:
            frozen(queries, ids, keys)
        if step % 50 == 49:
            everyone = functional.normalize(keys * share + start, dim=1)
            exact = (everyone @ keys.T / 0.07).double().exp().sum(1).mean().log()
            errors.append(abs(math.expm1(float(nce.log_z - exact))))
    assert max(errors) < 0.05
    assert abs(math.expm1(float(frozen.log_z - exact))) > 0.5, "the one-time constant is what goes wrong"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_log_z_keeps_its_precision_in_a_module_of_halves(dtype: torch.dtype) -> None:
    """In bfloat16 the small steps of its moving average are lost."""
    nce, plain = (NCE(temperature=TAU, noise=N, log_z_decay=0.99) for _ in range(2))
    for made in (nce.to(dtype), plain):
        made.log_z.fill_(20.0)
        torch.manual_seed(0)
        for _ in range(50):
            made(unit(BATCH, 1), torch.arange(BATCH), unit(N, 2))
    assert nce.log_z.dtype == torch.float64
    assert float(nce.log_z) == float(plain.log_z) < 20


def test_evaluation_mode_moves_no_state(case: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, ids, keys = case
    nce = NCE(temperature=TAU, noise=8)
    nce(queries, ids, keys)
    before = nce.log_z.clone()
    nce.eval()(-queries, ids, keys)
    assert torch.equal(nce.log_z, before)


@pytest.mark.parametrize(
    "objective", [NonParametricSoftmax(), NCE(noise=64), NCE(noise=64, draw="per-example", positive_in_noise=False)]
)
@pytest.mark.filterwarnings("ignore:.*not unit rows")
def test_identical_vectors_give_chance_and_a_finite_gradient(objective: NonParametricSoftmax | NCE) -> None:
    row = unit(1, 0, torch.float32)
    queries, keys = row.expand(BATCH, -1).clone().requires_grad_(), row.expand(N, -1).clone()
    loss = objective(queries, torch.arange(BATCH), keys)
    assert float(loss) == pytest.approx(objective.chance(N), rel=0.02)
    assert gradient(loss, queries)[0].isfinite().all()
    zeros = torch.zeros(BATCH, DIM, requires_grad=True)
    loss = objective(zeros, torch.arange(BATCH), torch.zeros(N, DIM))
    assert loss.isfinite()
    assert gradient(loss, zeros)[0].isfinite().all()


def test_permuting_the_batch_changes_nothing(case: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, ids, keys = case
    order = torch.tensor([4, 2, 0, 1, 3])
    for make in (lambda: NonParametricSoftmax(temperature=TAU), lambda: NCE(temperature=TAU, noise=8)):
        torch.manual_seed(0)
        loss = make()(queries, ids, keys)
        torch.manual_seed(0)
        torch.testing.assert_close(make()(queries[order], ids[order], keys), loss, rtol=1e-12, atol=0)


def every_objective(reduction: How = "mean") -> dict[str, NonParametricSoftmax | NCE | ParametricSoftmax]:
    """Each kind, ready for ``objective(queries, ids, keys)`` with draws of seed 0."""

    def nce(draw: NoiseDraw, inside: bool, rule: LogZ) -> NCE:
        generator = torch.Generator().manual_seed(0)
        kind = NCE(
            temperature=TAU,
            noise=16,
            draw=draw,
            positive_in_noise=inside,
            log_z=rule,
            proximal=2.0,
            generator=generator,
            reduction=reduction,
        )
        kind.log_z.fill_(3.1)
        return kind.eval()

    return {
        "softmax": NonParametricSoftmax(temperature=TAU, proximal=2.0, reduction=reduction),
        "nce": nce("shared", True, "ema"),
        "per-example": nce("per-example", False, "exact"),
        "parametric": ParametricSoftmax(N, DIM, scale=5.0, reduction=reduction),
    }


KINDS = tuple(every_objective())


@pytest.mark.parametrize("kind", KINDS)
def test_reductions_and_queries_without_a_positive(case: tuple[Tensor, Tensor, Tensor], kind: str) -> None:
    queries, _, keys = case
    ids = torch.tensor([3, -1, 36, 11, -5])
    counted = ids >= 0
    rows = every_objective("none")[kind](queries, ids, keys)
    assert rows.shape == (BATCH,)
    assert torch.equal(rows != 0, counted)
    total, mean = (every_objective(how)[kind](queries, ids, keys) for how in ("sum", "mean"))
    torch.testing.assert_close(total, rows.sum(), rtol=1e-14, atol=0)
    torch.testing.assert_close(mean, rows.sum() / 3, rtol=1e-14, atol=0)
    assert torch.equal(gradient(mean, queries)[0].any(1), counted)
    names = torch.arange(N) + 50
    named = every_objective("none")[kind](queries, torch.where(counted, ids + 50, -1), keys, names)
    torch.testing.assert_close(named, rows, rtol=1e-14, atol=0)
    none = every_objective("sum")[kind](queries, torch.arange(BATCH), keys) * 0
    with pytest.warns(LikewiseWarning, match="0 of 5 anchors counted"):
        assert torch.equal(every_objective()[kind](queries, torch.full((BATCH,), -1), keys), none)


def test_log_z_is_of_the_queries_that_count(case: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, ids, keys = case
    ids = torch.where(torch.arange(BATCH) < 3, ids, -1)
    nce = NCE(temperature=TAU, noise=4, log_z="exact")
    nce(queries, ids, keys)
    assert float(nce.log_z) == pytest.approx(true_log_z(queries[:3].detach(), keys), rel=1e-12)
    with pytest.warns(LikewiseWarning):
        nce(queries * 2, torch.full((BATCH,), -1), keys)
    assert float(nce.log_z) == pytest.approx(true_log_z(queries[:3].detach(), keys), rel=1e-12), "nobody: it stays"


@pytest.mark.parametrize("rule", ["first", "ema", "exact"])
def test_log_z_in_evaluation_is_estimated_once_if_it_must(case: tuple[Tensor, Tensor, Tensor], rule: LogZ) -> None:
    queries, ids, keys = case
    nce = NCE(temperature=TAU, noise=8, log_z=rule).eval()
    assert nce(queries, ids, keys).isfinite()
    before = nce.log_z.clone()
    assert nce(-queries, ids, keys).isfinite()
    assert torch.equal(nce.log_z, before)


def test_log_z_moves_by_its_decay(case: tuple[Tensor, Tensor, Tensor]) -> None:
    """Z ← d·Z + (1 − d)·Z of the batch; d = 0 keeps the batch's."""
    queries, ids, keys = case
    for decay in (0.0, 0.9):
        nce = NCE(temperature=TAU, noise=8, log_z_decay=decay)
        torch.manual_seed(1)
        batch = NCE(temperature=TAU, noise=8)
        batch(queries, ids, keys)
        nce.log_z.fill_(2.0)
        torch.manual_seed(1)
        nce(queries, ids, keys)
        expected = decay * math.exp(2.0) + (1 - decay) * math.exp(float(batch.log_z))
        assert math.exp(float(nce.log_z)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(kind: str, dtype: torch.dtype) -> None:
    queries, keys, ids = unit(BATCH, 1, dtype).requires_grad_(), unit(N, 2, dtype), torch.arange(BATCH)
    plain = every_objective()[kind](queries, ids, keys)
    with torch.autocast("cpu", torch.bfloat16):
        cast = every_objective()[kind](queries, ids, keys)
    assert torch.equal(cast, plain)
    assert cast.dtype == torch.float32
    assert torch.equal(*(gradient(loss, queries)[0] for loss in (cast, plain)))


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("rule", ["first", "ema", "exact"])
@pytest.mark.filterwarnings("ignore:.*not unit rows")
def test_compiled_whole(rule: str, mode: str) -> None:
    """One graph, the moving log Z included; two steps, so that Z is once new and once followed."""
    torch.compiler.reset()  # the limit of recompilations is of `forward`, which the objectives share
    results, ids = [], torch.tensor([3, -1, 36, 11, 20])
    for compiled in (False, True):
        objective = NCE(
            temperature=TAU,
            noise=16,
            draw="per-example" if rule == "first" else "shared",
            log_z=rule,  # type: ignore[arg-type]
            positive_in_noise=rule != "ema",
        )
        objective.train(mode == "train")
        call = torch.compile(objective, fullgraph=True, backend="aot_eager") if compiled else objective
        torch.manual_seed(0)
        for step in (1.0, 0.5):
            queries, keys = (unit(BATCH, 1, torch.float32) * step).requires_grad_(), unit(N, 2, torch.float32)
            loss = call(queries, ids, keys)
            results.append((loss.detach(), *gradient(loss, queries), *(b.clone() for b in objective.buffers())))
    for eager, traced in zip(results[:2], results[2:], strict=True):
        torch.testing.assert_close(traced, eager)


def test_pair_losses_are_their_formulas() -> None:
    s_p, s_n = torch.linspace(-1, 1, 6).double().reshape(2, 3), torch.linspace(0.9, -0.4, 6).double().reshape(2, 3)
    softmax = -torch.log(torch.exp(s_p / TAU) / (torch.exp(s_p / TAU) + torch.exp(s_n / TAU)))
    torch.testing.assert_close(NonParametricSoftmax(temperature=TAU).pair_loss(s_p, s_n), softmax)
    torch.testing.assert_close(ParametricSoftmax(2, 3, scale=1 / TAU).pair_loss(s_p, s_n), softmax)
    m, n = 16, 100
    p, q = torch.exp(s_p / TAU) / n, torch.exp(s_n / TAU) / n  # Z = n
    expected = -torch.log(p / (p + m / n)) - torch.log(1 - q / (q + m / n)) + 3 * (2 - 2 * s_p)
    torch.testing.assert_close(NCE(temperature=TAU, noise=m, proximal=3.0).pair_loss(s_p, s_n), expected)


ONES = torch.ones(2, 3) / math.sqrt(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NCE(noise=0), "noise=0 must be at least 1"),
        (lambda: NCE(log_z_decay=1.0), "log_z_decay=1.0"),
        (lambda: NonParametricSoftmax(temperature=0.0), "temperature=0.0 must be above 0"),
        (lambda: NCE()(ONES, torch.zeros(2).long(), ONES[:1]), "at least 2 keys"),
        (lambda: NCE()(torch.ones(2, 3), torch.arange(2), torch.ones(5, 4)), "same D"),
        (lambda: NCE()(torch.ones(2, 3), torch.arange(3), torch.ones(5, 3)), "one id per query"),
        (lambda: NCE()(torch.ones(2, 3), torch.arange(2), torch.ones(5, 3), torch.arange(4)), "one id per key"),
        (lambda: NCE()(ONES, torch.arange(2), ONES, torch.arange(2.0)), "key_ids are torch.float32"),
        (lambda: NCE()(ONES, torch.zeros(2), ONES), "ids are torch.float32"),
        (lambda: NCE()(ONES, torch.zeros(2, 2).long(), ONES), "one positive for each query"),
        (
            lambda: NonParametricSoftmax()(ONES, torch.tensor([0, 2]), ONES),
            "ids[1] is 2, but there are 2 keys, whose ids are their rows",
        ),
        (lambda: NonParametricSoftmax()(ONES[:0], torch.arange(0), ONES), "0 queries and 2 keys"),
        (lambda: ParametricSoftmax(2, 3)(ONES, torch.tensor([0, 2])), "ids[1] is 2, but"),
        (lambda: NCE(draw="each"), "draw='each' must be one of"),  # type: ignore[arg-type]
        (lambda: NCE(log_z="never"), "log_z='never' must be one of"),  # type: ignore[arg-type]
        (lambda: NonParametricSoftmax(reduction="max"), "reduction='max'"),  # type: ignore[arg-type]
        (lambda: NonParametricSoftmax(temperature=math.inf), "temperature=inf"),
    ],
)
def test_misuse_is_one_sentence(call: object, message: str) -> None:
    with pytest.raises(LikewiseError, match=re.escape(message)):
        call()  # type: ignore[operator]


def test_memory_of_the_exact_softmax_is_a_tile() -> None:
    """No tensor that autograd keeps, and none made on the way, is as large as B×n."""
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            sizes.extend(
                x.numel() for x in (result if isinstance(result, tuple) else (result,)) if isinstance(x, Tensor)
            )
            return result

    queries = functional.normalize(torch.randn(16, 8), dim=1).requires_grad_()
    keys = functional.normalize(torch.randn(20_000, 8), dim=1)
    with Watch():
        NonParametricSoftmax()(queries, torch.arange(16), keys).backward()
    made = [size for size in sizes if size != keys.numel()]
    assert 0 < max(made) <= 16 * 2048
