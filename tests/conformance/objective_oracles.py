"""The objectives' formulas as loops in float64, from the papers: what the conformance tests hold the code against.

A formula sees one anchor, its positives and its negatives as lists of vectors, and returns a scalar; autograd through
these loops gives the gradient. Nothing here is taken from ``likewise``, and nothing is clever.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Vectors = Sequence[Tensor]
Parameters = Mapping[str, Tensor]
Verdict = tuple[list[Tensor], list[bool]]
Oracle = Callable[[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, Parameters], Verdict]
Formula = Callable[[Tensor, Vectors, Vectors], Tensor]

exp, log, sqrt = torch.exp, torch.log, torch.sqrt


def dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum()


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b) ** 2).sum()


def euclidean(a: Tensor, b: Tensor) -> Tensor:
    return sqrt(squared_distance(a, b))


def hinge(x: Tensor) -> Tensor:
    return x if x > 0 else x * 0


def mean(values: Sequence[Tensor]) -> Tensor:
    return sum(values) / len(values)  # type: ignore[return-value]


def labels_of(ids: Tensor) -> list[set[int]]:
    """The labels of each row; below 0 is none."""
    return [{x for x in (row if isinstance(row, list) else [row]) if x >= 0} for row in ids.tolist()]


def pairs_of(
    count: int, ids: Tensor, keys: Tensor | None, key_ids: Tensor | None, own: Tensor | None
) -> list[tuple[list[int], list[int]]]:
    """For each query, the numbers of its positives and of its negatives: it never meets itself."""
    if keys is None:
        key_ids, selves = ids, list(range(count))
    else:
        key_ids = torch.arange(len(keys)) if key_ids is None else key_ids
        selves = [-1] * count if own is None else own.tolist()
    key_labels = labels_of(key_ids)
    return [
        (
            [j for j, there in enumerate(key_labels) if j != me and here & there],
            [j for j, there in enumerate(key_labels) if j != me and not here & there],
        )
        for here, me in zip(labels_of(ids), selves, strict=True)
    ]


def both(positives: Sequence[int], negatives: Sequence[int]) -> bool:
    return bool(positives and negatives)


def either(positives: Sequence[int], negatives: Sequence[int]) -> bool:
    return bool(positives or negatives)


def a_positive(positives: Sequence[int], negatives: Sequence[int]) -> bool:
    return bool(positives)


def each_anchor(formula: Formula, counts: Callable[[Sequence[int], Sequence[int]], bool] = both) -> Oracle:
    """The oracle of a formula of one anchor: 0 for the anchors that do not count."""

    def oracle(
        queries: Tensor,
        ids: Tensor,
        keys: Tensor | None,
        key_ids: Tensor | None,
        own: Tensor | None,
        parameters: Parameters,
    ) -> Verdict:
        there = (queries if keys is None else keys).unbind(0)
        losses, counted = [], []
        for query, (p, n) in zip(queries.unbind(0), pairs_of(len(queries), ids, keys, key_ids, own), strict=True):
            counted.append(counts(p, n))
            losses.append(
                formula(query, [there[j] for j in p], [there[j] for j in n]) if counted[-1] else 0 * query.sum()
            )
        return losses, counted

    return oracle


# Pair level


def unified(gamma: float, m: float) -> Formula:
    """Sun et al. 2020, eq. 1."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        s_p, s_n = [dot(q, p) for p in P], [dot(q, n) for n in N]
        return log(1 + sum(exp(gamma * (n - p + m)) for n in s_n for p in s_p))

    return formula


def circle(gamma: float, m: float) -> Formula:
    """Sun et al. 2020, eqs. 5, 6, 8; the paces α are constants."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        push = pull = torch.zeros((), dtype=q.dtype)
        for n in N:
            s = dot(q, n)
            push = push + exp(gamma * hinge(s + m).detach() * (s - m))
        for p in P:
            s = dot(q, p)
            pull = pull + exp(-gamma * hinge(1 + m - s).detach() * (s - (1 - m)))
        return log(1 + push * pull)

    return formula


def info_nce_each(tau: float) -> Formula:
    """He et al. 2020, eq. 1, for each positive against the negatives; their mean."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        noise = sum(exp(dot(q, n) / tau) for n in N)
        return mean([-log(exp(dot(q, p) / tau) / (exp(dot(q, p) / tau) + noise)) for p in P])

    return formula


def info_nce_sum(tau: float) -> Formula:
    """The same with the positives' exponentials added up."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        signal, noise = sum(exp(dot(q, p) / tau) for p in P), sum(exp(dot(q, n) / tau) for n in N)
        return -log(signal / (signal + noise))

    return formula


def sup_con(tau: float) -> Formula:
    """Khosla et al. 2020, eq. 2."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        everyone = sum(exp(dot(q, a) / tau) for a in [*P, *N])
        return -mean([log(exp(dot(q, p) / tau) / everyone) for p in P])

    return formula


def n_pair(penalty: float) -> Formula:
    """Sohn 2016, eq. 8, and the penalty of §3.2.3."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        s_p, s_n = [dot(q, p) for p in P], [dot(q, n) for n in N]
        return mean([log(1 + sum(exp(n - p) for n in s_n)) for p in s_p]) + penalty * dot(q, q)

    return formula


def multi_similarity(alpha: float, beta: float, base: float, epsilon: float | None) -> Formula:
    """Wang et al. 2019, eq. 15 over the pairs of eqs. 11 and 12."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        s_p, s_n = [dot(q, p) for p in P], [dot(q, n) for n in N]
        kept_p, kept_n = s_p, s_n
        if epsilon is not None:
            kept_n = [s for s in s_n if s > min(s_p) - epsilon]
            kept_p = [s for s in s_p if s < max(s_n) + epsilon]
        one = torch.ones((), dtype=q.dtype)
        pull = log(one + sum(exp(-alpha * (s - base)) for s in kept_p)) / alpha
        return pull + log(one + sum(exp(beta * (s - base)) for s in kept_n)) / beta + 0 * dot(q, q)

    return formula


def gathered(terms: Sequence[Tensor], pairs: str) -> Tensor:
    """An anchor's terms: their sum, their mean, or the mean of those above 0."""
    zero = torch.zeros((), dtype=torch.float64)
    if pairs == "active":
        terms = [t for t in terms if t > 0]
    if not terms:
        return zero
    return zero + sum(terms) if pairs == "sum" else mean(terms)


def contrastive(m_p: float, m_n: float, squared: bool, pairs: str) -> Formula:
    """Hadsell, Chopra, LeCun 2006, eq. 4, with m_p = 0 in the paper."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        pull, push = [hinge(euclidean(q, p) - m_p) for p in P], [hinge(m_n - euclidean(q, n)) for n in N]
        if squared:
            pull, push = [x**2 / 2 for x in pull], [x**2 / 2 for x in push]
        return gathered(pull, pairs) + gathered(push, pairs) + 0 * dot(q, q)

    return formula


def triplet(margin: float, distance: Callable[[Tensor, Tensor], Tensor], soft: bool, pairs: str) -> Formula:
    """Schroff et al. 2015, eq. 3; Hermans et al. 2017 for the soft margin and the mean over the active ones."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        near, far = [distance(q, p) for p in P], [distance(q, n) for n in N]
        if soft:
            terms = [log(1 + exp(p - n + margin)) for p in near for n in far]
        else:
            terms = [hinge(p - n + margin) for p in near for n in far]
        return gathered(terms, pairs) + 0 * dot(q, q)

    return formula


def margin_based(alpha: float, nu: float, pairs: str) -> Oracle:
    """Wu et al. 2017, eq. 8 and its ν term; β is the module's, one or one a class."""

    def oracle(
        queries: Tensor,
        ids: Tensor,
        keys: Tensor | None,
        key_ids: Tensor | None,
        own: Tensor | None,
        parameters: Parameters,
    ) -> Verdict:
        there, betas = (queries if keys is None else keys).unbind(0), parameters["beta"]
        losses, counted = [], []
        for i, (p, n) in enumerate(pairs_of(len(queries), ids, keys, key_ids, own)):
            beta = betas[max(int(ids[i]), 0)] if len(betas) > 1 else betas[0]
            terms = [hinge(alpha + euclidean(queries[i], there[j]) - beta) for j in p]
            terms += [hinge(alpha - euclidean(queries[i], there[j]) + beta) for j in n]
            counted.append(either(p, n))
            losses.append(gathered(terms, pairs) + nu * beta + 0 * queries[i].sum() if counted[-1] else 0 * beta)
        return losses, counted

    return oracle


# Mining


Choose = Callable[[Tensor, Tensor, Vectors], list[Tensor]]  # anchor, positive, negatives → the negatives that push


def mined(choose: Choose, formula: Formula, positives: str = "all", pairs: str = "active") -> Oracle:
    """A formula of every anchor and positive alone, with the negatives that are chosen for them; their mean."""

    def oracle(
        queries: Tensor,
        ids: Tensor,
        keys: Tensor | None,
        key_ids: Tensor | None,
        own: Tensor | None,
        parameters: Parameters,
    ) -> Verdict:
        there = (queries if keys is None else keys).unbind(0)
        losses, counted = [], []
        for q, (p, n) in zip(queries.unbind(0), pairs_of(len(queries), ids, keys, key_ids, own), strict=True):
            P, N = [there[j] for j in p], [there[j] for j in n]
            if P and positives != "all":
                furthest_first = sorted(P, key=lambda x: float(dot(q, x).detach()))
                P = furthest_first[:1] if positives == "hard" else furthest_first[-1:]
            chosen = [(x, choose(q, x, N)) for x in P]
            terms = [formula(q, [x], kept) for x, kept in chosen if kept]
            counted.append(bool(terms))
            losses.append(gathered(terms, pairs) + 0 * q.sum())
        return losses, counted

    return oracle


def nearest(q: Tensor, p: Tensor, N: Vectors) -> list[Tensor]:
    """Hermans et al. 2017: batch-hard."""
    return [max(N, key=lambda n: float(dot(q, n).detach()))] if N else []


def furthest(q: Tensor, p: Tensor, N: Vectors) -> list[Tensor]:
    return [min(N, key=lambda n: float(dot(q, n).detach()))] if N else []


def nearest_beyond(q: Tensor, p: Tensor, N: Vectors) -> list[Tensor]:
    """Schroff et al. 2015, eq. 4, and of those the nearest."""
    return nearest(q, p, [n for n in N if squared_distance(q, n) > squared_distance(q, p)])


def inside(margin: float) -> Choose:
    """Schroff et al. 2015, §3.2: further than the positive, but not by the margin."""

    def choose(q: Tensor, p: Tensor, N: Vectors) -> list[Tensor]:
        near = squared_distance(q, p)
        return [n for n in N if near < squared_distance(q, n) < near + margin]

    return choose


def row_mined(formula: Formula, epsilon: float) -> Oracle:
    """Wang et al. 2019, eqs. 11 and 12, before any formula of an anchor's row."""

    def oracle(
        queries: Tensor,
        ids: Tensor,
        keys: Tensor | None,
        key_ids: Tensor | None,
        own: Tensor | None,
        parameters: Parameters,
    ) -> Verdict:
        there = (queries if keys is None else keys).unbind(0)
        losses, counted = [], []
        for q, (p, n) in zip(queries.unbind(0), pairs_of(len(queries), ids, keys, key_ids, own), strict=True):
            kept_n = [j for j in n if p and dot(q, there[j]) > min(dot(q, there[i]) for i in p) - epsilon]
            kept_p = [i for i in p if n and dot(q, there[i]) < max(dot(q, there[j]) for j in n) + epsilon]
            counted.append(both(kept_p, kept_n))
            P, N = [there[i] for i in kept_p], [there[j] for j in kept_n]
            losses.append(formula(q, P, N) if counted[-1] else 0 * q.sum())
        return losses, counted

    return oracle


# Class level: one proxy a class, every other proxy a negative


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return dot(a, b) / (sqrt(dot(a, a)) * sqrt(dot(b, b)))


def length(a: Tensor) -> Tensor:
    return sqrt(dot(a, a))


def classifier(logits: Callable[[Tensor, Vectors, int, Parameters], list[Tensor]]) -> Oracle:
    """Cross-entropy of the logits that a rule gives to a query, the proxies and the target's number.

    With several labels the mean over them, each among the classes that are none of the row's.
    """

    def oracle(
        queries: Tensor,
        ids: Tensor,
        keys: Tensor | None,
        key_ids: Tensor | None,
        own: Tensor | None,
        parameters: Parameters,
    ) -> Verdict:
        proxies = parameters["proxies" if "proxies" in parameters else "weight"] if keys is None else keys
        names = list(range(len(proxies))) if key_ids is None else key_ids.tolist()
        parameters = {name: x[names] if name == "bias" else x for name, x in parameters.items()}
        losses, counted = [], []
        for query, row in zip(queries.unbind(0), ids.reshape(len(ids), -1).tolist(), strict=True):
            targets = [names.index(y) for y in row if y >= 0]
            terms = []
            for y in targets:
                z = logits(query, proxies.unbind(0), y, parameters)
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


def l2_softmax(alpha: float) -> Callable[[Tensor, Vectors, int, Parameters], list[Tensor]]:
    """Ranjan et al. 2017: ‖f‖ = α."""
    return lambda q, W, y, parameters: [parameters.get("alpha", alpha) * dot(w, q / length(q)) for w in W]


def large_margin(m: int, mix: float) -> Callable[[Tensor, Vectors, int, Parameters], list[Tensor]]:
    """Liu et al. 2016, eqs. 4 to 6: ‖w‖‖x‖ (λ cos θ + ψ(θ)) / (1 + λ) for the target."""

    def logits(q: Tensor, W: Vectors, y: int, parameters: Parameters) -> list[Tensor]:
        cos = cosine(W[y], q)
        target = length(W[y]) * length(q) * (mix * cos + psi(cos, m)) / (1 + mix)
        return with_target([dot(w, q) for w in W], y, target)

    return logits


def sphere_face(m: int, mix: float) -> Callable[[Tensor, Vectors, int, Parameters], list[Tensor]]:
    """Liu et al. 2017: the same with ‖w‖ = 1."""

    def logits(q: Tensor, W: Vectors, y: int, parameters: Parameters) -> list[Tensor]:
        cos = cosine(W[y], q)
        return with_target([length(q) * cosine(w, q) for w in W], y, length(q) * (mix * cos + psi(cos, m)) / (1 + mix))

    return logits


def norm_face(s: float) -> Callable[[Tensor, Vectors, int, Parameters], list[Tensor]]:
    """Wang et al. 2017: s cos θ."""
    return lambda q, W, y, parameters: [parameters.get("scale", s) * cosine(w, q) for w in W]


def am_softmax(s: float, m: float) -> Callable[[Tensor, Vectors, int, Parameters], list[Tensor]]:
    """Wang et al. 2018: s (cos θ_y − m)."""
    return lambda q, W, y, parameters: [s * (cosine(w, q) - (m if j == y else 0)) for j, w in enumerate(W)]


def arc_face(s: float, m: float) -> Callable[[Tensor, Vectors, int, Parameters], list[Tensor]]:
    """Deng et al. 2019, eq. 3: s cos(θ_y + m)."""
    return lambda q, W, y, parameters: [
        s * torch.cos(torch.arccos(cosine(w, q)) + (m if j == y else 0)) for j, w in enumerate(W)
    ]


def arc_face_insightface(s: float, m: float) -> Callable[[Tensor, Vectors, int, Parameters], list[Tensor]]:
    """The same values with slope s in cos θ: the margin's change is a constant."""

    def logits(q: Tensor, W: Vectors, y: int, parameters: Parameters) -> list[Tensor]:
        z = [cosine(w, q) for w in W]
        moved = (torch.cos(torch.arccos(z[y]) + m) - z[y]).detach()
        return [s * x for x in with_target(z, y, z[y] + moved)]

    return logits


def circle_classifier(gamma: float, m: float) -> Callable[[Tensor, Vectors, int, Parameters], list[Tensor]]:
    """Sun et al. 2020, eq. 6 with one positive, as logits: γ α_p (s_y − Δ_p) against γ α_n (s_j − Δ_n)."""

    def logits(q: Tensor, W: Vectors, y: int, parameters: Parameters) -> list[Tensor]:
        s = [cosine(w, q) for w in W]
        z = [gamma * hinge(x + m).detach() * (x - m) for x in s]
        return with_target(z, y, gamma * hinge(1 + m - s[y]).detach() * (s[y] - (1 - m)))

    return logits


# One positive among the keys of a bank, and samples of the others


Bank = Callable[[Tensor, Vectors, int, int, list[int], set[int]], Tensor]


def each_query(formula: Bank, draw: Callable[[int, int], list[list[int]]]) -> Oracle:
    """The oracle of a formula of a query, the keys, its positive's row, its own number, and what was drawn for it.

    ``draw(queries, keys)`` gives each query's rows. The last argument is the set of rows that have the query's id.
    """

    def oracle(
        queries: Tensor,
        ids: Tensor,
        keys: Tensor | None,
        key_ids: Tensor | None,
        own: Tensor | None,
        parameters: Parameters,
    ) -> Verdict:
        assert keys is not None
        names = list(range(len(keys))) if key_ids is None else key_ids.tolist()
        drawn = draw(len(queries), len(keys))
        losses, counted = [], []
        for i, y in enumerate(ids.tolist()):
            counted.append(y >= 0)
            hits = {j for j, name in enumerate(names) if name == y}
            query, there = queries[i], keys.unbind(0)
            losses.append(formula(query, there, names.index(y), i, drawn[i], hits) if y >= 0 else 0 * query.sum())
        return losses, counted

    return oracle


def non_parametric(tau: float, proximal: float) -> Bank:
    """Wu et al. 2018, eq. 2, and the proximal term of eq. 9; the bank is a constant."""

    def formula(q: Tensor, K: Vectors, y: int, i: int, drawn: list[int], hits: set[int]) -> Tensor:
        K = [k.detach() for k in K]
        loss = -log(exp(dot(K[y], q) / tau) / sum(exp(dot(k, q) / tau) for k in K))
        return loss + proximal * squared_distance(q, K[y])

    return formula


def nce(tau: float, log_z: float, m: int) -> Bank:
    """Wu et al. 2018, eqs. 5 to 7, uniform noise over all rows; the bank is a constant."""

    def formula(q: Tensor, K: Vectors, y: int, i: int, drawn: list[int], hits: set[int]) -> Tensor:
        def h(j: int) -> Tensor:
            p = exp(dot(K[j].detach(), q) / tau) / math.exp(log_z)
            return p / (p + m / len(K))

        return -log(h(y)) - sum(log(1 - h(j)) for j in drawn)

    return formula


def sampled_softmax(tau: float, density: Callable[[int, int], float]) -> Bank:
    """Jean et al. 2015, §3: log(m Q) off the samples' logits; samples with the query's id are left out."""

    def formula(q: Tensor, K: Vectors, y: int, i: int, drawn: list[int], hits: set[int]) -> Tensor:
        others = [j for j in drawn if j not in hits]
        push = sum(exp(dot(q, K[j]) / tau - math.log(len(drawn) * density(j, len(K)))) for j in others)
        target = exp(dot(q, K[y]) / tau)
        return -log(target / (target + push))

    return formula


def negative_sampling(q: Tensor, K: Vectors, y: int, i: int, drawn: list[int], hits: set[int]) -> Tensor:
    """Mikolov et al. 2013, eq. 4."""

    def sigmoid(x: Tensor) -> Tensor:
        return 1 / (1 + exp(-x))

    return -log(sigmoid(dot(K[y], q))) - sum(log(sigmoid(-dot(K[j], q))) for j in drawn)


# Several rows at once


def angular(degrees: float) -> Formula:
    """Wang et al. 2017, eq. 8: f = 4 tan²α (x_a + x_p)·x_n − 2(1 + tan²α) x_a·x_p, the mean over the positives."""
    t = math.tan(math.radians(degrees)) ** 2

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        return mean([log(1 + sum(exp(4 * t * dot(q + p, n) - 2 * (1 + t) * dot(q, p)) for n in N)) for p in P])

    return formula


def generalised_lifted(m: float) -> Formula:
    """Hermans et al. 2017, eq. 6 of the generalised form: [log Σ_p e^{D_p} + log Σ_n e^{m − D_n}]₊."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        pull, push = sum(exp(euclidean(q, p)) for p in P), sum(exp(m - euclidean(q, n)) for n in N)
        return hinge(log(pull) + log(push))

    return formula


def lifted(margin: float) -> Oracle:
    """Oh Song et al. 2016, eq. 4 of each positive pair: negatives of both ends; the mean over the anchor's pairs."""

    def oracle(
        queries: Tensor,
        ids: Tensor,
        keys: Tensor | None,
        key_ids: Tensor | None,
        own: Tensor | None,
        parameters: Parameters,
    ) -> Verdict:
        here, there = queries.unbind(0), (queries if keys is None else keys).unbind(0)
        pairs = pairs_of(len(here), ids, keys, key_ids, own)
        push = {(i, k): exp(margin - euclidean(here[i], there[k])) for i, pair in enumerate(pairs) for k in pair[1]}
        losses, counted = [], []
        for i, (positives, negatives) in enumerate(pairs):
            terms = []
            for j in positives:
                both_ends = [push[i, k] for k in negatives] + [push[a, j] for a in range(len(here)) if j in pairs[a][1]]
                if both_ends:
                    structured = log(sum(both_ends)) + euclidean(here[i], there[j])
                    terms.append(hinge(structured) ** 2 / 2)
            counted.append(bool(terms))
            losses.append(sum(terms) / len(positives) if terms else 0 * here[i].sum())
        return losses, counted

    return oracle


def histogram(bins: int) -> Oracle:
    """Ustinova and Lempitsky 2016, eqs. 2 to 4: one number for the batch, given here as the loss of every anchor."""

    def oracle(
        queries: Tensor,
        ids: Tensor,
        keys: Tensor | None,
        key_ids: Tensor | None,
        own: Tensor | None,
        parameters: Parameters,
    ) -> Verdict:
        there, pairs = (queries if keys is None else keys), pairs_of(len(queries), ids, keys, key_ids, own)
        delta, nodes = 2 / bins, [-1 + 2 * r / bins for r in range(bins + 1)]

        def densities(which: int) -> list[Tensor]:
            s = [dot(queries[i], there[j]) for i, pair in enumerate(pairs) for j in pair[which]]
            zero = torch.zeros((), dtype=queries.dtype)
            return [zero + sum(hinge(1 - abs(x - t) / delta) for x in s) / max(1, len(s)) for t in nodes]

        h_positive, h_negative = densities(0), densities(1)
        loss = sum(h_negative[r] * h_positive[q] for r in range(bins + 1) for q in range(r + 1))
        counted = [both(*pair) for pair in pairs]
        return [loss if c else 0 * loss for c in counted], counted

    return oracle
