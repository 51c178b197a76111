"""Exact search among embedded items, and the parquet file that holds them."""

from likewise.index.embedding_file import Embedding, read_embedding, write_embedding
from likewise.index.exact import Hit, Index

__all__ = ["Embedding", "Hit", "Index", "read_embedding", "write_embedding"]
