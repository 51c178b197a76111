"""The step of words beside naive twins: loops over pairs, autograd, and what the objectives converge to."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from likewise.config.word_settings import NoiseSettings, WindowSettings
from likewise.words.adagrad import SMALL, descend
from likewise.words.blocks import BLOCK, Chunk, Noise, alias_table, blocks_of, keep_probability
from likewise.words.objectives import DECAY, NCE, NegativeSampling, SampledSoftmax, Scores, WordObjective, built
from likewise.words.step import STEPS, Tables, cbow, skip_gram

N, D, K = 30, 6, 4.0  # words, numbers, noise words of a pair
GENERATOR = torch.Generator().manual_seed(0)
COUNTS = torch.arange(1, N + 1)
LOG_Q = (COUNTS.double() ** 0.75 / (COUNTS.double() ** 0.75).sum()).log()
OBJECTIVES: dict[str, Callable[[Tensor], WordObjective]] = {
    "negative-sampling": lambda log_q: NegativeSampling(K),
    "nce": lambda log_q: NCE(K, log_q, "one"),
    "nce, Z": lambda log_q: NCE(K, log_q, "learned", torch.tensor(0.7, dtype=log_q.dtype)),
    "sampled-softmax": lambda log_q: SampledSoftmax(log_q),
}
EACH = pytest.mark.parametrize("name", OBJECTIVES)


def naive(objective: str, s_pair: Tensor, s_noise: list[Tensor], pair: int, noise: list[int], log_z: float) -> Tensor:
    """The loss of one pair against the noise of its block, as the papers write it."""
    if objective == "sampled-softmax":
        others = [s - (math.log(len(noise)) + LOG_Q[w]) for s, w in zip(s_noise, noise, strict=True) if w != pair]
        return -(s_pair - torch.stack([s_pair, *others]).exp().sum().log())
    shift = {
        w: 0.0 if objective == "negative-sampling" else float(math.log(K) + LOG_Q[w] + log_z) for w in (pair, *noise)
    }
    loss = -torch.log(1 / (1 + torch.exp(-(s_pair - shift[pair]))))
    for s, w in zip(s_noise, noise, strict=True):
        loss = loss - K / len(noise) * torch.log(1 - 1 / (1 + torch.exp(-(s - shift[w]))))
    return loss


def random_scores(dtype: torch.dtype = torch.float64) -> Scores:
    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=GENERATOR, dtype=dtype)

    weights = torch.rand(2, 3, 5, generator=GENERATOR, dtype=dtype)
    weights[0, 1] = 0
    words = torch.randint(N, (2, 3, 5), generator=GENERATOR)
    noise = torch.randint(N, (2, 4), generator=GENERATOR)
    noise[0, 0] = words[0, 0, 0]  # a hit
    return Scores(pairs=numbers(2, 3, 5), noise=numbers(2, 3, 4), weights=weights, pair_words=words, noise_words=noise)


@EACH
def test_the_loss_is_the_papers_over_all_pairs_and_the_slopes_are_its_gradient(name: str) -> None:
    scores, objective = random_scores(), OBJECTIVES[name](LOG_Q)
    log_z = 0.7 if name == "nce, Z" else 0.0
    loss = sum(
        scores.weights[g, c, p]
        * naive(
            name.partition(",")[0],
            scores.pairs[g, c, p],
            list(scores.noise[g, c]),
            int(scores.pair_words[g, c, p]),
            scores.noise_words[g].tolist(),
            log_z,
        )
        for g in range(2)
        for c in range(3)
        for p in range(5)
    )
    assert torch.allclose(objective.loss(scores), torch.as_tensor(loss))
    pairs, noise = scores.pairs.clone().requires_grad_(), scores.noise.clone().requires_grad_()
    objective.loss(replace(scores, pairs=pairs, noise=noise)).backward()  # type: ignore[no-untyped-call]
    found = objective.slopes(scores)
    assert pairs.grad is not None
    assert noise.grad is not None
    assert torch.allclose(found[0], pairs.grad)
    assert torch.allclose(found[1], noise.grad)


def test_log_z_is_learned_down_its_gradient_or_estimated_from_the_noise() -> None:
    scores = random_scores()
    log_z = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    NCE(K, LOG_Q, "learned", log_z).loss(scores).backward()  # type: ignore[no-untyped-call]
    assert log_z.grad is not None
    learned = NCE(K, LOG_Q, "learned", torch.tensor(0.3, dtype=torch.float64), torch.zeros((), dtype=torch.float64))
    learned.learn(scores, learned.slopes(scores), 0.1)
    assert torch.allclose(learned.log_z, 0.3 - 0.1 * log_z.grad.sign())  # AdaGrad's first step
    assert built("nce", NoiseSettings(log_z="learned"), LOG_Q).state().keys() == {"log_z", "log_z_total"}
    estimated = NCE(K, LOG_Q, "estimated", torch.tensor(0.3, dtype=torch.float64))
    estimated.learn(scores, estimated.slopes(scores), 0.1)
    z = [
        np.mean([math.exp(float(scores.noise[g, c, n] - LOG_Q[scores.noise_words[g, n]])) for n in range(4)])
        for g in range(2)
        for c in range(3)
    ]
    assert float(estimated.log_z) == pytest.approx(DECAY * 0.3 + (1 - DECAY) * np.log(z).mean())
    begun = built("nce", NoiseSettings(log_z="estimated"), LOG_Q).state()["log_z"]
    assert float(begun) == pytest.approx(math.log(N))  # Σ exp(0) over the words


def chunk(window: WindowSettings = WindowSettings(size=2), blocks: int = 2, sequences: int = 9) -> Chunk:  # noqa: B008
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 12, (sequences,), generator=generator).tolist()
    ids = torch.cat(
        [torch.cat([torch.randint(N, (size,), generator=generator), torch.tensor([-1])]) for size in lengths]
    )
    return blocks_of(ids, torch.ones(N), Noise(COUNTS, 0.75), window, (blocks, 5), generator)


@EACH
@pytest.mark.parametrize("method", STEPS)
def test_a_step_is_that_of_the_naive_loss_over_pairs(method: str, name: str) -> None:
    made, objective = chunk(), OBJECTIVES[name](LOG_Q.float())
    generator = torch.Generator().manual_seed(2)
    tables = Tables.untrained(N, D, generator)
    tables.outputs.normal_(generator=generator)
    inputs, outputs = tables.inputs.double().requires_grad_(), tables.outputs.double().requires_grad_()
    total, count = torch.zeros((), dtype=torch.float64), 0.0
    log_z = 0.7 if name == "nce, Z" else 0.0
    parts: list[tuple[Tensor, int, Tensor, int]] = []  # each occurrence of a row has a gradient of its own

    def occurrence(table: Tensor, kind: int, word: int) -> Tensor:
        row = table[word].detach().requires_grad_()
        parts.append((row, kind, torch.tensor(word), len(parts)))
        return row

    words, w = made.words.tolist(), 2
    for g in range(2):
        start = g * BLOCK
        noise_words = made.noise[0, g].tolist()
        noise_rows = [occurrence(outputs, 1, word) for word in noise_words]
        others = {
            at: occurrence(outputs if method == "skipgram" else inputs, int(method == "skipgram"), words[at])
            for at in range(start, start + BLOCK + 2 * w)
        }
        for c in range(BLOCK):
            weights, place = made.weights[0, g, c], start + w + c
            own = occurrence(inputs if method == "skipgram" else outputs, int(method != "skipgram"), words[place])
            near = [(float(weights[d]), place + d - w) for d in range(2 * w + 1) if weights[d] > 0]
            if not near:
                continue
            if method == "skipgram":
                pairs = [(weight, own, others[at], words[at]) for weight, at in near]
            else:
                query = sum(weight * others[at] for weight, at in near) / sum(weight for weight, _ in near)
                pairs = [(1.0, query, own, words[place])]
            for weight, query, key, word in pairs:
                s = [query @ row for row in noise_rows]
                total = total + weight * naive(name.partition(",")[0], query @ key, s, word, noise_words, log_z)
                count += weight
    total.backward()  # type: ignore[no-untyped-call]
    expected = [tables.inputs.double(), tables.outputs.double()]
    sums = [torch.zeros(N, dtype=torch.float64), torch.zeros(N, dtype=torch.float64)]
    for row, kind, word, _ in parts:
        if row.grad is not None:
            sums[kind][word] += row.grad.square().mean()
    for row, kind, word, _ in parts:
        if row.grad is not None:
            expected[kind][word] -= 0.1 * row.grad / torch.sqrt(sums[kind][word] + SMALL)
    loss = STEPS[method](tables, objective, made, 0, 0.1, told=True)
    assert loss == pytest.approx(float(total.detach()) / count, rel=1e-5)
    assert torch.allclose(tables.inputs.double(), expected[0], atol=1e-5)
    assert torch.allclose(tables.outputs.double(), expected[1], atol=1e-5)
    assert torch.allclose(tables.input_sums.double(), sums[0], rtol=1e-4)
    assert torch.allclose(tables.output_sums.double(), sums[1], rtol=1e-4)


def test_adagrad_steps_the_rows_it_is_given() -> None:
    table, sums = torch.ones(4, 2), torch.tensor([0.0, 1.0, 0.0, 5.0])
    descend(table, sums, torch.tensor([1, 0, 1]), torch.tensor([[1.0, 1], [0, 2], [3, 1]]), 0.5)
    assert sums.tolist() == [2.0, 1 + 1 + 5, 0.0, 5.0]
    root = math.sqrt(7)
    assert torch.allclose(table[1], 1 - 0.5 * torch.tensor([4.0, 2]) / root)
    assert torch.allclose(table[0], torch.tensor([1.0, 1 - 1 / math.sqrt(2)]))
    assert table[2:].eq(1).all()


# What the objectives converge to, where vectors are free: full expectations over a corpus of a few words.

JOINT = torch.tensor([[4.0, 2, 1, 1], [2, 2, 3, 1], [1, 3, 6, 2]], dtype=torch.float64)  # of three contexts, four words
UNIGRAM = JOINT.sum(0) / JOINT.sum()


def optimum(objective: WordObjective, steps: int = 200) -> Tensor:
    """The scores (3, 4) at which the expected loss is lowest: descent with steps that never overshoot.

    The noise of each context is all four words, as often as Q has them in a corpus of 28 words.
    """
    draws = torch.repeat_interleave(torch.arange(4), (UNIGRAM * 28).round().long())
    scores = torch.zeros(3, 4, dtype=torch.float64)
    most = (JOINT + K * JOINT.sum(1, keepdim=True) * UNIGRAM) / 4  # of the second derivative
    for _ in range(steps):
        seen = Scores(
            pairs=scores.unsqueeze(0),
            noise=scores[:, draws].unsqueeze(0),
            weights=JOINT.unsqueeze(0),
            pair_words=torch.arange(4).expand(1, 3, 4),
            noise_words=draws.unsqueeze(0),
        )
        pairs, noise = objective.slopes(seen)
        scores = scores - pairs[0].index_add(1, draws, noise[0]) / most
    return scores


def test_nce_recovers_the_density_and_negative_sampling_the_pmi_less_log_k() -> None:
    conditional = (JOINT / JOINT.sum(1, keepdim=True)).log()
    found = optimum(NCE(K, UNIGRAM.log()))
    assert torch.allclose(found, conditional, atol=1e-4)  # log P(w | c)
    found = optimum(NCE(K, UNIGRAM.log(), "learned", torch.tensor(1.5, dtype=torch.float64)))
    assert torch.allclose(found, conditional + 1.5, atol=1e-4)
    pmi = (JOINT * JOINT.sum() / (JOINT.sum(1, keepdim=True) * JOINT.sum(0))).log()
    found = optimum(NegativeSampling(K))
    assert torch.allclose(found, pmi - math.log(K), atol=1e-4)
    assert not torch.allclose(found.softmax(1), conditional.exp(), atol=0.05)  # it is no density


def test_sampled_softmax_with_all_words_is_the_softmax() -> None:
    scores = torch.randn(1, 3, 4, generator=GENERATOR, dtype=torch.float64)
    uniform = torch.full((4,), -math.log(4), dtype=torch.float64)
    seen = Scores(
        pairs=scores,
        noise=scores,
        weights=JOINT.unsqueeze(0),
        pair_words=torch.arange(4).expand(1, 3, 4),
        noise_words=torch.arange(4).unsqueeze(0),
    )
    expected = functional.cross_entropy(scores[0], JOINT, reduction="sum")
    assert torch.allclose(SampledSoftmax(uniform).loss(seen), expected)


# Blocks


@pytest.mark.parametrize("near", ["weigh", "draw", "all"])
def test_pairs_are_those_of_a_loop_over_the_sequences(near: str) -> None:
    ids = torch.tensor([3, 4, 5, 6, -1, 7, 8, -1, 9, -1, *range(N), -1])
    window = WindowSettings(size=3, near=near)  # type: ignore[arg-type]
    made = blocks_of(ids, torch.ones(N), Noise(COUNTS, 1.0), window, (1, 4), torch.Generator().manual_seed(3))
    assert made.read == 7 + N
    weights = made.weights.reshape(-1, 7)
    sequences = [[3, 4, 5, 6], [7, 8], [9], list(range(N))]
    place = 0
    for sequence in sequences:
        for at in range(len(sequence)):
            reach = [d for d in range(-3, 4) if weights[place, d + 3] > 0]
            fits = [d for d in range(-3, 4) if d != 0 and 0 <= at + d < len(sequence)]
            assert made.words[3 + place] == sequence[at]
            for d in fits:
                weight = float(weights[place, d + 3])
                wanted = {"weigh": [(4 - abs(d)) / 3], "all": [1.0], "draw": [0.0, 1.0]}[near]
                assert any(weight == pytest.approx(each) for each in wanted)
            assert set(reach) <= set(fits)
            if near == "draw" and reach:
                assert all(d in reach for d in fits if abs(d) <= max(map(abs, reach)))
            place += 1
    assert weights[place:].eq(0).all()


def test_the_alias_table_has_the_probabilities_and_noise_follows_them() -> None:
    for size in (1, 2, 3, 17, 500):
        share = torch.rand(size, generator=GENERATOR, dtype=torch.float64) ** 6 + 1e-9
        share /= share.sum()
        keep, alias = alias_table(share)
        found = (keep / size).index_add(0, alias, (1 - keep) / size)
        assert torch.allclose(found, share, atol=1e-12), size
    noise = Noise(COUNTS, 0.75)
    drawn = noise.draw((40_000,), torch.Generator().manual_seed(0)).bincount(minlength=N) / 40_000
    assert float((drawn - noise.log_q.exp()).abs().max()) < 0.01


def test_frequent_words_are_read_less_often() -> None:
    counts = torch.tensor([900, 90, 10])
    expected = [min(1, math.sqrt(0.01 / f) + 0.01 / f) for f in (0.9, 0.09, 0.01)]
    assert keep_probability(counts, 0.01).tolist() == pytest.approx(expected)
    assert keep_probability(counts, 0.0).tolist() == [1, 1, 1]
    ids = torch.cat([torch.zeros(9000, dtype=torch.long), torch.tensor([-1])])
    made = blocks_of(ids, keep_probability(counts, 0.01), Noise(counts, 0.75), WindowSettings(), (4, 3), GENERATOR)
    assert made.read == pytest.approx(9000 * expected[0], rel=0.1)


def test_a_step_lowers_its_own_loss() -> None:
    for step in (skip_gram, cbow):
        tables, made = Tables.untrained(N, D, torch.Generator().manual_seed(0)), chunk()
        first = step(tables, NegativeSampling(K), made, 0, 0.05, told=True)
        assert step(tables, NegativeSampling(K), made, 0, 0.05, told=False) is None
        second = step(tables, NegativeSampling(K), made, 0, 0.05, told=True)
        assert first == pytest.approx((K + 1) * math.log(2), rel=1e-5)
        assert second is not None
        assert second < first
