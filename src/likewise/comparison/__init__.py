"""Trains several methods under the same conditions and ranks them on classes that none of them has seen.

Public names: ``run.compare``, ``table.Comparison``.
"""
