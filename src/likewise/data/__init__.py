"""Data in: from what a person has (photos, parquet, arrays, a Dataset) to named items, decoded once."""

from likewise.data.items import Items, Skipped, describe, encode_label_sets, encode_labels, write_skipped
from likewise.data.opening import is_table, native_side, open_items, read_image
from likewise.data.pair_files import Graded, Pairs, Triplets, read_graded, read_pairs, read_triplets

__all__ = [
    "Graded",
    "Items",
    "Pairs",
    "Skipped",
    "Triplets",
    "describe",
    "encode_label_sets",
    "encode_labels",
    "is_table",
    "native_side",
    "open_items",
    "read_graded",
    "read_image",
    "read_pairs",
    "read_triplets",
    "write_skipped",
]
