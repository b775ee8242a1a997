"""Models as a door describes them, one per task, and corrections of their rows."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from PIL import Image

from polydetr.serving.contract import ModelInfo
from polydetr.serving.rows import Columns
from polydetr.studio.correction import Correction
from polydetr.studio.correction_rows import inputs_of, packed
from polydetr.studio.correction_values import TargetForm, check

BEGAN = datetime(2026, 11, 29, 12, tzinfo=UTC)


def model_info(inputs: Mapping[str, str], name: str = "model", **targets: Mapping[str, Any]) -> ModelInfo:
    """inputs: column → modality. targets: name → {"task": its task} and what the folder keeps of it."""
    schema = {
        "inputs": [{"name": column, "modality": kind} for column, kind in inputs.items()],
        "targets": [{"name": target, "task": about["task"]} for target, about in targets.items()],
    }
    tasks = {target: {"kind": about["task"], **about} for target, about in targets.items()}
    return ModelInfo(name, "seal-1", {"schema": schema, "tasks": tasks}, columns={}, answers={}, runtime="torch fp32")


CLASSES = model_info({"text": "text"}, label={"task": "classification", "labels": ["bad", "good"]})
TYPED = model_info({"text": "text"}, level={"task": "classification", "labels": [1, 2, 3]})
SEVERAL = model_info(
    {"text": "text"}, topics={"task": "classification", "labels": ["art", "film", "sport"], "multi_label": True}
)
NUMBER = model_info({"text": "text", "minutes": "number"}, stars={"task": "regression"})
TAGS = model_info({"text": "text"}, tags={"task": "tagging", "labels": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]})
TOKENS = model_info({"tokens": "text"}, tags={"task": "tagging", "labels": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]})
PARTS = model_info({"text": "text"}, pos={"task": "tagging", "labels": ["NOUN", "VERB"], "plain": True})
ENTITIES = model_info({"title": "text", "text": "text"}, entities={"task": "entities", "labels": ["LOC", "PER"]})
QUESTIONS = model_info({"question": "text", "context": "text"}, answers={"task": "qa"})
BOXES = model_info({"image": "image"}, objects={"task": "detection", "labels": ["cat", "dog"]})
VECTORS = model_info({"text": "text"}, near={"task": "embedding"})


def image_bytes(width: int = 32, height: int = 24, color: Any = (200, 30, 30), kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), color).save(stream, kind)
    return stream.getvalue()


def target_of(info: ModelInfo) -> str:
    return info.description["schema"]["targets"][0]["name"]


def checked(info: ModelInfo, value: Any, row: Mapping[str, Any], **how: Any) -> Any:
    """The value of the model's first target, as it is kept."""
    return check(TargetForm.of(info, target_of(info)), value, row, **how)


def corrections_of(
    info: ModelInfo, pairs: Sequence[tuple[Mapping[str, Any], Any]], *, target: str | None = None
) -> list[Correction]:
    """One per row and value of the model's first target, or of the one named."""
    target = target or target_of(info)
    form = TargetForm.of(info, target)
    made = []
    for i, (row, value) in enumerate(pairs):
        inputs = inputs_of(row, Columns.of(info))
        made.append(Correction(
            f"id-{i:08}", info.name, info.version, inputs, packed(inputs).key, target, form,
            {"prediction": None, "probability": None}, check(form, value, inputs, new_label=True).value, "repaired",
            "Ada", BEGAN + timedelta(seconds=i), 1,
        ))  # fmt: skip
    return made
