"""Tasks of Label Studio as rows: what their data hold, and their answers in columns of the controls' names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from polydetr.core.access import FileAccess
from polydetr.core.reading import SAY_IMAGES
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import ImageFinder, RawImage, records_of
from polydetr.data.readers.label_studio_answers import Answers, MarkedSpan
from polydetr.data.readers.shapes import align
from polydetr.data.readers.source import Source, reject
from polydetr.errors import Location, RowError, quoted, row_fault
from polydetr.values.files import is_image_name
from polydetr.values.spans import NOT_FOUND

_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""
_HINT = (
    "Label Studio's export holds no images: copy them (uploads lie in its folder media/upload), and name their folder: "
    f"{SAY_IMAGES}."
)


@dataclass
class Task:
    """A task, read. answers: None where it has no annotation that counts. fault: why it is no row."""

    location: Location
    data: dict[str, Any] = field(default_factory=dict)
    id: Any = None
    answers: Answers | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)
    fault: RowError | None = None


@dataclass(frozen=True)
class Columns:
    """How the answers of a file are called. several: controls whose answers are lists. spans: control → its column.
    texts: column of spans → the text that they lie in. with_objects: whether boxes are drawn. replaced: a sentence for
    each column of the data that answers replace.
    """

    several: frozenset[str]
    spans: Mapping[str, str]
    texts: Mapping[str, str]
    with_objects: bool
    replaced: Sequence[str]

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> Columns:
        answers = [task.answers for task in tasks if task.answers is not None]
        several = {name for one in answers for name, found in one.columns.items() if len(found) != 1}
        controls = dict.fromkeys(span.control for one in answers for span in one.spans)
        spans = {control: control for control in controls} if len(controls) > 1 else dict.fromkeys(controls, "entities")
        data = {name for task in tasks for name in task.data}
        with_objects = any(one.objects for one in answers)
        made = {*spans.values(), *(name for one in answers for name in one.columns), *["objects"] * with_objects}
        replaced = [f"{name!r} of the data" for name in sorted(made & data)]
        texts: dict[str, str] = {}
        for task in tasks:
            with suppress(ValueError):  # told with its row
                for span, name in _placed_spans(task):
                    texts.setdefault(spans[span.control], name)
        return cls(frozenset(several), spans, texts, with_objects, replaced)

    def values(self, task: Task, report: ReadReport) -> dict[str, Any]:
        """The columns of one task's answers, without its boxes. Raises ValueError."""
        answers = task.answers
        if answers is None:
            return {}
        columns = {name: found if name in self.several else found[0] for name, found in answers.columns.items()}
        if self.spans:
            columns |= {column: [] for column in self.spans.values()}
            for span, name in _placed_spans(task):
                column = self.spans[span.control]
                if name != self.texts[column]:
                    raise ValueError(
                        f"{column!r} has spans of {self.texts[column]!r} and of {name!r}, expected those of one text: "
                        "mark each text by a control of its own, or in tasks of its own."
                    )
                columns[column].append(_entity(task.data[name], span, task.location, report))
        return columns


def _placed_spans(task: Task) -> Iterator[tuple[MarkedSpan, str]]:
    """Each span with the name of the text that it lies in. Raises ValueError where that is in doubt."""
    spans = task.answers.spans if task.answers is not None else []
    names = {about: _text_of(task.data, [s for s in spans if s.about == about]) for about in {s.about for s in spans}}
    return ((span, names[span.about]) for span in spans)


def _text_of(data: Mapping[str, Any], spans: Sequence[MarkedSpan]) -> str:
    """The name of the text that the spans, which are about one object, count the characters of: that of the object, or
    of the text that has what was marked at its place, or of the only one. Raises ValueError where that is in doubt.
    """
    texts = {name: value for name, value in data.items() if isinstance(value, str)}
    about = spans[0].about
    if about in texts:
        return about
    fitting = [n for n, t in texts.items() if all(s.text is None or t[slice(*_ends(t, s))] == s.text for s in spans)]
    found = fitting if len(fitting) == 1 else list(texts)
    if len(found) != 1:
        names = ", ".join(map(repr, texts)) or "none"
        raise ValueError(f"spans are marked, and it is not known in which text (the data have {names:.80}).")
    return found[0]


def _entity(text: str, span: MarkedSpan, location: Location, report: ReadReport) -> dict[str, Any]:
    """The span at its place; where the tool's copy of its text stands elsewhere, there. Raises ValueError."""
    start, end = _ends(text, span)
    if span.text and text[start:end] != span.text:
        place = align(text, span.text, start, "entity", location, report)
        if place != NOT_FOUND:
            start, end = place, place + len(span.text)
    if not 0 <= start <= end <= len(text):
        raise ValueError(f"the span {start}-{end} ({span.label}) lies outside its text of {len(text)} characters.")
    return {"start": start, "end": end, "label": span.label}


def _ends(text: str, span: MarkedSpan) -> tuple[int, int]:
    """Where the span begins and ends, in characters: Label Studio counts as its browser does, in units of UTF-16, of
    which a character beyond the basic plane has two.
    """
    return _characters(text, span.start), _characters(text, span.end)


def _characters(text: str, units: int) -> int:
    part = text[: max(0, units)].encode("utf-16-le")
    inside = 0 <= 2 * units <= len(part)
    return len(part[: 2 * units].decode("utf-16-le", "ignore")) if inside else units


def records_of_tasks(
    tasks: Sequence[Task], source: Source, *, report: ReadReport, skip: bool, access: FileAccess
) -> Iterator[Record]:
    """See ``read_label_studio``: of images where boxes are drawn or the data name some."""
    named = Columns.of(tasks)
    for message in named.replaced:
        report.note("columns of the data replaced by answers", message, Location(source.name))
    if any(task.answers and task.answers.objects for task in tasks) or any(map(_names_image, tasks)):
        finder = replace(ImageFinder.around(source.path, access, ("", "images", "media/upload", "upload")), hint=_HINT)
        raw = (_image(task, named, finder, report) for task in tasks)
        return records_of(raw, finder, report=report, skip=skip, source=source.name)
    return _texts(tasks, named, report, skip=skip)


def _texts(tasks: Sequence[Task], named: Columns, report: ReadReport, *, skip: bool) -> Iterator[Record]:
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


def _with_id(task: Task) -> dict[str, Any]:
    return {} if task.id is None else {"id": task.id}


def _notes(task: Task) -> list[tuple[str, str]]:
    return [*task.notes, *(task.answers.notes if task.answers else ())]


def _as_row_error(error: BaseException) -> BaseException:
    return RowError(str(error)) if type(error) is ValueError else error


# -- images -----------------------------------------------------------------------------------------------------------


def _names_image(task: Task) -> bool:
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


def _image(task: Task, named: Columns, finder: ImageFinder, report: ReadReport) -> RawImage:
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
