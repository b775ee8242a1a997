"""Finds a backbone by its name, reads its folder in Hugging Face's layout (JSON and safetensors, nothing that could
run), and keeps what is known of it in a model folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polydetr.core.files import write_json
from polydetr.errors import COPY_AGAIN, BackboneError, ModelFolderError, SaveError, did_you_mean, faults, nearest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from polydetr.fetch.wheels import Report

_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_CONVERT = (
    'python -c "from transformers import AutoModel; '
    "AutoModel.from_pretrained('FOLDER').save_pretrained('NEW_FOLDER', safe_serialization=True)\""
)

FORMAT = 1
"""Of the JSON files that ``save_fields`` writes."""
MOST_LAYERS = 1024


def find_backbone(name: str, kind: Literal["text", "image"], *, report: Report | None = None) -> Path:
    """The folder of a backbone: of a known name (``fetch.catalog``), a local folder (of an image encoder also a
    safetensors file), or a Hugging Face id; the first that fits, in this order.

    ``report`` takes lines of progress. Raises :class:`BackboneError` where it cannot be had, or is of the other kind.
    """
    from polydetr.fetch.backbones import fetch_backbone  # which a trained model never needs
    from polydetr.fetch.catalog import BACKBONES
    from polydetr.fetch.hub import fetch_from_hub

    known = [n for n, spec in BACKBONES.items() if spec.kind == kind]
    if name in BACKBONES:
        other = BACKBONES[name].kind
        if other != kind:
            raise BackboneError(
                f"{name!r} is {'an' if other == 'image' else 'a'} {other} backbone, "
                f"{'an' if kind == 'image' else 'a'} {kind} backbone was expected.",
                hint=did_you_mean("", known),
            )
        return fetch_backbone(name, report=report)
    path = Path(name).expanduser()
    if path.is_dir() or (kind == "image" and path.suffix == ".safetensors"):
        return path
    if path.is_absolute() or name.startswith((".", "~")) or path.exists():
        more = ", tokenizer.json" if kind == "text" else ""
        hint = f"Expected a folder with config.json, model.safetensors{more}."
        raise BackboneError(f"{name!r} is no folder.", hint=hint)
    if "/" not in name and (near := nearest(name, known)):
        raise BackboneError(f"{name!r} is not a known {kind} backbone.", hint=near)
    return fetch_from_hub(name, packaged=known, report=report)


def save_fields(spec: Any, fields: Sequence[str], path: Path) -> None:
    """Writes those attributes of a spec as one JSON object. Raises :class:`SaveError`."""
    try:
        write_json(path, {"format": FORMAT} | {field: getattr(spec, field) for field in fields})
    except OSError as error:
        raise SaveError(f"backbone {spec.name!r} cannot be written to {path.parent}: {error}.") from error


class SavedFields(BaseModel):
    """The form of what :func:`save_fields` wrote: types and ranges, checked before anything is built from it."""

    model_config = ConfigDict(
        defer_build=True, extra="ignore", strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    name: str
    hidden_dim: int = Field(ge=1, le=1 << 20)
    num_layers: int = Field(ge=0, le=MOST_LAYERS)


def load_fields(fields: Sequence[str], path: Path, form: type[SavedFields]) -> dict[str, Any]:
    """What :func:`save_fields` wrote. Raises :class:`ModelFolderError` where it is missing, broken or too new."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path} cannot be read: {error}.", hint=COPY_AGAIN) from error
    version = content.get("format") if isinstance(content, dict) else content
    if version != FORMAT:
        raise ModelFolderError(
            f"{path} has format {version!r}, this version reads {FORMAT}.",
            hint="Install a newer polydetr, or save the model again.",
        )
    if missing := [field for field in fields if field not in content]:
        raise ModelFolderError(f"{path} lacks {', '.join(missing)}.", hint=COPY_AGAIN)
    try:
        form.model_validate(content)
    except ValidationError as error:
        raise ModelFolderError(f"{path} describes no encoder: {faults(error)}.", hint=COPY_AGAIN) from None
    return {field: content[field] for field in fields}


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` as a mapping; raises :class:`BackboneError` where it is missing or not a JSON object."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"{path} cannot be read: {error}.", hint="Expected config.json of a transformers encoder."
        ) from error
    if not isinstance(config, dict):
        raise BackboneError(f"{path} holds {type(config).__name__}, a JSON object was expected.")
    return config


def read_tokenizer(folder: Path) -> Tokenizer:
    """``tokenizer.json`` without truncation and padding; raises :class:`BackboneError` where it is missing or
    broken.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BackboneError(
            f"{path} is missing.",
            hint="Write it with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER).",
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode("A 1.", add_special_tokens=False)
    except BaseException as error:  # the library raises plain Exception for whatever is wrong, or panics
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        raise BackboneError(f"{path} cannot be read as a tokenizer: {error!s:.200}.") from None
    return tokenizer


def is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust gave up, which Python shows as an error that is no ``Exception``."""
    return type(error).__module__ == "pyo3_runtime"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors file or shards, of a folder or of a path that is such a file itself.

    Raises :class:`BackboneError` where there are none, naming what lies there instead.
    """
    if folder.suffix == ".safetensors" and folder.is_file():
        return [folder]
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise BackboneError(f"{index} is not an index of shards: {error}.") from error
        shards = [folder / Path(str(name)).name for name in names]  # in the folder, whatever the index says
        if missing := [shard.name for shard in shards if not shard.is_file()]:
            raise BackboneError(f"{folder} lacks the shards {', '.join(missing)}.", hint="Copy the whole folder again.")
        return shards
    pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLED)
    if pickled:
        raise BackboneError(
            f"{folder} has its weights only in {', '.join(pickled[:3])}; "
            "such a file can run code when it is opened, so it is refused.",
            hint=f"Convert it once, where you trust its author: {_CONVERT}",
        )
    raise BackboneError(
        f"{folder} has no model.safetensors.", hint="Expected a folder as transformers' save_pretrained writes it."
    )


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor, from the headers of the safetensors files alone."""
    from safetensors import SafetensorError, safe_open  # where backbones are read, which the runtime alone never does

    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, "np") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise BackboneError(f"{path} cannot be read: {error}.", hint="Copy or fetch the file again.") from error
    return shapes
