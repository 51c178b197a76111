"""Colours of labels can be told apart, also by eyes that lack a kind of cones."""

from itertools import combinations

import numpy as np

from likewise.pages.colours import LABELS, REST

EYES = {  # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_CONES = [
    [0.41222147, 0.53633254, 0.05144599],
    [0.2119035, 0.6806995, 0.10739696],
    [0.08830246, 0.28171884, 0.62997870],
]
TO_LAB = [
    [0.21045426, 0.79361779, -0.00407205],
    [1.9779985, -2.42859221, 0.45059371],
    [0.0259040, 0.78277177, -0.80867577],
]


def least_distance(colours: tuple[str, ...]) -> float:
    """The smallest distance in OKLab (Ottosson 2020) of two colours, to any of the eyes."""
    bytes_ = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in colours]) / 255
    linear = np.where(bytes_ <= 0.04045, bytes_ / 12.92, ((bytes_ + 0.055) / 1.055) ** 2.4)
    seen = []
    for eye in EYES.values():
        cones = np.clip(linear @ np.array(eye).T, 0, 1) @ np.array(TO_CONES).T
        seen.append(np.cbrt(cones) @ np.array(TO_LAB).T)
    pairs = combinations(range(len(colours)), 2)
    return min(float(np.linalg.norm(each[a] - each[b])) for a, b in pairs for each in seen)


def test_any_two_colours_are_apart_for_every_eye() -> None:
    paired = ("#1f77b4", "#aec7e8", "#ff7f0e", "#2ca02c", "#d62728", "#ff9896")  # of tab20
    assert least_distance(paired) < 0.02
    assert least_distance((*LABELS, REST)) > 0.07
