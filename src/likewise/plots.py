"""What draws: matplotlib, of the extra ``plot``, loaded when something is drawn."""

from typing import Any

from likewise.errors import LikewiseError


def matplotlib_module() -> Any:
    """matplotlib with ``matplotlib.figure``, whose figures need no window and leave a notebook's backend alone.

    Raises:
        LikewiseError: it is not installed.
    """
    try:
        import matplotlib
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise LikewiseError('plots are drawn with matplotlib; pip install "likewise[plot]".') from None
    return matplotlib
