"""Objectives: how within-class similarities s_p and between-class similarities s_n become a loss.

All are called alike, ``objective(queries, ids)`` in a batch or ``objective(queries, ids, keys, key_ids)`` against a
bank, a queue, a gathered batch or another modality, and are ordinary modules: parameters are trained and saved.
"""

from likewise.alike import from_pairs, from_triplets, from_views
from likewise.objectives.base import Reduction
from likewise.objectives.class_level import (
    AMSoftmax,
    ArcFace,
    ASoftmax,
    CircleClassifier,
    CosFace,
    L2Softmax,
    LargeMarginSoftmax,
    NormFace,
    Softmax,
    SphereFace,
)
from likewise.objectives.hinge import Contrastive, Margin, Triplet
from likewise.objectives.instance_level import NCE, NonParametricSoftmax, ParametricSoftmax, proximal_penalty
from likewise.objectives.joined import Angular, Histogram, LiftedStructure
from likewise.objectives.mined import Mined
from likewise.objectives.pair_level import (
    Circle,
    InfoNCE,
    MultiSimilarity,
    NPair,
    NTXent,
    SupCon,
    UnifiedPairSimilarity,
)
from likewise.objectives.sampled import NegativeSampling, SampledSoftmax
from likewise.objectives.triplet_shares import TripletShares, triplet_shares

__all__ = [
    "NCE",
    "AMSoftmax",
    "ASoftmax",
    "Angular",
    "ArcFace",
    "Circle",
    "CircleClassifier",
    "Contrastive",
    "CosFace",
    "Histogram",
    "InfoNCE",
    "L2Softmax",
    "LargeMarginSoftmax",
    "LiftedStructure",
    "Margin",
    "Mined",
    "MultiSimilarity",
    "NPair",
    "NTXent",
    "NegativeSampling",
    "NonParametricSoftmax",
    "NormFace",
    "ParametricSoftmax",
    "Reduction",
    "SampledSoftmax",
    "Softmax",
    "SphereFace",
    "SupCon",
    "Triplet",
    "TripletShares",
    "UnifiedPairSimilarity",
    "from_pairs",
    "from_triplets",
    "from_views",
    "proximal_penalty",
    "triplet_shares",
]
