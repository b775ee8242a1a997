"""What a model reads and answers, as JSON schemas, and a row that it accepts: for the page of the addresses and for
forms. The modalities and tasks say it themselves; what they say comes from what they learned, and quotes no row.
"""

from __future__ import annotations

from typing import Any

from polydetr.inference.service import ServiceModel


def column_schemas(model: ServiceModel) -> dict[str, Any]:
    """Column → JSON schema of its values, in the order of the schema; ``x-modality`` is how it is read.

    A schema describes, and does not decide: whether a value can be read, the model says.
    """
    by_column = {column: m for m in model.engine.encoder.modalities.values() for column in m.fields}
    kinds = {f.name: f.modality for f in model.schema.inputs}
    return {
        column: {**by_column[column].value_schema(column), "x-modality": kind}
        for column, kind in kinds.items()
        if column in by_column
    }


def answer_schemas(model: ServiceModel) -> dict[str, Any]:
    """Target → JSON schema of its answer; ``x-task`` is the task."""
    return {target: {**task.answer_schema(), "x-task": task.kind} for target, task in model.engine.tasks.items()}


def example_row(model: ServiceModel) -> dict[str, Any]:
    """A row that the model accepts, of typical values: column → value, bytes for an image."""
    return {
        column: modality.example_value(column)
        for modality in model.engine.encoder.modalities.values()
        for column in modality.fields
    }
