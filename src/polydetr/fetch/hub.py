"""Encoders by Hugging Face id: the few files that are needed, safetensors only, through ``huggingface_hub``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polydetr.core.installed import pip_install
from polydetr.errors import BackboneError, did_you_mean
from polydetr.fetch.wheels import Report

_WANTED = [
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
]


def fetch_from_hub(repo_id: str, *, packaged: Sequence[str], report: Report | None = None) -> Path:
    """The local folder of a hub model, downloaded where allowed and needed (``HF_HUB_OFFLINE`` and the hub's own cache
    are honored). packaged: the backbones to name instead where it cannot be had.

    Raises :class:`BackboneError` where the library is missing, the id is no id, or the files cannot be had.
    """
    offline = f"Without a network take one of the packaged backbones ({', '.join(packaged)}) or a local folder."
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        raise BackboneError(
            f"{repo_id!r} is no packaged backbone and no folder; "
            f"to load it from the Hugging Face hub: {pip_install('hub')}.",
            hint=f"{did_you_mean(repo_id, packaged)} {offline}",
        ) from None
    if report:
        report(f"Looking for {repo_id} on the Hugging Face hub")
    try:
        return Path(snapshot_download(repo_id, allow_patterns=_WANTED))
    except HFValidationError as error:
        raise BackboneError(
            f"{repo_id!r} is no backbone, folder or hub id: {error}.", hint=did_you_mean(repo_id, packaged)
        ) from error
    except Exception as error:  # the client's own, its HTTP library's and OS errors; all mean: not to be had
        reason = str(error).strip().splitlines()
        raise BackboneError(
            f"{repo_id!r} is no packaged backbone and no folder, and the Hugging Face hub did not give it: "
            f"{type(error).__name__}: {reason[0][:300] if reason else ''}",
            hint=offline,
        ) from error
