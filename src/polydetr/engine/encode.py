"""The one path from rows to what the model reads. Training, evaluation, prediction, export and serving all call
``RowEncoder.encode``.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from polydetr.core.access import FileAccess
from polydetr.core.ahead import cores
from polydetr.core.documents import EncodedDocument, EncodedGroup
from polydetr.core.examples import Arrays, Example
from polydetr.core.layout import FieldText
from polydetr.core.records import Finding, Record, Row, access_of
from polydetr.errors import Location, RowError, listed, row_fault
from polydetr.modalities.base import Modality, ReadsFiles
from polydetr.tasks.base import Task, WindowView
from polydetr.tasks.capabilities import BringsTokens, ChecksLabels, FindsInImages, HasPositive, NamesFiles

MAX_DOCUMENT_ROWS = 64
"""Rows of one document that are read together at most: bounds memory however long the document is."""
Strictness = Literal["strict", "normal", "lenient"]


class RowEncoder:
    """Joins the modalities' tokens and the tasks' targets into examples.

    strictness: how a row is treated that is unlike the training rows. "normal": a value that cannot be read is an
    error, and all else is a warning; "strict": whatever would be a warning is an error; "lenient": a value that cannot
    be read counts as missing, with a warning.
    """

    def __init__(self, modalities: Mapping[str, Modality], tasks: Mapping[str, Task], *, context: bool) -> None:
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        self.strictness: Strictness = "normal"
        # The modalities left out have no column of their own: they encode a history's items or a target's values.
        self.read = {name: modality for name, modality in self.modalities.items() if modality.fields}
        self.positives = {
            target: modalities[task.positive_modality].over([target])
            for target, task in tasks.items()
            if isinstance(task, HasPositive)
            and task.positive_modality is not None
            and task.positive_modality in modalities
        }
        # Asked for every row, where comparing with a protocol would take longer than reading a number.
        self._bring_tokens = [task for task in tasks.values() if isinstance(task, BringsTokens)]
        self._on_images = {target: task for target, task in tasks.items() if isinstance(task, FindsInImages)}
        self._checked = {target: task for target, task in tasks.items() if isinstance(task, ChecksLabels)}
        self._name_files = {target for target, task in tasks.items() if isinstance(task, NamesFiles)}
        self.padding = {target: task.padded for target, task in tasks.items()}
        one_field = len(self.read) == 1 and all(len(m.fields) == 1 for m in self.read.values())
        self.context = context and one_field and all(task.reads_document for task in self.tasks.values())
        reads_files = any(isinstance(m, ReadsFiles) and m.reads_files for m in self.modalities.values())
        self.workers = cores() if reads_files else 0
        """Threads worth encoding rows ahead in: none for what is quick."""

    def with_strictness(self, strictness: Strictness) -> RowEncoder:
        """A copy with another strictness."""
        other = copy.copy(self)
        other.strictness = strictness
        return other

    def of_positives(self, target: str) -> RowEncoder:
        """An encoder of the target's own value in place of the inputs (``HasPositive``)."""
        side = self.positives[target].by_itself()
        return RowEncoder({side.name: side}, {target: self.tasks[target]}, context=False).with_strictness(
            self.strictness
        )

    def fault_in(self, column: str | None) -> str:
        """The kind of ``Finding`` for a value of this column that cannot be read."""
        return next((m.fault for m in self.read.values() if column in m.fields), "unreadable")

    def documents(self, records: Iterable[Record]) -> Iterator[list[Record]]:
        """Neighboring rows of one document together, where the tasks read documents; otherwise each row alone."""
        group: list[Record] = []
        for record in records:
            together = self.context and group and record.document is not None and record.document == group[-1].document
            if group and (not together or len(group) >= MAX_DOCUMENT_ROWS):
                yield group
                group = []
            group.append(record)
        if group:
            yield group

    def encode(self, records: Sequence[Record], *, with_targets: bool) -> EncodedDocument:
        """One document's windows.

        Raises:
            RowError: a value cannot be read, or anything else fails within a row; its location names file, row and
            column.
        """
        try:
            return self._encode(records, with_targets=with_targets)
        except BaseException as fault:
            error = row_fault(fault, records[0].location)
            if len(records) > 1:  # find out which row it was
                for record in records:
                    self.encode([record], with_targets=with_targets)
            raise error from (None if isinstance(fault, RowError) else fault)

    def _encode(self, records: Sequence[Record], *, with_targets: bool) -> EncodedDocument:
        rows, access = [record.row for record in records], access_of(records[0])
        groups = {name: self._group(modality, rows, access) for name, modality in self.read.items()}
        warnings = [warning for g in groups.values() for warning in g.warnings]
        self._judge(groups, warnings)
        windowed = next((g for g in groups.values() if g.texts), None)
        count = max(len(g.windows) for g in groups.values())
        texts = windowed.texts if windowed else ()
        golds = self._golds(records, texts, groups, warnings) if with_targets else {}
        positives = self._positives(records, golds, count, warnings) if with_targets else {}
        examples, layouts = [], []
        for i in range(count):
            windows = {name: g.windows[i if len(g.windows) > 1 else 0] for name, g in groups.items()}
            layout = next((w.layout for w in windows.values() if w.layout is not None), None)
            arrays = {name: window.arrays for name, window in windows.items()}
            content = _content(arrays) if positives else 0
            sides = {target: g.windows[i % len(g.windows)].arrays for target, g in positives.items()}
            targets = {
                t: self.tasks[t].encode_target(WindowView(layout, gold, content, arrays)) for t, gold in golds.items()
            }
            padding = self.padding if with_targets else {}
            examples.append(Example(arrays, targets, sides, 1.0 / count, self._cost(arrays, sides), padding))
            layouts.append(layout)
        return EncodedDocument(records, examples, layouts, texts, warnings, golds)

    def _positives(
        self, records: Sequence[Record], golds: Mapping[str, Sequence[Any]], count: int, warnings: list[Finding]
    ) -> dict[str, EncodedGroup]:
        """The encoded values of the targets that are embedded (``HasPositive``). count: windows of the inputs."""
        positives = {}
        for target, side in self.positives.items():
            known = golds[target][0] is not None
            row = records[0].row if known else {}
            positives[target] = group = self._group(side, [row], access_of(records[0]))
            if known:
                warnings += group.warnings
            if len(group.windows) > count:
                message = f"{target!r} is read through {len(group.windows)} windows; training sees {count} of them"
                warnings.append(Finding("truncated", target, message))
        return positives

    def _group(self, modality: Modality, rows: Sequence[Row], access: FileAccess) -> EncodedGroup:
        """One modality's windows; when lenient, a value that cannot be read counts as missing."""
        findings: list[Finding] = []
        while True:
            try:
                group = modality.encode(rows, access=access)
                return dataclasses.replace(group, warnings=[*findings, *group.warnings]) if findings else group
            except RowError as error:
                column = error.location.column if error.location else None
                if self.strictness != "lenient" or column is None or any(f.column == column for f in findings):
                    raise
                findings.append(Finding(modality.fault, column, f"{column!r}: {error.message}"))
                rows = [{**row, column: None} for row in rows]

    def _judge(self, groups: Mapping[str, EncodedGroup], findings: Sequence[Finding]) -> None:
        if all(group.is_empty for group in groups.values()):
            fields = listed(f for m in self.read.values() for f in m.fields)
            raise RowError(f"every value that the model reads is missing: {fields}")
        if self.strictness == "strict" and findings:
            first = findings[0]
            hint = "Repair the row, or judge rows less strictly: strictness='normal' (predict without --strict)."
            kind = first.kind.replace("_", " ")
            raise RowError(f"{kind}: {first.message}", location=Location(column=first.column), hint=hint)

    def _cost(self, groups: Mapping[str, Arrays], positives: Mapping[str, Arrays]) -> int:
        """Tokens that the model attends over for this example."""
        read = [(self.modalities[name], arrays) for name, arrays in groups.items()]
        read += [(self.positives[target], arrays) for target, arrays in positives.items()]
        tokens = sum(len(next(iter(arrays.values()))) * modality.tokens_per_entry for modality, arrays in read)
        return tokens + sum(task.num_own_tokens for task in self._bring_tokens)

    def _golds(
        self,
        records: Sequence[Record],
        texts: Sequence[FieldText],
        groups: Mapping[str, EncodedGroup],
        warnings: list[Finding],
    ) -> dict[str, list[Any]]:
        """Target → every row's label, read once however many windows there are; adds a warning for a doubtful one."""
        golds: dict[str, list[Any]] = {target: [] for target in self.tasks}
        for i, record in enumerate(records):
            for target, task in self.tasks.items():
                row = task_row(task, record) if target in self._name_files else record.row
                gold = task.gold(row, texts[i] if texts else None)
                if (finder := self._on_images.get(target)) is not None:
                    gold = finder.on_image(gold, groups["image"].windows[0].arrays)
                golds[target].append(gold)
                if (checker := self._checked.get(target)) is not None and (problems := [*checker.problems(gold)]):
                    where = dataclasses.replace(record.location, column=target)
                    warnings += [Finding("label", target, f"{where}: {problem}") for problem in problems]
        return golds


def _content(groups: Mapping[str, Arrays]) -> int:
    """A number that is the same for windows of the same arrays: a hash of them."""
    digest = hashlib.blake2b(digest_size=8)
    for name, arrays in groups.items():
        for key, array in arrays.items():
            digest.update(f"{name}.{key}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return int.from_bytes(digest.digest(), "little", signed=True)


def task_row(task: Task, record: Record) -> Row:
    """The row as the task reads its label: its files lie beside the file that names them."""
    return task.located(record.row, access_of(record)) if isinstance(task, NamesFiles) else record.row
