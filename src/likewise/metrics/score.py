"""A measured number with its protocol."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from likewise.errors import LikewiseError


@dataclass(frozen=True, kw_only=True)
class Score:
    """One measured number with its protocol, which says how it was measured.

    Args:
        name: what was measured, such as ``knn`` or ``svm/1-per-class``.
        value: the number; accuracies are shares in [0, 1]. NaN if the measurement failed.
        std: standard deviation over seeds (n − 1 in the denominator); None if measured once.
        protocol: what is needed to measure it again: layer, k, temperature, data, ids_hash, epoch, seeds ...

    Raises:
        LikewiseError: an empty protocol, or a protocol value that is not text, an integer or a float.
    """

    name: str
    value: float
    std: float | None = None
    protocol: dict[str, str | int | float]

    def __post_init__(self) -> None:
        """Refuse a number without a protocol."""
        if not self.protocol:
            raise LikewiseError(f"score {self.name!r} has an empty protocol; say how it was measured.")
        for key, value in self.protocol.items():
            if not isinstance(value, str | int | float):
                raise LikewiseError(
                    f"protocol entry {key!r} of score {self.name!r} is a {type(value).__name__}; "
                    "write it as text, an integer or a float."
                )

    def stamped(self, protocol: Mapping[str, str | int | float]) -> "Score":
        """The same score with more protocol entries. Raises LikewiseError if one contradicts an entry of the score."""
        for key, value in protocol.items():
            if self.protocol.get(key, value) != value:
                raise LikewiseError(
                    f"score {self.name!r} was measured with {key} = {self.protocol[key]!r}, not {value!r}."
                )
        return replace(self, protocol={**self.protocol, **protocol})

    def as_dict(self) -> dict[str, object]:
        """Plain values for a larger JSON document; a number that is not finite becomes None."""
        return {
            "name": self.name,
            "value": self.value if math.isfinite(self.value) else None,
            "std": self.std if self.std is not None and math.isfinite(self.std) else None,
            "protocol": dict(self.protocol),
        }

    def to_json(self) -> str:
        """One line of standard JSON."""
        return json.dumps(self.as_dict(), ensure_ascii=False)
