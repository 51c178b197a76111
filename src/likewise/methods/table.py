"""Every method by its name."""

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
    """The method called ``name``. Raises LikewiseError, with the closest name, on others."""
    if name not in METHODS:
        raise LikewiseError(f"there is no method {name!r}.{closest(name, METHODS)} Known: {', '.join(METHODS)}.")
    return METHODS[name]
