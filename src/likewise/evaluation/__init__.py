"""Measures a trained model beside two baselines: raw pixels and the untrained encoder.

Public names: ``classify.evaluate``, ``classify.Protocol``, ``retrieve.retrieve``.
"""
