"""An index on a server of Milvus.

Public names: ``Server``, ``parse``.
"""

from likewise.index.milvus.url import Server, parse

__all__ = ["Server", "parse"]
