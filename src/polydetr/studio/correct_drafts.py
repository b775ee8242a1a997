"""What somebody is working on and has not saved: on the page, and in the browser, where it outlives a reload."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from polydetr.serving.contract import Row
from polydetr.serving.rows import Columns
from polydetr.studio.correct_editors import Draft
from polydetr.studio.correct_forms import Labels, first_value, held, is_held
from polydetr.studio.correct_queue import Case, Queue
from polydetr.studio.correct_saving import Saving
from polydetr.studio.correction_values import LONGEST_LABEL, TargetForm
from polydetr.values.cells import category_name

_SAVING = "saving:"


def draft_key(case: Case, form: TargetForm) -> str:
    """Under which a browser keeps what an editor holds."""
    return f"draft:{case.key}:{form.target}:{_labels_of(form)}"


def labels_key(form: TargetForm) -> str:
    """Under which a browser keeps the labels that were named anew."""
    return f"labels:{form.target}:{_labels_of(form)}"


def _labels_of(form: TargetForm) -> str:
    """Tells models apart whose labels differ: an editor holds their numbers."""
    return hashlib.sha256("\0".join(map(category_name, form.labels)).encode("utf-8", "replace")).hexdigest()[:12]


def saving_key(one: Saving) -> str:
    """Under which a browser keeps a correction until it is saved."""
    return f"{_SAVING}{one.id}"


class Drafts:
    """The drafts of one page. labels: target → those that may be chosen, new ones too."""

    def __init__(self, forms: Mapping[str, TargetForm]) -> None:
        self.forms = forms
        self.labels = {target: Labels(form.labels) for target, form in forms.items()}
        self._held: dict[tuple[str, str], Draft] = {}
        self._kept: dict[str, Any] = {}

    def of(self, case: Case, target: str) -> Draft:
        """What was held of this row before, on this page or before it was loaded again; else what is said of it."""
        form, labels = self.forms[target], self.labels[target]
        found = self._held.get((case.key, target))
        if found is None:
            found = Draft([held(form, labels, first_value(form, case.row, case.reply, case.saved.get(target)))])
            self._held[case.key, target] = found
        key = draft_key(case, form)
        if key in self._kept:
            kept = self._kept.pop(key)
            if is_held(form, labels, kept, case.row):
                found.put(kept)
                found.new_label = bool(labels.new)
        return found

    def forget(self, key: str, target: str) -> None:
        """The row begins with what is said of it."""
        self._held.pop((key, target), None)

    def restore(self, kept: Mapping[str, Any], queue: Queue, columns: Columns) -> list[Saving]:
        """Takes what a browser has kept; what was not saved yet is given back, to be saved."""
        for target, labels in self.labels.items():
            for name in kept.get(labels_key(self.forms[target])) or ():
                if isinstance(name, str) and 0 < len(name) <= LONGEST_LABEL:
                    labels.add(name)
        self._kept = {key: value for key, value in kept.items() if key.startswith("draft:")}
        rows: dict[str, Row] = {case.key: case.row for case in queue.cases}
        found = [
            Saving.from_json(key.removeprefix(_SAVING), value, columns, rows.get)
            for key, value in kept.items()
            if key.startswith(_SAVING)
        ]
        return [one for one in found if one is not None and one.target in self.forms]
