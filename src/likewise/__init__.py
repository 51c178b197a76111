"""likewise learns what is alike.

Names load when they are first used, so that ``import likewise`` itself is quick; the parts (objectives, dictionaries,
views, encoders) need torch and numpy only.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from likewise import negatives, objectives
    from likewise.config import FitSettings
    from likewise.data import Items, open_items
    from likewise.data.relations import read_pairs, read_triplets
    from likewise.dictionaries import Batch, Fresh, MemoryBank, Proxies, Queue
    from likewise.encoders import Embedder, build_embedder
    from likewise.encoders.momentum import Momentum
    from likewise.encoders.parts import GradientCache
    from likewise.errors import LikewiseError, LikewiseWarning
    from likewise.evaluation import knn_accuracy, knn_classify, retrieval
    from likewise.evaluation.protocol import Protocol, evaluate
    from likewise.evaluation.zero_shot import evaluate_retrieval
    from likewise.leak import bn_leak
    from likewise.model import Model, load
    from likewise.processes import gather_rows
    from likewise.search import Hit, Index
    from likewise.training.run import fit
    from likewise.views import Views

_HOME = {
    "negatives": None,
    "objectives": None,
    "FitSettings": "config",
    "Items": "data",
    "open_items": "data",
    "read_pairs": "data.relations",
    "read_triplets": "data.relations",
    "Batch": "dictionaries",
    "Fresh": "dictionaries",
    "MemoryBank": "dictionaries",
    "Proxies": "dictionaries",
    "Queue": "dictionaries",
    "Embedder": "encoders",
    "build_embedder": "encoders",
    "Momentum": "encoders.momentum",
    "GradientCache": "encoders.parts",
    "bn_leak": "leak",
    "gather_rows": "processes",
    "LikewiseError": "errors",
    "LikewiseWarning": "errors",
    "knn_accuracy": "evaluation",
    "knn_classify": "evaluation",
    "retrieval": "evaluation",
    "Protocol": "evaluation.protocol",
    "evaluate": "evaluation.protocol",
    "evaluate_retrieval": "evaluation.zero_shot",
    "fit": "training.run",
    "Model": "model",
    "load": "model",
    "Hit": "search",
    "Index": "search",
    "Views": "views",
}

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
    "bn_leak",
    "build_embedder",
    "evaluate",
    "evaluate_retrieval",
    "fit",
    "gather_rows",
    "knn_accuracy",
    "knn_classify",
    "load",
    "negatives",
    "objectives",
    "open_items",
    "read_pairs",
    "read_triplets",
    "retrieval",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'likewise' has no attribute {name!r}")
    home = _HOME[name]
    found = import_module(f"likewise.{home or name}")
    value = found if home is None else vars(found)[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
