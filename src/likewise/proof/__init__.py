"""Proves on the user's machine that processes, stops and micro-batches do not change what is learned.

Public names: ``prove.verify``, ``prove.Comparison``.
"""
