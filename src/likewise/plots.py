"""Loads matplotlib, of the extra ``plot``, when something is drawn."""

from typing import Any

from likewise.errors import LikewiseError


def matplotlib_module() -> Any:
    """matplotlib with ``matplotlib.figure``. Such figures need no window and do not change a notebook's backend.

    Raises:
        LikewiseError: matplotlib is not installed.
    """
    try:
        import matplotlib
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise LikewiseError('plots are drawn with matplotlib; pip install "likewise[plot]".') from None
    return matplotlib
