"""The command line; importing this package loads nothing, so that ``likewise --help`` is quick.

Public names: ``main.main``.
"""
