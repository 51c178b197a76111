"""Search among embedded items, exact or by an engine with a promised recall, and the files that hold them.

Public names: ``Embedding``, ``Hit``, ``Index``, ``Promise``, ``read_embedding``, ``write_embedding``.
"""

from likewise.index.embedding_file import Embedding, read_embedding, write_embedding
from likewise.index.hits import Hit
from likewise.index.index import Index
from likewise.index.promise import Promise

__all__ = ["Embedding", "Hit", "Index", "Promise", "read_embedding", "write_embedding"]
