"""Pages of HTML in one file, and their pieces: tables, pictures, curves.

Public names: ``page.whole``, ``pieces.named``, ``pieces.grid``, ``pictures.thumbnail``, ``drawings.chart``.
"""
