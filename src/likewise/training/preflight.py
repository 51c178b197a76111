"""Pre-flight: what in the settings does not suit so few items or steps, said before the first one.

The papers' defaults are for a million photos and hundreds of epochs; on 5,000 items some of them quietly learn less.
docs/preflight.md has the thresholds and where they come from.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.methods import METHODS
from likewise.training.decide import decide

FEW_ITEMS = 64
FEW_NEGATIVES = 64
FEW_STEPS = 200  # 20 times the 10 steps over which SGD's momentum of 0.9 averages
FEW_EPOCHS = 5
GROUP_ROWS = 15.5  # 16, half of MoCo's 32 rows a group, less what it takes to make batches of one size
START_LEFT = 0.01  # share of its start that a moving average may still hold when training ends
LONG_WARMUP = 0.3
RESCALE = 4
BF16_ERROR = 0.005  # of a similarity, rms, measured with resnet-small and resnet18, D = 128: 0.0014 to 0.0073
LOGIT_ERROR = 0.25


@dataclass(frozen=True)
class Advice:
    """A setting that does not suit the data.

    Args:
        setting: its dotted name, or "items" where there are too few for any setting to help.
        now: its value.
        better: one that the pre-flight has nothing against, for the same setting; None where there is none.
        why: the reason, in words that follow "setting=now"; its numbers are the run's as it is, unless ``only_then``.
        along: true if ``better`` assumes that the other advice is followed.
        only_then: whether there is nothing against the setting until the other advice is taken.
    """

    setting: str
    now: object
    better: object | None
    why: str
    along: bool = False
    only_then: bool = False

    def line(self) -> str:
        """One plain sentence."""
        what = "with the other advice taken, " * self.only_then + f"{self.setting}={_text(self.now)} {self.why}"
        if self.better is None:
            return f"{what}."
        return f"{what}; consider --{self.setting} {_text(self.better)}{' along with the other advice' * self.along}."


@dataclass(frozen=True)
class _Run:
    """Settings with the size of their run. A batch has ``least`` to ``most`` items, which differ by one at most."""

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
        """Keys that a step adds to the queue."""
        return self.most * (2 if self.settings.symmetric else 1)

    @property
    def group_rows(self) -> int:
        """Rows that a batch gives to the statistics of BatchNorm, over all groups."""
        return self.least * (2 if self.settings.joint else 1)

    def with_advice(self, advice: Advice) -> "_Run":
        if advice.better is None:
            return self
        settings = settings_from({advice.setting: advice.better}, self.settings)
        run = replace(self, settings=settings)
        longer = advice.setting in ("epochs", "batch_size")
        return replace(run, steps=settings.epochs * run.per_epoch) if longer else run

    def advice(self) -> Iterator[Advice]:
        """Each check's, and what the checks before it advise is taken."""
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
    """What in ``settings`` does not suit ``n`` items and ``steps`` steps, most harmful first; nothing is changed.

    A later check sees what the earlier ones advise, so that all advice taken together leaves nothing to advise. Each
    setting is named once. What no run could use is not repeated: that is refused by ``config.checks.check``.

    Args:
        settings: the run's; what is on auto is decided as for the run.
        n: items.
        steps: of the whole training.
        processes: that share each batch.
        batch_norm: whether the encoder has BatchNorm.
    """
    if n < FEW_ITEMS:
        why = (
            f"are fewer than {FEW_ITEMS}: a query has at most {max(0, n - 1)} others to be told from, and each item is "
            f"{1 / max(1, n):.0%} of any accuracy; more items help before any setting, and none is looked at"
        )
        return [Advice("items", n, None, why)]
    run = _Run(settings, n, steps, processes, batch_norm)
    alone = {advice.setting: advice for look in reversed(CHECKS) for advice in look(run.decided())}
    found = [_as_it_is(advice, alone.get(advice.setting)) for advice in run.advice()]
    return sorted(found, key=lambda advice: HARM.index(advice.setting))


def _as_it_is(advice: Advice, alone: Advice | None) -> Advice:
    """``advice``, which may rest on other advice, in the words of what is to be said without any."""
    if alone is None:
        return replace(advice, only_then=True)
    return replace(advice, why=alone.why, along=advice.better != alone.better, only_then=alone.only_then)


def _negatives_in_batch(run: _Run) -> Iterator[Advice]:
    s = run.settings
    if s.dictionary != "batch" or s.alike != "instance":  # labels leave few classes a batch, and that is meant
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
            "(micro_batches, with as many encoder.bn_groups where there is BatchNorm, fits a larger batch into memory; "
            "dictionary=queue needs none)"
        )
        yield Advice("batch_size", s.batch_size, better, why)


def _batch_in_queue(run: _Run) -> Iterator[Advice]:
    s = run.settings
    if s.dictionary == "queue" and run.new_keys >= run.n:
        why = (
            f"makes {run.new_keys:,} keys a step out of {run.n:,} items: a queue that holds them holds every item, and "
            "has nothing older to add"
        )
        yield Advice("batch_size", s.batch_size, -(-run.n // 4), why)


def _batch_for_statistics(run: _Run) -> Iterator[Advice]:
    s = run.settings
    if run.has_batch_norm and run.group_rows < GROUP_ROWS:
        why = (
            f"gives BatchNorm {run.group_rows} rows, whose mean is off by about {1 / math.sqrt(run.group_rows):.0%} of "
            "a standard deviation; MoCo has 32 rows"
        )
        yield Advice("batch_size", s.batch_size, min(32, -(-run.n // 4)), why)


def _length(run: _Run) -> Iterator[Advice]:
    s = run.settings
    if s.epochs >= FEW_EPOCHS and run.steps >= FEW_STEPS:
        return
    better = max(20, -(-FEW_STEPS * s.epochs // run.steps))
    if s.epochs < FEW_EPOCHS:
        times = "once" if s.epochs == 1 else f"{s.epochs} times"
        why = f"shows each item {times}; telling it from the others takes tens of views (the papers: 200 epochs)"
    else:
        why = (
            f"makes {run.steps:,} steps of {run.n:,} items, less than {FEW_STEPS}: 20 times the 10 steps over which "
            "SGD's momentum of 0.9 averages, so training hardly gets under way (MoCo on CIFAR-10: 19,600 steps)"
        )
    yield Advice("epochs", s.epochs, better, why)


def _groups(run: _Run) -> Iterator[Advice]:
    """BatchNorm's groups: enough rows in each, shared evenly by the processes, and several where keys are shuffled."""
    s, now = run.settings, run.settings.encoder.bn_groups
    room = int(run.group_rows / GROUP_ROWS) if run.has_batch_norm else run.least // 2
    parts = s.micro_batches if run.has_batch_norm else 1  # with BatchNorm the groups are a multiple of the parts
    shuffled = s.dictionary == "queue" and s.key_encoder.shuffle and run.has_batch_norm
    better, why, rows = now, "", run.group_rows // now
    if now > 1 and (now > room or now % run.processes):
        fewer = next((p for p in range(parts, 1, -1) if math.lcm(p, run.processes) <= room), 1)
        if fewer < parts:
            reason = f"cuts a batch of {run.least} into parts too small for BatchNorm, below 16 rows"
            yield Advice("micro_batches", s.micro_batches, fewer, reason)
        better = _most_groups(math.lcm(fewer, run.processes), now, room)
        why = (
            f"leaves BatchNorm {rows} rows a group, whose mean is off by about {1 / math.sqrt(max(1, rows)):.0%} of a "
            "standard deviation; MoCo has 32 rows a group"
            if now > room
            else f"is not a multiple of the {run.processes} processes, which take whole groups"
        )
    elif now == 1 and shuffled:
        better = _most_groups(run.processes, 8, room)
        why = (
            "leaves the shuffled keys no other group to go to: query and key share their batch's statistics, by which "
            "the key is found without looking (MoCo §3.3; without shuffling its CIFAR-10 demo loses 4 points)"
        )
    if better != now:
        yield Advice("encoder.bn_groups", now, better, why)
    if better == 1 and shuffled:
        why = (
            f"does nothing: batches of {run.least} have no room for two groups of 16 rows, so query and key "
            "share their batch's statistics (MoCo §3.3) in any order; a larger batch or another dictionary helps"
        )
        yield Advice("key_encoder.shuffle", True, False, why, only_then=now > 1)


def _most_groups(unit: int, wanted: int, room: int) -> int:
    """The most groups that are a multiple of ``unit``, up to ``wanted`` (or one unit) and ``room``; else 1."""
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
            f"holds {'more keys than' if size > n else 'a key for each of'} the {n:,} items: the oldest were encoded "
            f"{size / run.new_keys:,.0f} steps ago, and a query's own older keys are among them, to be left out by id "
            "(MoCo's queue holds 5 % of ImageNet, its CIFAR-10 demo's 8 %)"
        )
    else:
        why = (
            f"is less than the {run.new_keys:,} keys a step makes: most leave before they are ever met"
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
            f"draws as many rows as the bank's {run.n:,} or more, with replacement: a row is missed with probability "
            f"{math.exp(-samples / run.n):.2g} and others come twice, where all rows (0) are exact and cost no more"
        )
    else:
        why = "is few negatives; He et al. 2020 (Fig. 3) lose about 8 points from 65,536 rows to 256"
    yield Advice("bank.samples", samples, 4096 if samples < 4096 < run.n else 0, why)


def _noise(run: _Run) -> Iterator[Advice]:
    o = run.settings.objective
    noise = int(o.number("noise", 4096))
    if o.kind != "nce" or FEW_NEGATIVES <= noise < run.n:
        return
    if noise < FEW_NEGATIVES and run.n > 4096:
        why = "noise samples are few: NPID's kNN on CIFAR-10 is 63 % with 10, 78 % with 512 and 80 % with 4,096"
        yield Advice("objective.noise", noise, 4096, why)
        return
    why = (
        f"with {noise:,} noise samples estimates a sum over {run.n:,} items; the exact sum costs no more there, and "
        "has no log Z to guess"
    )
    yield Advice("objective.kind", o.kind, "nonparametric-softmax", why)


def _key_momentum(run: _Run) -> Iterator[Advice]:
    s, m = run.settings, run.settings.key_encoder.momentum
    if s.dictionary != "queue":
        return
    left = _start_left(m, run.steps, cosine=s.key_encoder.schedule == "cosine")
    if m >= 0.9 and left <= START_LEFT:
        return
    if m < 0.9:
        why = (
            "lets the key encoder change while its keys wait in the queue: He et al. 2020 find 59.0 % at 0.999, "
            "55.2 % at 0.9, and no learning at 0"
        )
    else:
        why = (
            f"averages over {'all' if m == 1 else f'{1 / (1 - m):,.0f}'} steps of {run.steps:,}: at the end {left:.0%} "
            "of the key encoder's weights are still its random start"
        )
    yield Advice("key_encoder.momentum", m, min(0.999, max(0.9, math.floor(1000 - 20_000 / run.steps) / 1000)), why)


def _start_left(momentum: float, steps: int, *, cosine: bool) -> float:
    """Share of its first weights that an average of momentum m holds after ``steps``: Π m_t, which is m^steps."""
    if not cosine or not momentum:
        return momentum**steps
    points = [(i + 0.5) / 256 for i in range(256)]
    logs = [math.log1p(-(1 - momentum) * (1 + math.cos(math.pi * x)) / 2) for x in points]
    return math.exp(steps * sum(logs) / len(logs))


def _bank_momentum(run: _Run) -> Iterator[Advice]:
    s, m = run.settings, run.settings.bank.momentum
    if s.dictionary == "bank" and m**s.epochs > START_LEFT:
        why = (
            f"keeps {m**s.epochs:.0%} of a row's random start to the end: a row moves once an epoch, "
            f"{s.epochs} times in all"
        )
        better = 0.5 if 0.5**s.epochs <= START_LEFT else math.floor(100 * START_LEFT ** (1 / s.epochs)) / 100
        yield Advice("bank.momentum", m, better, why)


def _warmup(run: _Run) -> Iterator[Advice]:
    o = run.settings.optim
    if o.warmup > LONG_WARMUP:
        why = f"spends {o.warmup:.0%} of the training below its learning rate; SimCLR's 10 of 100 epochs are 0.1"
        yield Advice("optim.warmup", o.warmup, 0.1, why)


def _learning_rate(run: _Run) -> Iterator[Advice]:
    """Only where the rate is the method's own, for its own batch."""
    s, method = run.settings, METHODS.get(run.settings.method)
    if method is None or (s.optim.name, s.optim.lr) != (method.settings.optim.name, method.settings.optim.lr):
        return
    ratio = run.most / method.settings.batch_size
    if 1 / RESCALE < ratio < RESCALE:
        return
    why = (
        f"is {s.method}'s for batches of {method.settings.batch_size:,}, and these are of {run.most:,}; He et al. 2020 "
        "lose 2 points where large batches keep the rate (linear scaling: rate in proportion to the batch)"
    )
    yield Advice("optim.lr", s.optim.lr, float(f"{s.optim.lr * ratio:.2g}"), why)


def _precision(run: _Run) -> Iterator[Advice]:
    s, tau = run.settings, run.settings.objective.number("temperature", math.inf)
    if s.precision == "bf16" and BF16_ERROR / tau > LOGIT_ERROR:
        why = (
            f"moves similarities by about {BF16_ERROR}, so at temperature {tau:g} logits by {BF16_ERROR / tau:.1f} and "
            f"a key's weight by {math.expm1(BF16_ERROR / tau):.0%}; a temperature of 0.02 or more does not mind"
        )
        yield Advice("precision", s.precision, "fp32", why)


def _power_of_two(x: int) -> int:
    """The largest up to ``x``, at least 1."""
    return 1 << max(0, x.bit_length() - 1)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


CHECKS: tuple[Callable[[_Run], Iterator[Advice]], ...] = (  # in the order in which one's advice bears on the next
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
