"""The table of one task: a run and its rivals, which settings were chosen, and who is ahead."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from likewise.metrics.bootstrap import Interval
from likewise.metrics.ranking import Ranked

OURS = "this run"


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """How good one model is.

    Args:
        name: the model.
        chosen: its settings in words; empty if it has none.
        measures: of each query or user, by name; the first decides.
        catalogue: how much of the catalogue it recommends, and how popular that is.
    """

    name: str
    chosen: str
    measures: Mapping[str, Ranked]
    catalogue: Mapping[str, float]

    @property
    def first(self) -> Ranked:
        """The measure that decides."""
        return next(iter(self.measures.values()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A task.

    Args:
        task: its name.
        about: what was asked, and among what.
        asked: the ids of the queries or users, in the order of the measures.
        rows: the run first.
        left_out: rivals that can't be measured, each with the reason.
        chosen_on: what the settings were chosen on.
    """

    task: str
    about: str
    asked: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    chosen_on: str

    def minus(self, row: Row) -> Interval:
        """The run minus another row, paired."""
        return self.rows[0].first.minus(row.first)

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of text, in percent, the best first."""
        return laid_out(self.as_dict())

    def lines(self) -> Iterator[str]:
        """What stands under the table: who is ahead, what was chosen, and what was left out."""
        yield self.verdict()
        if chosen := "; ".join(f"{row.name}: {row.chosen}" for row in self.rows if row.chosen):
            yield f"Chosen on {self.chosen_on}: {chosen}."
        yield from (f"Left out: {each}" for each in self.left_out)

    def verdict(self) -> str:
        """One sentence on the run and the others."""
        gaps = {row.name: self.minus(row) for row in self.rows[1:]}
        ahead = [name for name, gap in gaps.items() if gap.high < 0]
        level = [name for name, gap in gaps.items() if gap.low <= 0 <= gap.high]
        if ahead:
            return f"A simple baseline wins: {_and(ahead)} {'is' if len(ahead) == 1 else 'are'} ahead of {OURS}."
        if level:
            return f"No winner: the difference of {OURS} to {_and(level)} may be 0."
        return f"{OURS.capitalize()} is ahead of every baseline."

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "task": self.task,
            "about": self.about,
            "chosen_on": self.chosen_on,
            "verdict": self.verdict(),
            "asked": list(self.asked),
            "rows": [
                {
                    "model": row.name,
                    "chosen": row.chosen,
                    "measures": {
                        name: {**found.interval()._asdict(), "convention": found.convention, "skipped": found.skipped}
                        for name, found in row.measures.items()
                    },
                    "catalogue": dict(row.catalogue),
                    "values": [None if value != value else round(value, 6) for value in row.first.values.tolist()],
                    "run_minus_it": None if row is self.rows[0] else self.minus(row)._asdict(),
                }
                for row in self.rows
            ],
            "left_out": list(self.left_out),
        }


def laid_out(table: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of text of what :meth:`Table.as_dict` gives, in percent, the best first."""
    first, *others = table["rows"][0]["measures"]

    def cells(row: Mapping[str, Any]) -> list[str]:
        measures, gap = row["measures"], row["run_minus_it"]
        more = (f"{100 * measures[name]['mean']:.1f}" for name in others)
        return [row["model"], _percent(measures[first]), *more, "" if gap is None else _percent(gap, sign="+")]

    ordered = sorted(table["rows"], key=lambda row: -row["measures"][first]["mean"])
    header = [f"{table['task']}, %", f"{_shown(first)} [95 %]", *map(_shown, others), "run minus it"]
    return header, list(map(cells, ordered))


def _shown(name: str) -> str:
    """``NDCG@10`` of ``ndcg@10``."""
    kind, at, k = name.partition("@")
    return ({"ndcg": "NDCG", "map": "MAP"}.get(kind, kind)) + at + k


def _percent(interval: Mapping[str, Any], sign: str = "") -> str:
    mean, low, high = (100 * interval[name] for name in ("mean", "low", "high"))
    return f"{mean:{sign}.1f} [{low:.1f} {high:.1f}]"


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
