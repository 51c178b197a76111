"""The methods as data: each has its paper, its four choices and its default settings."""

from likewise.methods.classes import CLASSES
from likewise.methods.mechanisms import BANK, END_TO_END
from likewise.methods.method import Method
from likewise.methods.moco import MOCO, MOCO_SYMMETRIC, MOCO_V2
from likewise.methods.npid import NPID
from likewise.methods.pairs import PAIRS
from likewise.methods.ranking import RANKING
from likewise.methods.simclr import SIMCLR, SIMCLR_REPO
from likewise.methods.table import METHODS, OF_ITEMS, method_named, over_method

__all__ = [
    "BANK",
    "CLASSES",
    "END_TO_END",
    "METHODS",
    "MOCO",
    "MOCO_SYMMETRIC",
    "MOCO_V2",
    "NPID",
    "OF_ITEMS",
    "PAIRS",
    "RANKING",
    "SIMCLR",
    "SIMCLR_REPO",
    "Method",
    "method_named",
    "over_method",
]
