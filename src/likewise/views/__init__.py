"""Random views of items: the random draws, and the changes that they make to images and vectors."""

from likewise.views.render import Share, Views, apply_views, plain_view
from likewise.views.vectors import VectorViews

__all__ = ["Share", "VectorViews", "Views", "apply_views", "plain_view"]
