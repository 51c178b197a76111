"""Measures a trained model and two baselines: raw pixels and the untrained encoder.

Public names: ``classify.evaluate``, ``classify.Protocol``, ``retrieve.retrieve``.
"""
