"""Maps of an embedding in the plane, how faithful they are, and the file of a run's map.

Public names: ``Map``, ``kept_share``, ``layout``, ``nearest``, ``read_map``, ``stamp_of``, ``write_map``.
"""

from likewise.maps.kept import kept_share
from likewise.maps.layout import Map, layout, nearest
from likewise.maps.map_file import read_map, stamp_of, write_map

__all__ = ["Map", "kept_share", "layout", "nearest", "read_map", "stamp_of", "write_map"]
