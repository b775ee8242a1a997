"""Exports of Label Studio: JSON (tasks with all their annotations) and JSON-MIN (https://labelstud.io/guide/export).

A row is a task: what its ``data`` hold, and what its annotation says. The answers of a control tag stand in a column of
its name; spans of the text in ``entities`` (of several control tags: in columns of their names), boxes in ``objects``.
Of several annotations the one marked as ground truth counts, else the latest that was not cancelled. Predictions are no
labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any
from urllib.parse import unquote, urlsplit

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.reading import SAY_IMAGES
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import ImageFinder, RawImage, records_of
from polydetr.data.readers.label_studio_answers import (
    Answers,
    MarkedSpan,
    answers_of,
    is_answer,
    regions_of,
    regions_of_minimal,
)
from polydetr.data.readers.shapes import align, check_values
from polydetr.data.readers.source import Source, reject
from polydetr.errors import DataFileError, Location, RowError, quoted, row_fault
from polydetr.values.files import is_image_name
from polydetr.values.spans import NOT_FOUND

_LOOKED_AT = 20
_OF_MINIMAL = frozenset({"annotator", "annotation_id"})
_ABOUT_MINIMAL = _OF_MINIMAL | {"created_at", "updated_at", "lead_time", "agreement"}
"""Keys of JSON-MIN that are about the annotating, not about the data."""
_OF_TASKS = frozenset({"id", "inner_id", "project", "predictions", "meta", "created_at", "updated_at"})
_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""
SEVERAL = "tasks with several annotations (the ground truth, else the latest, is taken)"
SKIPPED = "tasks that were skipped (no label)"
UNLABELED = "tasks without an annotation (no label)"
"""Kinds of problems, as a ReadReport counts them."""
_HINT = (
    "Label Studio's export holds no images: copy them (uploads lie in its folder media/upload), and name their folder: "
    f"{SAY_IMAGES}."
)


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


@dataclass
class _Task:
    """A task, read. answers: None where it has no annotation that counts. fault: why it is no row."""

    location: Location
    data: dict[str, Any] = field(default_factory=dict)
    id: Any = None
    answers: Answers | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)
    fault: RowError | None = None


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
    named = _Columns.of(parsed)
    for message in named.replaced:
        report.note("columns of the data replaced by answers", message, Location(source.name))
    if any(task.answers and task.answers.objects for task in parsed) or any(map(_names_image, parsed)):
        finder = replace(ImageFinder.around(source.path, access, ("", "images", "media/upload", "upload")), hint=_HINT)
        raw = (_image(task, named, finder, report) for task in parsed)
        return records_of(raw, finder, report=report, skip=skip, source=source.name)
    return _texts(parsed, named, report, skip=skip)


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


def _guarded(read: Any, entry: Any, location: Location, *, labels: bool) -> _Task:
    """A task, whatever is wrong with it."""
    try:
        if not isinstance(entry, Mapping):
            raise RowError(f"holds {quoted(entry, 60)}, expected a task.")
        check_values(entry)
        return read(entry, location, labels=labels)
    except ValueError as error:
        return _Task(location, fault=error if isinstance(error, RowError) else RowError(str(error)))
    except Exception as error:
        return _Task(location, fault=row_fault(error, location))


def _task(entry: Mapping[str, Any], location: Location, *, labels: bool) -> _Task:
    """Raises ValueError."""
    data = entry.get("data")
    if not isinstance(data, Mapping):
        raise ValueError(f"its data are {quoted(data, 60)}, expected a mapping.")
    task = _Task(location, dict(data), entry.get("id"))
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


def _minimal_task(entry: Mapping[str, Any], location: Location, *, labels: bool) -> _Task:
    """Raises ValueError."""
    held = {name: value for name, value in entry.items() if name not in _ABOUT_MINIMAL}
    answered = {name: value for name, value in held.items() if is_answer(value)}
    data = {name: value for name, value in held.items() if name not in answered and name != "id"}
    task = _Task(location, data, entry.get("id"))
    if labels:
        regions = [region for name, value in answered.items() for region in regions_of_minimal(name, value)]
        task.answers = answers_of(regions)
    return task


# -- columns ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """How the answers of a file are called. several: controls whose answers are lists. spans: control → its column.
    with_objects: whether boxes are drawn. replaced: a sentence for each column of the data that answers replace.
    """

    several: frozenset[str]
    spans: Mapping[str, str]
    with_objects: bool
    replaced: Sequence[str]

    @classmethod
    def of(cls, tasks: Sequence[_Task]) -> _Columns:
        answers = [task.answers for task in tasks if task.answers is not None]
        several = {name for one in answers for name, found in one.columns.items() if len(found) != 1}
        controls = dict.fromkeys(span.control for one in answers for span in one.spans)
        spans = {control: control for control in controls} if len(controls) > 1 else dict.fromkeys(controls, "entities")
        data = {name for task in tasks for name in task.data}
        with_objects = any(one.objects for one in answers)
        made = {*spans.values(), *(name for one in answers for name in one.columns), *["objects"] * with_objects}
        replaced = [f"{name!r} of the data" for name in sorted(made & data)]
        return cls(frozenset(several), spans, with_objects, replaced)

    def values(self, task: _Task, report: ReadReport) -> dict[str, Any]:
        """The columns of one task's answers, without its boxes. Raises ValueError."""
        answers = task.answers
        if answers is None:
            return {}
        columns = {name: found if name in self.several else found[0] for name, found in answers.columns.items()}
        if self.spans:
            columns |= {column: [] for column in self.spans.values()}
            text = _text_of(task.data, answers.spans) if answers.spans else ""
            for span in answers.spans:
                columns[self.spans[span.control]].append(_entity(text, span, task.location, report))
        return columns


def _text_of(data: Mapping[str, Any], spans: Sequence[MarkedSpan]) -> str:
    """The text that the spans count the characters of: the one that they are said to be about, or that has what was
    marked at its place, or the only one. Raises ValueError where that is in doubt.
    """
    texts = {name: value for name, value in data.items() if isinstance(value, str)}
    about = spans[0].about
    if about in texts:
        return texts[about]
    fitting = [t for t in texts.values() if all(s.text is None or t[s.start : s.end] == s.text for s in spans)]
    found = fitting if len(fitting) == 1 else list(texts.values())
    if len(found) != 1:
        names = ", ".join(map(repr, texts)) or "none"
        raise ValueError(f"spans are marked, and it is not known in which text (the data have {names:.80}).")
    return found[0]


def _entity(text: str, span: MarkedSpan, location: Location, report: ReadReport) -> dict[str, Any]:
    """The span at its place; where the tool's copy of its text stands elsewhere (it counts some characters twice),
    there. Raises ValueError.
    """
    start, end = span.start, span.end
    if span.text:
        place = align(text, span.text, start, "entity", location, report)
        if place != NOT_FOUND:
            start, end = place, place + len(span.text)
    if not 0 <= start <= end <= len(text):
        raise ValueError(f"the span {start}-{end} ({span.label}) lies outside its text of {len(text)} characters.")
    return {"start": start, "end": end, "label": span.label}


def _texts(tasks: Sequence[_Task], named: _Columns, report: ReadReport, *, skip: bool) -> Iterator[Record]:
    for task in tasks:
        try:
            if task.fault is not None:
                raise task.fault
            row = {**_with_id(task), **task.data, **named.values(task, report)}
            record = Record(row, task.location)
        except BaseException as error:
            reject(_as_row_error(error), task.location, report, skip=skip)
            continue
        for kind, message in _notes(task):
            report.note(kind, message, task.location)
        report.rows += 1
        yield record


def _with_id(task: _Task) -> dict[str, Any]:
    return {} if task.id is None else {"id": task.id}


def _notes(task: _Task) -> list[tuple[str, str]]:
    return [*task.notes, *(task.answers.notes if task.answers else ())]


def _as_row_error(error: BaseException) -> BaseException:
    return RowError(str(error)) if type(error) is ValueError else error


# -- images -----------------------------------------------------------------------------------------------------------


def _names_image(task: _Task) -> bool:
    return any(True for _ in _image_columns(task.data))


def _image_columns(data: Mapping[str, Any]) -> Iterator[str]:
    return (name for name, value in data.items() if isinstance(value, str) and is_image_name(_path_of(value)))


def _path_of(address: str) -> str:
    """The path in an address: of a local file (/data/local-files/?d=...), an upload (/data/upload/...), a bucket or a
    web server.
    """
    local = re.search(r"[?&]d=([^&#]+)", address) if "/local-files/" in address else None
    if local:
        return unquote(local[1])
    if re.match(r"[a-z][a-z0-9+.-]*://", address, re.IGNORECASE):
        parts = urlsplit(address)
        return unquote(parts.path).lstrip("/")
    return unquote(address.removeprefix("/data/upload/")) if address.startswith("/data/") else address


def _image(task: _Task, named: _Columns, finder: ImageFinder, report: ReadReport) -> RawImage:
    """The image of a task, with its boxes and its other columns."""
    image = RawImage("", task.location, image_id=task.id, fractions=True, labeled=False)
    try:
        if task.fault is not None:
            raise task.fault
        columns = list(_image_columns(task.data))
        answers = task.answers
        main = answers.about if answers and answers.about in task.data else next(iter(columns), None)
        if main is None or not isinstance(task.data[main], str):
            raise ValueError(f"its data name no image: {quoted(task.data, 80)}.")
        image.name = _found_name(task.data[main], finder)
        rest = {name: value for name, value in task.data.items() if name != main}
        others = {
            name: str(finder.find(_found_name(rest[name], finder)) or rest[name]) for name in columns if name in rest
        }
        image.columns = {**rest, **others, **named.values(task, report)}
        if answers is not None and named.with_objects:
            image.objects, image.size, image.labeled = answers.objects, answers.size, True
        for kind, message in _notes(task):
            report.note(kind, message, task.location)
    except Exception as error:
        image.fault = str(error) if type(error) is ValueError else row_fault(error, task.location).message
    return image


def _found_name(address: str, finder: ImageFinder) -> str:
    """The name by which the image is there: as Label Studio keeps it, or as it was called before it was uploaded."""
    path = _path_of(address)
    folder, _, name = path.rpartition("/")
    before = _UPLOAD.sub("", name)
    if before != name and finder.find(path) is None:
        return f"{folder}/{before}" if folder else before
    return path
