"""The table of policies of negatives: name, class, parameters. Imports no torch.

A row has the allowed values of each parameter. Its default is in the class, its meaning in the docstring.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module

from likewise.config.names import called, letters
from likewise.config.values import COUNT, FLAG, NUMBER, Value
from likewise.errors import LikewiseError


@dataclass(frozen=True)
class PolicyRow:
    """A policy of negatives: its class in ``likewise.negatives`` and the parameters of its constructor.

    Args:
        name: its name in settings, files and docs. Case, - and _ do not matter in input.
        class_name: its class in ``likewise.negatives``.
        parameters: the constructor's parameters.
        aliases: other names that are accepted: those of papers and of pytorch-metric-learning.
    """

    name: str
    class_name: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Where the class is written, within the package."""
        return "negatives.py"

    def load(self) -> type:
        """The class itself; this imports torch."""
        loaded: type = vars(import_module("likewise.negatives"))[self.class_name]
        return loaded


POLICIES: tuple[PolicyRow, ...] = (
    PolicyRow("all", "All", aliases=("batch-all",)),
    PolicyRow("random", "Random", {"count": COUNT}, ("uniform",)),
    PolicyRow("easy", "Easy", aliases=("easiest",)),
    PolicyRow("inside-margin", "InsideMargin", {"margin": Value(above=0, below=4), "squared": FLAG}),
    PolicyRow("hardest-beyond", "HardestBeyond"),
    PolicyRow("hard", "Hard", aliases=("hardest",)),
    PolicyRow(
        *("distance-weighted", "DistanceWeighted"),
        {"count": COUNT, "least": Value(above=0, below=2), "most": Value(above=0, below=2.001)},
        ("distance-weighted-sampling", "distance-weighted-miner"),
    ),
    PolicyRow("multi-similarity", "MultiSimilarity", {"epsilon": NUMBER}, ("ms", "multi-similarity-miner")),
)


UNCLEAR: Mapping[str, str] = {  # the names of several choices, and what they can mean
    "semihard": "semi-hard negatives are inside-margin (all that are further than the positive by less than a margin) "
    "or hardest-beyond (the nearest that is further than the positive); name one of the two",
    "batchhard": "batch-hard is negatives.policies=hard with negatives.positives=hard; set both",
}


def policy(name: str) -> PolicyRow:
    """The policy of negatives ``name``: a name or an alias; case, - and _ do not matter.

    Raises LikewiseError on other names, with the closest name, or with both meanings of an ambiguous one.
    """
    if letters(name) in UNCLEAR:
        raise LikewiseError(f"{name!r} is not one policy of negatives: {UNCLEAR[letters(name)]}.")
    return called(name, POLICIES, "policy of negatives")
