"""Rows one at a time: the model's answer is confirmed or repaired, saved without waiting, and the next row shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from nicegui import Client, context, ui

from polydetr.errors import PolydetrError
from polydetr.serving.rows import Columns
from polydetr.studio.correct_address import Place, page_of
from polydetr.studio.correct_asking import answer, parts
from polydetr.studio.correct_case import named, saving_of, show_case
from polydetr.studio.correct_drafts import Drafts, draft_key, labels_key, saving_key
from polydetr.studio.correct_editors import Events, TargetEditor
from polydetr.studio.correct_forms import correctable
from polydetr.studio.correct_queue import Case, Queue
from polydetr.studio.correct_row_view import shown_images
from polydetr.studio.correct_saving import Saver, Saving
from polydetr.studio.correct_status import SavingView
from polydetr.studio.correct_tools import Tools
from polydetr.studio.correction import Conflict, Correction
from polydetr.studio.correction_values import TargetForm
from polydetr.studio.corrections import Corrections
from polydetr.studio.pages import View
from polydetr.web.components.drafts import Drafts as KeptInBrowser
from polydetr.web.markup import box
from polydetr.web.notices import empty, failure, loading, notice
from polydetr.web.viewer import NotAllowed

Work = Callable[[], Coroutine[Any, Any, None]]


class CorrectPage:
    """One browser's page over one queue of rows."""

    def __init__(self, view: View, place: Place, queue: Queue, forms: dict[str, TargetForm]) -> None:
        self.view, self.place, self.queue, self.forms = view, place, queue, forms
        self.viewer, self.words, self.studio = view.viewer, view.viewer.words, view.studio
        self.columns, self.model = Columns.of(view.info), view.info.name
        self.corrections = Corrections(view.studio.database)
        self.readonly = not self.viewer.may("editor")
        every, _ = correctable(view.info, [one["name"] for one in view.info.description["schema"]["targets"]])
        self.drafts = Drafts(every)
        self.editors: dict[str, TargetEditor] = {}
        self.active = next(iter(forms), "")
        self.past: list[tuple[Case, list[Saving]]] = []
        self.client: Client = context.client
        self.saver = Saver(self.corrections, lambda: self.view.info, lambda: self.viewer.require("editor"), self._told)
        self._tasks: set[asyncio.Task[None]] = set()
        self._missed: list[Work] = []
        self._turn, self._begun = 0, False

    # -- the page -----------------------------------------------------------------------------------------------------

    def build(self) -> None:
        words = self.words
        self.stored = KeptInBrowser(f"correct:{self.model}:{self.viewer.person.name}", self._restore)
        self.tools = Tools(words, self, several=len(self.forms) > 1, readonly=self.readonly)
        self.saving = SavingView(words, self.drafts.forms, self.saver, self._row_name, self._leave, self._over)
        self.area = box("div", "pd-correct", aria_live="off")
        with self.area:
            loading(words)
        self.client.on_connect(self._connected)
        self.client.on_delete(self._left)

    def _connected(self) -> None:
        self.saver.retry()  # after a break, or somebody has signed in again
        if not self._begun:
            self._begun = True
            self._run(self._ask)
        missed, self._missed = self._missed, []
        for work in missed:
            self._run(work)

    def _left(self) -> None:
        self._turn += 1
        self.saver.leave()
        for task in self._tasks:
            task.cancel()

    def _run(self, work: Work) -> None:
        """Beside everything else, until it ends or the browser leaves; what fails is said on the page, and what takes
        signing in first begins again then.
        """

        async def guarded() -> None:
            try:
                with self.client:
                    await self.viewer.require("viewer")  # the page may be open for longer than its session
                    await work()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if isinstance(error, NotAllowed) and error.ended:
                    self._missed.append(work)
                self.client.handle_exception(error)

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- asking -------------------------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        """Has the rows answered, a part at a time; the first is shown as soon as a part of them is."""
        for part in parts(self.queue.cases, self.place.at):
            await self.viewer.require("viewer")
            try:
                await answer(self.view, self.forms, part)
            except PolydetrError as error:
                if self.queue.current is None:
                    self._failed(error)
                else:
                    notice(f"{error.message} {error.hint or ''}".strip(), kind="bad")
                return
            if self.queue.current is None:
                await self._first()
            self._tell_progress()
        if self.queue.current is None:
            await self._first()

    async def _first(self) -> None:
        case = self.queue.go(self.place.at) if self.place.at else None
        if self.place.at and case is None:
            notice(self.words("correct.not_there"))
        await self._show(case or self.queue.next())

    def _failed(self, error: PolydetrError) -> None:
        self.area.clear()
        with self.area:
            failure(self.words, error, retry=lambda: self._run(self._ask))
        self._settled()

    # -- one row ------------------------------------------------------------------------------------------------------

    def _go(self, case: Case | None) -> None:
        self._close()
        self._run(lambda: self._show(case))

    def _close(self) -> None:
        """What is done from here on in the editors of the row that is left counts no more, for it nor for the next."""
        for editor in self.editors.values():
            editor.readonly = True
        self.editors = {}

    def _settled(self) -> None:
        """The browser has held the keys that were pressed meanwhile: they are for what is shown now."""
        ui.run_javascript("polydetr.settled()")

    async def _show(self, case: Case | None) -> None:
        """Shows a row: what was said of it before, and its editors."""
        self._close()
        self._turn += 1
        turn = self._turn
        if case is None:
            self._finished()
            return
        try:
            if case.reply is None:
                await answer(self.view, self.forms, (case,))
            case.saved |= await asyncio.to_thread(self.corrections.of_row, self.model, case.key)
        except PolydetrError as error:
            if case.reply is None:
                self._failed(error)
                return
            notice(f"{error.message} {error.hint or ''}".strip(), kind="bad")  # saving tells again, and waits
        images = await asyncio.to_thread(shown_images, case.row, self.columns)
        if turn == self._turn:
            self._build_row(case, images)

    def _build_row(self, case: Case, images: dict[str, list[Any]]) -> None:
        self.area.clear()
        self.area._props["data-turn"] = str(self._turn)
        with self.area:
            self.editors = show_case(
                self.words, case, self.forms, self.drafts, self._events, images=images, columns=self.columns,
                active=self.active, readonly=self.readonly,
            )  # fmt: skip
        self._tell_progress()
        self._tell_change()
        address = f"{self.studio.base}{page_of(self.model)}{self.place.query(at=case.key)}"
        ui.run_javascript(
            f"history.replaceState(history.state, '', {json.dumps(address)}); polydetr.settled({self._turn})"
        )

    def _events(self, target: str) -> Events:
        return Events(
            changed=self._tell_change,
            named=lambda name: self._run(lambda: self._new_label(target, str(name).strip())),
            entered=self.confirm,
        )

    def _finished(self) -> None:
        words = self.words
        self.area.clear()
        with self.area:
            done, all_rows = self.queue.done, len(self.queue.cases)
            if done < all_rows:
                empty(words("correct.passed", done=f"{done:,}", count=f"{all_rows:,}"),
                      begin=words("correct.left", count=f"{all_rows - done:,}"), on_begin=self._again)  # fmt: skip
            else:
                empty(words("correct.finished"))
        self._tell_progress()
        self._tell_change()
        self._settled()

    def _again(self) -> None:
        self.queue.again()
        self._go(self.queue.next())

    # -- what a person does -------------------------------------------------------------------------------------------

    def confirm(self) -> None:
        """Saves what the editors hold, and goes on."""
        case = self.queue.current
        if case is None or self.readonly or not self.editors:
            return
        savings: list[Saving] = []
        for target, editor in self.editors.items():
            try:
                found = saving_of(
                    case, self.forms[target], self.drafts.labels[target], editor.draft, self.viewer.person.name
                )
            except PolydetrError as error:
                editor.refuse(error)
                self._activate(target)
                self._settled()
                return
            if found is not None:
                savings.append(found)
        for one in savings:
            self.stored.put(saving_key(one), one.to_json())
        for target in self.editors:
            self.stored.put(draft_key(case, self.forms[target]), None)
        case.done = True
        self.past.append((case, savings))
        self.saver.add(*savings)
        self.tools.say(self.words("correct.saving" if savings else "correct.kept"))
        self._go(self.queue.next())

    def next(self) -> None:
        if self.queue.current is not None or self.editors:
            self._go(self.queue.next())
        else:
            self._settled()

    def previous(self) -> None:
        if not self.editors and self.queue.current is not None:  # behind the last row
            self._go(self.queue.current)
        elif self.queue.has_previous:
            self._go(self.queue.previous())
        else:
            self._settled()

    def undo(self) -> None:
        """Takes back the last change of this row; where there is none, what was saved last."""
        case = self.queue.current
        order = sorted(self.editors, key=lambda target: target != self.active)
        for target in order:
            editor = self.editors[target]
            if case is not None and editor.draft.undo():
                editor.show()
                self.stored.put(
                    draft_key(case, self.forms[target]), editor.draft.holds if editor.draft.changed else None
                )
                self._activate(target)
                self._tell_change()
                self._settled()
                return
        if self.past:
            last = self.past.pop()
            self._run(lambda: self._take_back(*last))
        else:
            notice(self.words("correct.nothing"))
            self._settled()

    async def _take_back(self, case: Case, savings: list[Saving]) -> None:
        for one in savings:
            if await self.saver.settled(one.id) is None and one.saved is not None:
                try:
                    case.saved[one.target] = await self.saver.undo(one.saved)
                except Conflict as error:
                    case.saved[one.target] = error.theirs
                    notice(self.words("correct.not_undone", person=error.theirs.person), kind="bad")
                except PolydetrError:
                    self.past.append((case, savings))
                    self._settled()
                    raise
            self.stored.put(saving_key(one), None)
        case.done = False
        self.saving.show()
        self.tools.say(self.words("correct.undone"))
        await self._show(self.queue.go(case.key))

    def cycle(self) -> None:
        """Keys are for the next target."""
        names = list(self.editors)
        if names:
            self._activate(names[(names.index(self.active) + 1) % len(names)] if self.active in names else names[0])

    def _activate(self, target: str) -> None:
        self.active = target
        for name, editor in self.editors.items():
            editor.key(name == target)
        self.editors[target].reveal()

    async def _new_label(self, target: str, name: str) -> None:
        """A label that the model does not know is taken only where it is meant."""
        editor = self.editors.get(target)
        if editor is not None and name and not self.readonly and await named(self.words, editor, name):
            self.stored.put(labels_key(self.forms[target]), self.drafts.labels[target].new)

    # -- what is told -------------------------------------------------------------------------------------------------

    async def _restore(self, kept: Any) -> None:
        """What was not saved when the page was left or loaded again."""
        for one in self.drafts.restore(kept, self.queue, self.columns):
            if (case := self._case(one.key)) is not None and one.target in self.forms:
                case.done = True
            self.saver.add(one)
        if self.queue.current is not None and self.editors:
            await self._show(self.queue.current)

    def _case(self, key: str) -> Case | None:
        return next((case for case in self.queue.cases if case.key == key), None)

    def _told(self, one: Saving) -> None:
        """One correction was saved, or was not."""
        if self.client.is_deleted:
            return
        with self.client:
            case = self._case(one.key)
            if one.state == "saved":
                self._was_saved(one, case)
            elif one.theirs is not None and case is not None:
                self._stands(case, one.theirs)
            if one.state != "saved":
                self.tools.say("")
            self.saving.show(self.viewer.base)
            self._tell_progress()

    def _was_saved(self, one: Saving, case: Case | None) -> None:
        self.stored.put(saving_key(one), None)
        assert one.saved is not None
        if case is not None:
            self._stands(case, one.saved)
        if not any(other.key == one.key for other in self.saver.open.values()):  # of several targets, all of them
            self.tools.say(self.words("correct.saved", row=self._row_name(one.key)))
        for message in one.messages:
            notice(message)

    def _stands(self, case: Case, correction: Correction) -> None:
        case.saved[correction.target] = correction
        if case is self.queue.current and correction.target in self.editors:
            self.editors[correction.target].tell_who()

    def _leave(self, one: Saving) -> None:
        """What the other has said stays: of this row the page holds that now."""
        self.stored.put(saving_key(one), None)
        self.drafts.forget(one.key, one.target)
        case = self._case(one.key)
        if case is not None and case is self.queue.current:
            self._go(case)

    async def _over(self, one: Saving) -> None:
        """It is saved as another one, by which it is kept until then."""
        before = saving_key(one)
        await self.saver.over(one)
        self.stored.put(saving_key(one), one.to_json())
        self.stored.put(before, None)

    def _row_name(self, key: str) -> str:
        case = self._case(key)
        return self.words("correct.row", number=f"{case.number:,}") if case is not None else self.words("correct.a_row")

    def _tell_progress(self) -> None:
        self.tools.tell_progress(self.queue)

    def _tell_change(self) -> None:
        changed = any(editor.draft.changed for editor in self.editors.values())
        self.tools.tell_change(changed=changed, any_row=bool(self.editors))
