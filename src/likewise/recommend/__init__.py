"""Recommendation measured strictly: splits, baselines, rules that join a history, full ranking.

Public names: ``splits.cold_items``, ``splits.per_user``, ``splits.by_time``, ``baselines.Popularity``,
``baselines.ItemNeighbours``, ``baselines.Ease``, ``baselines.RidgePerUser``, ``baselines.Embedded``,
``histories.mean``, ``histories.top``, ``histories.softmax`` and ``measure.recommended``.
"""
