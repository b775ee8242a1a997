"""Saving that is not waited for: what cannot be saved now is tried again, and nothing is written over unseen."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from polydetr.errors import InputError, PolydetrError, SaveError, StoreError
from polydetr.serving.contract import ModelInfo, Row
from polydetr.serving.rows import Columns, item_of
from polydetr.studio.correction import Conflict, Correction
from polydetr.studio.correction_rows import packed, with_images
from polydetr.web.viewer import NotAllowed, SomeOne

State = Literal["waiting", "saved", "conflict", "refused"]
NOBODY = "local"
"""Who corrected, where nobody has to sign in."""
_FIRST_S, _LONGEST_S = 1.0, 8.0
_LARGEST_KEPT = 512 << 10
"""Bytes of a row that a browser keeps beside a correction: a message of a million characters does not come back."""


class NotByWhoMadeIt(PolydetrError):
    """Somebody else is signed in than who made a correction: it waits."""


class Store(Protocol):
    """``Corrections``, as far as it is needed here."""

    def save(
        self, *, id: str, info: ModelInfo, row: Any, target: str, value: Any, person: str,
        answer: Mapping[str, Any] | None = None, expected_revision: int = 0, new_label: bool = False,
    ) -> Any:  # fmt: skip
        ...

    def undo(self, id: str, person: str) -> Correction: ...

    def of_row(self, model: str, row_key: str) -> dict[str, Correction]: ...


@dataclass
class Saving:
    """One correction on its way. expected: the revision that was seen when it was made. person: who made it, the only
    one under whose name it is saved. theirs: what stands there instead, where somebody was quicker. error: why it
    waits, or was refused.
    """

    row: Row
    key: str
    target: str
    value: Any
    expected: int = 0
    answer: Mapping[str, Any] = field(default_factory=dict)
    new_label: bool = False
    person: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: State = "waiting"
    theirs: Correction | None = None
    error: PolydetrError | None = None
    saved: Correction | None = None
    messages: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a browser keeps it until it is saved; a large row is left to the source of the rows."""
        kept = packed(self.row)
        size = len(kept.text) + sum(map(len, kept.images.values()))
        row = (
            with_images(self.row, lambda c: {"base64": base64.b64encode(c).decode()}) if size <= _LARGEST_KEPT else None
        )
        return {
            "row": row, "key": self.key, "target": self.target, "value": self.value, "expected": self.expected,
            "answer": dict(self.answer), "new_label": self.new_label, "person": self.person,
        }  # fmt: skip

    @classmethod
    def from_json(cls, id: str, kept: Any, columns: Columns, row: Callable[[str], Row | None]) -> Saving | None:
        """row: by its key, where the browser kept none. None: it is none, or its row is not there any more."""
        if (
            not isinstance(kept, dict)
            or not isinstance(kept.get("key"), str)
            or not isinstance(kept.get("target"), str)
            or not isinstance(kept.get("person"), str)
        ):
            return None
        found = item_of(kept["row"], columns) if isinstance(kept.get("row"), dict) else row(kept["key"])
        if not isinstance(found, Mapping) or type(kept.get("expected")) is not int:
            return None
        answer = kept.get("answer") if isinstance(kept.get("answer"), dict) else {}
        return cls(
            found, kept["key"], kept["target"], kept.get("value"), kept["expected"], answer or {},
            new_label=kept.get("new_label") is True, person=kept["person"], id=id,
        )  # fmt: skip


class Saver:
    """Saves one after the other, in the order in which they were given."""

    def __init__(
        self,
        store: Store,
        info: Callable[[], ModelInfo],
        person: Callable[[], Awaitable[SomeOne]],
        told: Callable[[Saving], None],
    ) -> None:
        """info: the model now. person: who may save now; raises NotAllowed. told: called whenever one has changed."""
        self._store, self._info, self._person, self._told = store, info, person, told
        self.open: dict[str, Saving] = {}
        self._again = asyncio.Event()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._leaving = False

    @property
    def waiting(self) -> list[Saving]:
        return [one for one in self.open.values() if one.state == "waiting"]

    def add(self, *savings: Saving) -> None:
        """Takes them, and returns at once."""
        for one in savings:
            self.open[one.id] = one
        self.retry()

    def retry(self) -> None:
        """Tries at once what waits."""
        self._again.set()
        if self.waiting and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())

    def leave(self) -> None:
        """The page was closed: what was given is still saved, or tried once."""
        self._leaving, self._told = True, lambda _: None
        self._again.set()

    async def settled(self, id: str) -> Saving | None:
        """Takes one that is not saved yet out; waits while it is just being saved. None: it is not here any more."""
        async with self._lock:
            one = self.open.get(id)
            return self.open.pop(id) if one is not None else None

    async def undo(self, correction: Correction) -> Correction:
        """Raises what ``Corrections.undo`` raises, and NotAllowed."""
        person = await self._person()
        async with self._lock:
            return await asyncio.to_thread(self._store.undo, correction.id, person.name or NOBODY)

    async def over(self, one: Saving) -> None:
        """Saves it after what the other has said, which has been looked at."""
        assert one.theirs is not None
        one.expected, one.theirs, one.state, one.error = one.theirs.revision, None, "waiting", None
        one.id, before = str(uuid.uuid4()), one.id
        self.open.pop(before, None)
        self.add(one)

    async def anew(self, one: Saving) -> None:
        """Tries what was refused once more, after the revision that stands there now."""
        standing = await asyncio.to_thread(self._store.of_row, self._info().name, one.key)
        one.expected = standing[one.target].revision if one.target in standing else 0
        one.state, one.error = "waiting", None
        self.add(one)

    def forget(self, one: Saving) -> None:
        self.open.pop(one.id, None)

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        wait_s = _FIRST_S
        while waiting := self.waiting:
            self._again.clear()
            one = waiting[0]
            if await self._saved(one):
                wait_s = _FIRST_S
                continue
            if self._leaving:
                return
            try:
                await asyncio.wait_for(self._again.wait(), wait_s)
                wait_s = _FIRST_S
            except TimeoutError:
                wait_s = min(2 * wait_s, _LONGEST_S)

    async def _saved(self, one: Saving) -> bool:
        """Whether the next may be tried at once."""
        async with self._lock:
            if one.id not in self.open or one.state != "waiting":
                return True
            try:
                person = await self._person()
                if person.name != one.person:
                    raise NotByWhoMadeIt(
                        f"{one.person or NOBODY} made it, and {person.name or NOBODY} is signed in.",
                        hint="It is saved once who made it signs in again.",
                    )
                found = await asyncio.to_thread(
                    self._store.save, id=one.id, info=self._info(), row=one.row, target=one.target, value=one.value,
                    person=person.name or NOBODY, answer=one.answer, expected_revision=one.expected,
                    new_label=one.new_label,
                )  # fmt: skip
            except Conflict as error:
                one.state, one.theirs, one.error = "conflict", error.theirs, error
            except NotAllowed as error:
                one.error = error
                if not error.ended:
                    one.state = "refused"
            except InputError as error:
                one.state, one.error = "refused", error
            except (StoreError, SaveError, NotByWhoMadeIt) as error:
                one.error = error
            else:
                one.state, one.error, one.saved = "saved", None, found.correction
                one.messages = tuple(found.messages)
                del self.open[one.id]
                for other in self.open.values():  # of the same row: it was made after this one, by the same hand
                    if (other.key, other.target) == (
                        one.key,
                        one.target,
                    ) and other.expected < found.correction.revision:
                        other.expected = found.correction.revision
            waits = one.state == "waiting"
        self._told(one)
        return not waits
