"""What a method is: four choices around one training step, its paper, and its defaults."""

from dataclasses import dataclass

from likewise.config.settings import FitSettings


@dataclass(frozen=True, kw_only=True)
class Method:
    """A named row.

    Args:
        name: as given to ``--method``.
        paper: where it comes from.
        alike: which pairs are positives.
        dictionary: where the keys come from.
        negatives: which keys push.
        objective: how similarities become a loss, with equation numbers.
        departures: where the defaults differ from the paper or its code, and why.
        settings: the defaults.
    """

    name: str
    paper: str
    alike: str
    dictionary: str
    negatives: str
    objective: str
    departures: tuple[str, ...]
    settings: FitSettings
