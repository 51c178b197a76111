"""Answers about items: which are near-copies of each other, and which do not belong.

Public names: ``duplicates.duplicates``, ``outliers.outliers``.
"""
