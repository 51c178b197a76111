"""What a method is: four choices around one training step, its paper, and its defaults."""

from dataclasses import dataclass

from likewise.config.settings import FitSettings


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method by name.

    Args:
        name: the value of ``--method``. Case, - and _ do not matter in input.
        aliases: other names that are accepted: those of the objective, where the method is the only one of it.
        paper: the paper that describes it.
        alike: which pairs are positives.
        dictionary: the source of the keys.
        negatives: which keys are negatives.
        objective: how similarities become a loss, with equation numbers.
        departures: where the defaults differ from the paper or its code, and why.
        settings: the defaults.
    """

    name: str
    aliases: tuple[str, ...] = ()
    paper: str
    alike: str
    dictionary: str
    negatives: str
    objective: str
    departures: tuple[str, ...]
    settings: FitSettings
