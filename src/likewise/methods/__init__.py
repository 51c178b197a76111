"""The systems, as data: a method is a row of the design's table and the defaults it gives to a run."""

from likewise.methods.method import Method
from likewise.methods.npid import NPID

METHODS: dict[str, Method] = {method.name: method for method in (NPID,)}

__all__ = ["METHODS", "NPID", "Method"]
