"""Every method by its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from likewise.config.names import called
from likewise.config.objective_table import AUTO
from likewise.config.overrides import named_ahead, settings_from
from likewise.config.settings import FitSettings, ObjectiveSettings
from likewise.methods.classes import CLASSES
from likewise.methods.graphs import GRAPHS
from likewise.methods.mechanisms import BANK, END_TO_END
from likewise.methods.method import Method
from likewise.methods.moco import MOCO, MOCO_SYMMETRIC, MOCO_V2
from likewise.methods.npid import NPID
from likewise.methods.other_kinds import kinds_told_apart
from likewise.methods.pairs import PAIRS
from likewise.methods.ranking import RANKING
from likewise.methods.simclr import SIMCLR, SIMCLR_REPO
from likewise.methods.words import WORDS

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        NPID,
        MOCO,
        MOCO_V2,
        MOCO_SYMMETRIC,
        SIMCLR,
        SIMCLR_REPO,
        END_TO_END,
        BANK,
        *PAIRS,
        *CLASSES,
        RANKING,
        *GRAPHS,
        *WORDS,
    )
}
OF_ITEMS = [name for name, method in METHODS.items() if not method.settings.of_words]  # they have one training step


BY_DATA = ("alike", "relations")
METHOD_FOR = {
    "label": "normface",
    "pairs": "contrastive",
    "triplets": "facenet",
    "graded": "ranking",
    "clusters": "gcml-classes",
    "window": "skipgram",
}


@kinds_told_apart(METHODS.values())
def method_named(name: str) -> Method:
    """The method ``name``: a name or an alias; case, - and _ do not matter.

    Raises LikewiseError on other names, with the closest name, or with the kind that the name is of.
    """
    return called(name, METHODS.values(), "method")


@kinds_told_apart(METHODS.values())
def over_method(*parts: Mapping[str, Any], saved: FitSettings | None = None) -> FitSettings:
    """Merges the settings of files and options over the defaults of their method. A later part wins.

    The method is the last one named; without one that of :func:`method_for`. For a resumed run, its ``saved`` settings
    replace the defaults of its method. Raises LikewiseError on unknown settings.
    """
    named = [part["method"] for part in parts if "method" in part]
    method = method_named(str(named[-1]) if named else method_for(*parts) if saved is None else saved.method)
    parts = tuple({**part, "method": method.name} if "method" in part else part for part in named_ahead(parts))
    if saved is None or saved.method != method.name:
        settings = method.settings
        for part in parts:
            settings = settings_from(part, settings)
        return settings
    settings = saved
    for part in parts:
        settings = settings_from(_of_kind(part, settings, method), settings)
    return settings


def method_for(*parts: Mapping[str, Any]) -> str:
    """The method where settings name none: that which trains with what they say is alike; npid without it.

    Where they name a dictionary, or for labels an objective, these are to be joined with npid's other defaults.
    """
    named = {str(name).partition(".")[0] for part in parts for name in part}
    alike, relations = (next((part[name] for part in reversed(parts) if name in part), None) for name in BY_DATA)
    if "dictionary" in named or (alike in ("label", "clusters") and "objective" in named):
        return "npid"
    if alike == "pairs" and relations is not None and Path(relations).is_dir():  # of a graph
        return "cdml"
    return METHOD_FOR.get(str(alike), "npid")


def _of_kind(part: Mapping[str, Any], saved: FitSettings, method: Method) -> Mapping[str, Any]:
    """``part`` without parameters of what auto did not become, where auto is the method's objective."""
    if method.settings.objective.kind != AUTO:
        return part
    others = {f"objective.{name}" for name in ObjectiveSettings().has() if name not in saved.objective.has()}
    block = part.get("objective")
    kept = {name: value for name, value in part.items() if name not in others}
    if isinstance(block, Mapping) and "kind" not in block:
        kept["objective"] = {name: value for name, value in block.items() if f"objective.{name}" not in others}
    return kept
