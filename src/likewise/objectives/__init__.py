"""Objectives: how within-class similarities s_p and between-class similarities s_n become a loss.

All are called alike, ``objective(queries, ids)`` in a batch or ``objective(queries, ids, keys, key_ids)`` against a
bank, a queue, a gathered batch or another modality, and are ordinary modules: parameters are trained and saved. Those
of lists are called ``objective(scores, relevance, mask)``: the scores of a query's items and their graded relevance.
"""

from likewise.objectives import (
    class_level,
    hinge,
    instance_level,
    joined,
    list_level,
    pair_level,
    sampled,
    sampled_classes,
)
from likewise.objectives.base import Reduction
from likewise.objectives.class_level import *  # noqa: F403
from likewise.objectives.hinge import *  # noqa: F403
from likewise.objectives.inputs import from_pairs, from_triplets, from_views
from likewise.objectives.instance_level import *  # noqa: F403
from likewise.objectives.joined import *  # noqa: F403
from likewise.objectives.list_level import *  # noqa: F403
from likewise.objectives.mined import Mined
from likewise.objectives.pair_level import *  # noqa: F403
from likewise.objectives.sampled import *  # noqa: F403
from likewise.objectives.sampled_classes import *  # noqa: F403
from likewise.objectives.triplet_shares import TripletShares, triplet_shares

__all__ = ["Mined", "Reduction", "TripletShares", "from_pairs", "from_triplets", "from_views", "triplet_shares"]
__all__ += class_level.__all__
__all__ += hinge.__all__
__all__ += instance_level.__all__
__all__ += joined.__all__
__all__ += list_level.__all__
__all__ += pair_level.__all__
__all__ += sampled.__all__
__all__ += sampled_classes.__all__
