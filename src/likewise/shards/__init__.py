"""Embeddings in a folder of shards: made by one process or by workers of Ray, continued by shard, read in a stream.

Public names: ``Manifest``, ``embed_shards``, ``read_shards``.
"""

from likewise.shards.embed import embed_shards
from likewise.shards.manifest import Manifest
from likewise.shards.read import read_shards

__all__ = ["Manifest", "embed_shards", "read_shards"]
