"""Recommendation measured strictly: splits, baselines, rules that join a history, full ranking.

Public names: ``splits``, ``baselines``, ``histories`` and ``measure``.
"""
