"""What could not be saved yet, and why; two people's values side by side, of which one is chosen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nicegui import background_tasks, ui

from polydetr.studio.correct_forms import lines_of
from polydetr.studio.correct_saving import Saver, Saving
from polydetr.studio.correction_values import TargetForm
from polydetr.web.markup import box, button, icon_svg, panel, text, trusted
from polydetr.web.notices import as_script
from polydetr.web.viewer import NotAllowed
from polydetr.web.words import Words

_MOST = 12
"""Lines of a value that are shown."""


class SavingView:
    """Made within the element that it stands in. name: of a row by its key; leave: what the other said is kept; over:
    it is not.
    """

    def __init__(
        self, words: Words, forms: Mapping[str, TargetForm], saver: Saver, name: Callable[[str], str],
        leave: Callable[[Saving], Any], over: Callable[[Saving], Awaitable[None]],
    ) -> None:  # fmt: skip
        self.words, self.forms, self.saver, self.name, self.leave, self.over = words, forms, saver, name, leave, over
        self._said: list[Any] = []
        self.place = box("div", "pd-unsaved", aria_live="assertive")

    def show(self, base: str = "") -> None:
        """As it is now. base: of the pages, where one can sign in again."""
        waiting = [one for one in self.saver.waiting if one.error is not None]
        told = [one for one in self.saver.open.values() if one.state in ("conflict", "refused")]
        said = [*((one.id, one.state, one.error) for one in [*waiting[:1], *told]), len(waiting)]
        if [str(one) for one in said] == self._said:
            return
        self._said = [str(one) for one in said]
        if waiting and isinstance(waiting[0].error, NotAllowed) and base:
            ui.run_javascript(f"polydetr.signIn({as_script(base)})")
        self.place.clear()
        with self.place:
            if waiting:
                self._waits(waiting)
            for one in told:
                if one.state == "conflict":
                    self._conflict(one)
                else:
                    self._refused(one)

    def _waits(self, waiting: list[Saving]) -> None:
        words, error = self.words, waiting[0].error
        assert error is not None
        count = len(self.saver.waiting)
        with box("div", "pd-state bad"):
            trusted(icon_svg("warning"), "span", "pd-icon", aria_hidden="true")
            with box("div"):
                text(words.counted("correct.waits", count), "p", "pd-strong")
                text(f"{error.message} {error.hint or ''}".strip(), dir="auto")
                text(words("correct.waits.how"), "p", "pd-note")
                button(words("state.retry"), self._again)

    def _again(self) -> None:
        self._said = []  # what it waits for is asked for again
        self.saver.retry()

    def _refused(self, one: Saving) -> None:
        words, error = self.words, one.error
        assert error is not None
        with box("div", "pd-state bad"):
            trusted(icon_svg("warning"), "span", "pd-icon", aria_hidden="true")
            with box("div"):
                text(words("correct.refused", row=self.name(one.key), target=one.target), "p", "pd-strong", dir="auto")
                text(f"{error.message} {error.hint or ''}".strip(), dir="auto")
                with box("div", "pd-row"):
                    button(words("state.retry"), lambda: self._later(self.saver.anew(one)))
                    button(words("correct.drop"), lambda: self._drop(one))

    def _conflict(self, one: Saving) -> None:
        words, theirs = self.words, one.theirs
        assert theirs is not None
        form = self.forms[one.target]
        title = words("correct.conflict", person=theirs.person, row=self.name(one.key), target=one.target)
        with panel(title, classes="pd-conflict"):
            with box("div", "pd-columns"):
                with box("div", "pd-theirs"):
                    with box("h3", "pd-row"):
                        text(theirs.person, "span", dir="auto")
                        text("", "time", datetime=theirs.at.isoformat())
                    self._value(form, None if theirs.kind == "withdrawn" else theirs.value, theirs.kind == "withdrawn")
                with box("div", "pd-mine"):
                    text(words("correct.yours"), "h3")
                    self._value(form, one.value, False)
            with box("div", "pd-row"):
                button(words("correct.keep_theirs", person=theirs.person), lambda: self._drop(one))
                button(words("correct.save_mine"), lambda: self._later(self.over(one)), kind="primary")

    def _value(self, form: TargetForm, value: Any, withdrawn: bool) -> None:
        lines = lines_of(form, value)
        for line in lines[:_MOST]:
            text(line, "p", "pd-strong", dir="auto")
        if len(lines) > _MOST:
            text(self.words("correct.more", count=len(lines) - _MOST), "p", "pd-note")
        if not lines:
            text(self.words("correct.withdrawn" if withdrawn else "correct.none.any"), "p", "pd-strong")

    def _drop(self, one: Saving) -> None:
        self.saver.forget(one)
        self.show()
        self.leave(one)

    def _later(self, work: Any) -> None:
        async def done() -> None:
            await work
            with self.place:
                self.show()

        background_tasks.create(done(), name="save a correction again")
