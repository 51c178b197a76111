"""Graphs of items that are related because the same users were engaged with them.

Public names: ``co_engagement.co_engagement``, ``affinity.affinity``, ``affinity.Siblings``, ``splits.SplitRule``,
``splits.cold_items``, ``splits.per_user`` and ``splits.by_time``.
"""
