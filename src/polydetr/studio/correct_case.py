"""One row on the page: what it says, its editors, and what is saved of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from polydetr.errors import InputError, PolydetrError
from polydetr.serving.rows import Columns
from polydetr.studio.correct_drafts import Drafts, draft_key
from polydetr.studio.correct_editors import Draft, Events, TargetEditor
from polydetr.studio.correct_forms import Labels, answer_of, value_of
from polydetr.studio.correct_queue import Case
from polydetr.studio.correct_row_view import show_row
from polydetr.studio.correct_saving import Saving
from polydetr.studio.correction_values import TargetForm, check
from polydetr.web.components.box_editor import ShownImage
from polydetr.web.markup import text
from polydetr.web.notices import confirmed, failure
from polydetr.web.words import Words


def show_case(
    words: Words, case: Case, forms: Mapping[str, TargetForm], drafts: Drafts, events: Callable[[str], Events], *,
    images: Mapping[str, list[Any]], columns: Columns, active: str, readonly: bool,
) -> dict[str, TargetEditor]:  # fmt: skip
    """Builds it, and gives the editors by their targets: texts and images come first, as they are read before what is
    said of them. A row that the model could not answer has none.
    """
    text(words("correct.row", number=f"{case.number:,}"), "h2", "pd-row-name")
    if error := (case.reply or {}).get("error"):
        failure(words, InputError(str(error.get("message", "")), hint=error.get("hint")))
        show_row(words, case.row, columns, images)
        return {}
    shown = [form.column for form in forms.values() if form.column is not None]
    show_row(words, case.row, columns, images, but=shown)
    order = sorted(forms, key=lambda target: forms[target].column is None)
    return {
        target: _editor(
            words, case, forms[target], drafts, events(target), image=_image(forms[target], images), readonly=readonly,
            active=target == active, several=len(forms) > 1,
        )
        for target in order
    }  # fmt: skip


def _image(form: TargetForm, images: Mapping[str, list[Any]]) -> Any:
    """What boxes lie on, or why it cannot be shown; None for other tasks."""
    return next(iter(images.get(str(form.column), ())), None) if form.task == "detection" else None


def _editor(
    words: Words, case: Case, form: TargetForm, drafts: Drafts, events: Events, *, image: Any, **how: bool
) -> TargetEditor:
    editor = TargetEditor(
        words, form, case, drafts.of(case, form.target), drafts.labels[form.target], events,
        draft_key=draft_key(case, form), image=image if isinstance(image, ShownImage) else None, **how,
    )  # fmt: skip
    if isinstance(image, PolydetrError):
        editor.refuse(image)
    return editor


def saving_of(case: Case, form: TargetForm, labels: Labels, draft: Draft, person: str) -> Saving | None:
    """What is saved of an editor; None where the same stands there already.

    Raises:
        InputError: it cannot be right for this row.
    """
    checked = check(form, value_of(form, labels, draft.holds, case.row), case.row, new_label=draft.new_label)
    standing = case.saved.get(form.target)
    if standing is not None and standing.kind != "withdrawn" and standing.value == checked.value:
        return None
    return Saving(
        case.row, case.key, form.target, checked.value, case.revision(form.target), answer_of(case.reply, form.target),
        new_label=draft.new_label, person=person,
    )  # fmt: skip


async def named(words: Words, editor: TargetEditor, name: str) -> bool:
    """Whether a label that was typed is meant, which is asked; what was selected then gets it."""
    with editor.place:
        question = words("correct.new_label", label=name)
        if not await confirmed(words, question, action=words("correct.new_label.add")):
            return False
    index = editor.labels.add(name)
    editor.draft.new_label = True
    editor.rename(pick=index)
    return True
