"""Graphs of items that are related because the same users were engaged with them.

Public names: ``co_engagement.co_engagement``, ``affinity.affinity`` and ``affinity.Siblings``.
"""
