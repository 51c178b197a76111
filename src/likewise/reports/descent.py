"""An objective over the square of (s_n, s_p): its loss and gradients, its decision boundary, and where descent leads.

A point is (s_n, s_p); arrays of points are (..., 2) float64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from likewise.config.objective_table import DRAWN, Boundary

Points = NDArray[np.float64]


class Drawable(Protocol):
    """An objective that can be drawn: it has a loss of an anchor with one positive and one negative."""

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss for each pair of similarities, to the positive and to the negative; all have one shape."""


@dataclass(frozen=True)
class Field:
    """Loss and gradients at points; each has the points' shape without the last axis."""

    loss: Points
    by_n: Points
    by_p: Points


Accepts = Callable[[Field], NDArray[np.bool_]]


@dataclass(frozen=True)
class Descent:
    """The path of gradient descent, ``points`` (T, 2), and whether it ended at the boundary."""

    points: Points
    met: bool


def measure(objective: Drawable, points: Points) -> Field:
    """``pair_loss`` and its gradients, by autograd in float64, at points (..., 2)."""
    s_n, s_p = (torch.tensor(points[..., side].ravel(), requires_grad=True) for side in (0, 1))
    with torch.enable_grad():
        loss = objective.pair_loss(s_p, s_n)
        sides = (s_n, s_p)
        grads = torch.autograd.grad(loss.sum(), sides, allow_unused=True) if loss.requires_grad else (None, None)
    parts = [loss.detach(), *(torch.zeros_like(s) if g is None else g for g, s in zip(grads, sides, strict=True))]
    return Field(*(np.asarray(part.double().numpy()).reshape(points.shape[:-1]) for part in parts))


def boundary_of(objective: Drawable) -> Boundary:
    """The boundary that the table of objectives gives for these parameters; "balance" for an unknown objective."""
    for known in DRAWN:
        if known.class_name == type(objective).__name__:
            values = vars(objective)
            return next((other for name, value, other in known.unless if values.get(name) == value), known.boundary)
    return "balance"


def criteria(objective: Drawable, boundary: Boundary) -> tuple[Accepts, ...]:
    """The tests that a point must pass to be accepted by the boundary. See ``objective_table.BOUNDARIES``."""
    if boundary == "balance":
        return (lambda field: field.loss <= math.log(2),)
    if boundary == "zero":
        return (lambda field: field.loss <= 1e-12,)
    low_n = low_p = 0.0
    if boundary == "each":  # far outside the square a logistic term has its largest gradient
        far = measure(objective, np.array([1e3, -1e3]))
        low_n, low_p = abs(float(far.by_n)) / 2, abs(float(far.by_p)) / 2
    return (lambda field: np.abs(field.by_n) <= low_n, lambda field: np.abs(field.by_p) <= low_p)


def edges(objective: Drawable, accepts: Accepts, limits: tuple[float, float], nodes: int = 161) -> list[Points]:
    """The lines between accepted and other points of the square, each (V, 2), exact to 1e-11.

    A grid finds each line roughly, then 30 bisections along the grid's edges locate it. The sides of the square are
    left out, since distances and angles have no gradient there.
    """
    from contourpy import contour_generator

    inset = (limits[1] - limits[0]) * 1e-6
    side = np.linspace(limits[0] + inset, limits[1] - inset, nodes)
    mask = accepts(measure(objective, np.stack(np.meshgrid(side, side), -1)))
    lines = []
    for line in contour_generator(z=mask.astype(float)).lines(0.5):
        vertices = np.asarray(line, dtype=float)  # each in the middle of one of the grid's edges
        ends = np.floor(vertices).astype(int), np.ceil(vertices).astype(int)
        swapped = ~mask[ends[0][:, 1], ends[0][:, 0], None]
        inside, outside = (np.where(swapped, side[ends[1 - k]], side[ends[k]]) for k in (0, 1))
        for _ in range(30):
            middle = (inside + outside) / 2
            good = accepts(measure(objective, middle))[:, None]
            inside, outside = np.where(good, middle, inside), np.where(good, outside, middle)
        lines.append(inside)
    return lines


def descend(
    objective: Drawable, accepts: tuple[Accepts, ...], start: tuple[float, float], limits: tuple[float, float]
) -> Descent:
    """Gradient descent on the two similarities from ``start``, within the square, until the point is accepted.

    A step has a length of 1/200 of the square's side, along −∇L. Descent also ends if −∇L is 0 or leads out of the
    square.
    """
    step = (limits[1] - limits[0]) / 200
    here = np.clip(np.array(start, dtype=float), *limits)
    points = [here]
    for _ in range(800):
        field = measure(objective, here)
        if all(bool(accept(field)) for accept in accepts):
            if len(points) > 1:
                points[-1] = _first_accepted(objective, accepts, points[-2], here)
            return Descent(np.stack(points), True)
        way = -np.array([field.by_n, field.by_p])
        way[((here <= limits[0]) & (way < 0)) | ((here >= limits[1]) & (way > 0))] = 0
        length = float(np.hypot(*way))
        if not 1e-12 < length < math.inf:
            break
        here = np.clip(here + step * way / length, *limits)
        points.append(here)
    return Descent(np.stack(points), False)


def _first_accepted(objective: Drawable, accepts: tuple[Accepts, ...], outside: Points, inside: Points) -> Points:
    """The point where the last step crosses the boundary."""
    for _ in range(30):
        middle = (outside + inside) / 2
        field = measure(objective, middle)
        good = all(bool(accept(field)) for accept in accepts)
        outside, inside = (outside, middle) if good else (middle, inside)
    return inside
