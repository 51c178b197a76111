"""What a measure of ranked lists leaves open, by name, and how other libraries choose it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from likewise.errors import LikewiseError, closest, finite

Gains = Literal["exponential", "linear"]
Ties = Literal["by order", "averaged", "last first"]
Empty = Literal["skip", 0, 1]
Denominator = Literal["relevant", "reachable", "hits"]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """What a measure of ranked lists leaves open.

    Args:
        gains: of relevance y: exponential 2^y − 1, or linear y. For y of 0 and 1 they are the same.
        ties: the place of items with equal scores. "by order": as they stand in the list. "last first": against it,
            as trec_eval does with rising document numbers. "averaged": each of them gets the mean gain of all
            (McSherry and Najork 2008), for DCG and NDCG only; the other measures take ties by order.
        empty: the value of a query without a relevant item: 0, 1, or "skip", which leaves it out of the mean.
        denominator: of AP@k: "relevant" R, "reachable" min(R, k), or "hits", the relevant items in the first k.
        relevant: an item with at least this relevance is relevant, for the measures that know no grades. None: any
            above 0.
        negative: whether relevance below 0 counts as 0, as in trec_eval, instead of being refused.
    """

    gains: Gains = "exponential"
    ties: Ties = "by order"
    empty: Empty = "skip"
    denominator: Denominator = "relevant"
    relevant: float | None = None
    negative: bool = False

    def __post_init__(self) -> None:
        """Raises LikewiseError on values that are not allowed."""
        allowed: dict[str, tuple[object, ...]] = {
            "gains": ("exponential", "linear"),
            "ties": ("by order", "averaged", "last first"),
            "empty": ("skip", 0, 1),
            "denominator": ("relevant", "reachable", "hits"),
        }
        for name, values in allowed.items():
            if vars(self)[name] not in values:
                raise LikewiseError(f"{name}={vars(self)[name]!r} must be one of {', '.join(map(repr, values))}.")
        if self.relevant is not None and not finite("relevant", self.relevant) > 0:
            raise LikewiseError(f"relevant={self.relevant} must be above 0: relevance 0 means not relevant.")

    def words(self, measure: str) -> str:
        """What of the convention a measure follows, in words."""
        empty = f"empty queries {'skipped' if self.empty == 'skip' else self.empty}"
        if measure in ("ndcg", "dcg"):
            return f"{self.gains} gains, ties {self.ties}" + f", {empty}" * (measure == "ndcg")
        ties = f"ties {'by order' if self.ties == 'averaged' else self.ties}"
        relevant = "relevant above 0" if self.relevant is None else f"relevant from {self.relevant:g}"
        over = f"denominator {self.denominator}, " if measure == "map" else ""
        return f"{relevant}, {over}{ties}, {empty}"


# How libraries compute what they have of the measures. Each is held to the library itself in the tests.
CONVENTIONS: Mapping[str, Convention] = {
    "scikit-learn": Convention(gains="linear", ties="averaged", empty=0),
    "torchmetrics": Convention(gains="linear", ties="averaged", empty=0, denominator="hits"),
    "trec_eval": Convention(gains="linear", ties="last first", empty=0, negative=True),
    "allrank": Convention(gains="exponential", ties="by order", empty=1),
}


def chosen_convention(convention: str | None, parts: Mapping[str, object]) -> Convention:
    """The convention of this name, or the default with the parts that are given."""
    given = {name: value for name, value in parts.items() if value is not None}
    if convention is None:
        return replace(Convention(), **given)  # type: ignore[arg-type]
    if convention not in CONVENTIONS:
        known = ", ".join(CONVENTIONS)
        raise LikewiseError(f"there is no convention {convention!r}.{closest(convention, CONVENTIONS)} Known: {known}.")
    if given:
        raise LikewiseError(f"convention={convention!r} sets {next(iter(given))}; leave one of them out.")
    return CONVENTIONS[convention]
