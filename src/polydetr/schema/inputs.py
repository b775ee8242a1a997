"""What the model reads: the columns that are left once the targets are known, each by its modality or left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polydetr.core.reading import SAY_IMAGES
from polydetr.schema.columns import determines, holds_words, infer_modality, may_name_images, numbers_of
from polydetr.schema.spec import FieldSpec, TargetSpec


def named_field(name: str, modality: str | None, values: list[Any], declared: str | None) -> FieldSpec:
    """A column that the user named: never left out unless that was asked for."""
    if modality is None:
        inferred = infer_modality(name, values, declared)[0]
        modality = readable_as(name, values) if inferred == "ignore" else inferred
    return FieldSpec(name, modality)


def readable_as(name: str, values: list[Any]) -> str:
    """How a column can be read that inference leaves out."""
    return "number" if values and numbers_of(name, values) is not None else "text"


def infer_inputs(
    columns: Mapping[str, list[Any]],
    targets: Sequence[TargetSpec],
    rows: Sequence[Mapping[str, Any]],
    messages: list[str],
    chosen: Mapping[str, str | None],
    declared: Mapping[str, str],
) -> tuple[FieldSpec, ...]:
    """All columns but the targets; ``chosen``: columns whose modality the user named (None: to be inferred)."""
    named = {t.name for t in targets}
    tasks = {t.task for t in targets}
    if "qa" in tasks and {"question", "context"} <= columns.keys():
        return only_texts(["question", "context"], columns, named)
    inferred = {n: infer_modality(n, values, declared.get(n)) for n, values in columns.items() if n not in named}
    modalities = {name: modality for name, (modality, _) in inferred.items()}
    if not {"text", "image", "history", "number"} & set(modalities.values()):
        _promote(modalities, {n: v for n, v in columns.items() if n not in declared})
    fields = []
    for name, modality in modalities.items():
        if name in chosen:
            fields.append(named_field(name, chosen[name], columns[name], declared.get(name)))
            continue
        reason = inferred[name][1] or _reason_to_ignore(name, modalities, targets, rows)
        if reason:
            messages.append(f"Column {name!r} is left out: {reason}.")
        fields.append(FieldSpec(name, "ignore" if reason else modality))
    return tuple(fields)


def _reason_to_ignore(
    name: str, modalities: Mapping[str, str], targets: Sequence[TargetSpec], rows: Sequence[Mapping[str, Any]]
) -> str:
    """Why a column that could be read is left out all the same; "" where it is not."""
    modality, tasks = modalities[name], {t.task for t in targets}
    if modality in ("category", "number"):
        for target in targets:
            if target.task == "classification" and determines(name, target.name, rows):
                return f"each of its values goes with one {target.name!r} only, so it gives the answer away"
    if tasks == {"detection"}:
        # Readers of boxes call the image "image"; "image_id" may be its path once more.
        wanted = name == "image" if modalities.get("image") == "image" else modality == "image"
        return "" if wanted else "detection reads the image alone, unless an input is named"
    pointing = tasks & {"tagging", "qa", "entities"}
    if pointing and modality != "text" and not (modality == "image" and "detection" in tasks):
        return f"{min(pointing)} reads the text alone, unless an input is named"
    return ""


def only_texts(wanted: list[str], columns: Mapping[str, list[Any]], named: set[str]) -> tuple[FieldSpec, ...]:
    """Those columns as texts; all others but the targets (``named``) are left out."""
    rest = [c for c in columns if c not in wanted and c not in named]
    return (*(FieldSpec(c, "text") for c in wanted), *(FieldSpec(c, "ignore") for c in rest))


def _promote(modalities: dict[str, str], columns: Mapping[str, list[Any]]) -> None:
    """Without any text, the column of the longest strings is the text: short texts look like categories. (Codes and
    truth values do not look like texts.)
    """
    strings = [n for n, m in modalities.items() if m == "category" and n in columns and holds_words(columns[n])]
    if strings:
        longest = max(strings, key=lambda n: sum(len(str(v)) for v in columns[n]) / len(columns[n]))
        modalities[longest] = "text"


def unopened_images(
    columns: Mapping[str, list[Any]], fields: Sequence[FieldSpec], named: Mapping[str, str | None]
) -> list[str]:
    """A sentence for each column that may hold names of images, where no image is read."""
    if any(field.modality == "image" for field in fields):
        return []
    return [
        f"Column {f.name!r} may hold names of images, without suffix: to have them opened, say {f.name}:image "
        f"(--input {f.name}:image, inputs={{{f.name!r}: 'image'}}) and where they lie: {SAY_IMAGES}."
        for f in fields
        if f.name not in named and may_name_images(f.name, columns[f.name])
    ]
