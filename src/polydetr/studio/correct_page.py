"""Rows one at a time: the model's answer is confirmed or repaired, saved without waiting, and the next row shown."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from nicegui import Client, context, ui

from polydetr.errors import InputError, PolydetrError
from polydetr.serving.asking import replies_patiently
from polydetr.serving.contract import Ask, Row
from polydetr.serving.rows import Columns
from polydetr.studio.correct_address import Place, page_of
from polydetr.studio.correct_editors import Draft, Events, TargetEditor
from polydetr.studio.correct_forms import Labels, answer_of, first_value, held, is_held, value_of
from polydetr.studio.correct_queue import Case, Queue
from polydetr.studio.correct_row_view import show_row, shown_images
from polydetr.studio.correct_saving import Saver, Saving
from polydetr.studio.correct_status import SavingView
from polydetr.studio.correction import Conflict, Correction
from polydetr.studio.correction_values import OF_TEXT, TargetForm, check
from polydetr.studio.corrections import Corrections
from polydetr.studio.pages import View
from polydetr.web.components.box_editor import ShownImage
from polydetr.web.components.drafts import Drafts
from polydetr.web.markup import Native, box, button, enabled, text
from polydetr.web.notices import confirmed, empty, failure, loading, notice

_LOGGER = logging.getLogger("polydetr.studio")
_ASKED = 64
"""Rows that are asked at once; of these the first is chosen."""
_FEW_LABELS = 200
"""Up to so many, the probability of each is asked, to offer the most probable first."""
_PATIENCE_S = 600.0
KEYS = (
    ("Enter", "correct.key.confirm"), ("1 … 9, a …", "correct.key.label"), ("n / p", "correct.key.move"),
    ("u", "correct.key.undo"), ("t", "correct.key.target"), ("← → [ ]", "correct.key.spans"),
    ("Del", "correct.key.remove"), ("Alt ← →", "correct.key.ends"),
)  # fmt: skip


class CorrectPage:
    """One browser's page over one queue of rows."""

    def __init__(self, view: View, place: Place, queue: Queue, forms: dict[str, TargetForm]) -> None:
        self.view, self.place, self.queue, self.forms = view, place, queue, forms
        self.viewer, self.words, self.studio = view.viewer, view.viewer.words, view.studio
        self.columns, self.model = Columns.of(view.info), view.info.name
        self.labels = {target: Labels(form.labels) for target, form in forms.items()}
        self.corrections = Corrections(view.studio.database)
        self.readonly = not self.viewer.may("editor")
        self.drafts: dict[tuple[str, str], Draft] = {}
        self.kept: dict[str, Any] = {}
        self.editors: dict[str, TargetEditor] = {}
        self.active = next(iter(forms), "")
        self.past: list[tuple[Case, list[Saving]]] = []
        self.client: Client = context.client
        self.saver = Saver(self.corrections, lambda: self.view.info, lambda: self.viewer.require("editor"), self._told)
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn, self._begun = 0, False

    # -- the page -----------------------------------------------------------------------------------------------------

    def build(self) -> None:
        words = self.words
        self.stored = Drafts(f"correct:{self.model}", self._restore)
        with box("div", "pd-row pd-tools", role="group", aria_label=words("correct.tools")):
            self.go = button(words("correct.confirm"), self.confirm, kind="primary", icon="check", key="Enter")
            self.back = button(words("correct.previous"), self.previous, icon="back", key="p")
            self.on = button(words("correct.next"), self.next, icon="next", key="n")
            self.undoes = button(words("correct.undo"), self.undo, icon="undo", key="u")
            if len(self.forms) > 1:
                button(words("correct.target"), self.cycle, key="t")
            self.progress = text("", "span", "pd-number pd-progress", role="status")
            self.saved = text("", "span", "pd-note", role="status")
        if self.readonly:
            text(words("correct.readonly", role=words("people.role.editor")), "p", "pd-note")
            for element in (self.go, self.undoes):
                element.set_visibility(False)
        self.saving = SavingView(words, self.forms, self.saver, self._row_name, self._leave)
        self.area = box("div", "pd-correct", aria_live="off")
        with self.area:
            loading(words)
        self.client.on_connect(self._connected)
        self.client.on_delete(self._left)

    def _connected(self) -> None:
        self.saver.retry()  # after a break, or somebody has signed in again
        if not self._begun:
            self._begun = True
            self._run(self._ask())

    def _left(self) -> None:
        self._turn += 1
        self.saver.leave()
        for task in self._tasks:
            task.cancel()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Beside everything else, until it ends or the browser leaves; what fails is said on the page."""

        async def guarded() -> None:
            try:
                with self.client:
                    await work
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self.client.handle_exception(error)

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- asking -------------------------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        """Has the rows answered, a part at a time; the first is shown as soon as a part of them is."""
        wanted = self.queue.cases
        if self.place.at:  # the row that was shown before comes first, with its answer
            wanted = sorted(wanted, key=lambda case: case.key != self.place.at)
        wanted = [case for case in wanted if case.reply is None]
        for start in range(0, len(wanted), _ASKED):
            part = wanted[start : start + _ASKED]
            try:
                await self._answer(part)
            except PolydetrError as error:
                if self.queue.current is None:
                    self._failed(error)
                    return
                notice(f"{error.message} {error.hint or ''}".strip(), kind="bad")
                return
            if self.queue.current is None:
                await self._first()
            self._tell_progress()
        if self.queue.current is None:
            await self._first()

    async def _answer(self, cases: Sequence[Case]) -> None:
        info = self.view.info
        few = any(0 < len(form.labels) <= _FEW_LABELS for form in self.forms.values())
        replies = await replies_patiently(
            self.studio.fleet, info.name, [case.row for case in cases], Ask(probabilities=few), columns=self.columns,
            timeout_s=self.studio.limits.timeout_s, first=1, patience_s=_PATIENCE_S,
        )  # fmt: skip
        for case, reply in zip(cases, replies, strict=True):
            case.reply, case.info = reply, info

    async def _first(self) -> None:
        case = self.queue.go(self.place.at) if self.place.at else None
        await self._show(case or self.queue.next())

    def _failed(self, error: PolydetrError) -> None:
        self.area.clear()
        with self.area:
            failure(self.words, error, retry=lambda: self._run(self._ask()))

    # -- one row ------------------------------------------------------------------------------------------------------

    async def _show(self, case: Case | None) -> None:
        """Shows a row: what was said of it before, and its editors."""
        self._turn += 1
        turn = self._turn
        if case is None:
            self._finished()
            return
        try:
            if case.reply is None:
                await self._answer((case,))
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
        words = self.words
        self.area.clear()
        self.editors = {}
        error = (case.reply or {}).get("error")
        with self.area:
            text(words("correct.row", number=f"{case.number:,}"), "h2", "pd-row-name")
            if error:
                failure(words, InputError(str(error.get("message", "")), hint=error.get("hint")))
                show_row(words, case.row, self.columns, images)
            else:
                shown = [
                    str(form.column) for form in self.forms.values() if form.task in OF_TEXT or form.task == "detection"
                ]
                show_row(words, case.row, self.columns, images, but=shown)
                for target in sorted(
                    self.forms, key=lambda name: self.forms[name].column is None
                ):  # what is read first
                    self._build_editor(case, target, images)
        self._tell_progress()
        self._tell_change()
        address = f"{self.studio.base}{page_of(self.model)}{self.place.query(at=case.key)}"
        ui.run_javascript(f"history.replaceState(history.state, '', {json.dumps(address)})")

    def _build_editor(self, case: Case, target: str, images: dict[str, list[Any]]) -> None:
        form, labels = self.forms[target], self.labels[target]
        draft_key = f"draft:{case.key}:{target}"
        image = next(iter(images.get(str(form.column), ())), None) if form.task == "detection" else None
        events = Events(
            changed=self._tell_change,
            named=lambda name: self._run(self._new_label(target, str(name).strip())),
            entered=self.confirm,
        )
        draft = self._draft(case, target)
        self.editors[target] = TargetEditor(
            self.words, form, case, draft, labels, events, draft_key=draft_key,
            image=image if isinstance(image, ShownImage) else None, readonly=self.readonly,
            active=target == self.active, several=len(self.forms) > 1,
        )  # fmt: skip
        if isinstance(image, PolydetrError):
            self.editors[target].refuse(image)

    def _draft(self, case: Case, target: str) -> Draft:
        """What was held of this row before, on this page or before it was loaded again; else what is said of it."""
        form, labels = self.forms[target], self.labels[target]
        found = self.drafts.get((case.key, target))
        if found is None:
            found = Draft([held(form, labels, first_value(form, case.row, case.reply, case.saved.get(target)))])
            self.drafts[case.key, target] = found
        draft_key = f"draft:{case.key}:{target}"
        if draft_key in self.kept:
            kept = self.kept.pop(draft_key)
            if is_held(form, labels, kept, case.row):
                found.put(kept)
                found.new_label = bool(labels.new)
        return found

    def _finished(self) -> None:
        words = self.words
        self.area.clear()
        self.editors = {}
        with self.area:
            done, all_rows = self.queue.done, len(self.queue.cases)
            if done < all_rows:
                empty(words("correct.passed", done=f"{done:,}", count=f"{all_rows:,}"),
                      begin=words("correct.left", count=f"{all_rows - done:,}"), on_begin=self._again)  # fmt: skip
            else:
                empty(words("correct.finished"))
        self._tell_progress()
        self._tell_change()

    def _again(self) -> None:
        self.queue.again()
        self._run(self._show(self.queue.next()))

    # -- what a person does -------------------------------------------------------------------------------------------

    def confirm(self) -> None:
        """Saves what the editors hold, and goes on."""
        case = self.queue.current
        if case is None or self.readonly or not self.editors:
            return
        savings: list[Saving] = []
        for target, editor in self.editors.items():
            try:
                found = self._saving(case, target, editor.draft)
            except PolydetrError as error:
                editor.refuse(error)
                self._activate(target)
                return
            if found is not None:
                savings.append(found)
        for one in savings:
            self.stored.put(f"saving:{one.id}", one.to_json())
        for target in self.editors:
            self.stored.put(f"draft:{case.key}:{target}", None)
        case.done = True
        self.past.append((case, savings))
        self.saver.add(*savings)
        self.saved.set_text(self.words("correct.saving" if savings else "correct.kept"))
        self._run(self._show(self.queue.next()))

    def _saving(self, case: Case, target: str, draft: Draft) -> Saving | None:
        """None where the same stands there already. Raises InputError."""
        form = self.forms[target]
        value = value_of(form, self.labels[target], draft.holds, case.row)
        checked = check(form, value, case.row, new_label=draft.new_label)
        standing = case.saved.get(target)
        if standing is not None and standing.kind != "withdrawn" and standing.value == checked.value:
            return None
        return Saving(
            case.row, case.key, target, checked.value, case.revision(target), answer_of(case.reply, target),
            new_label=draft.new_label,
        )  # fmt: skip

    def next(self) -> None:
        if self.queue.current is not None or self.editors:
            self._run(self._show(self.queue.next()))

    def previous(self) -> None:
        if not self.editors and self.queue.current is not None:  # behind the last row
            self._run(self._show(self.queue.current))
        elif self.queue.has_previous:
            self._run(self._show(self.queue.previous()))

    def undo(self) -> None:
        """Takes back the last change of this row; where there is none, what was saved last."""
        case = self.queue.current
        order = sorted(self.editors, key=lambda target: target != self.active)
        for target in order:
            editor = self.editors[target]
            if case is not None and editor.draft.undo():
                editor.show()
                self.stored.put(f"draft:{case.key}:{target}", editor.draft.holds if editor.draft.changed else None)
                self._activate(target)
                self._tell_change()
                return
        if self.past:
            self._run(self._take_back(*self.past.pop()))
        else:
            notice(self.words("correct.nothing"))

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
                    raise
            self.stored.put(f"saving:{one.id}", None)
        case.done = False
        self.saving.show()
        self.saved.set_text(self.words("correct.undone"))
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
        if editor is None or self.readonly or not name:
            return
        with editor.place:
            question = self.words("correct.new_label", label=name)
            if not await confirmed(self.words, question, action=self.words("correct.new_label.add")):
                return
        labels = self.labels[target]
        index = labels.add(name)
        editor.draft.new_label = True
        self.stored.put(f"labels:{target}", labels.new)
        editor.rename(pick=index)

    # -- what is kept in the browser ----------------------------------------------------------------------------------

    async def _restore(self, kept: Any) -> None:
        """What was not saved when the page was left or loaded again."""
        for target, labels in self.labels.items():
            for name in kept.get(f"labels:{target}") or ():
                if isinstance(name, str) and 0 < len(name) <= 200:
                    labels.add(name)
        self.kept = {key: value for key, value in kept.items() if key.startswith("draft:")}
        rows: dict[str, Row] = {case.key: case.row for case in self.queue.cases}
        for key, value in kept.items():
            if key.startswith("saving:"):
                one = Saving.from_json(key.removeprefix("saving:"), value, self.columns, rows.get)
                if one is None or one.target not in self.forms:
                    continue
                if (case := self._case(one.key)) is not None:
                    case.done = True
                self.saver.add(one)
        if self.kept and self.queue.current is not None and self.editors:
            await self._show(self.queue.current)

    def _case(self, key: str) -> Case | None:
        return next((case for case in self.queue.cases if case.key == key), None)

    # -- what is told -------------------------------------------------------------------------------------------------

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
                self.saved.set_text("")
            self.saving.show(self.viewer.base)
            self._tell_progress()

    def _was_saved(self, one: Saving, case: Case | None) -> None:
        self.stored.put(f"saving:{one.id}", None)
        assert one.saved is not None
        if case is not None:
            self._stands(case, one.saved)
        self.saved.set_text(self.words("correct.saved", row=self._row_name(one.key)))
        for message in one.messages:
            notice(message)

    def _stands(self, case: Case, correction: Correction) -> None:
        case.saved[correction.target] = correction
        if case is self.queue.current and correction.target in self.editors:
            self.editors[correction.target].tell_who()

    def _leave(self, one: Saving) -> None:
        """What the other has said stays: of this row the page holds that now."""
        self.stored.put(f"saving:{one.id}", None)
        self.drafts.pop((one.key, one.target), None)
        case = self._case(one.key)
        if case is not None and case is self.queue.current:
            self._run(self._show(case))

    def _row_name(self, key: str) -> str:
        case = self._case(key)
        return self.words("correct.row", number=f"{case.number:,}") if case is not None else self.words("correct.a_row")

    def _tell_progress(self) -> None:
        words, queue = self.words, self.queue
        self.progress.set_text(words("correct.progress", done=f"{queue.done:,}", count=f"{len(queue.cases):,}"))
        enabled(self.back, queue.has_previous)

    def _tell_change(self) -> None:
        """The button says whether it confirms or saves a change."""
        changed = any(editor.draft.changed for editor in self.editors.values())
        label = self.go.default_slot.children[1]
        assert isinstance(label, Native)
        label.set_text(self.words("correct.save" if changed else "correct.confirm"))
        enabled(self.go, bool(self.editors))
