"""Metric learning from a graph: items that the same users were engaged with are alike."""

from dataclasses import replace

from likewise.config.settings import (
    BatchSettings,
    EncoderSettings,
    FitSettings,
    NegativeSettings,
    ObjectiveSettings,
    OptimSettings,
    SamplerSettings,
    ViewSettings,
)
from likewise.methods.method import Method

ALIKE = "the two ends of an edge of the graph in relations (alike=pairs); likewise graph makes one"
DICTIONARY = "the batch: the ends of its edges and the planted negatives, one view of each, query and key at once"
OURS = (
    "the papers' content is of video and sound by networks of their own; here it is any vectors, words and pictures "
    "(--features), each with a tower",
    "batch_size counts items: 6,144 are 1,024 edges with four planted negatives each; CDML has 7,200 triplets",
    "AdamW with a cosine rate; the papers do not say",
    "512 numbers of an embedding and the rate 1e-3, chosen on validation splits of two data sets; 128 find less",
)
BASE = FitSettings(
    alike="pairs",
    dictionary="batch",
    batch=BatchSettings(keys="same"),
    views=ViewSettings(noise=0.0, dropout=0.2),
    encoder=EncoderSettings(name="towers", hidden=256, head="linear", dim=512, centre=False),
    objective=ObjectiveSettings(kind="triplet", parameters={"margin": 0.2}),
    negatives=NegativeSettings(policies=("hardest-beyond",)),
    sampler=SamplerSettings(planted="uniform", per_pair=4),
    optim=OptimSettings(name="adamw", lr=1e-3, weight_decay=0.01),
    batch_size=6144,
    epochs=3,
)

CDML = Method(
    name="cdml",
    aliases=("collaborative-deep-metric-learning",),
    paper="Lee, Abu-El-Haija, Varadarajan, Natsev: Collaborative Deep Metric Learning for Video Understanding, "
    "KDD 2018",
    alike=ALIKE,
    dictionary=DICTIONARY,
    negatives="four items for each edge, drawn from all that the interactions know, and from the whole batch the "
    "nearest beyond the positive (semi-hard); ends of a common edge are never negatives",
    objective="triplet hinge on squared distances, α = 0.2 (with α = 0 such negatives have no loss)",
    departures=(
        "items that the interactions do not know are no negatives: nobody can tell yet what they are alike to",
        *OURS,
    ),
    settings=replace(BASE, method="cdml"),
)
GCML = Method(
    name="gcml",
    aliases=("graph-clustering-metric-learning",),
    paper="Lee, Lee, Ng, Natsev: Large Scale Video Representation Learning via Relational Graph Clustering, CVPR 2020",
    alike=ALIKE,
    dictionary=DICTIONARY,
    negatives="items of sibling clusters (affinity clustering, level 0), and from the whole batch the nearest beyond "
    "the positive (semi-hard)",
    objective="triplet hinge on squared distances, α = 0.2",
    departures=("an item without a sibling gets a negative from all that the interactions know", *OURS),
    settings=replace(BASE, method="gcml", sampler=replace(BASE.sampler, planted="siblings")),
)
GCML_CLASSES = Method(
    name="gcml-classes",
    paper=GCML.paper,
    alike="one cluster of the graph in relations (alike=clusters): pseudo-classes",
    dictionary="proxies: weights, a vector of each cluster",
    negatives="clusters that are drawn at random, the same for the whole batch",
    objective="sampled softmax of scaled cosines",
    departures=(
        "items without an edge have no class and do not train",
        "they find less than cdml on MovieLens and anime",
        *OURS[::2],
    ),
    settings=replace(
        BASE,
        method="gcml-classes",
        alike="clusters",
        dictionary="proxies",
        batch=BatchSettings(),
        objective=ObjectiveSettings(kind="sampled-classes"),
        negatives=NegativeSettings(),
        sampler=SamplerSettings(),
        batch_size=1024,
        epochs=30,
    ),
)
GRAPHS = (CDML, GCML, GCML_CLASSES)
