"""Checks of settings: values out of range, and choices that do not work together."""

from collections.abc import Iterator

from likewise.config.objective_table import AUTO, OBJECTIVES, Row, objective
from likewise.config.overrides import flatten
from likewise.config.ranges import check_numbers
from likewise.config.settings import FitSettings
from likewise.config.word_settings import WORD_GROUPS, WORD_METHODS, WORD_OBJECTIVES, WORD_SETTINGS
from likewise.errors import LikewiseError


def check(settings: FitSettings) -> FitSettings:
    """Returns the settings. Raises LikewiseError on a value, or a combination of values, that no run can use."""
    check_numbers(flatten(settings))
    s, neg, groups, nesterov = settings, settings.negatives, settings.encoder.bn_groups, settings.optim.nesterov
    rules = {
        "negatives.policies": (len(neg.policies) > 0, neg.policies, "at least one"),
        "negatives.at": (
            len(neg.at) == len(neg.policies) - 1,
            neg.at,
            f"one number for each of the {max(0, len(neg.policies) - 1)} changes of negatives.policies",
        ),
        "encoder.bn_groups": (
            groups <= s.batch_size // 2,
            groups,
            f"from 1 to {s.batch_size // 2}: each group needs at least two of the batch's {s.batch_size} items",
        ),
        "micro_batches": (s.micro_batches <= s.batch_size, s.micro_batches, "from 1 to batch_size"),
        "optim.nesterov": (not nesterov or s.optim.momentum > 0, nesterov, "false when optim.momentum is 0"),
    }
    for name, (fine, value, wanted) in rules.items():
        if not fine:
            raise LikewiseError(f"setting {name!r} is {value}; it must be {wanted}.")
    for reason in refusals(settings):
        raise LikewiseError(reason)
    return settings


def refusals(settings: FitSettings) -> Iterator[str]:
    """One sentence for each reason why these settings do not work together; none if they do."""
    s, kind = settings, settings.objective.kind
    if s.of_words or s.dictionary == "words" or s.optim.name == "adagrad":
        yield from _refused_words(s)
        return
    yield from _refused_relations(s)
    yield from _refused_mining(s)
    if kind != AUTO:
        yield from _refused_dictionary(s, objective(kind))
    if s.symmetric and s.dictionary != "queue":
        yield "symmetric=true needs dictionary=queue; with dictionary=batch, batch.keys=both makes both views queries."
    if s.bank.sharded and kind == AUTO:
        yield "bank.sharded=true needs the exact softmax: objective nonparametric-softmax, with bank.samples=0."
    if s.views.small_until and s.encoder.name.startswith(("timm:", "hf:")):
        yield f"views.small_until shows pictures of two sizes, but encoder {s.encoder.name} may take one; leave it out."
    if s.encoder.head == "none" and s.encoder.frozen:
        yield "encoder.frozen=true leaves nothing to learn without a head; set encoder.head to linear, mlp or mlp-bn."
    if s.encoder.head == "none" and s.encoder.fusion == "late":
        yield "encoder.fusion=late multiplies the outputs of heads; set encoder.head to linear, mlp or mlp-bn."
    if s.encoder.apart and s.alike != "graded":
        yield "encoder.apart=true needs a file that says what is a query: set alike=graded and relations=FILE."
    if s.encoder.apart and s.encoder.pixels:
        yield "encoder.apart and encoder.pixels do not work together; leave one out."
    if s.micro_batches > 1 and s.bank.sharded:
        yield "micro_batches and bank.sharded do not work together yet; leave one out."


def _refused_words(s: FitSettings) -> Iterator[str]:
    """Checks the settings of a method of words, and that no other method has them."""
    if not (s.of_words and s.dictionary == "words" and s.optim.name == "adagrad" and s.method in WORD_METHODS):
        yield (
            "alike=window, dictionary=words and optim.name=adagrad go together, in the methods "
            f"{' and '.join(WORD_METHODS)}; name one of these with --method."
        )
        return
    if s.objective.kind not in WORD_OBJECTIVES:
        yield f"{s.method} takes the objectives {', '.join(WORD_OBJECTIVES)}, not {s.objective.kind}."
    for name in s.objective.parameters:
        yield f"{s.method} does not use objective.{name}; noise.samples, noise.power and noise.log_z say its noise."
    if s.noise.log_z != "one" and s.objective.kind != "nce":
        yield f"noise.log_z={s.noise.log_z} is of objective nce; {s.objective.kind} has no Z."
    if s.device not in ("auto", "cpu"):
        yield f"{s.method} trains on the CPU, not on device={s.device}; leave it out."
    usual = flatten(FitSettings())
    for name, value in flatten(s).items():
        if value != usual.get(name, value) and name.partition(".")[0] not in WORD_GROUPS and name not in WORD_SETTINGS:
            yield f"{s.method} does not use {name}; leave it out."


def _refused_dictionary(s: FitSettings, row: Row) -> Iterator[str]:
    """Checks the objective against its dictionary."""
    kind, whole_bank = f"objective {row.name}", s.dictionary == "bank" and not s.bank.samples
    if row.keys == "bank" and not whole_bank:
        yield (
            f"{kind} needs a row for every item: dictionary=bank with bank.samples=0; "
            f"with {'bank.samples' if s.dictionary == 'bank' else s.dictionary} use objective infonce."
        )
    if row.keys == "own" and s.dictionary in ("queue", "batch"):
        whose = "a proxy per class" if row.level == "class" else "a weight per item"
        yield f"{kind} has its own keys, {whose}: set dictionary=proxies, or use infonce with {s.dictionary}."
    if row.keys != "own" and s.dictionary == "proxies":
        owners = ", ".join(each.name for each in OBJECTIVES if each.keys == "own")
        yield f"dictionary=proxies needs an objective with its own weights ({owners}); {row.name} has none."
    if row.level == "class" and not s.by_label:
        also = " (the softmax over a bank of items is nonparametric-softmax)" * (row.name == "softmax")
        yield f"{kind} has a proxy for each class: set alike=label{also}."
    if row.level == "list" and s.alike != "graded":
        yield f"{kind} takes the graded relevance of a query's items: set alike=graded and relations=FILE."
    if s.alike == "graded" and row.level != "list":
        known = ", ".join(each.name for each in OBJECTIVES if each.level == "list")
        yield f"alike=graded needs an objective of lists ({known}); {row.name} is not one."
    if row.level == "instance" and row.keys == "own" and s.by_label:
        yield f"{kind} has a weight for each item; with alike=label use softmax."
    if s.bank.sharded and (s.bank.samples or not row.spreads):
        spread = " or ".join(each.name for each in OBJECTIVES if each.spreads)
        yield f"bank.sharded=true needs the exact softmax: objective {spread}, with bank.samples=0."
    if s.bank.sharded and row.keys == "own" and s.optim.name != "sgd":
        yield f"optim.name={s.optim.name} needs whole weights, but bank.sharded=true divides them; use sgd."


def _refused_relations(s: FitSettings) -> Iterator[str]:
    """Checks alike, relations, dictionary and sampler against each other."""
    if s.related and s.relations is None:
        what = {
            "graded": "relevance by the ids of query and item",
            "triplets": "triplets by item id",
        }
        file = what.get(s.alike, "pairs by item id, or the folder of a graph")
        yield f"alike={s.alike} needs relations=FILE, a CSV or parquet file of {file}."
    if s.relations is not None and not s.related:
        yield (
            f"relations={s.relations} lists pairs, triplets or graded relevance; set alike=pairs (of a graph too), "
            "alike=triplets, alike=graded or alike=clusters, or name a method that does, such as cdml."
        )
    if s.sampler.planted != "none" and s.alike != "pairs":
        yield f"sampler.planted={s.sampler.planted} adds negatives to a batch of pairs: set alike=pairs, or none."
    if s.clusters.level >= s.clusters.levels:
        yield f"clusters.level={s.clusters.level} must be below clusters.levels={s.clusters.levels}; 0 is the finest."
    if s.listed and not s.items_are_keys:
        method = ", as method ranking does" * (s.alike == "graded")
        yield f"alike={s.alike} compares the items of a batch: set dictionary=batch and batch.keys=same{method}."
    if s.by_label and s.source_of_keys == "bank":
        yield (
            f"a memory bank has a row for each item, not for each label: with alike={s.alike} use batch, queue or "
            "proxies, or name a method, such as ms or normface."
        )
    if s.alike == "instance" and s.items_are_keys:
        yield "batch.keys=same leaves an item without a positive view: use both or second, or alike=label."
    if s.sampler.kind != "instance" and s.alike == "instance":
        yield f"sampler.kind={s.sampler.kind} composes batches by class: set alike=label."
    by_class = s.sampler.kind == "classes" and not s.listed
    if by_class and (s.batch_size % s.sampler.per_class or s.batch_size < 2 * s.sampler.per_class):
        yield (
            f"batch_size={s.batch_size} must be sampler.per_class={s.sampler.per_class} times a number of classes, at "
            "least two."
        )


def _refused_mining(s: FitSettings) -> Iterator[str]:
    """Checks the policies of negatives against the objective."""
    kind, neg = s.objective.kind, s.negatives
    beyond = [name for name in neg.policies if name in ("hardest-beyond", "inside-margin")]
    hinge = kind == "triplet" and not s.objective.parameters.get("soft")
    if hinge and (margin := s.objective.number("margin", 1)) <= 0 and beyond:
        yield (
            f"objective.margin={margin:g} gives negatives.policies={beyond[0]} no loss: such a negative is further "
            "than the positive already; set a margin, as CDML's 0.2."
        )
    row = None if kind == AUTO else objective(kind)
    if neg.by == "active" and (row is None or not row.can_be_zero(s.objective.parameters)):
        able = ", ".join(_when_zero(each) for each in OBJECTIVES if each.zero_if is not None)
        yield f"negatives.by=active needs a loss that can be 0: {able}; objective {kind} is not one."
    if neg.by == "active" and not all(0 < share < 1 for share in neg.at):
        yield f"negatives.at={neg.at} must be shares of active triplets, above 0 and below 1."
    if neg.by != "active" and list(neg.at) != sorted(neg.at):
        yield f"negatives.at={neg.at} must not decrease: the policies come one after the other."
    if neg.number("least", 0.5) >= neg.number("most", 1.4):
        yield f"negatives.least={neg.number('least', 0.5):g} must be below negatives.most={neg.number('most', 1.4):g}."
    keys = {"batch": 2 * s.batch_size, "queue": s.queue.size + 2 * s.batch_size}.get(s.source_of_keys)
    if keys is not None and neg.number("count", 1) > keys:
        yield f"negatives.count={neg.number('count', 1):g} must be at most {keys:,}, the keys that a query meets."
    if neg.mines and (row is None or not row.mines):
        yield (
            f"{neg.title()} needs an objective over an anchor's row of pairs, such as triplet, margin or circle; "
            f"objective {kind} is not one."
        )


def _when_zero(row: Row) -> str:
    """The objective, and the values of parameters with which its loss can be 0: ``triplet (soft=false)``."""
    values = ", ".join(f"{name}={str(value).lower()}" for name, value in (row.zero_if or {}).items())
    return row.name + f" ({values})" * bool(values)
