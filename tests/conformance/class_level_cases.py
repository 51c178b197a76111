"""Class level, one proxy a class, every other proxy a negative: loops in float64, peers and cases.

The loops take nothing from ``likewise``; the cases make its objectives.
"""

import math
from collections.abc import Callable, Mapping

import torch
from objective_case import (
    CLASSES,
    DETACHED,
    DIM,
    NO_RULE,
    Case,
    Given,
    Oracle,
    Parameters,
    Peer,
    Vectors,
    Verdict,
    dot,
    exp,
    hinge,
    log,
    mean,
    seeded,
    sqrt,
)
from torch import Tensor, nn

from likewise.objectives.base import How
from likewise.objectives.class_level import (
    AMSoftmax,
    ArcFace,
    ASoftmax,
    CircleClassifier,
    L2Softmax,
    LargeMarginSoftmax,
    NormFace,
    Softmax,
)

Logits = Callable[[Tensor, Vectors, int, Parameters], list[Tensor]]  # query, proxies, its class, the parameters


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return dot(a, b) / (sqrt(dot(a, a)) * sqrt(dot(b, b)))


def length(a: Tensor) -> Tensor:
    return sqrt(dot(a, a))


def classifier(logits: Logits) -> Oracle:
    """Cross-entropy of the logits that a rule gives to a query, the proxies and the target's number.

    With several labels the mean over them, each among the classes that are none of the row's.
    """

    def oracle(given: Given) -> Verdict:
        proxies = (
            given.parameters["proxies" if "proxies" in given.parameters else "weight"]
            if given.keys is None
            else given.keys
        )
        names = list(range(len(proxies))) if given.key_ids is None else given.key_ids.tolist()
        of_keys = {name: x[names] if name == "bias" else x for name, x in given.parameters.items()}
        losses, counted = [], []
        for query, row in zip(given.queries.unbind(0), given.ids.reshape(len(given.ids), -1).tolist(), strict=True):
            targets = [names.index(y) for y in row if y >= 0]
            terms = []
            for y in targets:
                z = logits(query, proxies.unbind(0), y, of_keys)
                others = sum(exp(z[j]) for j in range(len(z)) if j not in targets)
                terms.append(-log(exp(z[y]) / (exp(z[y]) + others)))
            counted.append(bool(terms))
            losses.append(mean(terms) if terms else 0 * query.sum())
        return losses, counted

    return oracle


def psi(cos: Tensor, m: int) -> Tensor:
    """Liu et al. 2016, eq. 6: (−1)^k cos(mθ) − 2k for θ in [kπ/m, (k+1)π/m]."""
    theta = torch.arccos(cos)
    k = int(theta * m / math.pi) if theta == theta else 0  # θ of a zero vector is not a number
    return (-1) ** k * torch.cos(m * theta) - 2 * k


def with_target(z: list[Tensor], y: int, target: Tensor) -> list[Tensor]:
    return [*z[:y], target, *z[y + 1 :]]


def softmax(q: Tensor, W: Vectors, y: int, parameters: Parameters) -> list[Tensor]:
    """Inner products, and a bias where there is one."""
    z = [dot(w, q) for w in W]
    return [a + b for a, b in zip(z, parameters["bias"], strict=True)] if "bias" in parameters else z


def l2_softmax(alpha: float) -> Logits:
    """Ranjan et al. 2017: ‖f‖ = α."""
    return lambda q, W, y, parameters: [parameters.get("alpha", alpha) * dot(w, q / length(q)) for w in W]


def large_margin(m: int, mix: float) -> Logits:
    """Liu et al. 2016, eqs. 4 to 6: ‖w‖‖x‖ (λ cos θ + ψ(θ)) / (1 + λ) for the target."""

    def logits(q: Tensor, W: Vectors, y: int, parameters: Parameters) -> list[Tensor]:
        cos = cosine(W[y], q)
        target = length(W[y]) * length(q) * (mix * cos + psi(cos, m)) / (1 + mix)
        return with_target([dot(w, q) for w in W], y, target)

    return logits


def sphere_face(m: int, mix: float) -> Logits:
    """Liu et al. 2017: the same with ‖w‖ = 1."""

    def logits(q: Tensor, W: Vectors, y: int, parameters: Parameters) -> list[Tensor]:
        cos = cosine(W[y], q)
        return with_target([length(q) * cosine(w, q) for w in W], y, length(q) * (mix * cos + psi(cos, m)) / (1 + mix))

    return logits


def norm_face(s: float) -> Logits:
    """Wang et al. 2017: s cos θ."""
    return lambda q, W, y, parameters: [parameters.get("scale", s) * cosine(w, q) for w in W]


def am_softmax(s: float, m: float) -> Logits:
    """Wang et al. 2018: s (cos θ_y − m)."""
    return lambda q, W, y, parameters: [s * (cosine(w, q) - (m if j == y else 0)) for j, w in enumerate(W)]


def arc_face(s: float, m: float) -> Logits:
    """Deng et al. 2019, eq. 3: s cos(θ_y + m)."""
    return lambda q, W, y, parameters: [
        s * torch.cos(torch.arccos(cosine(w, q)) + (m if j == y else 0)) for j, w in enumerate(W)
    ]


def arc_face_insightface(s: float, m: float) -> Logits:
    """The same values with slope s in cos θ: the margin's change is a constant."""

    def logits(q: Tensor, W: Vectors, y: int, parameters: Parameters) -> list[Tensor]:
        z = [cosine(w, q) for w in W]
        moved = (torch.cos(torch.arccos(z[y]) + m) - z[y]).detach()
        return [s * x for x in with_target(z, y, z[y] + moved)]

    return logits


def circle_classifier(gamma: float, m: float) -> Logits:
    """Sun et al. 2020, eq. 6 with one positive, as logits: γ α_p (s_y − Δ_p) against γ α_n (s_j − Δ_n)."""

    def logits(q: Tensor, W: Vectors, y: int, parameters: Parameters) -> list[Tensor]:
        s = [cosine(w, q) for w in W]
        z = [gamma * hinge(x + m).detach() * (x - m) for x in s]
        return with_target(z, y, gamma * hinge(1 + m - s[y]).detach() * (s[y] - (1 - m)))

    return logits


# Peers


def classes(ours: torch.nn.Module, theirs: torch.nn.Module, z: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    """Both with our proxies, on rows of several lengths."""
    ours = ours.double()
    theirs.W.data = ours.proxies.detach().T.clone()
    z = z * torch.linspace(0.5, 2, len(z), dtype=z.dtype)[:, None]
    return ours(z, ids), theirs(z, ids), ours.proxies, theirs.W


def norm_face_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    from pytorch_metric_learning import losses

    return classes(NormFace(4, z.shape[1], scale=8.0), losses.NormalizedSoftmaxLoss(4, z.shape[1], 1 / 8), z, ids)


def am_softmax_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    from pytorch_metric_learning import losses

    theirs = losses.CosFaceLoss(4, z.shape[1], margin=0.35, scale=8)
    return classes(AMSoftmax(4, z.shape[1], scale=8.0, margin=0.35), theirs, z, ids)


def arc_face_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    """The peer's margin is in degrees, and beyond θ = π − m it goes on in another way: there are no such rows here."""
    from pytorch_metric_learning import losses

    ours, theirs = ArcFace(4, z.shape[1], scale=8.0, margin=math.radians(20)), losses.ArcFaceLoss(4, z.shape[1], 20, 8)
    with torch.no_grad():
        ours.proxies.copy_(torch.stack([z[3 * c : 3 * c + 3].mean(0) for c in range(4)]))
    return classes(ours, theirs, z, ids)


def large_margin_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    from pytorch_metric_learning import losses

    theirs = losses.LargeMarginSoftmaxLoss(4, z.shape[1], margin=4, scale=1)
    return classes(LargeMarginSoftmax(4, z.shape[1], margin=4), theirs, z, ids)


def sphere_face_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    from pytorch_metric_learning import losses

    return classes(ASoftmax(4, z.shape[1], margin=4), losses.SphereFaceLoss(4, z.shape[1], margin=4, scale=1), z, ids)


# Cases

OF_PROXIES = NO_RULE | {
    "keys": "a class has one proxy: several keys of an id are refused; see test_bank",
    "gathered": "proxies are not rows of the batch: there is no own",
    "roles": "a proxy pulls its class and pushes the others",
}
CONSTANT_SLOPE = {"gradcheck": "the margin's slope is left out, as in insightface's code, so it is no derivative"}


def with_bias(how: How = "mean") -> nn.Module:
    objective = Softmax(CLASSES, DIM, bias=True, generator=seeded(), reduction=how)
    assert objective.bias is not None
    with torch.no_grad():
        objective.bias.copy_(torch.randn(CLASSES, generator=seeded(1)))
    return objective


def class_level(
    name: str,
    kind: type[nn.Module],
    logits: Logits,
    skips: Mapping[str, str] = OF_PROXIES,
    peer: Peer | None = None,
    no_peer: str = "",
    **settings: object,
) -> Case:
    """A case of the class level, and its extremes of scale where it has one."""

    def make(how: str = "mean", **other: object) -> nn.Module:
        return kind(CLASSES, DIM, **(settings | other), generator=seeded(), reduction=how)

    scale = next((x for x in ("scale", "gamma", "alpha") if x in settings), None)
    sharp = [(s, lambda how="mean", s=s: make(how, **{scale: s})) for s in (1.0, 64.0, 1024.0)] if scale else ()
    return Case(
        name, make, classifier(logits), sharp, raw=True, against="proxies", skips=skips, peer=peer, no_peer=no_peer
    )


CASES = [
    class_level(
        "Softmax",
        Softmax,
        softmax,
        no_peer="there is no plain softmax: NormalizedSoftmaxLoss scales the proxies to length 1",
    ),
    Case(
        "Softmax-bias",
        with_bias,
        classifier(softmax),
        raw=True,
        against="proxies",
        skips=OF_PROXIES | {"memory": "it has as many biases as classes; Softmax is tested"},
        no_peer="there is no plain softmax",
    ),
    class_level(
        "L2Softmax", L2Softmax, l2_softmax(6.0), alpha=6.0, no_peer="NormalizedSoftmaxLoss scales the proxies too"
    ),
    class_level(
        "L2Softmax-learned",
        L2Softmax,
        l2_softmax(6.0),
        alpha=6.0,
        learn=True,
        no_peer="NormalizedSoftmaxLoss scales the proxies too, and learns no scale",
    ),
    class_level("LargeMarginSoftmax", LargeMarginSoftmax, large_margin(4, 0.0), margin=4, peer=large_margin_peer),
    class_level(
        "LargeMarginSoftmax-mixed",
        LargeMarginSoftmax,
        large_margin(3, 2.0),
        margin=3,
        mix=2.0,
        no_peer="LargeMarginSoftmaxLoss has no mix with the plain target",
    ),
    class_level("ASoftmax", ASoftmax, sphere_face(4, 0.0), margin=4, peer=sphere_face_peer),
    class_level(
        "ASoftmax-mixed",
        ASoftmax,
        sphere_face(3, 2.0),
        margin=3,
        mix=2.0,
        no_peer="SphereFaceLoss has no mix with the plain target",
    ),
    class_level("NormFace", NormFace, norm_face(8.0), scale=8.0, peer=norm_face_peer),
    class_level(
        "NormFace-learned",
        NormFace,
        norm_face(8.0),
        scale=8.0,
        learn=True,
        no_peer="NormalizedSoftmaxLoss learns no scale",
    ),
    class_level("AMSoftmax", AMSoftmax, am_softmax(8.0, 0.35), scale=8.0, margin=0.35, peer=am_softmax_peer),
    class_level("ArcFace", ArcFace, arc_face(8.0, 0.4), scale=8.0, margin=0.4, peer=arc_face_peer),
    class_level(
        "ArcFace-insightface",
        ArcFace,
        arc_face_insightface(8.0, 0.4),
        scale=8.0,
        margin=0.4,
        gradient="insightface",
        skips=OF_PROXIES | CONSTANT_SLOPE,
        no_peer="ArcFaceLoss has the true slope",
    ),
    class_level(
        "CircleClassifier",
        CircleClassifier,
        circle_classifier(16.0, 0.3),
        gamma=16.0,
        margin=0.3,
        skips=OF_PROXIES | DETACHED,
        no_peer="CircleLoss is of pairs only",
    ),
]
