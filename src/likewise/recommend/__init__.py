"""Recommendation measured strictly: baselines, rules that join a history, full ranking.

Public names: ``baselines.Popularity``, ``baselines.ItemNeighbours``, ``baselines.Ease``, ``baselines.RidgePerUser``,
``baselines.Embedded``, ``histories.mean``, ``histories.top``, ``histories.softmax`` and ``measure.recommended``.
"""
