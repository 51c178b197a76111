"""Label propagation on the graph of nearest neighbours (Zhou et al. 2004): few labels reach all items.

Dimension legend: N items, D columns, K neighbours, C columns of labels.
"""

import warnings

import torch
from torch import Tensor

from likewise.answers.candidates import nearest_others
from likewise.console import Tick, untold
from likewise.errors import LikewiseError
from likewise.metrics.checks import Rows, as_rows, check_positive

ALPHA = 0.99  # Zhou et al.'s, also of Iscen et al. 2019
NEIGHBOURS = 10
TEMPERATURE = 0.07  # of the weights of edges, as of the votes of neighbours
PRECISE = 1e-10  # of the solution, relative to the labels
_STEPS = 2000  # more than any graph needs at α = 0.99: about 160


@torch.no_grad()
def knn_graph(rows: Rows, k: int = NEIGHBOURS, *, temperature: float = TEMPERATURE, tick: Tick = untold) -> Tensor:
    """The graph of the nearest neighbours of each row, normalised: S = D^(−1/2) (A + Aᵀ) D^(−1/2).

    A_ij = exp((s_ij − 1) / τ) if j is among the K rows nearest to i (other than i), else 0; s are cosines. D has the
    sums of the rows of A + Aᵀ on its diagonal.

    Args:
        rows: (N, D) float unit rows.
        k: K, from 1 to N − 1.
        temperature: τ > 0.
        tick: told the share of the work that is done.

    Returns:
        S, (N, N) sparse float64, symmetric, its eigenvalues in [−1, 1]; at most 2·N·K entries.

    Raises:
        LikewiseError: wrong shape, NaN or infinity (by row), K or τ out of range.

    Cost: that of ``nearest_others``, which are approximate where rows are many; memory about 150·N·K bytes.
    """
    rows = as_rows("rows", rows)
    check_positive("temperature", temperature)
    if not 1 <= k < len(rows):
        raise LikewiseError(f"k={k} must be from 1 to {len(rows) - 1}: an item has {len(rows) - 1} others.")
    own = torch.arange(len(rows))
    scores, neighbours = nearest_others(rows, k, tick=tick)
    weights = torch.exp((scores.double() - 1) / temperature).clamp_min_(torch.finfo(torch.float32).tiny)
    degrees = weights.sum(1).index_add_(0, neighbours.flatten(), weights.flatten())
    scale = degrees.rsqrt()
    weights *= scale[:, None] * scale[neighbours]
    edges = torch.stack([own.repeat_interleave(k), neighbours.flatten()])
    both = torch.cat([edges, edges.flip(0)], 1), weights.flatten().repeat(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the format is in beta
        return torch.sparse_coo_tensor(*both, (len(rows), len(rows))).coalesce().to_sparse_csr()


@torch.no_grad()
def propagate(graph: Tensor, labels: Tensor, *, alpha: float = ALPHA, tick: Tick = untold) -> Tensor:
    """F = (1 − α) (I − α S)⁻¹ Y (Zhou et al. 2004, equation 4, with the factor 1 − α), by conjugate gradients.

    F_ic is how much of class c reaches item i over all paths of the graph. It is 0 where no path leads to a label of c.
    Departure: the paper iterates F ← α S F + (1 − α) Y, which has the same limit; at α = 0.99 conjugate gradients need
    a tenth of the steps (Iscen et al. 2019 use them too).

    Args:
        graph: S, (N, N), of ``knn_graph``.
        labels: Y, (N, C) float, columns of labels: 1 for the items of a class, else 0.
        alpha: α in (0, 1), how far labels reach.
        tick: told the share of the work that is done.

    Returns:
        float64 (N, C), each entry within 1e-10 times the length of its column of Y; not below 0.

    Cost: about 160 products of S with N × C numbers at α = 0.99, which are 2·N·K·C each; memory five times that of
    the result.
    """
    if not 0 < alpha < 1:
        raise LikewiseError(f"alpha={alpha} must be above 0 and below 1.")
    wanted = labels.double() * (1 - alpha)
    found, rest = torch.zeros_like(wanted), wanted.clone()
    way = rest.clone()
    left = rest.square().sum(0)
    first = left.clone()
    for step in range(_STEPS):
        ahead = way - alpha * (graph @ way)
        length = left / (way * ahead).sum(0).clamp_min_(torch.finfo(torch.float64).tiny)
        found.addcmul_(length, way)
        rest.addcmul_(-length, ahead)
        now = rest.square().sum(0)
        if bool((now <= (PRECISE * (1 - alpha)) ** 2 * first).all()):
            break
        way = rest + (now / left.clamp_min(torch.finfo(torch.float64).tiny)) * way
        left = now
        tick(step / (step + 80))
    return found.clamp_min_(0.0)
