"""``likewise serve``: a run and its index behind HTTP.

Public names: ``Serving``.
"""

from likewise.serving.settings import Serving

__all__ = ["Serving"]
