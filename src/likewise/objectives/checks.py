"""Checks that the objectives share: of constructor arguments, of ids, and of the rows that they are given."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from likewise.alike import Ids, Listed, as_ids, check_rows, check_tensor, traced
from likewise.errors import LikewiseError


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """Returns the value. Raises LikewiseError, with all known values, when it is none of them."""
    if value not in known:
        raise LikewiseError(f"{name}={value!r} must be one of {', '.join(map(repr, known))}.")
    return value


def drawn(draw: Callable[[], Tensor]) -> Tensor:
    """What ``draw`` draws at random. Raises LikewiseError where torch.func allows no chance."""
    try:
        return draw()
    except RuntimeError as error:
        if "randomness" not in str(error):
            raise
        raise LikewiseError(
            "this objective draws at random: give vmap or jacfwd randomness='same'; a hessian is "
            "jacfwd(jacrev(f), randomness='same')."
        ) from None


def check_proxies(queries: Tensor, ids: Ids, keys: Tensor, key_ids: Ids | None) -> tuple[Tensor, Tensor | None]:
    """For queries against proxies: ids and key ids as tensors. Raises LikewiseError when shapes do not fit together."""
    check_tensor("queries", queries)
    check_tensor("keys", keys)
    ids = as_ids("ids", ids, queries.device)
    key_ids = None if key_ids is None else as_ids("key_ids", key_ids, keys.device)
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1] or len(keys) == 0:
        raise LikewiseError(
            f"queries {tuple(queries.shape)} and proxies {tuple(keys.shape)} must be (Q, D) and (K, D) with the same D."
        )
    if len(queries) == 0 or ids.numel() == 0:
        raise LikewiseError(
            f"{len(queries)} queries and ids {tuple(ids.shape)}: an objective needs at least one of each."
        )
    if ids.ndim not in (1, 2) or len(ids) != len(queries):
        raise LikewiseError(f"ids {tuple(ids.shape)} must be ({len(queries)},), one per query, or ({len(queries)}, L).")
    if key_ids is not None and key_ids.shape != keys.shape[:1]:
        raise LikewiseError(f"key_ids {tuple(key_ids.shape)} must be ({len(keys)},), one per key.")
    return ids, key_ids


def proxy_rows(ids: Tensor, classes: int, key_ids: Tensor | None) -> Tensor:
    """The row of the key that has each id, −1 for ids below 0: int64, in the shape of ``ids``.

    Raises LikewiseError when no key has an id, and when two keys have the same id. In a compiled graph it does not
    check.
    """
    if key_ids is None:
        check_rows("ids", ids, classes, "classes", none=True, wait=True)
        return ids.clamp(min=-1)
    in_order, order = key_ids.sort()
    rows = order[torch.searchsorted(in_order, ids.contiguous()).clamp_(max=classes - 1)]
    if not traced():
        missing = ids[(ids >= 0) & (key_ids[rows] != ids)]
        if len(missing):
            raise LikewiseError(f"no key has the id of these queries: {missing[:5].tolist()}; give their keys too.")
        twice = in_order[1:][(in_order[1:] == in_order[:-1]) & (in_order[1:] >= 0)]
        if len(twice):
            raise LikewiseError(
                f"key_ids {twice[:5].tolist()} come more than once: a class has one proxy; for several keys per class "
                "use a pair-level objective, such as UnifiedPairSimilarity."
            )
    return torch.where(ids < 0, -1, rows)


def rows_of(ids: Tensor, key_ids: Tensor | None, count: int) -> Tensor:
    """The row, among ``count`` keys, of the first key that has each id: (B,) int64. For ids below 0 it is some row.

    Raises LikewiseError when no key has an id. Without ``key_ids`` it checks on the CPU only, where a check does not
    wait for the device. In a compiled graph it does not check.
    """
    if key_ids is None:
        check_rows("ids", ids, count, "keys, whose ids are their rows without key_ids", none=True)
        return ids.clamp(min=0)
    order = key_ids.argsort(stable=True)
    place = torch.searchsorted(key_ids[order], ids).clamp_(max=count - 1)
    rows = order[place]
    if not traced():
        missing = ids[(key_ids[rows] != ids) & (ids >= 0)]
        if len(missing):
            raise LikewiseError(
                f"no key has the id of these queries: {missing[:5].tolist()}; update the dictionary first."
            )
    return rows


def check_keys(queries: Tensor, ids: Ids | Listed, keys: Tensor, key_ids: Ids | None) -> tuple[Tensor, Tensor | None]:
    """For queries against one key of each item: ids and key ids as tensors. Raises LikewiseError on wrong shapes."""
    check_tensor("queries", queries)
    check_tensor("keys", keys)
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1]:
        raise LikewiseError(
            f"queries {tuple(queries.shape)} and keys {tuple(keys.shape)} must be (B, D) and (n, D) with the same D."
        )
    if len(queries) == 0 or len(keys) == 0:
        raise LikewiseError(f"{len(queries)} queries and {len(keys)} keys: an objective needs at least one of each.")
    named = None if isinstance(ids, Listed) else as_ids("ids", ids, queries.device)
    if named is None or named.ndim == 2:
        raise LikewiseError(
            "this objective knows one positive for each query: ids must be (B,) integers, not listed pairs or several "
            "labels a row; InfoNCE and the other pair-level objectives take those."
        )
    key_ids = None if key_ids is None else as_ids("key_ids", key_ids, keys.device)
    if named.shape != queries.shape[:1]:
        raise LikewiseError(f"ids {tuple(named.shape)} must be ({len(queries)},): one id per query.")
    if key_ids is not None and key_ids.shape != keys.shape[:1]:
        raise LikewiseError(f"key_ids {tuple(key_ids.shape)} must be ({len(keys)},): one id per key.")
    return named, key_ids
