"""A split, its validation split, and models that are measured on them.

Dimension legend: N items, F numbers of an item's content, D numbers of an embedding.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from likewise.console import Tick, say
from likewise.errors import LikewiseError
from likewise.graph.splits import Split, SplitRule
from likewise.recommendation.catalogue import Catalogue
from likewise.recommendation.content import Content, drawn, tuned
from likewise.recommendation.measure import MOST_ASKED, asked_users, recommended
from likewise.recommendation.related import Cosines, Popular, RelatedItems, Relater
from likewise.recommendation.rivals import Make, Rival, content_factors, of_content, of_interactions, with_rules
from likewise.recommendation.table import OURS, Row, Table

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
T = TypeVar("T")
NAMES = ("ndcg", "recall", "map")
NO_ROWS = "they know no item without interactions, and only such items are recommended here."


class Bench:
    """Measures models on a split of interactions. Settings are chosen on a split of the training rows by the same rule.

    Args:
        known: the items and interactions.
        rule: how these are divided.
        k: the places that count.
        begin: begins a stage of the work; see :func:`likewise.console.stages`.

    Raises:
        LikewiseError: the split is refused.
    """

    def __init__(self, known: Catalogue, rule: SplitRule, k: int, begin: Callable[[str], Tick]) -> None:
        self._known, self._rule, self._k, self._begin = known, rule, k, begin
        self._size = len(known.users), len(known)
        self._split = known.with_content(rule.divide(known.rows, len(known)))
        self._warm = np.zeros(len(known), dtype=bool)
        self._warm[self._split.train.item] = True
        self._warm &= known.known
        self._inner: Split | None = None
        try:
            inner = known.with_content(rule.within_training().divide(self._split.train, len(known)))
            self._asked = drawn(asked_users(inner, *self._size), MOST_ASKED)
            self._inner = inner
        except LikewiseError as error:
            say([f"warning: there is no validation split, so the first of all settings is taken: {error}"])

    @property
    def about(self) -> str:
        """What is held out."""
        return self._split.about

    @property
    def chosen_on(self) -> str:
        """What settings are chosen on."""
        within = "nothing" if self._inner is None else self._inner.about
        return f"a validation split of the training rows ({within})"

    def content(self, names: Sequence[str], forms: Mapping[str, Sequence[Floats]]) -> Content:
        """The content whose blocks have the weights that find related items best, among those of training."""
        return tuned(forms, names, self._related_in_training(self._warm), tick=self._begin("weighing the content"))

    def _related_in_training(self, asked: Bools) -> RelatedItems | None:
        """Related items by training rows alone; None where no item has users enough."""
        try:
            return RelatedItems(self._split.train, *self._size, asked=asked, candidates=self._warm)
        except LikewiseError:
            return None

    def related(self, embedding: Floats, content: Content) -> Table:
        """The table of related items: those of cold items, among all with content.

        Raises LikewiseError where no item that is held out has users enough.
        """
        task = RelatedItems(self._known.rows, *self._size, asked=self._split.candidates, candidates=self._known.known)
        models: list[tuple[str, str, Relater]] = [
            (OURS, "", Cosines(embedding)),
            ("content, cosine", content.words, Cosines(content.rows)),
            ("popularity", "", Popular(self._split.train, *self._size)),
        ]
        left_out = []
        try:
            words, factors = self._factors(content.rows)
            models.append(("content → factors", words, Cosines(factors)))
        except LikewiseError as error:
            left_out.append(f"content → factors: {error}")
        rows = []
        for name, chosen, model in models:
            tick = self._begin(f"related items: {name}")
            rows.append(Row(name=name, chosen=chosen, measures=task.measure(model, k=self._k, tick=tick), catalogue={}))
        return Table(
            task="related items",
            about=f"{self.about}; {task.about}",
            asked=tuple(self._known.ids[number] for number in task.queries.tolist()),
            rows=tuple(rows),
            left_out=tuple(left_out),
            chosen_on=self.chosen_on,
        )

    def _factors(self, content: Floats) -> tuple[str, Floats]:
        """Factors that content predicts, with the settings that find related items best among those of training."""
        task = None if self._inner is None else self._related_in_training(self._inner.candidates)

        def value(words: str, factors: Floats) -> float:
            if task is None:
                return 0.0
            tick, only = self._begin(f"choosing factors: {words}"), drawn(task.queries, MOST_ASKED)
            return float(task.measure(Cosines(factors), only=only, tick=tick)["ndcg@10"])

        inner = self._split if self._inner is None else self._inner
        chosen = _best(content_factors(self._known, content, inner.train), value)
        return _named(content_factors(self._known, content, self._split.train), chosen)

    def histories(self, embedding: Floats, content: Content, rules: Sequence[str]) -> Table:
        """The table of recommendation from a history.

        Args:
            embedding: (N, D) of the run; zeros for an item without content.
            content: of all items.
            rules: those from which the run's is chosen.

        Raises LikewiseError where nobody can be asked.
        """
        rivals = [Rival(OURS, with_rules(self._known, embedding, rules)), *of_content(self._known, content.rows)]
        others = of_interactions(self._known)
        cold = self._rule.name == "cold-items"
        left_out = [f"{', '.join(rival.name for rival in others)}: {NO_ROWS}"] if cold else []
        rows = []
        for rival in [*rivals, *([] if cold else others)]:
            try:
                rows.append(self.measured(rival))
            except LikewiseError as error:
                if rival.name == OURS:
                    raise
                left_out.append(f"{rival.name}: {error}")
        users, places = asked_users(self._split, *self._size), int(self._split.candidates.sum())
        return Table(
            task="from a history",
            about=f"{self.about}; {len(users):,} users, each among {places:,} items without those of the history",
            asked=tuple(self._known.users[number] for number in users.tolist()),
            rows=tuple(rows),
            left_out=tuple(left_out),
            chosen_on=self.chosen_on,
        )

    def measured(self, rival: Rival) -> Row:
        """A model with the settings that recommend best on the validation split."""

        def value(words: str, make: Make) -> float:
            if self._inner is None:
                return 0.0
            tick = self._begin(f"choosing {rival.name}: {words}")
            found = recommended(self._inner, make(), *self._size, only=self._asked, names=("ndcg",), tick=tick)
            return float(found.measures["ndcg@10"])

        inner = self._split if self._inner is None else self._inner
        chosen = _best((rival.trial or rival.family)(inner), value)
        tick = self._begin(rival.name)
        _, make = _named(rival.family(self._split), chosen)
        found = recommended(self._split, make(), *self._size, k=self._k, names=NAMES, tick=tick)
        return Row(
            name=rival.name,
            chosen=chosen,
            measures=found.measures,
            catalogue={"coverage": found.coverage, "popularity": found.popularity},
        )


def _best(options: Iterable[tuple[str, T]], value: Callable[[str, T], float]) -> str:
    """The words of the option of the highest value; of equal ones the first. One option alone is not measured."""
    several = list(options)
    if len(several) == 1:
        return several[0][0]
    values = [value(words, option) for words, option in several]
    return several[int(np.argmax(values))][0]


def _named(options: Iterable[tuple[str, T]], words: str) -> tuple[str, T]:
    return next(option for option in options if option[0] == words)
