"""What would end a run after its first step, or make its scores those of other rows: found before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polydetr.core.documents import EncodedDocument
from polydetr.core.records import Record
from polydetr.engine.inputs import no_column
from polydetr.engine.measure import measured_targets, unmeasured_warnings
from polydetr.errors import Location, SchemaError
from polydetr.schema.spec import IGNORE, Schema
from polydetr.tasks.base import Task

_WORDS = {"valid": "the validation rows", "test": "the test rows"}


def check_columns(records: Sequence[Record], schema: Schema, *, split: str) -> None:
    """Refuses rows to measure on as a prediction and an evaluation would.

    Raises:
        SchemaError: there are none, or a column that the model reads, or every target, is in none of them.
    """
    if not records:
        raise SchemaError(f"of {_WORDS[split]} none could be read.", hint=_remedy(split))
    columns = dict.fromkeys(name for record in records for name in record.row)
    file = records[0].location.file
    for field in schema.inputs:
        if field.modality != IGNORE and field.name not in columns:
            raise no_column(field.name, columns, f"which the model reads, in {_WORDS[split]}", file=file)
    targets = [target.name for target in schema.targets]
    if targets and not any(name in columns for name in targets):
        what = f"the target to measure against, in {_WORDS[split]}"
        raise no_column(targets[0], columns, what, file=file, hint=_remedy(split))


def check_labels(documents: Sequence[EncodedDocument], tasks: Mapping[str, Task], *, split: str) -> list[str]:
    """A warning for each target of which no row of a split has a value.

    Raises:
        SchemaError: so it is with all of them.
    """
    golds = {target: [gold for document in documents for gold in document.golds[target]] for target in tasks}
    try:
        return unmeasured_warnings(tasks, measured_targets(golds), where=_WORDS[split])
    except SchemaError as error:
        file = documents[0].records[0].location.file if documents else None
        message = f"in {_WORDS[split]} {error.message}"
        raise SchemaError(message, location=Location(file=file), hint=_remedy(split)) from None


def _remedy(split: str) -> str:
    return f"Leave out {split} (train --{split}); rows without labels are answered by predict."
