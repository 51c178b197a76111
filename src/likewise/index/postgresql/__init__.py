"""An index on servers: PostgreSQL with pgvector, one server or several with a part of the items each.

Public names: ``Servers``, ``is_server``, ``parse``.
"""

from likewise.index.postgresql.url import Servers, is_server, parse

__all__ = ["Servers", "is_server", "parse"]
