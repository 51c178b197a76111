"""The report of a run, and figures of objectives.

Public names: ``html.write_report``, ``figure.draw``.
"""
