"""pytorch-metric-learning's loss beside ours, set so that the definitions coincide; and why the others do not.

A peer takes unit rows and their ids, a batch of four classes of three in order, and returns (ours, theirs), and then
our proxies (C, D) and theirs (D, C) where there are some.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from likewise.negatives import Hard, InsideMargin
from likewise.negatives import MultiSimilarity as HardPairs
from likewise.objectives.class_level import AMSoftmax, ArcFace, ASoftmax, LargeMarginSoftmax, NormFace
from likewise.objectives.hinge import Contrastive, Margin, Triplet
from likewise.objectives.joined import Angular, Histogram, LiftedStructure
from likewise.objectives.mined import Mined
from likewise.objectives.pair_level import Circle, InfoNCE, MultiSimilarity, NPair, SupCon

Peer = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def circle(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses, reducers

    return Circle(gamma=16.0, margin=0.3)(z, ids), losses.CircleLoss(0.3, 16.0, reducer=reducers.MeanReducer())(z, ids)


def info_nce(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses

    return InfoNCE(temperature=0.2)(z, ids), losses.NTXentLoss(0.2)(z, ids)


def sup_con(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses, reducers

    return SupCon(temperature=0.2)(z, ids), losses.SupConLoss(0.2, reducer=reducers.MeanReducer())(z, ids)


def n_pair(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The peer takes the first two of each class: an anchor and a key."""
    from pytorch_metric_learning import distances, losses

    z = 1.7 * z
    theirs = losses.NPairsLoss(distance=distances.DotProductSimilarity(normalize_embeddings=False))(z, ids)
    return NPair(penalty=0.0)(z[0::3], ids[0::3], z[1::3], ids[1::3]), theirs


def multi_similarity(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses

    return MultiSimilarity(epsilon=None)(z, ids), losses.MultiSimilarityLoss()(z, ids)


def multi_similarity_mined(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses, miners

    theirs = losses.MultiSimilarityLoss()(z, ids, miners.MultiSimilarityMiner(0.1)(z, ids))
    return MultiSimilarity(epsilon=0.1)(z, ids), theirs


def contrastive(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Plain hinges; with balanced classes the mean of each anchor's active pairs only where all or none is active."""
    from pytorch_metric_learning import losses, reducers

    theirs = losses.ContrastiveLoss(0.1, 1.4, reducer=reducers.MeanReducer())
    return Contrastive(positive_margin=0.1, negative_margin=1.4, squared=False, pairs="all")(z, ids), theirs(z, ids)


def contrastive_sum(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses, reducers

    ours = Contrastive(negative_margin=1.4, squared=False, pairs="sum", reduction="sum")
    return ours(z, ids), losses.ContrastiveLoss(0, 1.4, reducer=reducers.SumReducer())(z, ids)


def triplet(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Anchor by anchor, for the mean of each anchor's active triplets."""
    from pytorch_metric_learning import distances, losses, reducers

    loss = losses.TripletMarginLoss(0.3, distance=distances.LpDistance(power=2), reducer=reducers.AvgNonZeroReducer())
    return Triplet(margin=0.3)(z, ids), by_anchor(loss, z, ids)


def triplet_euclidean(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses, reducers

    ours = Triplet(margin=0.3, distance="euclidean", pairs="all")
    return ours(z, ids), losses.TripletMarginLoss(0.3, reducer=reducers.MeanReducer())(z, ids)


def triplet_sum(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import distances, losses, reducers

    theirs = losses.TripletMarginLoss(0.3, distance=distances.LpDistance(power=2), reducer=reducers.SumReducer())
    return Triplet(margin=0.3, pairs="sum", reduction="sum")(z, ids), theirs(z, ids)


def triplet_soft(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import distances, losses, reducers

    theirs = losses.TripletMarginLoss(
        0.3, smooth_loss=True, distance=distances.LpDistance(power=2), reducer=reducers.MeanReducer()
    )
    return Triplet(margin=0.3, soft=True)(z, ids), theirs(z, ids)


def batch_hard(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import distances, losses, miners, reducers

    apart = distances.LpDistance(power=2)
    loss = losses.TripletMarginLoss(0.3, distance=apart, reducer=reducers.SumReducer())
    ours = Mined(Triplet(margin=0.3), negatives=Hard(), positives="hard", reduction="sum")
    return ours(z, ids), loss(z, ids, miners.BatchHardMiner(distance=apart)(z, ids))


def inside_margin(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The peer's "semihard" triplets, added up."""
    from pytorch_metric_learning import distances, losses, miners, reducers

    apart = distances.LpDistance(power=2)
    loss = losses.TripletMarginLoss(0.3, distance=apart, reducer=reducers.SumReducer())
    miner = miners.TripletMarginMiner(0.3, "semihard", distance=apart)
    ours = Mined(Triplet(margin=0.3, pairs="sum"), negatives=InsideMargin(0.3), pairs="sum", reduction="sum")
    return ours(z, ids), loss(z, ids, miner(z, ids))


def hard_pairs(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The peer's miner before another loss than its own."""
    from pytorch_metric_learning import losses, miners, reducers

    ours = Mined(Circle(gamma=16.0, margin=0.3), negatives=HardPairs(0.1))
    loss = losses.CircleLoss(0.3, 16.0, reducer=reducers.AvgNonZeroReducer())
    return ours(z, ids), loss(z, ids, miners.MultiSimilarityMiner(0.1)(z, ids))


def by_anchor(loss: torch.nn.Module, z: Tensor, ids: Tensor) -> Tensor:
    """The mean over anchors of a loss that sees one anchor and the others at a time."""
    found = []
    for i in range(len(z)):
        others = torch.arange(len(z)) != i
        found.append(loss(z[i : i + 1], ids[i : i + 1], ref_emb=z[others], ref_labels=ids[others]))
    return torch.stack(found).mean()


def margin(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The peer adds up over triplets: with as many positives as negatives, one anchor at a time, that is over pairs."""
    from pytorch_metric_learning import losses

    keys, key_ids = z[[0, 1, 3, 4]], ids[[0, 1, 3, 4]]
    queries, query_ids = z[[2, 5]], ids[[2, 5]]
    loss = losses.MarginLoss(0.2, beta=1.1)
    parts = [loss(queries[i : i + 1], query_ids[i : i + 1], ref_emb=keys, ref_labels=key_ids) for i in range(2)]
    return Margin(alpha=0.2, beta=1.1)(queries, query_ids, keys, key_ids), torch.stack(parts).mean()


def angular(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses

    return Angular(degrees=40.0)(z, ids), losses.AngularLoss(40.0)(z, ids)


def lifted(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses

    return LiftedStructure(margin=1.0)(z, ids), losses.LiftedStructureLoss(neg_margin=1.0)(z, ids)


def generalised_lifted(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses

    theirs = losses.GeneralizedLiftedStructureLoss(neg_margin=1.0)(z, ids)
    return LiftedStructure(margin=1.0, generalised=True)(z, ids), theirs


def histogram(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses

    return Histogram(bins=10)(z, ids), losses.HistogramLoss(n_bins=10)(z, ids)


def classes(ours: torch.nn.Module, theirs: torch.nn.Module, z: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    """Both with our proxies, on rows of several lengths."""
    ours = ours.double()
    theirs.W.data = ours.proxies.detach().T.clone()
    z = z * torch.linspace(0.5, 2, len(z), dtype=z.dtype)[:, None]
    return ours(z, ids), theirs(z, ids), ours.proxies, theirs.W


def norm_face(z: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    from pytorch_metric_learning import losses

    return classes(NormFace(4, z.shape[1], scale=8.0), losses.NormalizedSoftmaxLoss(4, z.shape[1], 1 / 8), z, ids)


def am_softmax(z: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    from pytorch_metric_learning import losses

    theirs = losses.CosFaceLoss(4, z.shape[1], margin=0.35, scale=8)
    return classes(AMSoftmax(4, z.shape[1], scale=8.0, margin=0.35), theirs, z, ids)


def arc_face(z: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    """The peer's margin is in degrees, and beyond θ = π − m it goes on in another way: there are no such rows here."""
    from pytorch_metric_learning import losses

    ours, theirs = ArcFace(4, z.shape[1], scale=8.0, margin=math.radians(20)), losses.ArcFaceLoss(4, z.shape[1], 20, 8)
    with torch.no_grad():
        ours.proxies.copy_(torch.stack([z[3 * c : 3 * c + 3].mean(0) for c in range(4)]))
    return classes(ours, theirs, z, ids)


def large_margin(z: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    from pytorch_metric_learning import losses

    theirs = losses.LargeMarginSoftmaxLoss(4, z.shape[1], margin=4, scale=1)
    return classes(LargeMarginSoftmax(4, z.shape[1], margin=4), theirs, z, ids)


def sphere_face(z: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    from pytorch_metric_learning import losses

    return classes(ASoftmax(4, z.shape[1], margin=4), losses.SphereFaceLoss(4, z.shape[1], margin=4, scale=1), z, ids)


PEERS: dict[str, Peer] = {
    "Circle": circle,
    "InfoNCE-each": info_nce,
    "SupCon": sup_con,
    "NPair": n_pair,
    "MultiSimilarity": multi_similarity,
    "MultiSimilarity-mined": multi_similarity_mined,
    "Contrastive": contrastive,
    "Contrastive-sum": contrastive_sum,
    "Triplet": triplet,
    "Triplet-euclidean": triplet_euclidean,
    "Triplet-sum": triplet_sum,
    "Triplet-soft": triplet_soft,
    "Margin": margin,
    "Mined-batch-hard": batch_hard,
    "Mined-inside": inside_margin,
    "Mined-hard-pairs": hard_pairs,
    "Angular": angular,
    "LiftedStructure": lifted,
    "LiftedStructure-generalised": generalised_lifted,
    "Histogram": histogram,
    "NormFace": norm_face,
    "AMSoftmax": am_softmax,
    "ArcFace": arc_face,
    "LargeMarginSoftmax": large_margin,
    "ASoftmax": sphere_face,
}
NO_PEER: dict[str, str] = {
    "UnifiedPairSimilarity": "there is no such loss; TupletMarginLoss has an angular margin and one positive a term",
    "InfoNCE-sum": "there is no such loss: NTXentLoss takes each positive alone",
    "Contrastive-active": "AvgNonZeroReducer divides by the active pairs of the batch, ours by those of each anchor",
    "Margin-classes": "MarginLoss adds up over triplets, which weighs pairs by the other side's number",
    "Margin-fixed-sum": "MarginLoss adds up over triplets, which weighs pairs by the other side's number",
    "Mined-hard": "BatchEasyHardMiner takes one positive of an anchor with its hardest negative, or all with all",
    "Mined-easy": "as Mined-hard",
    "Mined-beyond": "as Mined-hard; its semihard is of the one positive",
    "Mined-easy-positive": "there is no unified loss",
    "Mined-all": "there is no unified loss",
    "Softmax": "there is no plain softmax: NormalizedSoftmaxLoss scales the proxies to length 1",
    "Softmax-bias": "there is no plain softmax",
    "L2Softmax": "NormalizedSoftmaxLoss scales the proxies too",
    "L2Softmax-learned": "NormalizedSoftmaxLoss scales the proxies too, and learns no scale",
    "LargeMarginSoftmax-mixed": "LargeMarginSoftmaxLoss has no mix with the plain target",
    "ASoftmax-mixed": "SphereFaceLoss has no mix with the plain target",
    "NormFace-learned": "NormalizedSoftmaxLoss learns no scale",
    "ArcFace-insightface": "ArcFaceLoss has the true slope",
    "CircleClassifier": "CircleLoss is of pairs only",
    "ParametricSoftmax": "there is no plain softmax",
    "NonParametricSoftmax": "there is no loss against a bank with a proximal term",
    "NCE": "there is no noise-contrastive estimation",
    "NCE-per-example": "there is no noise-contrastive estimation",
    "SampledSoftmax": "there are no sampled losses",
    "SampledSoftmax-weighted": "there are no sampled losses",
    "NegativeSampling": "there are no sampled losses",
    "NegativeSampling-shared": "there are no sampled losses",
}
