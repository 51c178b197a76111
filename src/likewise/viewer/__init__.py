"""The page of a run in a browser: its static files, and points as the binary columns that it reads.

Public names: ``columns.pack_columns``.
"""
