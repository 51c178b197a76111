"""An index on servers: PostgreSQL with pgvector, one server or several with a part of the items each.

Public names: ``Servers``, ``parse``.
"""

from likewise.index.postgresql.url import Servers, parse

__all__ = ["Servers", "parse"]
