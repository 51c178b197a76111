"""likewise learns what is alike.

Names load when they are first used, so that ``import likewise`` itself is quick; the parts (objectives, dictionaries,
views, encoders) need torch and numpy only.
"""

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from likewise import metrics, negatives, objectives
    from likewise.answers.classify import classify
    from likewise.answers.duplicates import duplicates
    from likewise.answers.outliers import outliers
    from likewise.answers.select import select
    from likewise.comparison.run import compare
    from likewise.config.settings import FitSettings
    from likewise.data import Items, open_items
    from likewise.data.pair_files import read_graded, read_pairs, read_triplets
    from likewise.dictionaries import Batch, Fresh, MemoryBank, Proxies, Queue
    from likewise.distributed.processes import gather_rows
    from likewise.encoders import Embedder, build_embedder
    from likewise.encoders.batchnorm_leak import bn_leak
    from likewise.encoders.gradient_cache import GradientCache
    from likewise.encoders.momentum import Momentum
    from likewise.errors import LikewiseError, LikewiseWarning
    from likewise.evaluation.classify import Protocol, evaluate
    from likewise.evaluation.retrieve import retrieve
    from likewise.evaluation.retrieve import retrieve as evaluate_retrieval
    from likewise.exporting.export import export
    from likewise.graph.build import build_graph
    from likewise.index.hits import Hit
    from likewise.index.index import Index
    from likewise.metrics import knn_accuracy, knn_classify, ndcg, retrieval
    from likewise.model import Model, load
    from likewise.proof.prove import verify
    from likewise.recommendation.recommend import recommend
    from likewise.training import samplers
    from likewise.training.fit import fit
    from likewise.training.fit_words import fit_words
    from likewise.views.render import Views
    from likewise.words.model import WordVectors, load_words

_MODULES = {"metrics": "metrics", "negatives": "negatives", "objectives": "objectives", "samplers": "training.samplers"}
_HOME = {
    "FitSettings": "config.settings",
    "Items": "data",
    "open_items": "data",
    "read_graded": "data.pair_files",
    "read_pairs": "data.pair_files",
    "read_triplets": "data.pair_files",
    "Batch": "dictionaries",
    "Fresh": "dictionaries",
    "MemoryBank": "dictionaries",
    "Proxies": "dictionaries",
    "Queue": "dictionaries",
    "Embedder": "encoders",
    "build_embedder": "encoders",
    "Momentum": "encoders.momentum",
    "GradientCache": "encoders.gradient_cache",
    "bn_leak": "encoders.batchnorm_leak",
    "gather_rows": "distributed.processes",
    "LikewiseError": "errors",
    "LikewiseWarning": "errors",
    "knn_accuracy": "metrics",
    "knn_classify": "metrics",
    "ndcg": "metrics",
    "retrieval": "metrics",
    "evaluate_retrieval": "evaluation.retrieve",
    "Protocol": "evaluation.classify",
    "evaluate": "evaluation.classify",
    "retrieve": "evaluation.retrieve",
    "fit": "training.fit",
    "fit_words": "training.fit_words",
    "WordVectors": "words.model",
    "load_words": "words.model",
    "Model": "model",
    "load": "model",
    "export": "exporting.export",
    "build_graph": "graph.build",
    "Hit": "index.hits",
    "Index": "index.index",
    "Views": "views.render",
    "classify": "answers.classify",
    "select": "answers.select",
    "compare": "comparison.run",
    "verify": "proof.prove",
    "recommend": "recommendation.recommend",
    "duplicates": "answers.duplicates",
    "outliers": "answers.outliers",
}
_FORMERLY = {"evaluate_retrieval": "retrieve"}  # another name of the same function

__all__ = [
    "Batch",
    "Embedder",
    "FitSettings",
    "Fresh",
    "GradientCache",
    "Hit",
    "Index",
    "Items",
    "LikewiseError",
    "LikewiseWarning",
    "MemoryBank",
    "Model",
    "Momentum",
    "Protocol",
    "Proxies",
    "Queue",
    "Views",
    "WordVectors",
    "bn_leak",
    "build_embedder",
    "build_graph",
    "classify",
    "compare",
    "duplicates",
    "evaluate",
    "evaluate_retrieval",
    "export",
    "fit",
    "fit_words",
    "gather_rows",
    "knn_accuracy",
    "knn_classify",
    "load",
    "load_words",
    "metrics",
    "ndcg",
    "negatives",
    "objectives",
    "open_items",
    "outliers",
    "read_graded",
    "read_pairs",
    "read_triplets",
    "recommend",
    "retrieval",
    "retrieve",
    "samplers",
    "select",
    "verify",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        value: object = import_module(f"likewise.{_MODULES[name]}")
    elif name in _HOME:
        value = vars(import_module(f"likewise.{_HOME[name]}"))[_FORMERLY.get(name, name)]
    else:
        raise AttributeError(_unknown(name))
    globals()[name] = value
    return value


@cache
def _unknown(name: str) -> str:
    """The message about an unknown name. jsonargparse asks for a few of them hundreds of times."""
    from likewise.errors import closest

    return f"module 'likewise' has no attribute {name!r}.{closest(name, __all__)}"


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
