"""The editor of one target of one row: what the model answered above, what is right below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nicegui import ui

from polydetr.errors import PolydetrError
from polydetr.studio.correct_forms import Labels, abstained, confidence_of, lines_of, overlap_of, text_of
from polydetr.studio.correct_queue import Case
from polydetr.studio.correction_values import OF_TEXT, TargetForm
from polydetr.values.cells import category_name
from polydetr.web.components.box_editor import BoxEditor, ShownImage
from polydetr.web.components.confidence import confidence
from polydetr.web.components.drafts import Drafts
from polydetr.web.components.label_picker import SHOWN, LabelPicker
from polydetr.web.components.spans import SpanEditor
from polydetr.web.markup import Native, box, button, text
from polydetr.web.words import Words


@dataclass
class Draft:
    """What an editor holds and held, the last being what it holds now. new_label: a label of it is new, and meant."""

    history: list[Any] = field(default_factory=list)
    new_label: bool = False

    @property
    def holds(self) -> Any:
        return self.history[-1]

    @property
    def changed(self) -> bool:
        return self.history[0] != self.history[-1]

    def put(self, holds: Any) -> None:
        if holds != self.history[-1]:
            self.history.append(holds)

    def undo(self) -> bool:
        """Whether there was a change to take back."""
        if len(self.history) < 2:
            return False
        self.history.pop()
        return True


@dataclass
class Events:
    """What an editor tells: that it was changed; that a label was named that the model does not know; that Enter was
    pressed in a field.
    """

    changed: Callable[[], Any]
    named: Callable[[str], Any]
    entered: Callable[[], Any]


class TargetEditor:
    """Made within the element that it stands in. image: what boxes lie on; active: whether keys are for it."""

    def __init__(
        self, words: Words, form: TargetForm, case: Case, draft: Draft, labels: Labels, events: Events, *,
        draft_key: str, image: ShownImage | None = None, readonly: bool = False, active: bool = True,
        several: bool = False,
    ) -> None:  # fmt: skip
        self.words, self.form, self.case, self.draft, self.labels = words, form, case, draft, labels
        self.events, self.image, self.readonly, self.active = events, image, readonly, active
        self._js = Drafts.js(draft_key)
        self.picker: LabelPicker | None = None
        self.editor: SpanEditor | BoxEditor | None = None
        self.entry: ui.input | None = None
        self.none: Native | None = None
        with box("section", f"pd-panel pd-editor{' active' if active else ''}", aria_label=form.target) as self.place:
            text(form.target, "h2", dir="auto", **({} if several else {"class": "pd-hidden"}))
            self._answer()
            self.problem = box("div", role="alert")
            self._build()

    # -- what it shows ------------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        words, reply = self.words, self.case.reply
        said = lines_of(self.form, ((reply or {}).get("prediction") or {}).get(self.form.target))
        with box("p", "pd-row pd-said"):
            text(words("correct.answered"), "span", "pd-note")
            for line in said[:3]:
                text(line, "span", "pd-strong", dir="auto")
            if len(said) > 3:
                text(words("correct.more", count=len(said) - 3), "span", "pd-note")
            if not said:
                text(words(f"correct.none.{'qa' if self.form.task == 'qa' else 'any'}"), "span", "pd-strong")
            probability = confidence_of(reply, self.form.target)
            if probability is not None:
                confidence(words, probability, abstained=abstained(reply, self.form.target))
            self.who = box("span", "pd-note")
        self.tell_who()

    def tell_who(self) -> None:
        """Who said last what is right, and when."""
        saved = self.case.saved.get(self.form.target)
        self.who.clear()
        if saved is not None:
            with self.who:
                text(self.words(f"correct.kind.{saved.kind}", person=saved.person), "span", dir="auto")
                text("", "time", datetime=saved.at.isoformat())

    def show(self) -> None:
        """What the draft holds now."""
        holds = self.draft.holds
        if self.picker is not None and self.editor is None:
            self.picker.choose(self._chosen())
        if self.editor is not None:
            self.editor.show(holds)
        if self.entry is not None and self.entry.value != holds:
            self.entry.value = holds
        self._tell_none()
        self.problem.clear()

    def key(self, on: bool) -> None:
        """Whether keys are for this one."""
        self.active = on
        if self.picker is not None:
            self.picker.key(on)
        self.place.classes(**({"add": "active"} if on else {"remove": "active"}))

    def reveal(self) -> None:
        """Into sight; keys go where they are needed: into a number's field, a text, or an image."""
        reader = ".pd-spans-text, .pd-boxes-scroll" if self.editor is not None else ""
        inside = "input" if self.entry is not None else reader
        ui.run_javascript(
            f"const place = getHtmlElement({self.place.id}); place?.scrollIntoView({{block: 'nearest'}});"
            + (f"place?.querySelector('{inside}')?.focus()" if inside else "document.activeElement?.blur()")
        )

    def refuse(self, error: PolydetrError) -> None:
        """Says beside the editor why this cannot be saved."""
        self.problem.clear()
        with self.problem, box("div", "pd-state bad"):
            text(f"{error.message} {error.hint or ''}".strip(), dir="auto")

    def rename(self, *, pick: int | None = None) -> None:
        """A label was added; ``pick``: what was selected gets it."""
        names, colors = self.labels.names, self.labels.colors
        if self.editor is not None:
            self.editor.name(names, colors)
        if self.picker is None:
            return
        self.picker.name(names, colors)
        if len(names) > SHOWN:
            self.picker._props["first"] = [*([pick] if pick is not None else []), *self.picker._props["first"]][:SHOWN]
        else:
            self.picker._props["first"] = list(range(len(names)))
        if pick is None:
            return
        if self.editor is None:
            self._pick(pick)
        else:
            ui.run_javascript(
                f'getHtmlElement({self.picker.id}).dispatchEvent(new CustomEvent("pd-label", '
                f"{{bubbles: true, detail: {{index: {int(pick)}}}}}))"
            )

    # -- what it is made of -------------------------------------------------------------------------------------------

    def _build(self) -> None:
        form, words = self.form, self.words
        if form.task == "regression":
            self._number()
        elif form.task == "classification":
            self.picker = self._labels(words("correct.right"), acts=False)
        elif form.task in OF_TEXT:
            self.picker = self._labels(words("correct.mark"), acts=True)
            self.editor = SpanEditor(
                text_of(form, self.case.row), self.draft.holds, self._names(), self._colors(), words,
                title=words("correct.text", name=str(form.column)), overlap=overlap_of(form), readonly=self.readonly,
                on_change=self._changed, js=self._js,
            )  # fmt: skip
            if form.task == "qa":
                self.none = button(words("correct.no_answer"), self._no_answer, key="0")
                self._tell_none()
        elif self.image is not None:
            self.picker = self._labels(words("correct.mark_box"), acts=True)
            self.editor = BoxEditor(
                self.image, self.draft.holds, self._names(), self._colors(), words,
                title=words("correct.image", name=str(form.column)), readonly=self.readonly,
                on_change=self._changed, js=self._js,
            )  # fmt: skip

    def _names(self) -> list[str]:
        return [self.words("correct.answer_label")] if self.form.task == "qa" else self.labels.names

    def _colors(self) -> list[str]:
        return ["#1d7a52"] if self.form.task == "qa" else self.labels.colors

    def _labels(self, title: str, *, acts: bool) -> LabelPicker:
        names = self._names()
        return LabelPicker(
            names, self._colors(), self.words, title=title, chosen=() if acts else self._chosen(),
            first=self._first(len(names)), several=self.form.several, acts=acts, keyed=self.active,
            adds=self.form.task != "qa" and not self.readonly, disabled=self.readonly,
            on_pick=None if acts else self._pick, on_new=self.events.named,
        )  # fmt: skip

    def _first(self, count: int) -> Sequence[int] | None:
        """Of many labels, those that the model holds for the most probable, and those that are there."""
        if count <= SHOWN:
            return None
        names = {name: i for i, name in enumerate(self.labels.names)}
        known: dict[str, float] = ((self.case.reply or {}).get("probabilities") or {}).get(self.form.target) or {}
        likely = [names[str(one)] for one in sorted(known, key=known.__getitem__, reverse=True) if str(one) in names]
        said = ((self.case.reply or {}).get("prediction") or {}).get(self.form.target)
        parts = said if isinstance(said, list) else [said]
        there = [one.get("label") if isinstance(one, dict) else one for one in parts]
        mine = [names[category_name(one)] for one in there if one is not None and category_name(one) in names]
        return list(dict.fromkeys([*mine, *likely]))[:9]

    def _number(self) -> None:
        entry = ui.input(self.words("correct.number", name=self.form.target), value=self.draft.holds)
        entry.props('outlined dense inputmode="decimal" maxlength=200').classes("pd-narrow")
        entry.on("keydown.enter", lambda _: None if self.readonly else self.events.entered(), [])
        entry.on("update:model-value", js_handler=f"(value) => {{ {self._js} }}")
        entry.on_value_change(lambda event: self._changed(event.value or ""))
        if self.readonly:
            entry.props("readonly")
        self.entry = entry

    # -- what is done with it -----------------------------------------------------------------------------------------

    def _chosen(self) -> list[int]:
        holds = self.draft.holds
        return holds if isinstance(holds, list) else [] if holds is None else [holds]

    def _pick(self, index: int) -> None:
        if self.readonly or self.picker is None:
            return
        self._changed(sorted({*self.draft.holds} ^ {index}) if self.form.several else index)
        self.picker.choose(self._chosen())

    def _no_answer(self) -> None:
        if self.readonly or self.editor is None:
            return
        self._changed([])
        self.editor.show([])

    def _changed(self, holds: Any) -> None:
        if self.readonly:
            return
        self.draft.put(holds)
        self.problem.clear()
        self._tell_none()
        self.events.changed()

    def _tell_none(self) -> None:
        if self.none is not None:
            self.none._props["aria-pressed"] = "false" if self.draft.holds else "true"
            self.none.update()
