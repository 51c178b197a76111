"""Answers about items: which are near-copies, which do not belong, what they are, which to label.

Public names: ``classify.classify``, ``duplicates.duplicates``, ``outliers.outliers``, ``select.select``.
"""
