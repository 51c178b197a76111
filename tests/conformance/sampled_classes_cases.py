"""Classes, of which a few are drawn: NormFace's logits and the sampled softmax's correction as loops in float64.

The loops take nothing from ``likewise`` but the classes that are drawn; the cases make its objective.
"""

import math

from class_level_cases import OF_PROXIES, norm_face
from instance_level_cases import DRAWN, drawn
from objective_case import CLASSES, DIM, Case, Given, Verdict, exp, log, mean, seeded
from torch import nn

from likewise.objectives.base import How
from likewise.objectives.sampled_classes import SampledClasses

SAMPLES, SCALE = 5, 8.0
DRAWS = {name: DRAWN[name] for name in ("gradcheck", "saved", "compiled")}


def oracle(given: Given) -> Verdict:
    """Jean et al. 2015, §3, on s cos θ: log(m/K) off the drawn classes' logits; those of the row's own are left out.

    With several labels the mean over them.
    """
    proxies = given.parameters["proxies"] if given.keys is None else given.keys
    names = list(range(len(proxies))) if given.key_ids is None else given.key_ids.tolist()
    logits, there = norm_face(SCALE), drawn(SAMPLES, shared=True)(1, len(proxies))[0]
    losses, counted = [], []
    for query, row in zip(given.queries.unbind(0), given.ids.reshape(len(given.ids), -1).tolist(), strict=True):
        own = [names.index(y) for y in row if y >= 0]
        z = logits(query, proxies.unbind(0), 0, {})
        push = sum(exp(z[j] - math.log(SAMPLES / len(proxies))) for j in there if j not in own)
        terms = [-log(exp(z[y]) / (exp(z[y]) + push)) for y in own]
        counted.append(bool(own))
        losses.append(mean(terms) if own else 0 * query.sum())
    return losses, counted


def make(how: How = "mean", scale: float = SCALE) -> nn.Module:
    return SampledClasses(
        *(CLASSES, DIM), samples=SAMPLES, scale=scale, generator=seeded(), noise_generator=seeded(), reduction=how
    )


CASES = [
    Case(
        "SampledClasses",
        make,
        oracle,
        [(s, lambda how="mean", s=s: make(how, s)) for s in (1.0, 64.0, 1024.0)],
        raw=True,
        against="proxies",
        skips=OF_PROXIES | DRAWS,
        no_peer="there are no sampled losses",
    )
]
