"""Fingers on a map in Chromium, and where its points are: for the tests of the page and of the report."""

from collections.abc import Sequence

import numpy as np
from playwright.sync_api import Locator, Page

Place = tuple[float, float]
FACTOR = 0.4  # of the pinch: so all points stay in view


def pixel_of(canvas: Locator, xy: np.ndarray, row: int) -> Place:
    """Where a point of a map is on the page: all points, (N, 2), fit into the canvas, with 24 pixels around them."""
    box = canvas.bounding_box()
    assert box is not None
    low, high = xy.min(0), xy.max(0)
    scale = min((box["width"] - 48) / (high - low)[0], (box["height"] - 48) / (high - low)[1])
    dx, dy = (xy[row] - (low + high) / 2) * scale
    return box["x"] + box["width"] / 2 + float(dx), box["y"] + box["height"] / 2 - float(dy)


def lonely(xy: np.ndarray) -> int:
    """The point that is furthest from its nearest point, so that no other is under the pointer."""
    apart = np.hypot(*(xy[:, None] - xy).transpose(2, 0, 1)) + np.eye(len(xy)) * 1e9
    return int(apart.min(1).argmax())


def fingers(page: Page, frames: Sequence[Sequence[Place]]) -> None:
    """Puts fingers on the page, moves them from place to place and lifts them; a frame has the place of each."""
    told = page.context.new_cdp_session(page)
    for number, places in enumerate(frames):
        touches = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)]
        kind = "touchMove" if number else "touchStart"
        told.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    told.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    told.detach()


def swipe(page: Page, start: Place, by: Place, steps: int = 10) -> None:
    """Moves one finger."""
    parts = [part / steps for part in range(steps + 1)]
    fingers(page, [[(start[0] + by[0] * part, start[1] + by[1] * part)] for part in parts])


def dragged(page: Page, canvas: Locator, point: Place) -> Place:
    """Drags a map from its middle half way towards the corner that is furthest from a point; returns where that is."""
    middle = _middle(canvas)
    by = tuple((middle[axis] - point[axis]) / 2 for axis in (0, 1))
    swipe(page, middle, (by[0], by[1]))
    return point[0] + by[0], point[1] + by[1]


def pinched(page: Page, canvas: Locator, point: Place) -> Place:
    """Brings two fingers together on a map while both go to the left; returns where a point then is."""
    middle = _middle(canvas)
    x, y = middle[0] + 30, middle[1] - 20
    frames = []
    for part in range(11):
        reach = 100 * FACTOR ** (part / 10)
        frames.append([(x - 5 * part - reach, y), (x - 5 * part + reach, y)])
    fingers(page, frames)
    return x - 50 + FACTOR * (point[0] - x), y + FACTOR * (point[1] - y)


def _middle(canvas: Locator) -> Place:
    box = canvas.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
