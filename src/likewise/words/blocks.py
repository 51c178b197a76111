"""Blocks of consecutive words, with the weights of their pairs and the noise that each block shares.

Dimension legend: n words of the vocabulary, L positions, S steps, G blocks of a step, C words of a block, w the window,
P = 2w + 1 offsets from −w to w, N noise words of a block.

All draws of a chunk come from its own generator, so that a run that resumes draws the same again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from likewise.config.word_settings import WindowSettings

BLOCK = 32  # C: more is wasted work beside the band, less is slow products


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The blocks of a stretch of the corpus.

    Args:
        words: (S·G·C + 2w,) int64: the words that are read, in order, with w places of no word before and after.
        weights: (S, G, C, P) float32: how often the pair of a word with the one at that offset counts; 0 at offset 0,
            beyond the sequence, and where there is no word.
        noise: (S, G, N) int64.
        read: words that were kept for this epoch.
    """

    words: Tensor
    weights: Tensor
    noise: Tensor
    read: int

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.weights)

    def block(self, step: int) -> tuple[Tensor, Tensor]:
        """(G·C,) the words of a step's blocks, and (G, C + 2w) these with their neighbours on both sides."""
        _, blocks, size, offsets = self.weights.shape
        start, count = step * blocks * size, blocks * size
        around = self.words[start : start + count + offsets - 1].unfold(0, size + offsets - 1, size)
        return self.words[start + offsets // 2 :][:count], around


class Noise:
    """The distribution Q of noise: proportional to the words' counts to a power. Draws by the alias method.

    A draw is one place and one choice between two words, whatever n is (Walker 1977; Vose 1991).

    Args:
        counts: (n,) above 0.
        power: of the counts; word2vec's 0.75.
    """

    def __init__(self, counts: Tensor, power: float) -> None:
        raised = counts.double() ** power
        share = raised / raised.sum()
        self.log_q = share.log().float()  # (n,)
        self.keep, self.alias = alias_table(share)

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """int64 words of the shape."""
        place = torch.rand(tuple(shape), generator=generator, dtype=torch.float64).mul_(len(self.keep))
        word = place.long()
        return torch.where(place.sub_(word) < self.keep[word], word, self.alias[word])


def alias_table(share: Tensor) -> tuple[Tensor, Tensor]:
    """For each of n places: float64 the probability that its own word is drawn there, and int64 the other word.

    Every place has 1/n of the probability: its own word's, filled up from a word that has more. A word that is filled
    up from is next in line when it falls below 1/n, so places and words are sorted and matched by running sums:
    no loop over words in Python.

    Args:
        share: (n,) float64, sums to 1.
    """
    n = len(share)
    scaled = share * n
    small, large = (scaled < 1).nonzero()[:, 0], (scaled >= 1).nonzero()[:, 0]
    keep, alias = torch.ones(n, dtype=torch.float64), torch.arange(n)
    if len(small) == 0 or len(large) == 0:
        return keep, alias
    # Large word b gives away its surplus in order. The gap of each small place is filled by the large word in whose
    # surplus the gap begins; a gap that runs past the surplus leaves that large word short, by what the next one gives.
    gaps, surplus = (1 - scaled[small]).cumsum(0), (scaled[large] - 1).cumsum(0)
    begins = torch.cat([gaps.new_zeros(1), gaps[:-1]])
    giver = torch.searchsorted(surplus, begins, right=True).clamp_(max=len(large) - 1)
    keep[small], alias[small] = scaled[small], large[giver]
    given = torch.zeros(len(large), dtype=torch.float64).index_add_(0, giver, 1 - scaled[small])
    # What a large word has left after its gifts, with what the one before it was short of.
    before = (given.cumsum(0) - surplus).clamp_(min=0)  # short after word b, filled by word b + 1
    keep[large[:-1]], alias[large[:-1]] = (1 - before[:-1]).clamp_(0, 1), large[1:]
    return keep, alias


def blocks_of(
    ids: Tensor, keep: Tensor, noise: Noise, window: WindowSettings, shape: tuple[int, int], generator: torch.Generator
) -> Chunk:
    """The blocks of a stretch of the corpus.

    Args:
        ids: (L,) integers: words, and −1 after each sequence.
        keep: (n,) float32, the probability with which an occurrence of each word is read.
        noise: what is drawn for the blocks.
        window: which words are pairs.
        shape: (G, N): blocks of a step, and noise words of a block.
        generator: of this stretch.
    """
    blocks, drawn = shape
    ids = ids.long()
    sequence, is_word = (ids < 0).cumsum(0), ids >= 0
    ids, sequence = ids[is_word], sequence[is_word]
    read = torch.rand(len(ids), generator=generator) < keep[ids]
    ids, sequence = ids[read], sequence[read]
    steps, w = max(1, -(-len(ids) // (blocks * BLOCK))), window.size
    size = steps * blocks * BLOCK
    words, places = torch.zeros(size + 2 * w, dtype=torch.long), torch.full((size + 2 * w,), -1)
    words[w : w + len(ids)], places[w : w + len(ids)] = ids, sequence
    own = places[w : w + size, None]
    weights = (places.unfold(0, 2 * w + 1, 1) == own) & (own >= 0)  # of one sequence
    distance = torch.arange(-w, w + 1).abs()
    if window.near == "draw":
        reach = torch.randint(1, w + 1, (size, 1), generator=generator)
        weights = (weights & (distance <= reach)).float()
    else:
        weights = weights * (((w + 1 - distance) / w) if window.near == "weigh" else torch.ones(2 * w + 1))
    weights[:, w] = 0
    return Chunk(
        words=words,
        weights=weights.view(steps, blocks, BLOCK, 2 * w + 1),
        noise=noise.draw((steps, blocks, drawn), generator),
        read=len(ids),
    )


def keep_probability(counts: Tensor, subsample: float) -> Tensor:
    """(n,) float32 ``min(1, √(t/f) + t/f)`` with the share f of a word, as word2vec's program; all 1 for t = 0."""
    if subsample == 0:
        return torch.ones(len(counts))
    ratio = subsample * counts.sum().double() / counts.double()
    return (ratio.sqrt() + ratio).clamp_(max=1).float()
