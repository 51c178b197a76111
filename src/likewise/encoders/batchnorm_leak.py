"""Measures what shuffled BatchNorm prevents: batch statistics that reveal which key belongs to a query.

Letters in shapes: T batches, B rows of a batch, G groups of a batch, P probe items, D length of an embedding.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from likewise.distributed import processes
from likewise.distributed.layout import Layout
from likewise.encoders.momentum import embed_shuffled
from likewise.errors import LikewiseError

PROBES = 8  # items per group: 1 finds 0.29 of a noisy leak, 4 find 0.75, 8 find 0.84; too many would weaken the leak
ROUNDING = 1e-4  # a signature shorter than this share of the embedding is rounding; that of float32 is about 1e-6
TELLING = 0.25  # the verdict is "leak" above this share of the way from chance (0) to certainty (1)


@dataclass(frozen=True, kw_only=True)
class Leak:
    """How often batch statistics alone find the group of a query's key.

    Args:
        accuracy: share of the queries whose group of keys is found among all T · G.
        chance: the accuracy of a random guess, 1 / (T · G).
        of_batch: share of the queries whose batch is found among the T batches; chance 1 / T.
        of_group: share of the queries whose group is found among the G groups of their own batch; chance 1 / G.
        batches: T.
        groups: G.
        shuffled: whether the rows of the keys were shuffled before they were grouped.
    """

    accuracy: float
    chance: float
    of_batch: float
    of_group: float
    batches: int
    groups: int
    shuffled: bool


@torch.no_grad()
def bn_leak(
    query_encoder: nn.Module,
    key_encoder: nn.Module,
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    *,
    groups: int,
    shuffle: bool,
    generator: torch.Generator,
) -> Leak:
    """Measures how often a query's key can be found from the batch statistics of the key's group alone.

    With BatchNorm the rows of a group share their statistics. If a query and its key are in the same group of items, a
    model can learn to recognise the key by the signature of the group alone (He et al. 2020, §3.3). Shuffling the rows
    of the keys between the groups prevents it. This function encodes a few fixed probe items, in training mode, with
    the rows of each group. The result depends only on the rows of the group. So z_tg − mean z is the signature of
    group g of batch t in the query encoder, and k_th − mean k in the key encoder. The guess for a query of group (t, g)
    is the group of keys (t', h') whose signature has the largest cosine with z_tg; it is right if the query's own key
    was encoded there. Ties share the guess: an encoder without BatchNorm has no signatures and gets exactly chance.

    Shuffling hides the group but not the batch: a group of shuffled keys still holds 1/G of the rows of a query's group
    (the cosine is 1/G instead of 1). With clear signatures ``of_batch`` then stays high, and ``accuracy`` is at worst
    near 1/G, above chance. With one group, shuffling changes nothing and the leak stays. Such a leak does harm only if
    negatives come from other batches (a queue, a bank), because all keys of one group have the same signature.

    It uses copies of the encoders, so running statistics and modes do not change. Torch's random state does not change
    either; only ``generator`` advances. Encoders need float32 or more. A synchronised BatchNorm communicates with the
    other processes: measure in one process.

    Cost: two passes, without gradient, of T batches and T · G · 8 probe items.

    Args:
        query_encoder: (B, ...) -> (B, D).
        key_encoder: (B, ...) -> (B, D); the same module, or its momentum copy.
        first: T batches of views, (B_t, ...), encoded as queries in groups of consecutive rows.
        second: other views of the same items in the same order, encoded as keys.
        groups: G; the sizes of the groups are ``processes.shares(B_t, G)``.
        shuffle: whether to shuffle the rows of each batch of keys before they are grouped.
        generator: draws the shuffling.

    Raises:
        LikewiseError: fewer than 2 batches, batches that don't match, or fewer rows than groups.
    """
    sizes = [len(batch) for batch in first]
    if len(sizes) < 2 or sizes != [len(batch) for batch in second]:
        raise LikewiseError(
            f"the leak needs at least 2 batches with two views each, but the first views have {sizes} rows and the "
            f"second {[len(batch) for batch in second]}."
        )
    if groups < 1 or min(sizes) < groups:
        raise LikewiseError(f"batches of {min(sizes)} rows can't be split into {groups} groups; use larger ones.")
    few = min(PROBES, sizes[0], sizes[1])
    probe = (first[0][:few] + first[1][:few]) / 2  # mixtures of two items, so that no probe is an item
    devices = [probe.device] if probe.is_cuda else []
    queries, keys = _Beside(query_encoder, probe), _Beside(key_encoder, probe)
    with torch.random.fork_rng(devices=devices):  # (Σ B_t,): where each query and its key were encoded
        home = torch.cat([queries.homes(batch, groups, None) for batch in first])
        target = torch.cat([keys.homes(batch, groups, generator if shuffle else None) for batch in second])
    likeness = (queries.signatures() @ keys.signatures().T).cpu()  # (T · G, T · G)
    guesses, batch = _guesses(likeness), home // groups
    own = torch.arange(len(sizes)).repeat_interleave(groups)
    among_own = _guesses(likeness.masked_fill(own != own.unsqueeze(1), -torch.inf))
    return Leak(
        accuracy=float(guesses[home, target].mean()),
        chance=1 / len(likeness),
        of_batch=float(guesses.view(-1, len(sizes), groups).sum(2)[home, batch].mean()),
        of_group=float(among_own[home, target].mean()),
        batches=len(sizes),
        groups=groups,
        shuffled=shuffle,
    )


def verdict(leak: Leak) -> str:
    """One plain sentence: what the batch statistics reveal, and what to do about it."""
    group = _above_chance(leak.of_group, leak.groups) if leak.groups > 1 else _above_chance(leak.of_batch, leak.batches)
    if group > TELLING:
        if leak.groups == 1:
            advice = (
                "harmless if all negatives are in the same batch; otherwise shuffle, with encoder.bn_groups above 1"
            )
        elif leak.shuffled:
            advice = "shuffled groups still share too many rows: use larger groups"
        else:
            advice = "set key_encoder.shuffle"
        return (
            f"leak: batch statistics alone find the right group of keys for {leak.accuracy:.0%} of the queries "
            f"(chance {leak.chance:.1%}); {advice}."
        )
    if leak.groups > 1 and _above_chance(leak.of_batch, leak.batches) > TELLING:
        return (
            f"no leak within a batch: the statistics find the right one of {leak.groups} groups for "
            f"{leak.of_group:.0%} of the queries (chance {1 / leak.groups:.0%}). They find the right batch for "
            f"{leak.of_batch:.0%} (chance {1 / leak.batches:.0%}), which shuffling can't hide."
        )
    return (
        f"no leak: batch statistics alone find the right group of keys for {leak.accuracy:.1%} of the queries "
        f"(chance {leak.chance:.1%})."
    )


def _above_chance(share: float, choices: int) -> float:
    """0 at chance, 1 at certainty."""
    return (share - 1 / choices) / (1 - 1 / choices)


class _Beside(nn.Module):
    """Encodes the probe items together with each group of rows. The output of a row is the number of its group."""

    def __init__(self, encoder: nn.Module, probe: Tensor) -> None:
        super().__init__()
        self.encoder, self.probe, self.embedded = copy.deepcopy(encoder).train(), probe, list[Tensor]()

    def forward(self, group: Tensor) -> Tensor:
        """(b, ...) -> (b,)."""
        rows = self.encoder(torch.cat([group, self.probe]))
        self.embedded.append(rows[len(group) :].flatten())
        return torch.full((len(group),), len(self.embedded) - 1)

    def homes(self, batch: Tensor, groups: int, generator: torch.Generator | None) -> Tensor:
        """(B, ...) -> (B,): the group that encodes each row, by the code of training. A generator shuffles the rows."""
        order = None
        if generator is not None:
            order = torch.randperm(len(batch), generator=generator, device=generator.device)
        layout = Layout(tuple(processes.shares(len(batch), groups)))
        return embed_shuffled(self, batch, layout, order, keep=False)

    def signatures(self) -> Tensor:
        """(T · G, P · D) unit rows: the embeddings of the probe minus their mean; 0 if that is only rounding."""
        embedded = torch.stack(self.embedded)
        signatures = embedded - embedded.mean(0)
        rounding = signatures.norm(dim=1, keepdim=True) <= ROUNDING * embedded.norm(dim=1, keepdim=True)
        return functional.normalize(signatures.masked_fill(rounding, 0), dim=1)


def _guesses(likeness: Tensor) -> Tensor:
    """The guess of each row: 1 at its largest entry, divided equally among ties."""
    tied = (likeness == likeness.amax(1, keepdim=True)).double()
    return tied / tied.sum(1, keepdim=True)
