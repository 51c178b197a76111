"""Objectives: pure functions of similarities, wrapped in small modules that hold their state."""

from likewise.objectives.instance import NCE, NonParametricSoftmax, ParametricSoftmax, proximal_penalty

__all__ = ["NCE", "NonParametricSoftmax", "ParametricSoftmax", "proximal_penalty"]
