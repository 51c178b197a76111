"""Measuring an embedding: neighbours, retrieval, clusters, verification, linear classifiers, few labels, collapse.

Torch and NumPy only.
"""

from likewise.evaluation.clustering import (
    Clustering,
    KMeans,
    adjusted_mutual_information,
    clustering,
    kmeans,
    normalized_mutual_information,
)
from likewise.evaluation.fewlabels import FewLabelsSettings, few_labels
from likewise.evaluation.linear import ProbeResult, ProbeSettings, SvmResult, linear_probe, linear_svm
from likewise.evaluation.measures import Score, collapse_std, effective_rank, raw_pixels
from likewise.evaluation.neighbours import knn_accuracy, knn_classify, top_k
from likewise.evaluation.retrieval import Hubness, Pair, PerClass, PerQuery, Retrieval, WorstClass, retrieval
from likewise.evaluation.verification import (
    Roc,
    Verification,
    fold_pairs,
    pair_scores,
    random_pairs,
    roc,
    tar_at_far,
    verification,
)

__all__ = [
    "Clustering",
    "FewLabelsSettings",
    "Hubness",
    "KMeans",
    "Pair",
    "PerClass",
    "PerQuery",
    "ProbeResult",
    "ProbeSettings",
    "Retrieval",
    "Roc",
    "Score",
    "SvmResult",
    "Verification",
    "WorstClass",
    "adjusted_mutual_information",
    "clustering",
    "collapse_std",
    "effective_rank",
    "few_labels",
    "fold_pairs",
    "kmeans",
    "knn_accuracy",
    "knn_classify",
    "linear_probe",
    "linear_svm",
    "normalized_mutual_information",
    "pair_scores",
    "random_pairs",
    "raw_pixels",
    "retrieval",
    "roc",
    "tar_at_far",
    "top_k",
    "verification",
]
