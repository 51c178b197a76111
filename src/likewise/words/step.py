"""The training step of words: scores of a step's blocks, their slopes, and AdaGrad on the rows that they touch.

Dimension legend: n words, D numbers, G blocks, C words of a block, w the window, P = 2w + 1, N noise words of a block.

It is not ``likewise.training.step.train_step``: there is no encoder but a table, a step touches some thousand of its
rows, and the gradient is three batched products, so that autograd, an optimizer of all rows and collectives would cost
more than the step itself.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from likewise.words.adagrad import descend
from likewise.words.blocks import Chunk
from likewise.words.objectives import Scores, WordObjective


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What is learned: two vectors for each word, and the sums of AdaGrad.

    Args:
        inputs: (n, D) float32: of words whose neighbours are told (v); the embedding.
        outputs: (n, D) float32: of words that are told from noise (u).
        input_sums: (n,) float32.
        output_sums: (n,) float32.
    """

    inputs: Tensor
    outputs: Tensor
    input_sums: Tensor
    output_sums: Tensor

    @classmethod
    def untrained(cls, words: int, dim: int, generator: torch.Generator) -> "Tables":
        """Inputs uniform in ±1/(2D), outputs 0, as word2vec's."""
        inputs = torch.rand(words, dim, generator=generator).sub_(0.5).div_(dim)
        return cls(
            inputs=inputs,
            outputs=torch.zeros(words, dim),
            input_sums=torch.zeros(words),
            output_sums=torch.zeros(words),
        )

    def state(self) -> dict[str, Tensor]:
        """The tensors by name; the tensors themselves."""
        return dict(vars(self))


def band(matrix: Tensor, offsets: int) -> Tensor:
    """The band (G, C, P) of a contiguous (G, C, K) matrix, as a view: element (g, i, d) is that of row i, column i + d.

    Column i + d of a block's neighbours is the word at the offset d − w from word i.
    """
    blocks, size, width = matrix.shape
    return matrix.as_strided((blocks, size, offsets), (size * width, width + 1, 1))


def skip_gram(
    tables: Tables, objective: WordObjective, chunk: Chunk, step: int, lr: float, *, told: bool
) -> float | None:
    """One step of skip-gram: each word tells its neighbours from the noise of its block. The tables are changed.

    Returns the mean loss of the step's pairs before the step; None unless it is to be ``told``.
    Cost: 6·D·(C + 2w + N) flops for each word, in three batched products.
    """
    weights = chunk.weights[step]
    blocks, size, offsets = weights.shape
    middle, around = chunk.block(step)
    rows = torch.cat([around, chunk.noise[step]], 1)  # (G, C + 2w + N)
    queries = tables.inputs.index_select(0, middle).view(blocks, size, -1)
    keys = tables.outputs.index_select(0, rows.flatten()).view(*rows.shape, -1)
    products = torch.bmm(queries, keys.transpose(1, 2))  # (G, C, C + 2w + N)
    first = around.shape[1]  # of the noise
    scores = Scores(
        pairs=band(products, offsets),
        noise=products[:, :, first:],
        weights=weights,
        pair_words=around.unfold(1, offsets, 1),
        noise_words=chunk.noise[step],
    )
    loss = mean_loss(objective, scores) if told else None
    slopes = objective.slopes(scores)
    objective.learn(scores, slopes, lr)
    products.zero_()
    band(products, offsets).copy_(slopes[0])
    products[:, :, first:] = slopes[1]
    to_queries, to_keys = torch.bmm(products, keys), torch.bmm(products.transpose(1, 2), queries)
    descend(tables.inputs, tables.input_sums, middle, to_queries.flatten(0, 1), lr)
    descend(tables.outputs, tables.output_sums, rows.flatten(), to_keys.flatten(0, 1), lr)
    return loss


def cbow(tables: Tables, objective: WordObjective, chunk: Chunk, step: int, lr: float, *, told: bool) -> float | None:
    """One step of CBOW: the mean of a word's neighbours tells the word from noise. Otherwise as :func:`skip_gram`.

    The mean is weighted by the pairs' weights; a word without neighbours does not count.
    Cost: 4·D·(C + 2w + N) flops for each word.
    """
    weights = chunk.weights[step]
    blocks, size, offsets = weights.shape
    middle, around = chunk.block(step)
    total = weights.sum(2, keepdim=True)
    mix = torch.zeros(blocks, size, around.shape[1])
    band(mix, offsets).copy_(weights / total.clamp(min=1e-12))
    sources = tables.inputs.index_select(0, around.flatten()).view(*around.shape, -1)
    queries = torch.bmm(mix, sources)  # (G, C, D)
    rows = torch.cat([middle.view(blocks, size), chunk.noise[step]], 1)  # (G, C + N)
    keys = tables.outputs.index_select(0, rows.flatten()).view(*rows.shape, -1)
    own, others = keys[:, :size], keys[:, size:]
    scores = Scores(
        pairs=(queries * own).sum(2, keepdim=True),
        noise=torch.bmm(queries, others.transpose(1, 2)),
        weights=(total > 0).float(),
        pair_words=middle.view(blocks, size, 1),
        noise_words=chunk.noise[step],
    )
    loss = mean_loss(objective, scores) if told else None
    pairs, noise = objective.slopes(scores)
    objective.learn(scores, (pairs, noise), lr)
    to_sources = torch.bmm(mix.transpose(1, 2), pairs * own + torch.bmm(noise, others))
    to_keys = torch.cat([pairs * queries, torch.bmm(noise.transpose(1, 2), queries)], 1)
    descend(tables.inputs, tables.input_sums, around.flatten(), to_sources.flatten(0, 1), lr)
    descend(tables.outputs, tables.output_sums, rows.flatten(), to_keys.flatten(0, 1), lr)
    return loss


def mean_loss(objective: WordObjective, scores: Scores) -> float:
    """The mean over the pairs; 0 without pairs."""
    return float(objective.loss(scores) / scores.weights.sum().clamp(min=1e-9))


STEPS = {"skipgram": skip_gram, "cbow": cbow}  # by the name of the method
