"""The command line; importing this package loads nothing, so that ``likewise --help`` is fast.

Public names: ``main.main``.
"""
