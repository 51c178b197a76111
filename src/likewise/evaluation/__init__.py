"""Measuring an embedding: neighbours, linear classifiers, few labels, and monitors of collapse. Torch only."""

from likewise.evaluation.fewlabels import FewLabelsSettings, few_labels
from likewise.evaluation.linear import ProbeResult, ProbeSettings, SvmResult, linear_probe, linear_svm
from likewise.evaluation.measures import Score, collapse_std, effective_rank, raw_pixels
from likewise.evaluation.neighbours import knn_accuracy, knn_classify, top_k

__all__ = [
    "FewLabelsSettings",
    "ProbeResult",
    "ProbeSettings",
    "Score",
    "SvmResult",
    "collapse_std",
    "effective_rank",
    "few_labels",
    "knn_accuracy",
    "knn_classify",
    "linear_probe",
    "linear_svm",
    "raw_pixels",
    "top_k",
]
