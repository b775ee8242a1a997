"""Exports of Label Studio: JSON (tasks with all their annotations) and JSON-MIN (https://labelstud.io/guide/export).

A row is a task: what its ``data`` hold, and what its annotation says. The answers of a control tag stand in a column of
its name; spans of the text in ``entities`` (of several control tags: in columns of their names), boxes in ``objects``.
Of several annotations the one marked as ground truth counts, else the latest that was not cancelled. Predictions are no
labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.label_studio_answers import answers_of, is_answer, regions_of, regions_of_minimal
from polydetr.data.readers.label_studio_rows import Task, records_of_tasks
from polydetr.data.readers.shapes import check_values
from polydetr.data.readers.source import Source
from polydetr.errors import DataFileError, Location, RowError, quoted, row_fault

_LOOKED_AT = 20
_OF_MINIMAL = frozenset({"annotator", "annotation_id"})
_ABOUT_MINIMAL = _OF_MINIMAL | {"created_at", "updated_at", "lead_time", "agreement"}
"""Keys of JSON-MIN that are about the annotating, not about the data."""
_OF_TASKS = frozenset({"id", "inner_id", "project", "predictions", "meta", "created_at", "updated_at"})
SEVERAL = "tasks with several annotations (the ground truth, else the latest, is taken)"
SKIPPED = "tasks that were skipped (no label)"
UNLABELED = "tasks without an annotation (no label)"
"""Kinds of problems, as a ReadReport counts them."""


def is_label_studio(document: Any) -> bool:
    """Whether a JSON document is an export of Label Studio: a list of tasks, one task, or JSON-MIN."""
    entries = document if isinstance(document, list) else [document]
    first = list(islice(entries, _LOOKED_AT))
    if not first or not all(isinstance(entry, Mapping) for entry in first):
        return False
    return all(map(_is_task, first)) or (isinstance(document, list) and all(e.keys() >= _OF_MINIMAL for e in first))


def _is_task(entry: Mapping[str, Any]) -> bool:
    if not isinstance(entry.get("data"), Mapping):
        return False
    annotations = _annotations(entry)
    if annotations is None:
        return entry.keys() <= _OF_TASKS | {"data"}  # a task to label, as it is imported
    known = isinstance(annotations, list) and all(isinstance(a, Mapping) and "result" in a for a in annotations)
    return known and (bool(annotations) or bool(entry.keys() & _OF_TASKS))


def _annotations(task: Mapping[str, Any]) -> Any:
    return task.get("annotations", task.get("completions"))


def read_label_studio(
    document: Any,
    source: Source,
    *,
    report: ReadReport,
    skip: bool,
    access: FileAccess = IN_MEMORY,
    labels: bool = True,
) -> Iterator[Record]:
    """One Record per task. labels: False where the answers do not matter.

    Raises:
        DataFileError: no tasks, or not one of their images found. RowError: a task with a shape that is no box, a span
        outside its text, an image that is missing (``skip``: rejected into ``report``).
    """
    entries = document if isinstance(document, list) else [document]
    if not is_label_studio(document):
        raise DataFileError(
            "is no export of Label Studio, expected a list of tasks ({'data': ..., 'annotations': ...}) or JSON-MIN.",
            location=Location(source.name),
        )
    minimal = not _is_task(entries[0])
    tasks = _merged(entries, source.name, report) if minimal else _numbered(entries, source.name)
    read = _minimal_task if minimal else _task
    parsed = [_guarded(read, entry, location, labels=labels) for location, entry in tasks]
    return records_of_tasks(parsed, source, report=report, skip=skip, access=access)


def _numbered(entries: Sequence[Any], name: str) -> Iterator[tuple[Location, Any]]:
    return ((Location(name, row=row), entry) for row, entry in enumerate(entries, 1))


def _merged(entries: Sequence[Any], name: str, report: ReadReport) -> list[tuple[Location, Any]]:
    """JSON-MIN has an entry per annotation: of those of one task the latest."""
    latest: dict[Any, tuple[Location, Any]] = {}
    for location, entry in _numbered(entries, name):
        known = isinstance(entry, Mapping) and isinstance(entry.get("id"), (int, str))
        key = ("id", entry["id"]) if known else ("row", location.row)
        earlier = latest.get(key)
        if earlier is not None:
            report.note(SEVERAL, f"task {entry['id']!r} was also annotated in row {earlier[0].row}", location)
        if earlier is None or _when(entry) >= _when(earlier[1]):
            latest[key] = (earlier[0] if earlier else location, entry)
    return list(latest.values())


def _when(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


# -- one task ---------------------------------------------------------------------------------------------------------


def _guarded(read: Any, entry: Any, location: Location, *, labels: bool) -> Task:
    """A task, whatever is wrong with it."""
    try:
        if not isinstance(entry, Mapping):
            raise RowError(f"holds {quoted(entry, 60)}, expected a task.")
        check_values(entry)
        return read(entry, location, labels=labels)
    except ValueError as error:
        return Task(location, fault=error if isinstance(error, RowError) else RowError(str(error)))
    except Exception as error:
        return Task(location, fault=row_fault(error, location))


def _task(entry: Mapping[str, Any], location: Location, *, labels: bool) -> Task:
    """Raises ValueError."""
    data = entry.get("data")
    if not isinstance(data, Mapping):
        raise ValueError(f"its data are {quoted(data, 60)}, expected a mapping.")
    task = Task(location, dict(data), entry.get("id"))
    if not labels:
        return task
    annotations = _annotations(entry) or []
    if not isinstance(annotations, list) or not all(isinstance(one, Mapping) for one in annotations):
        raise ValueError(f"its annotations are {quoted(annotations, 60)}, expected a list of annotations.")
    valid = [one for one in annotations if not (one.get("was_cancelled") or one.get("skipped"))]
    if not valid:
        guessed = " (its predictions are no labels)" if entry.get("predictions") else ""
        task.notes.append((SKIPPED if annotations else UNLABELED, f"task {entry.get('id')!r:.40}{guessed}"))
        return task
    if len(valid) > 1:
        task.notes.append((SEVERAL, f"task {entry.get('id')!r:.40} has {len(valid)}"))
    order = sorted(enumerate(valid), key=lambda one: (bool(one[1].get("ground_truth")), _when(one[1]), one[0]))
    task.answers = answers_of(regions_of(order[-1][1].get("result")))
    return task


def _minimal_task(entry: Mapping[str, Any], location: Location, *, labels: bool) -> Task:
    """Raises ValueError."""
    held = {name: value for name, value in entry.items() if name not in _ABOUT_MINIMAL}
    answered = {name: value for name, value in held.items() if is_answer(value)}
    data = {name: value for name, value in held.items() if name not in answered and name != "id"}
    task = Task(location, data, entry.get("id"))
    if labels:
        regions = [region for name, value in answered.items() for region in regions_of_minimal(name, value)]
        task.answers = answers_of(regions)
    return task
