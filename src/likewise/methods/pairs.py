"""Metric learning by pairs: items of one label are alike, and the batch's items are each other's keys."""

from dataclasses import replace

from likewise.config.objective_table import objective as objective_row
from likewise.config.settings import (
    BatchSettings,
    EncoderSettings,
    FitSettings,
    NegativeSettings,
    ObjectiveSettings,
    OptimSettings,
    SamplerSettings,
)
from likewise.methods.method import Method

ALIKE = "same label (alike=label), or the pairs or triplets of a file (alike=pairs, alike=triplets)"
DICTIONARY = "the batch: one view of each item, query and key at once; P classes × K items"
OURS = (
    "SGD with momentum and a cosine rate, so that methods compare; the embedding is centred by BatchNorm before its "
    "length is made 1 (encoder.centre=false leaves it out)",
    "batches of 128, 4 of a class, where the paper has others: see batch_size and sampler.per_class",
    "the learning rate is ours, chosen by short trainings on Omniglot characters (see benchmarks/omniglot.py)",
)
BASE = FitSettings(
    alike="label",
    dictionary="batch",
    batch=BatchSettings(keys="same"),
    sampler=SamplerSettings(kind="classes", per_class=4),
    encoder=EncoderSettings(head="linear", dim=128),
    optim=OptimSettings(lr=0.05, weight_decay=5e-4),
    batch_size=128,
    epochs=60,
)
GENTLE = replace(BASE.optim, lr=0.005)  # where gradients are long: γ times a similarity's, or raw rows'
BRISK, BRISKER = replace(BASE.optim, lr=0.2), replace(BASE.optim, lr=0.5)  # where they are short: 1/β, a distance's
RAW = EncoderSettings(head="linear", dim=128, centre=False, unit=False)


def _row(name: str, paper: str, objective: str, negatives: str, settings: FitSettings, *departures: str) -> Method:
    row = objective_row(settings.objective.kind)
    return Method(
        name=name,
        aliases=tuple(each for each in (row.name, *row.aliases) if each != name),
        paper=paper,
        alike=ALIKE,
        dictionary=DICTIONARY,
        negatives=negatives,
        objective=objective,
        departures=(*departures, *OURS),
        settings=replace(settings, method=name),
    )


FACENET = _row(
    "facenet",
    "Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015",
    "triplet hinge on squared distances (eq. 3), α = 0.2, 128 numbers",
    "for every anchor and positive the nearest negative beyond it (eq. 4, semi-hard)",
    replace(
        BASE,
        objective=ObjectiveSettings(kind="triplet"),
        negatives=NegativeSettings(policies=("hardest-beyond",)),
    ),
    "the paper: AdaGrad at 0.05, batches of 1,800 with 40 faces of an identity and further random negatives",
)
CONTRASTIVE = _row(
    "contrastive",
    "Hadsell, Chopra, LeCun: Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006",
    "squared hinges of distances (eq. 4), margin 1: the siamese network",
    "those of the batch within the margin",
    replace(BASE, objective=ObjectiveSettings(kind="contrastive"), optim=BRISK),
    "positives, and negatives within the margin, of an anchor are averaged each by itself",
)
NPAIR = _row(
    "npair",
    "Sohn: Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS 2016",
    "softmax over inner products of raw rows (eq. 8), with a penalty on their length",
    "the other classes' items",
    replace(
        BASE,
        objective=ObjectiveSettings(kind="npair"),
        encoder=RAW,
        optim=GENTLE,
        sampler=SamplerSettings(kind="classes", per_class=2),
    ),
    "every item of a pair is an anchor once",
)
LIFTED = _row(
    "lifted",
    "Oh Song, Xiang, Jegelka, Savarese: Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016",
    "log-sum-exp over the negatives of both ends of a positive pair (eq. 4), α = 1",
    "all of the batch",
    replace(BASE, objective=ObjectiveSettings(kind="lifted-structure")),
)
MARGIN = _row(
    "margin",
    "Wu, Manmatha, Smola, Krähenbühl: Sampling Matters in Deep Embedding Learning, ICCV 2017",
    "margin loss (eq. 8), α = 0.2, β = 1.2",
    "distance-weighted: one for each anchor and positive, all distances alike (eq. 6)",
    replace(
        BASE,
        objective=ObjectiveSettings(kind="margin"),
        negatives=NegativeSettings(policies=("distance-weighted",)),
        optim=BRISKER,
    ),
    "β is fixed; distance weights suit 64 numbers better than 128 (see likewise.negatives.DistanceWeighted)",
)
MS = _row(
    "ms",
    "Wang, Han, Huang, Dong, Scott: Multi-Similarity Loss with General Pair Weighting, CVPR 2019",
    "multi-similarity (eq. 15): α = 2, β = 50, λ = 0.5",
    "pairs that are hard beside the anchor's others, ε = 0.1 (eq. 11–12); positives too",
    replace(
        BASE,
        objective=ObjectiveSettings(kind="multi-similarity"),
        optim=BRISK,
        sampler=SamplerSettings(kind="classes", per_class=5),
        batch_size=80,
    ),
    "λ = 0.5 as the authors' code; the paper's text has 1",
)
CIRCLE = _row(
    "circle",
    "Sun, Cheng, Zhang, Zhang, Zheng, Wang, Wei: Circle Loss, CVPR 2020",
    "circle loss (eq. 6), γ = 80, m = 0.4, as for retrieval",
    "all of the batch, each paced by how far it is from its optimum",
    replace(
        BASE,
        objective=ObjectiveSettings(kind="circle"),
        optim=GENTLE,
        sampler=SamplerSettings(kind="classes", per_class=5),
        batch_size=80,
    ),
)
HISTOGRAM = _row(
    "histogram",
    "Ustinova, Lempitsky: Learning Deep Embeddings with Histogram Loss, NIPS 2016",
    "the share of negative pairs more alike than a positive one, over two histograms",
    "all of the batch",
    replace(BASE, objective=ObjectiveSettings(kind="histogram")),
)
ANGULAR = _row(
    "angular",
    "Wang, Zhou, Wen, Liu, Lin: Deep Metric Learning with Angular Loss, ICCV 2017",
    "log-sum-exp of eq. 8, the angle at the negative below 40°",
    "all of the batch",
    replace(BASE, objective=ObjectiveSettings(kind="angular")),
    "rows of unit length",
)
PAIRS = (FACENET, CONTRASTIVE, NPAIR, LIFTED, MARGIN, MS, CIRCLE, HISTOGRAM, ANGULAR)
