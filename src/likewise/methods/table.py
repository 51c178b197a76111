"""Every method by its name."""

from collections.abc import Mapping
from typing import Any

from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.errors import LikewiseError, closest
from likewise.methods.classes import CLASSES
from likewise.methods.mechanisms import BANK, END_TO_END
from likewise.methods.method import Method
from likewise.methods.moco import MOCO, MOCO_SYMMETRIC, MOCO_V2
from likewise.methods.npid import NPID
from likewise.methods.pairs import PAIRS
from likewise.methods.simclr import SIMCLR, SIMCLR_REPO

METHODS: dict[str, Method] = {
    method.name: method
    for method in (NPID, MOCO, MOCO_V2, MOCO_SYMMETRIC, SIMCLR, SIMCLR_REPO, END_TO_END, BANK, *PAIRS, *CLASSES)
}


def method_named(name: str) -> Method:
    """The method ``name``. Raises LikewiseError, with the closest name, on other names."""
    if name not in METHODS:
        raise LikewiseError(f"there is no method {name!r}.{closest(name, METHODS)} Known: {', '.join(METHODS)}.")
    return METHODS[name]


def over_method(*parts: Mapping[str, Any], saved: FitSettings | None = None) -> FitSettings:
    """Merges the settings of files and options over the defaults of their method. A later part wins.

    The method is the last one named, or npid. For a resumed run, its ``saved`` settings replace the defaults of its
    method. Raises LikewiseError on unknown settings.
    """
    named = [part["method"] for part in parts if "method" in part]
    method = method_named(str(named[-1]) if named else "npid" if saved is None else saved.method)
    settings = saved if saved is not None and saved.method == method.name else method.settings
    for part in parts:
        settings = settings_from(part, settings)
    return settings
