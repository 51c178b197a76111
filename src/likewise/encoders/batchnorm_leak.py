"""What shuffled BatchNorm prevents, measured: does a key's batch statistics give away which key is a query's own?

Letters in shapes: T batches, B rows of one, G groups of a batch, P probe items, D length of an embedding.
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

PROBES = 8  # items beside each group; more are sharper (1 finds 0.29 of a noisy leak, 4 0.75, 8 0.84), but dilute it
ROUNDING = 1e-4  # a signature this short, as a share of the embedding, is rounding: float32 leaves about 1e-6
TELLING = 0.25  # share of the way from chance to certainty above which a verdict speaks of a leak


@dataclass(frozen=True, kw_only=True)
class Leak:
    """How often a query's key is found by batch statistics alone, without a look at either item.

    Args:
        accuracy: share of the queries whose group of keys is found among all T · G.
        chance: of that, 1 / (T · G).
        of_batch: share whose batch is found among the T; chance 1 / T.
        of_group: share whose group is found among the G of their own batch; chance 1 / G.
        batches: T.
        groups: G.
        shuffled: whether the keys' rows were shuffled before they were grouped.
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
    """How far the key of a query betrays itself by the statistics of the group it was encoded in.

    With BatchNorm the rows of a group share their statistics. Where query and key are of the same group of items, a
    model can learn to tell its key by the group's signature and nothing else (He et al. 2020, §3.3); shuffling the
    keys' rows between the groups is their remedy. Here a few fixed probe items are encoded in training mode beside the
    rows of each group. What becomes of them depends on the group's rows alone, so z_tg − mean z is the signature of
    group g of batch t to the queries' encoder and k_th − mean k to the keys'. The guess of a query of group (t, g) is
    the group of keys (t', h') whose signature has the largest cosine with z_tg; it is right where the query's own key
    was encoded. Ties share the guess: an encoder without BatchNorm has no signatures, and gets exactly chance.

    Shuffling hides the group, not the batch: a group of shuffled keys still has 1/G of a query's group in it (cosine
    1/G where it was 1), so with good signatures ``of_batch`` stays high, and ``accuracy`` near 1/G at worst, not at
    chance. With one group there is nothing to shuffle between: the leak stays. It does harm only where negatives
    come from elsewhere (a queue, a bank): all keys of one group have the same signature.

    Runs on copies of the encoders, so that neither running statistics nor modes change; torch's random numbers are as
    before too, only ``generator`` moves on. For encoders in float32 at least. A synchronised BatchNorm speaks to the
    other processes: measure in one.

    Cost: two passes, without gradient, of T batches and T · G · 8 probe items.

    Args:
        query_encoder: (B, ...) -> (B, D).
        key_encoder: the same, or its momentum copy.
        first: T batches of views, (B_t, ...), of which groups of consecutive rows are encoded as queries.
        second: other views of the same items in the same order, encoded as keys.
        groups: G; the groups' sizes are ``processes.shares(B_t, G)``.
        shuffle: whether the rows of each batch of keys are shuffled before they are grouped.
        generator: of the shuffling.

    Raises:
        LikewiseError: fewer than 2 batches, batches that don't match, or fewer rows than groups.
    """
    sizes = [len(batch) for batch in first]
    if len(sizes) < 2 or sizes != [len(batch) for batch in second]:
        raise LikewiseError(
            f"the leak is measured on 2 batches or more, each seen twice, but the first views have {sizes} rows and "
            f"the second {[len(batch) for batch in second]}."
        )
    if groups < 1 or min(sizes) < groups:
        raise LikewiseError(f"batches of {min(sizes)} rows can't be split into {groups} groups; use larger ones.")
    few = min(PROBES, sizes[0], sizes[1])
    probe = (first[0][:few] + first[1][:few]) / 2  # blends: none of the items themselves
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
    """One plain sentence: what the statistics give away, and what to do about it."""
    group = _above_chance(leak.of_group, leak.groups) if leak.groups > 1 else _above_chance(leak.of_batch, leak.batches)
    if group > TELLING:
        if leak.groups == 1:
            advice = (
                "harmless where all negatives are of the same batch, else shuffle between encoder.bn_groups above 1"
            )
        elif leak.shuffled:
            advice = "though shuffled, the groups share too many rows: take larger ones"
        else:
            advice = "set key_encoder.shuffle"
        return (
            f"leak: batch statistics alone find the right group of keys for {leak.accuracy:.0%} of the queries "
            f"(chance {leak.chance:.1%}); {advice}."
        )
    if leak.groups > 1 and _above_chance(leak.of_batch, leak.batches) > TELLING:
        return (
            f"no leak within a batch: of its {leak.groups} groups the statistics find the right one for "
            f"{leak.of_group:.0%} of the queries (chance {1 / leak.groups:.0%}), though the batch itself for "
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
    """Encodes the probe items beside each group of rows that it is given; a row's output is its group's number."""

    def __init__(self, encoder: nn.Module, probe: Tensor) -> None:
        super().__init__()
        self.encoder, self.probe, self.embedded = copy.deepcopy(encoder).train(), probe, list[Tensor]()

    def forward(self, group: Tensor) -> Tensor:
        """(b, ...) -> (b,)."""
        rows = self.encoder(torch.cat([group, self.probe]))
        self.embedded.append(rows[len(group) :].flatten())
        return torch.full((len(group),), len(self.embedded) - 1)

    def homes(self, batch: Tensor, groups: int, generator: torch.Generator | None) -> Tensor:
        """(B, ...) -> (B,): where each row is encoded, by the training's own code; shuffled if there is a generator."""
        order = None
        if generator is not None:
            order = torch.randperm(len(batch), generator=generator, device=generator.device)
        layout = Layout(tuple(processes.shares(len(batch), groups)))
        return embed_shuffled(self, batch, layout, order, keep=False)

    def signatures(self) -> Tensor:
        """(T · G, P · D) unit rows: the probe's embeddings, less their mean; 0 where that is only rounding."""
        embedded = torch.stack(self.embedded)
        signatures = embedded - embedded.mean(0)
        rounding = signatures.norm(dim=1, keepdim=True) <= ROUNDING * embedded.norm(dim=1, keepdim=True)
        return functional.normalize(signatures.masked_fill(rounding, 0), dim=1)


def _guesses(likeness: Tensor) -> Tensor:
    """Each row's guess: 1 at its largest entry, shared equally by those that tie."""
    tied = (likeness == likeness.amax(1, keepdim=True)).double()
    return tied / tied.sum(1, keepdim=True)
