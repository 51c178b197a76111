"""Recommendation: for users from what they took, and measured strictly beside simple baselines, by full ranking.

Public names: ``recommend.recommend``, ``evaluate.evaluate_interactions``, ``baselines.Popularity``,
``baselines.ItemNeighbours``, ``baselines.Ease``, ``baselines.RidgePerUser``, ``embedded.Embedded``,
``histories.mean``, ``histories.top``, ``histories.softmax``, ``measure.recommended`` and ``related.RelatedItems``.
"""
