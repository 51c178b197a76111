"""Words: those that occur near each other are alike, and noise words are the negatives."""

from dataclasses import replace

from likewise.config.settings import EncoderSettings, FitSettings, ObjectiveSettings, OptimSettings
from likewise.methods.method import Method

PAPER = "Mikolov, Sutskever, Chen, Corrado, Dean: Distributed Representations of Words and Phrases, NIPS 2013"
OURS = (
    "32 words after each other share their noise, as in Ji et al., Parallelizing Word2Vec (2016): matrix products "
    "in the place of inner products, several times as fast; each noise word counts as often as it would be drawn",
    "AdaGrad with a sum for each row, so that one rate suits rare and frequent words; the released program has SGD "
    "with a rate that falls to 0",
    "a pair at distance d counts (window + 1 − d)/window times: what the released program's drawn windows give on the "
    "average (window.near=draw draws them)",
)

SKIPGRAM = Method(
    name="skipgram",
    aliases=("word2vec", "item2vec"),
    paper=PAPER,
    alike="words near each other in a sequence (alike=window)",
    dictionary="a second vector of each word (u); the first (v) is its embedding",
    negatives="noise words, drawn by their counts to the power 0.75",
    objective="negative sampling (eq. 4), k = 5; or nce, sampled-softmax",
    departures=OURS,
    settings=FitSettings(
        method="skipgram",
        alike="window",
        dictionary="words",
        encoder=EncoderSettings(dim=100),
        objective=ObjectiveSettings(kind="negative-sampling"),
        optim=OptimSettings(name="adagrad", lr=0.2),
        batch_size=1024,
        epochs=5,
    ),
)

CBOW = Method(
    name="cbow",
    paper="Mikolov, Chen, Corrado, Dean: Efficient Estimation of Word Representations in Vector Space, 2013",
    alike="a word, and the mean of the words near it in a sequence (alike=window)",
    dictionary=SKIPGRAM.dictionary,
    negatives=SKIPGRAM.negatives,
    objective="negative sampling, k = 5; or nce, sampled-softmax",
    departures=OURS,
    settings=replace(SKIPGRAM.settings, method="cbow"),
)
WORDS = (SKIPGRAM, CBOW)
