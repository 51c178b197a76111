"""Measures with no model, of rows and labels and of ranked lists.

Neighbours, retrieval, clusters, verification, classifiers, collapse; NDCG and its kind.
"""

from likewise.metrics.accumulated import Metric
from likewise.metrics.bootstrap import Interval
from likewise.metrics.clustering import (
    Clustering,
    KMeans,
    adjusted_mutual_information,
    clustering,
    kmeans,
    normalized_mutual_information,
)
from likewise.metrics.collapse import collapse_std, effective_rank
from likewise.metrics.conventions import CONVENTIONS, Convention
from likewise.metrics.few_labels import FewLabelsSettings, few_labels
from likewise.metrics.linear import ProbeResult, ProbeSettings, SvmResult, linear_probe, linear_svm
from likewise.metrics.neighbours import knn_accuracy, knn_classify, top_k
from likewise.metrics.ranking import Ranked, Ranking, ndcg
from likewise.metrics.recommended import coverage, popularity
from likewise.metrics.retrieval import Hubness, Pair, PerClass, PerQuery, Retrieval, WorstClass, retrieval
from likewise.metrics.score import Score
from likewise.metrics.verification import (
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
    "CONVENTIONS",
    "Clustering",
    "Convention",
    "FewLabelsSettings",
    "Hubness",
    "Interval",
    "KMeans",
    "Metric",
    "Pair",
    "PerClass",
    "PerQuery",
    "ProbeResult",
    "ProbeSettings",
    "Ranked",
    "Ranking",
    "Retrieval",
    "Roc",
    "Score",
    "SvmResult",
    "Verification",
    "WorstClass",
    "adjusted_mutual_information",
    "clustering",
    "collapse_std",
    "coverage",
    "effective_rank",
    "few_labels",
    "fold_pairs",
    "kmeans",
    "knn_accuracy",
    "knn_classify",
    "linear_probe",
    "linear_svm",
    "ndcg",
    "normalized_mutual_information",
    "pair_scores",
    "popularity",
    "random_pairs",
    "retrieval",
    "roc",
    "tar_at_far",
    "top_k",
    "verification",
]
