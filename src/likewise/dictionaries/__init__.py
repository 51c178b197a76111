"""Dictionaries: the sources of keys, whose state is in buffers that one line of the training step updates."""

from likewise.dictionaries.bank import MemoryBank
from likewise.dictionaries.batch import Batch, Proxies
from likewise.dictionaries.keys import Dictionary, Fresh, Keys, random_unit_rows
from likewise.dictionaries.queue import Queue

__all__ = ["Batch", "Dictionary", "Fresh", "Keys", "MemoryBank", "Proxies", "Queue", "random_unit_rows"]
