"""Reads the files of a model folder in Hugging Face's layout: JSON and safetensors, nothing that could run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polydetr.errors import BackboneError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_CONVERT = (
    'python -c "from transformers import AutoModel; '
    "AutoModel.from_pretrained('FOLDER').save_pretrained('NEW_FOLDER', safe_serialization=True)\""
)


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` as a mapping; raises :class:`BackboneError` where it is missing or not a JSON object."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"{path} cannot be read: {error}.", hint="Expected config.json of a transformers encoder."
        ) from error
    if not isinstance(found, dict):
        raise BackboneError(f"{path} holds {type(found).__name__}, a JSON object was expected.")
    return found


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
    except Exception as error:  # the library raises plain Exception for whatever is wrong with the file
        raise BackboneError(f"{path} cannot be read as a tokenizer: {error}.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def weight_files(folder: Path) -> list[Path]:
    """The safetensors file or shards. Raises :class:`BackboneError` where there are none, naming what lies there
    instead.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise BackboneError(f"{index} is not an index of shards: {error}.") from error
        shards = [
            folder / Path(str(name)).name for name in names
        ]  # a shard lies in the folder, whatever the index says
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
