"""Settings that a user gives and a run does not use, since its method, objective or items are others."""

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from likewise.config.overrides import about, flatten
from likewise.config.settings import FitSettings
from likewise.config.word_settings import WORD_GROUPS

IMAGES, VECTORS = "images", "vectors"


class Use(NamedTuple):
    """Where settings are used.

    Args:
        names: of settings, or of groups of them.
        needs: what uses them, in words.
        where: whether a run with these settings does.
    """

    names: tuple[str, ...]
    needs: str
    where: Callable[[FitSettings], bool]


USES = (
    Use(("bank",), "dictionary=bank", lambda s: s.dictionary == "bank" or s.bank.sharded),
    Use(("queue", "key_encoder"), "dictionary=queue", lambda s: s.dictionary == "queue"),
    Use(("batch",), "dictionary=batch", lambda s: s.dictionary == "batch"),
    Use(
        ("clusters",),
        "sampler.planted=siblings or alike=clusters",
        lambda s: s.alike == "clusters" or s.sampler.planted == "siblings",
    ),
    Use(WORD_GROUPS, "method skipgram or cbow", lambda s: s.of_words),
    Use(("sampler.kind",), "labels or clusters", lambda s: not s.listed),
    Use(("sampler.per_class",), "sampler.kind=classes", lambda s: s.sampler.kind == "classes" and not s.listed),
    Use(("sampler.per_pair",), "sampler.planted", lambda s: s.sampler.planted != "none"),
    Use(("negatives",), "other data than triplets, which name their negatives", lambda s: s.alike != "triplets"),
    Use(("negatives.by",), "several policies", lambda s: len(s.negatives.policies) > 1),
    Use(("negatives.pairs",), "a policy other than all", lambda s: s.negatives.mines),
    Use(("optim.milestones",), "optim.schedule=steps", lambda s: s.optim.schedule == "steps"),
    Use(("encoder.stem",), "a resnet", lambda s: s.encoder.name.startswith("resnet")),
    Use(("encoder.hidden",), "encoder mlp or towers", lambda s: s.encoder.name in ("mlp", "towers")),
    Use(("encoder.head_hidden",), "encoder.head=mlp or mlp-bn", lambda s: s.encoder.head in ("mlp", "mlp-bn")),
    Use(
        ("encoder.allow",),
        "encoder.weights or hf:",
        lambda s: s.encoder.weights is not None or s.encoder.name.startswith("hf:"),
    ),
    Use(("views.blur_sigma",), "views.blur", lambda s: s.views.blur > 0),
    Use(("knn_items", "keep_best"), "knn_epochs above 0", lambda s: s.knn_epochs > 0),
)
# Of items that are images, or vectors; items of several parts may have both.
OF_IMAGES = ("views", "size", "max_megapixels", "image")
OF_VECTORS = ("views.noise", "views.dropout", "columns", "words")


def unused(
    used: FitSettings, given: FitSettings, names: Collection[str], usual: FitSettings, kind: str | None
) -> Iterator[str]:
    """A warning for each reason why settings that the user gives are not used.

    Args:
        used: the settings of the run.
        given: the settings before what is open in them was filled in.
        names: the dotted names of what the user gives.
        usual: the defaults of the method; a setting that is given its default is not said.
        kind: of the items: images or vectors; None for items of several parts.
    """
    defaults = flatten(usual)
    asked = [name for name, value in flatten(given).items() if name in names and value != defaults.get(name)]
    for needs, lost in _unused(used, asked, kind):
        if lost:
            yield f"warning: {', '.join(lost)} {'is' if len(lost) == 1 else 'are'} not used here, but with {needs}."


def _unused(used: FitSettings, asked: list[str], kind: str | None) -> Iterator[tuple[str, list[str]]]:
    """What would use them, and the names of the settings that nothing uses."""
    for use in USES:
        if not use.where(used):
            yield use.needs, [name for name in asked if about(name, use.names)]
    if kind == IMAGES:
        yield "vectors", [name for name in asked if about(name, OF_VECTORS)]
    if kind == VECTORS:
        yield "images", [name for name in asked if about(name, OF_IMAGES) and not about(name, OF_VECTORS)]
