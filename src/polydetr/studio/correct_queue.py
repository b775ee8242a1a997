"""The rows that somebody works through, the one that the model doubts most next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from polydetr.errors import RowError
from polydetr.serving.contract import ModelInfo, Reply, Row
from polydetr.serving.rows import Columns, Item
from polydetr.studio.correct_forms import confidence_of
from polydetr.studio.correction import Correction
from polydetr.studio.correction_rows import inputs_of, packed


@dataclass
class Case:
    """A row. number: its place in its file, from 1. key: what names its content. reply: the model's answer, None while
    it was not asked. info: the model as it answered. saved: target → the newest revision that this page has seen.
    """

    number: int
    row: Row
    key: str
    reply: Reply | None = None
    info: ModelInfo | None = None
    saved: dict[str, Correction] = field(default_factory=dict)
    done: bool = False

    def revision(self, target: str) -> int:
        """Of a target, as it was seen here."""
        return self.saved[target].revision if target in self.saved else 0


@dataclass
class Queue:
    """cases: in the order of their file, each content once. rejected: rows that cannot be asked. targets: by whose
    confidence the order goes; empty: of none. by_doubt: whether those are next that the model doubts most.
    """

    cases: list[Case]
    targets: Sequence[str] = ()
    rejected: list[RowError] = field(default_factory=list)
    repeated: int = 0
    by_doubt: bool = True
    _visited: list[int] = field(default_factory=list)
    _at: int = -1

    @classmethod
    def of(
        cls, items: Iterable[Item], columns: Columns, targets: Sequence[str] = (), *, by_doubt: bool = True
    ) -> Queue:
        """Each row once, however often it is there. Blocks: images are hashed."""
        cases: dict[str, Case] = {}
        queue = cls([], targets, by_doubt=by_doubt)
        for number, item in enumerate(items, 1):
            if isinstance(item, RowError):
                queue.rejected.append(item)
                continue
            try:
                row = inputs_of(item, columns)
            except RowError as error:
                queue.rejected.append(error)
                continue
            key = packed(row).key
            if key in cases:
                queue.repeated += 1
            cases.setdefault(key, Case(number, row, key))
        queue.cases = list(cases.values())
        return queue

    @property
    def current(self) -> Case | None:
        return self.cases[self._visited[self._at]] if self._at >= 0 else None

    @property
    def done(self) -> int:
        return sum(case.done for case in self.cases)

    @property
    def has_previous(self) -> bool:
        return self._at > 0

    def doubt(self, case: Case) -> tuple[int, float, int]:
        """Smaller is next: not done before done, answered before unanswered, the least certain first, in the order of
        the file.
        """
        known = [confidence_of(case.reply, target) for target in self.targets] if self.by_doubt else []
        least = min((one for one in known if one is not None), default=1.0)
        failed = case.reply is None or "error" in case.reply
        return (2 if case.done else 1 if failed else 0, least, case.number)

    def next(self) -> Case | None:
        """Goes on; None where every row was looked at."""
        if self._at + 1 < len(self._visited):
            self._at += 1
            return self.current
        visited = set(self._visited)
        left = [i for i in range(len(self.cases)) if i not in visited]
        if not left:
            return None
        self._visited.append(min(left, key=lambda i: self.doubt(self.cases[i])))
        self._at = len(self._visited) - 1
        return self.current

    def previous(self) -> Case | None:
        """Goes back; None where this was the first."""
        if self._at <= 0:
            return None
        self._at -= 1
        return self.current

    def go(self, key: str) -> Case | None:
        """To a row of this content; None where there is none."""
        place = next((i for i, case in enumerate(self.cases) if case.key == key), None)
        if place is None:
            return None
        if place in self._visited:
            self._at = self._visited.index(place)
        else:
            self._at += 1
            self._visited.insert(self._at, place)
        return self.current

    def again(self) -> None:
        """From the first one that is not done."""
        self._visited, self._at = [], -1
