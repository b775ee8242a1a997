"""A published DETR as a model folder: what it was trained for, without training anything."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from polydetr.config.loading import load_config
from polydetr.core.files import write_text
from polydetr.errors import BackboneError
from polydetr.inference.folder import CARD
from polydetr.model.build import build_model
from polydetr.model.folder import check_replaceable, describe_model, save_folder
from polydetr.reports.model_card import model_card
from polydetr.schema.spec import FieldSpec, Schema, TargetSpec
from polydetr.specs.image import load_image_spec

IMAGE, OBJECTS = "image", "objects"


def import_detr(
    checkpoint: str | Path,
    out: Path,
    *,
    size: int,
    fit: Literal["stretch", "pad"],
    threshold: float,
) -> None:
    """Writes a model folder that reads a column "image" and predicts "objects", by the checkpoint's own labels.

    checkpoint: a folder, a safetensors file or a Hugging Face id; size: pixels per side that the model sees; fit: how
    an image that is not square becomes so; threshold: score from which a box is predicted.
    Raises:
        BackboneError: it is no DETR, or not there. SaveError: ``out`` cannot be written, or holds something that is not
        a model.
    """
    check_replaceable(out)
    if "/" not in (named := str(checkpoint)) and not Path(named).exists():  # no Hugging Face id either
        raise BackboneError(f"{named!r} is no folder or file.", hint="Name what holds a published DETR.")
    backbone = load_image_spec(str(checkpoint))
    if backbone.detr is None:
        raise BackboneError(
            f"{str(checkpoint)!r} holds an image backbone and no detector.",
            hint="Train one over it: polydetr train --backbone image=FOLDER --target objects:detection.",
        )
    options = {
        "architecture": "detr", "labels": backbone.detr["labels"], "threshold": threshold,
        "num_queries": backbone.detr["num_queries"],
    }  # fmt: skip
    config = load_config(
        {
            "backbone": {"image": str(checkpoint)},
            "image": {"size": size, "fit": fit, "max_images": 1},
            "tasks": {OBJECTS: options},
        },
        target={OBJECTS: "detection"},
        inputs={IMAGE: "image"},
    )
    schema = Schema((FieldSpec(IMAGE, "image"),), (TargetSpec(OBJECTS, "detection"),))
    assembly = build_model(config, schema, [], notify=lambda message: None)
    info = {**describe_model(config, schema, assembly.model), "imported": Path(checkpoint).name}
    card = {
        "name": out.name,
        "description": f"A published DETR, {info['imported']}, as it was: nothing was trained or measured here.",
        "polydetr_version": info["versions"]["polydetr"],
        "date": info["created"][:10],
        "schema": {
            "inputs": {IMAGE: "image"},
            "targets": {OBJECTS: {"task": "detection", "labels": backbone.detr["labels"]}},
        },
        "run": {"parameters": info["parameters"]},
        "backbone": {"name": info["imported"]},
    }
    weights = assembly.model.state_dict()
    save_folder(out, assembly.engine, weights, info, extra=lambda new: write_text(new / CARD, model_card(**card)))
