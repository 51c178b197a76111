"""Pre-flight: advice on settings that do not suit the number of items or steps, before the first step.

The papers' defaults are for a million photos and hundreds of epochs; on 5,000 items some of them learn less.
docs/preflight.md has the thresholds and their sources.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from likewise.config.objective_table import AUTO_FEW
from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.methods import METHODS
from likewise.training.decide import decide

FEW_ITEMS = 64
FEW_NEGATIVES = 64
FEW_STEPS = 200  # 20 times the 10 steps over which a momentum of 0.9 averages
FEW_EPOCHS = 5
GROUP_ROWS = 15.5  # 16 is half of MoCo's 32 rows per group; 0.5 less, since batch sizes differ by one
START_LEFT = 0.01  # at the end of training, the largest share of the start value in a moving average
LONG_WARMUP = 0.3
RESCALE = 4
BF16_ERROR = 0.005  # rms error of a similarity; resnet-small and resnet18, D = 128, have 0.0014 to 0.0073
LOGIT_ERROR = 0.25


@dataclass(frozen=True)
class Advice:
    """A setting that does not suit the data.

    Args:
        setting: its dotted name, or "items" where there are too few items for any setting to help.
        now: its value.
        better: a value of the same setting that passes every check; None where there is none.
        why: the reason, in words that follow "setting=now". Its numbers are those of the run without other advice,
            unless ``only_then``.
        along: True if this value assumes the other advice is followed; alone, another value is better.
        only_then: True if the setting is fine until the other advice is followed.
    """

    setting: str
    now: object
    better: object | None
    why: str
    along: bool = False
    only_then: bool = False

    def line(self) -> str:
        """One plain sentence."""
        what = "if you follow the other advice, " * self.only_then + f"{self.setting}={_text(self.now)} {self.why}"
        if self.better is None:
            return f"{what}."
        return f"{what}; consider --{self.setting} {_text(self.better)}{' along with the other advice' * self.along}."


@dataclass(frozen=True)
class _Run:
    """Settings and the size of their run. A batch has ``least`` to ``most`` items; these differ by at most one."""

    settings: FitSettings
    n: int
    steps: int
    processes: int
    has_batch_norm: bool

    @property
    def per_epoch(self) -> int:
        return -(-self.n // self.settings.batch_size)

    @property
    def least(self) -> int:
        return self.n // self.per_epoch

    @property
    def most(self) -> int:
        return -(-self.n // self.per_epoch)

    @property
    def new_keys(self) -> int:
        """Number of keys that a step adds to the queue."""
        return self.most * (2 if self.settings.symmetric else 1)

    @property
    def group_rows(self) -> int:
        """Rows of a batch in the batch statistics, over all groups."""
        return self.least * (2 if self.settings.joint else 1)

    def with_advice(self, advice: Advice) -> "_Run":
        settings = settings_from({advice.setting: advice.better}, self.settings)
        run = replace(self, settings=settings)
        longer = advice.setting in ("epochs", "batch_size")
        return replace(run, steps=settings.epochs * run.per_epoch) if longer else run

    def advice(self) -> Iterator[Advice]:
        """The advice of every check; each check assumes that the advice before it is followed."""
        run = self
        for look in CHECKS:
            for advice in look(run.decided()):
                yield advice
                run = run.with_advice(advice)

    def decided(self) -> "_Run":
        return replace(self, settings=decide(self.settings, self.n))


def preflight(
    settings: FitSettings, n: int, steps: int, *, processes: int = 1, batch_norm: bool = True
) -> list[Advice]:
    """Advice on the ``settings`` that do not suit ``n`` items and ``steps`` steps, most harmful first.

    It changes nothing. A later check assumes that the earlier advice is followed, so a run that follows all advice gets
    none. Each setting is named once. Impossible values are not checked here: ``config.checks.check`` refuses them.

    Args:
        settings: the run's settings; values on auto are decided as for the run.
        n: number of items.
        steps: steps of the whole training.
        processes: number of processes that divide each batch.
        batch_norm: whether the encoder has BatchNorm.
    """
    if n < FEW_ITEMS:
        why = (
            f"are fewer than {FEW_ITEMS}: a query has at most {max(0, n - 1)} negatives, and each item is "
            f"{1 / max(1, n):.0%} of any accuracy; more items help more than any setting, so no setting is checked"
        )
        return [Advice("items", n, None, why)]
    run = _Run(settings, n, steps, processes, batch_norm)
    alone = {advice.setting: advice for look in reversed(CHECKS) for advice in look(run.decided())}
    advised = [_as_it_is(advice, alone.get(advice.setting)) for advice in run.advice()]
    return sorted(advised, key=lambda advice: HARM.index(advice.setting))


def _as_it_is(advice: Advice, alone: Advice | None) -> Advice:
    """``advice``, which may assume other advice, with the reason that holds for the run as it is."""
    if alone is None:
        return replace(advice, only_then=True)
    return replace(advice, why=alone.why, along=advice.better != alone.better, only_then=alone.only_then)


def _negatives_in_batch(run: _Run) -> Iterator[Advice]:
    s = run.settings
    if s.dictionary != "batch" or s.alike != "instance":  # with labels, few classes per batch are intended
        return

    def negatives(batch_size: int) -> int:
        least = run.n // -(-run.n // batch_size)
        return 2 * least - 2 if s.views_querying == 2 else least - 1

    wanted = min(FEW_NEGATIVES, negatives(run.n))
    if negatives(s.batch_size) < wanted:
        better = next(size for size in (64, 128, 256, run.n) if negatives(min(size, run.n)) >= wanted)
        why = (
            f"gives a query {negatives(s.batch_size)} negatives, where the batch is the dictionary: He et al. 2020 "
            "(Fig. 3) lose about 3 points from 1,024 keys to 256, and with few keys the task is soon too easy "
            "(micro_batches fits a larger batch into memory, with as many encoder.bn_groups if there is BatchNorm; "
            "dictionary=queue needs no large batch)"
        )
        yield Advice("batch_size", s.batch_size, better, why)


def _batch_in_queue(run: _Run) -> Iterator[Advice]:
    s = run.settings
    if s.dictionary == "queue" and run.new_keys >= run.n:
        why = (
            f"makes {run.new_keys:,} keys per step from {run.n:,} items: a queue that holds them holds every item, and "
            "older keys add nothing"
        )
        yield Advice("batch_size", s.batch_size, -(-run.n // 4), why)


def _batch_for_statistics(run: _Run) -> Iterator[Advice]:
    s = run.settings
    if run.has_batch_norm and run.group_rows < GROUP_ROWS:
        why = (
            f"gives BatchNorm {run.group_rows} rows; their mean has an error of about "
            f"{1 / math.sqrt(run.group_rows):.0%} of a standard deviation (MoCo has 32 rows)"
        )
        yield Advice("batch_size", s.batch_size, min(32, -(-run.n // 4)), why)


def _length(run: _Run) -> Iterator[Advice]:
    s = run.settings
    few = s.epochs < FEW_EPOCHS and not s.listed  # an epoch of relations shows an item once for each of its own
    if not few and run.steps >= FEW_STEPS:
        return
    better = max(20, -(-FEW_STEPS * s.epochs // run.steps))
    if few:
        times = "once" if s.epochs == 1 else f"{s.epochs} times"
        why = f"shows each item {times}; to learn to distinguish it takes tens of views (the papers: 200 epochs)"
    else:
        why = (
            f"makes only {run.steps:,} steps with {run.n:,} items, less than {FEW_STEPS}: training has hardly started, "
            "since a momentum of 0.9 averages over 10 steps (MoCo on CIFAR-10: 19,600 steps)"
        )
    yield Advice("epochs", s.epochs, better, why)


def _groups(run: _Run) -> Iterator[Advice]:
    """BatchNorm groups: enough rows in each, equally many per process, and several groups if keys are shuffled."""
    s, now = run.settings, run.settings.encoder.bn_groups
    room = int(run.group_rows / GROUP_ROWS) if run.has_batch_norm else run.least // 2
    parts = s.micro_batches if run.has_batch_norm else 1  # with BatchNorm the groups are a multiple of the parts
    shuffled = s.dictionary == "queue" and s.key_encoder.shuffle and run.has_batch_norm
    better, why, rows = now, "", run.group_rows // now
    if now > 1 and (now > room or now % run.processes):
        fewer = next((p for p in range(parts, 1, -1) if math.lcm(p, run.processes) <= room), 1)
        if fewer < parts:
            reason = f"cuts a batch of {run.least} into parts of less than 16 rows, too small for BatchNorm"
            yield Advice("micro_batches", s.micro_batches, fewer, reason)
        better = _most_groups(math.lcm(fewer, run.processes), now, room)
        why = (
            f"leaves BatchNorm {rows} rows per group; their mean has an error of about "
            f"{1 / math.sqrt(max(1, rows)):.0%} of a standard deviation (MoCo has 32 rows per group)"
            if now > room
            else f"is not a multiple of the {run.processes} processes, and each process needs whole groups"
        )
    elif now == 1 and shuffled:
        better = _most_groups(run.processes, 8, room)
        why = (
            "leaves the shuffled keys no other group: query and key share their batch statistics, and these reveal the "
            "key (MoCo §3.3; without shuffling its CIFAR-10 demo loses 4 points)"
        )
    if better != now:
        yield Advice("encoder.bn_groups", now, better, why)
    if better == 1 and shuffled:
        why = (
            f"does nothing: batches of {run.least} have no room for two groups of 16 rows, so query and key share "
            "their batch statistics in any order (MoCo §3.3); use a larger batch or another dictionary"
        )
        yield Advice("key_encoder.shuffle", True, False, why, only_then=now > 1)


def _most_groups(unit: int, wanted: int, room: int) -> int:
    """The largest multiple of ``unit`` up to ``room`` and up to ``wanted``, but at least one unit; 1 if none fits."""
    return max(1, min(room, max(wanted, unit)) // unit * unit)


def _queue(run: _Run) -> Iterator[Advice]:
    s, size, n = run.settings, run.settings.queue.size, run.n
    least = max(run.new_keys, min(FEW_NEGATIVES, n // 4))
    if s.dictionary != "queue" or least <= size < n:
        return
    better = _power_of_two(n // 4)
    if better < least:
        better = 2 * _power_of_two(least - 1)
    if better >= n:
        better = least
    if size >= n:
        why = (
            f"holds {'more keys than' if size > n else 'as many keys as'} the {n:,} items: the oldest were encoded "
            f"{size / run.new_keys:,.0f} steps ago, and the query's own older keys must be left out by id "
            "(MoCo's queue holds 5 % of ImageNet, in its CIFAR-10 demo 8 % of the images)"
        )
    else:
        why = (
            f"is less than the {run.new_keys:,} keys that a step makes: most leave before any query meets them"
            if size < run.new_keys
            else f"gives a query {size} negatives; He et al. 2020 (Fig. 3) lose about 6 points from 65,536 keys to 256"
        )
    yield Advice("queue.size", size, better, why)


def _samples(run: _Run) -> Iterator[Advice]:
    s, samples = run.settings, run.settings.bank.samples
    if s.dictionary != "bank" or not samples or FEW_NEGATIVES <= samples < run.n:
        return
    if samples >= run.n:
        why = (
            f"draws at least as many rows as the bank's {run.n:,}, with replacement: a row is missed with probability "
            f"{math.exp(-samples / run.n):.2g} and others come twice; all rows (0) are exact and cost no more"
        )
    else:
        why = "is few negatives; He et al. 2020 (Fig. 3) lose about 8 points from 65,536 rows to 256"
    yield Advice("bank.samples", samples, 4096 if samples < 4096 < run.n else 0, why)


def _noise(run: _Run) -> Iterator[Advice]:
    o = run.settings.objective
    if "noise" not in o.parameters:
        return
    noise = int(o.number("noise", 0))
    if FEW_NEGATIVES <= noise < run.n:
        return
    if noise < FEW_NEGATIVES and run.n > 4096:
        why = "noise samples are few: NPID's kNN on CIFAR-10 is 63 % with 10, 78 % with 512 and 80 % with 4,096"
        yield Advice("objective.noise", noise, 4096, why)
        return
    why = (
        f"with {noise:,} noise samples estimates a sum over {run.n:,} items; the exact sum costs no more, and needs no "
        "estimate of log Z"
    )
    yield Advice("objective.kind", o.kind, AUTO_FEW, why)


def _key_momentum(run: _Run) -> Iterator[Advice]:
    s, m = run.settings, run.settings.key_encoder.momentum
    if s.dictionary != "queue":
        return
    left = _start_left(m, run.steps, cosine=s.key_encoder.schedule == "cosine")
    if m >= 0.9 and left <= START_LEFT:
        return
    if m < 0.9:
        why = (
            "lets the key encoder change much while its keys wait in the queue: He et al. 2020 find 59.0 % at 0.999, "
            "55.2 % at 0.9, and no learning at 0"
        )
    else:
        why = (
            f"averages over {'all' if m == 1 else f'{1 / (1 - m):,.0f}'} steps of {run.steps:,}: at the end {left:.0%} "
            "of the key encoder's weights still come from its random start"
        )
    yield Advice("key_encoder.momentum", m, min(0.999, max(0.9, math.floor(1000 - 20_000 / run.steps) / 1000)), why)


def _start_left(momentum: float, steps: int, *, cosine: bool) -> float:
    """The share of the first weights in an average of momentum m after ``steps`` steps: Π m_t (m^steps if constant)."""
    if not cosine or not momentum:
        return momentum**steps
    points = [(i + 0.5) / 256 for i in range(256)]
    logs = [math.log1p(-(1 - momentum) * (1 + math.cos(math.pi * x)) / 2) for x in points]
    return math.exp(steps * sum(logs) / len(logs))


def _bank_momentum(run: _Run) -> Iterator[Advice]:
    s, m = run.settings, run.settings.bank.momentum
    if s.dictionary == "bank" and m**s.epochs > START_LEFT:
        why = (
            f"keeps {m**s.epochs:.0%} of a row's random start to the end: a row is updated once per epoch, "
            f"{s.epochs} times in all"
        )
        better = 0.5 if 0.5**s.epochs <= START_LEFT else math.floor(100 * START_LEFT ** (1 / s.epochs)) / 100
        yield Advice("bank.momentum", m, better, why)


def _warmup(run: _Run) -> Iterator[Advice]:
    o = run.settings.optim
    if o.warmup > LONG_WARMUP:
        why = f"keeps {o.warmup:.0%} of the training below the learning rate; SimCLR's 10 of 100 epochs are 0.1"
        yield Advice("optim.warmup", o.warmup, 0.1, why)


def _learning_rate(run: _Run) -> Iterator[Advice]:
    """Only where the learning rate is the method's default, which suits the method's batch size.

    AdamW divides by the gradient's size, so its rate is not in proportion to the batch.
    """
    s, method = run.settings, METHODS.get(run.settings.method)
    if s.optim.name == "adamw":
        return
    if method is None or (s.optim.name, s.optim.lr) != (method.settings.optim.name, method.settings.optim.lr):
        return
    ratio = run.most / method.settings.batch_size
    if 1 / RESCALE < ratio < RESCALE:
        return
    why = (
        f"is {s.method}'s for batches of {method.settings.batch_size:,}, but your batches have {run.most:,}; He et al. "
        "2020 lose 2 points when large batches keep the rate (linear scaling: rate in proportion to the batch)"
    )
    yield Advice("optim.lr", s.optim.lr, float(f"{s.optim.lr * ratio:.2g}"), why)


def _precision(run: _Run) -> Iterator[Advice]:
    s, tau = run.settings, run.settings.objective.number("temperature", math.inf)
    if s.precision == "bf16" and BF16_ERROR / tau > LOGIT_ERROR:
        why = (
            f"changes similarities by about {BF16_ERROR}, so at temperature {tau:g} logits by {BF16_ERROR / tau:.1f} "
            f"and a key's weight by {math.expm1(BF16_ERROR / tau):.0%}; a temperature of 0.02 or more is safe"
        )
        yield Advice("precision", s.precision, "fp32", why)


def _power_of_two(x: int) -> int:
    """The largest power of two up to ``x``; at least 1."""
    return 1 << max(0, x.bit_length() - 1)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


CHECKS: tuple[Callable[[_Run], Iterator[Advice]], ...] = (  # in order: a check's advice affects the checks after it
    _negatives_in_batch,
    _batch_in_queue,
    _batch_for_statistics,
    _length,
    _groups,
    _queue,
    _samples,
    _noise,
    _key_momentum,
    _bank_momentum,
    _warmup,
    _learning_rate,
    _precision,
)
HARM = (  # most harmful first
    "key_encoder.momentum",
    "queue.size",
    "epochs",
    "batch_size",
    "encoder.bn_groups",
    "micro_batches",
    "key_encoder.shuffle",
    "bank.samples",
    "objective.noise",
    "objective.kind",
    "bank.momentum",
    "optim.warmup",
    "optim.lr",
    "precision",
)
