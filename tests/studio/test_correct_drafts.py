"""What a browser kept of a row that was not saved, and when it is no more for it."""

from __future__ import annotations

from correction_cases import CLASSES

from polydetr.serving.rows import Columns
from polydetr.studio.correct_drafts import Drafts, draft_key, labels_key
from polydetr.studio.correct_forms import correctable
from polydetr.studio.correct_queue import Queue
from polydetr.studio.correction_values import TargetForm


def test_what_was_kept_under_other_labels_is_not_taken_for_these() -> None:
    (form,) = correctable(CLASSES, ["label"])[0].values()
    exchanged = TargetForm.from_dict({**form.to_dict(), "labels": [*reversed(form.labels)]})
    queue = Queue.of([{"text": "a"}], Columns.of(CLASSES))
    (case,) = queue.cases
    kept = {draft_key(case, form): 1, labels_key(form): ["new"]}
    for now, holds, names in ((form, 1, [*form.labels, "new"]), (exchanged, None, [*exchanged.labels])):
        drafts = Drafts({"label": now})
        assert drafts.restore(kept, queue, Columns.of(CLASSES)) == []
        assert drafts.of(case, "label").holds == holds
        assert drafts.labels["label"].names == names
