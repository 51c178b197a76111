"""Settings that suit the items and a budget of minutes, with the reason for each. No label is read."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from likewise.config.checks import check
from likewise.config.overrides import about, flatten, settings_from
from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.encoders.embedder import COARSE
from likewise.methods import over_method
from likewise.training.traits import Traits, traits_of

STRUCTURE = ("method", "objective", "dictionary", "bank", "queue", "batch", "negatives", "symmetric", "micro_batches")
TEMPERATURE = "objective.temperature"
VECTORS, PARTS = "mlp", "towers"  # the encoders of vectors, and of items of several parts
NO_IMAGES = (VECTORS, PARTS)
FUSED, WHY_PARTS = 256, "the items have several parts"  # width of the layer that joins them, as in CDML
SECONDS_EACH = 0.3  # of the budget for a coloured drawing, beyond which it is seen so often that views must differ more
SIZES = (48, 64)  # pixels of drawings, where there is time for them
BATCHES = (128, 64)  # where few steps fit
LEAST_SIZE = 32  # pixels of which half are still a picture
MOST_SIZE = 48  # pixels beyond which a fine grid is too slow, even at half the side


class Choice(NamedTuple):
    """A setting of the recipe."""

    name: str  # dotted
    value: Any
    why: str


class Recipe(NamedTuple):
    """Settings with the choices in them, what to say about them, and what timed steps may choose instead."""

    settings: FitSettings
    notes: list[str]
    sizes: tuple[int, ...] = ()  # larger ones of the pictures, rising
    batches: tuple[int, ...] = ()  # smaller ones, falling
    tries: bool = False  # whether short trainings with other views may be compared


def for_vectors(settings: FitSettings, items: Items, asked: Collection[str], *, own: bool = False) -> Recipe:
    """``settings`` with an encoder that suits the kind of the items, where the user has not ``asked`` for another."""
    chosen = _suiting(settings, items)
    if not chosen or own or about("encoder.name", asked):
        return Recipe(settings, [])
    chosen = [choice for choice in chosen if not about(choice.name, asked)]
    names = ", ".join(f"{choice.name}={choice.value}" for choice in chosen)
    whole = settings_from({choice.name: choice.value for choice in chosen}, settings)
    return Recipe(whole, [f"{names}: {chosen[0].why}."])


def _suiting(settings: FitSettings, items: Items) -> list[Choice]:
    """The encoder that suits the kind of the items; nothing where that of the settings does."""
    name = settings.encoder.name
    if items.kind != "images":
        suits = name in (NO_IMAGES if items.blocks else (VECTORS,))
        return [] if suits else list(_of_vectors(items))
    of_vectors = name in NO_IMAGES  # the default of a method that is for vectors
    return [Choice("encoder.name", FitSettings().encoder.name, "the items are images")] if of_vectors else []


def encoder_of(items: Items) -> str:
    """The name of the encoder that suits the items where none is named."""
    return next((str(choice.value) for choice in _of_vectors(items)), FitSettings().encoder.name)


def _of_vectors(items: Items) -> Iterator[Choice]:
    """The encoder of vectors, and of items of several parts; nothing for images."""
    if items.blocks:
        yield Choice("encoder.name", PARTS, WHY_PARTS)
        yield Choice("encoder.head", "mlp", WHY_PARTS)
        yield Choice("encoder.head_hidden", FUSED, WHY_PARTS)
    elif items.kind == "vectors":
        yield Choice("encoder.name", VECTORS, "the items are vectors")


def wants_recipe(settings: FitSettings) -> bool:
    """Whether the items choose settings: with ``recipe=data``, and with ``minutes`` where the recipe is auto."""
    return settings.recipe == "data" or (settings.recipe == "auto" and settings.minutes is not None)


def with_recipe(
    settings: FitSettings, items: Items, asked: Collection[str], *, own: bool = False, side: int = 0
) -> Recipe:
    """``settings`` with those of the recipe, except what the user has ``asked`` for.

    Images: views from their traits. Where nothing is asked about the method, and each item is alike to its views alone:
    two views of each item against the rest of the batch, with a temperature and a learning rate for a short training.
    An encoder and the size of its views are not chosen where the backbone is the user's ``own``. The pictures had
    ``side`` pixels before they were decoded to one size; 0 where it is not known.
    """
    structure = any(name.partition(".")[0] in STRUCTURE and name != TEMPERATURE for name in asked)
    free = settings.alike == "instance" and not structure
    asked = {*asked, "encoder.name", "views.small_until"} if own else asked
    found, traits = list[Choice](_of_time(asked)) if free else [], None
    if items.kind == "images":
        traits = traits_of(items)
        found += _of_pictures(traits, len(items), settings, asked, free=free, side=side)
    if not any(choice.name == "encoder.name" for choice in found):
        found += _suiting(settings, items)
    choices = [choice for choice in found if not about(choice.name, asked)]
    kept = {name: value for name, value in flatten(settings).items() if about(name, asked)}
    kept |= {"method": settings.method} if not free else {}
    chosen = over_method({choice.name: choice.value for choice in choices}, kept)
    reasons: dict[str, list[str]] = {}
    for choice in choices:
        reasons.setdefault(choice.why, []).append(f"{choice.name}={_text(choice.value)}")
    notes = [] if traits is None else [f"the items are {traits.line()}."]
    notes += [f"recipe: {', '.join(names)}: {why}." for why, names in reasons.items()]
    sizes = tuple(size for size in SIZES if settings.size < size <= side)
    if not (free and traits is not None and traits.drawn) or about("size", asked) or about("encoder.name", asked):
        sizes = ()
    elif side and not sizes:
        notes.append(f"size={settings.size}: the pictures have {side} px themselves.")
    small = free and settings.encoder.bn_groups == 1  # so that batches may become smaller
    batches = BATCHES if small and not about("batch_size", asked) else ()
    return Recipe(check(chosen), notes, sizes, batches, tries=small)


def _text(value: Any) -> str:
    """A value as --help writes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _of_time(asked: Collection[str]) -> Iterator[Choice]:
    """The method and its rates, for minutes instead of hundreds of epochs."""
    yield Choice("method", "simclr", "two views of each item against the batch learn the most in few epochs")
    short = "for a short training"
    yield Choice("batch_size", 256, "many steps, and enough negatives in each")
    if about("optim.name", asked):
        yield Choice("optim.lr", 0.12, f"{short}, batches of 256")
        yield Choice("optim.weight_decay", 5e-4, short)
    else:
        few = "all directions of a layer learn alike, which takes fewer steps"
        yield Choice("optim.name", "muon", few)
        yield Choice("optim.lr", 0.04, few)
        yield Choice("optim.momentum", 0.95, few)
        yield Choice("optim.weight_decay", 0.0, short)
    yield Choice("optim.warmup", 0.0, short)
    yield Choice(
        "encoder.centre", True, "the first embeddings lie in a narrow cone, which a short training hardly leaves"
    )


def _of_pictures(
    traits: Traits, count: int, settings: FitSettings, asked: Collection[str], *, free: bool, side: int
) -> Iterator[Choice]:
    """How a picture may change and still be alike to itself, and how near alike pictures are; ``count`` of them."""
    sides = "at home among the items" if traits.two_sided else "another thing"
    yield Choice("views.flip", 0.5 if traits.two_sided else 0.0, f"a mirror image is {sides}")
    if traits.drawn:
        long = not traits.grey and 60 * (settings.minutes or 0) > SECONDS_EACH * count
        least = 0.6 if traits.grey else 0.5 if long else 0.8
        part = "so many views of each must differ more" if long else "a part of a drawing is often another drawing"
        yield Choice("views.crop_scale", (least, 1.0), part)
        yield Choice("views.crop_ratio", (0.9, 1.1), "the shape of a drawing tells it apart")
        yield Choice("views.rotation", 10.0, "drawings are not always upright")
        bend = 0.1 if traits.grey else 0.08 if long else 0.03
        yield Choice("views.deform", bend, part if long else "another hand bends a drawing a little")
    else:
        yield Choice("views.crop_scale", (0.2, 1.0), "a part of a photo shows the same thing")
        if LEAST_SIZE <= settings.size <= MOST_SIZE and not about("encoder.name", asked):
            fine = "a fine grid on half the pixels learns the most in equal time"
            yield Choice("encoder.name", "resnet-fine", fine)
            yield Choice("views.small_until", 1.0, fine)
        elif settings.encoder.name.startswith("resnet") and settings.size >= LEAST_SIZE:
            yield Choice("views.small_until", 0.7, "most is learned from half the pixels, in a third of the time")
    if free and traits.drawn:
        share = 0.2 if traits.grey else 0.6
        yield Choice("encoder.pixels", share, "what lies where tells drawings apart, and needs no training")
        if not traits.grey:
            tiny = 0 < side <= COARSE  # every pixel of them was set by hand
            why = "each pixel of such small pictures counts" if tiny else "colours take more numbers than lines alone"
            yield Choice("encoder.dim", 3 * COARSE * COARSE if tiny else 256, why)
        yield Choice("encoder.head", "linear", "one layer keeps more of what tells drawings apart")
    elif free:
        yield Choice("encoder.pixels", 0.2, "coarse colours say something of a photo too, and need no training")
    if traits.grey:
        for name in ("saturation", "hue", "grayscale"):
            yield Choice(f"views.{name}", 0.0, "the items have no colours")
    elif traits.drawn:
        for name, value in (("brightness", 0.2), ("contrast", 0.2), ("saturation", 0.2), ("hue", 0.02)):
            yield Choice(f"views.{name}", value, "colours tell drawings apart")
        yield Choice("views.grayscale", 0.0, "colours tell drawings apart")
    if free:
        why = "one drawing differs from another by little" if traits.drawn else "0.5 is for hundreds of epochs"
        yield Choice(TEMPERATURE, 0.1, why)
