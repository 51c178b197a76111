"""Random views of items: what is drawn, and how images and vectors are changed by it."""

from likewise.views.render import Share, Views, apply_views, plain_view
from likewise.views.vectors import VectorViews

__all__ = ["Share", "VectorViews", "Views", "apply_views", "plain_view"]
