"""Settings of the methods of words, which learn from sequences: skip-gram and CBOW. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

WORD_METHODS = ("skipgram", "cbow")
WORD_OBJECTIVES = ("negative-sampling", "nce", "sampled-softmax")
WORD_GROUPS = ("text", "vocabulary", "window", "noise")  # all settings of these, and of the others:
WORD_SETTINGS = (
    *("method", "alike", "dictionary", "columns", "encoder.dim", "objective.kind", "optim.name", "optim.lr"),
    *("epochs", "minutes", "batch_size", "seed", "device", "threads", "checkpoint_seconds", "tensorboard"),
)

LogZ = Literal["one", "learned", "estimated"]


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """Methods of words: how a text becomes sequences of words. Lists of ids stay as they are.

    Args:
        tokens: words (runs of letters, digits and _, in lower case) or spaces (what stands between white space, as it
            is written).
        ends: a sequence ends with its line, or with its paragraph: at a line without words.
    """

    tokens: Literal["words", "spaces"] = "words"
    ends: Literal["line", "paragraph"] = "line"


@dataclass(frozen=True, kw_only=True)
class VocabularySettings:
    """Methods of words: which words get a vector, and how often frequent ones are read.

    Args:
        least: occurrences that a word needs; word2vec's 5.
        most: the most words; the most frequent ones stay.
        subsample: t: an occurrence of a word with the share f of all is kept with the probability √(t/f) + t/f, at most
            1, anew in each epoch; word2vec's 1e-3; 0 keeps all.
        phrases: rounds in which two words that occur together much more often than apart become one word, as new_york;
            word2vec's tool makes 1 or 2.
        phrase_score: (n(ab) − least) · n / (n(a) n(b)) above which they do; gensim's 10.
    """

    least: int = 5
    most: int = 1_000_000
    subsample: float = 1e-3
    phrases: int = 0
    phrase_score: float = 10.0


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """Methods of words: which words of a sequence are pairs.

    Args:
        size: the most positions between the two, on either side; word2vec's 5.
        near: weigh (a pair at distance d counts (size + 1 − d)/size times), draw (word2vec's: each word draws its own
            window from 1 to ``size``, of which weigh is the expectation) or all (every pair counts once).
    """

    size: int = 5
    near: Literal["weigh", "draw", "all"] = "weigh"


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """Methods of words: what a word's neighbours are told apart from.

    Args:
        samples: k, noise words that a pair counts; word2vec's 5.
        shared: noise words that are drawn for a block of 32 words, which share them; they count ``samples`` times.
        power: of the counts, in proportion to which noise is drawn; word2vec's 0.75.
        log_z: objective nce: Z is 1 (one), learned, or estimated by the noise.
    """

    samples: int = 5
    shared: int = 32
    power: float = 0.75
    log_z: LogZ = "one"
