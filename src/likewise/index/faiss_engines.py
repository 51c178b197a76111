"""Engines of faiss: inverted lists (IVF) and a graph (HNSW), both with a byte for each number of a row.

faiss is the library of Douze et al. 2024. IVF: rows are put into the list of the nearest of some centroids, and a query
looks into the lists of its ``nprobe`` nearest centroids. HNSW (Malkov & Yashunin 2018): a query walks along links.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.console import Tick, untold
from likewise.errors import LikewiseError
from likewise.index.engine import Keys

TRAINED_ON = 50  # rows for each list; k-means gains little from more
ITERATIONS = 10
ASKED_FOR = 2  # candidates for each hit: codes of a byte are off by little, and exact scores sort them
LEAST = 20  # candidates, as for the 10 hits of which the recall is promised
SPREAD, PART = 4, 16  # with a condition, four times the lists and a sixteenth of all: what fits may lie far away
SEARCH_WIDTH = 40  # of a graph that is built


def faiss_here() -> Any:
    """The module. Raises LikewiseError when it is not installed."""
    try:
        import faiss
    except ImportError:
        raise LikewiseError("this engine needs faiss: pip install 'likewise[faiss]', or use --to exact.") from None
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def _array(rows: Tensor) -> "np.ndarray[Any, np.dtype[np.float32]]":
    return np.ascontiguousarray(rows.detach().cpu().float().numpy())


def _search(index: Any, asked: Any, count: int, parameters: Any) -> Keys:
    """(B, count) keys. Of faiss' C++: ``faiss.contrib.torch_utils``, which others import, replaces ``search``."""
    faiss = faiss_here()
    found, distances = np.empty((len(asked), count), np.int64), np.empty((len(asked), count), np.float32)
    pointer = faiss.swig_ptr
    index.search_c(len(asked), pointer(asked), count, pointer(distances), pointer(found), parameters)
    return found


def _asked_for(count: int) -> int:
    """How many candidates are asked for ``count`` hits."""
    return max(LEAST, ASKED_FOR * count)


class IVF:
    """Inverted lists. ``effort`` is the number of lists that a query looks into (nprobe)."""

    def __init__(self, index: Any) -> None:
        self._faiss = faiss_here()
        self._index, self.effort = index, 1
        self._centroids: Tensor | None = None

    @classmethod
    def build(cls, rows: Tensor, keys: Keys, lists: int = 0, tick: Tick = untold) -> "IVF":
        """Trains on a sample and adds all rows; ``lists`` 0: the power of 2 nearest to 2 √N."""
        faiss = faiss_here()
        many, dim = rows.shape
        lists = min(lists or 1 << max(0, round(float(np.log2(2 * many**0.5)))), many)
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dim), dim, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, True
        )
        index.cp.niter, index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = ITERATIONS, TRAINED_ON, 1
        sample = torch.randperm(many, generator=torch.Generator().manual_seed(0))[: TRAINED_ON * lists].sort().values
        index.train(_array(rows[sample]))
        tick(0.4)
        engine = cls(index)
        for start in range(0, many, 1 << 16):
            engine.add(rows[start : start + (1 << 16)], keys[start : start + (1 << 16)])
            tick(0.4 + 0.6 * start / many)
        content = faiss.serialize_index(index)  # lists have room for half more than they hold
        del engine, index
        return cls(faiss.deserialize_index(content))

    @classmethod
    def read(cls, path: Path) -> "IVF":
        """From a file that ``write`` wrote."""
        return cls(faiss_here().read_index(str(path)))

    def efforts(self) -> list[int]:
        """Powers of 2, each also one and a half times."""
        lists = int(self._index.nlist)
        return sorted(
            {min(lists, each) for power in range(lists.bit_length()) for each in (1 << power, 3 << power >> 1)}
        )

    def candidates(self, queries: Tensor, count: int, among: Keys | None) -> Keys:
        """See ``Engine``. Where the lists hold too few, more of them are looked into.

        With ``among``, lists that hold such keys are looked into, more of them if these are few.
        """
        faiss, wanted = self._faiss, _asked_for(count)
        asked = _array(queries)
        if among is None:
            probed, need = self.effort, min(count, self._index.ntotal)
            while True:
                found = _search(self._index, asked, wanted, faiss.SearchParametersIVF(nprobe=probed))
                if probed >= self._index.nlist or (found[:, need - 1] >= 0).all():
                    return found
                probed *= 2
        fits = np.zeros(int(among.max()) + 2, np.bool_)
        fits[among] = True
        held = self._held(fits)
        lists = int((held > 0).sum())
        wide = max(SPREAD * self.effort, self._index.nlist // PART)
        probed = min(lists, -(-wide * self._index.ntotal // len(among)))
        bits = np.packbits(fits, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        near = torch.as_tensor(asked) @ self._of_centroids().T
        near[:, torch.from_numpy(held == 0)] = -torch.inf
        need = min(count, len(among))
        while True:
            scores, chosen = near.topk(probed, dim=1)
            self._index.nprobe = probed
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=probed)
            found = self._inside(asked, wanted, chosen.numpy(), scores.numpy(), parameters)
            if probed == lists or int((found >= 0).sum(1).min()) >= need:
                return found
            probed = min(lists, 2 * probed)

    def _inside(self, asked: Any, count: int, lists: Any, scores: Any, parameters: Any) -> Keys:
        """(B, count) keys from the (B, P) lists; faiss' own wrapper takes no parameters here."""
        pointer = self._faiss.swig_ptr
        found, distances = np.empty((len(asked), count), np.int64), np.empty((len(asked), count), np.float32)
        places = np.ascontiguousarray(lists, np.int64)
        near = np.ascontiguousarray(scores)
        of_c = (*map(pointer, (places, near, distances, found)), False, parameters)
        self._index.search_preassigned_c(len(asked), pointer(asked), count, *of_c)
        return found

    def _held(self, fits: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """How many keys of each list fit; those beyond the array do not."""
        lists = self._index.invlists
        held = np.zeros(self._index.nlist, np.int64)
        for place in range(self._index.nlist):
            size = lists.list_size(place)
            if size:
                inside = self._faiss.rev_swig_ptr(lists.get_ids(place), size)
                held[place] = fits[np.minimum(inside, len(fits) - 1)].sum()
        return held

    def _of_centroids(self) -> Tensor:
        if self._centroids is None:
            self._centroids = torch.as_tensor(self._index.quantizer.reconstruct_n(0, self._index.nlist))
        return self._centroids

    def add(self, rows: Tensor, keys: Keys) -> None:
        """See ``Engine``."""
        self._index.add_with_ids(_array(rows), np.ascontiguousarray(keys))

    def remove(self, keys: Keys) -> bool:
        """See ``Engine``. One pass over the lists, for any number of keys."""
        self._index.remove_ids(self._faiss.IDSelectorBatch(np.ascontiguousarray(keys)))
        return True

    def write(self, path: Path) -> None:
        """A file in faiss' own format."""
        self._faiss.write_index(self._index, str(path))


class HNSW:
    """A graph of links. ``effort`` is the number of rows that a walk keeps (efSearch). It can't forget a row."""

    def __init__(self, index: Any) -> None:
        self._faiss = faiss_here()
        self._index, self.effort = index, 16

    @classmethod
    def build(cls, rows: Tensor, keys: Keys, links: int = 32, tick: Tick = untold) -> "HNSW":
        """Adds the rows one by one; the widest search while building is 40."""
        faiss = faiss_here()
        dim = rows.shape[1]
        inner = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, links, faiss.METRIC_INNER_PRODUCT)
        inner.hnsw.efConstruction = SEARCH_WIDTH
        inner.train(_array(rows[:: max(1, len(rows) // 100_000)]))
        engine = cls(faiss.IndexIDMap(inner))
        engine._kept = inner
        for start in range(0, len(rows), 1 << 13):
            engine.add(rows[start : start + (1 << 13)], keys[start : start + (1 << 13)])
            tick(start / len(rows))
        return engine

    _kept: Any = None  # faiss does not hold what an IndexIDMap points to

    @classmethod
    def read(cls, path: Path) -> "HNSW":
        """From a file that ``write`` wrote."""
        return cls(faiss_here().read_index(str(path)))

    def efforts(self) -> list[int]:
        """Twice as wide each time."""
        return [16 << power for power in range(6)]

    def candidates(self, queries: Tensor, count: int, among: Keys | None) -> Keys:
        """See ``Engine``. With ``among`` the walk is wider, and rows of other keys are not kept."""
        faiss, width = self._faiss, max(self.effort, _asked_for(count))
        asked = _array(queries)
        if among is None:
            return self._search(asked, _asked_for(count), faiss.SearchParametersHNSW(efSearch=width))
        width = min(self._index.ntotal, int(width * self._index.ntotal / len(among)))
        selector, need = faiss.IDSelectorBatch(among), min(count, len(among))
        while True:
            found = self._search(asked, _asked_for(count), faiss.SearchParametersHNSW(efSearch=width, sel=selector))
            if int((found >= 0).sum(1).min()) >= need or width >= self._index.ntotal:
                return found
            width = min(2 * width, self._index.ntotal)

    def _search(self, asked: Any, count: int, parameters: Any) -> Keys:
        return _search(self._index, asked, count, parameters)

    def add(self, rows: Tensor, keys: Keys) -> None:
        """See ``Engine``."""
        self._index.add_with_ids(_array(rows), np.ascontiguousarray(keys))

    def remove(self, keys: Keys) -> bool:
        """See ``Engine``: never."""
        return False

    def write(self, path: Path) -> None:
        """A file in faiss' own format."""
        self._faiss.write_index(self._index, str(path))
