"""What the page of a run is told: the points of its map, its verdict, groups of items to look at.

Public names: ``Look``.
"""

from likewise.look.look import Look

__all__ = ["Look"]
