"""Vectors of words, and of any ids that occur together in sequences: skip-gram and CBOW.

Public names: ``model.WordVectors``, ``model.load_words``.
"""
