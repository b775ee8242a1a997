"""Any other transformers encoder (DeBERTa, ModernBERT, DistilBERT, ...) behind the same ``forward`` as
``BertEncoder``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polydetr.core.installed import pip_install
from polydetr.errors import BackboneError


class TransformersEncoder(nn.Module):
    """``AutoModel`` of a known architecture with random weights; no remote code. dropout: of its hidden states, where
    it is not to be what the configuration says. position_offset: the number of the first token's position
    (``describe``).

    Raises :class:`BackboneError` where transformers is missing or does not know ``model_type``.
    """

    def __init__(self, hf_config: Mapping[str, Any], *, dropout: float | None = None, position_offset: int = 0) -> None:
        super().__init__()
        from transformers import AutoModel

        self.model = AutoModel.from_config(_configuration(hf_config), trust_remote_code=False).to(torch.float32)
        if dropout is not None:  # architectures name it differently, and all keep it in such modules
            for module in self.model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = dropout
        self.position_offset = position_offset
        self.accepted = frozenset(inspect.signature(self.model.forward).parameters)
        if getattr(self.model.config, "type_vocab_size", 2) < 2:  # all that it reads is one segment
            self.accepted -= {"token_type_ids"}

    def forward(
        self,
        input_ids: Tensor,
        mask: Tensor,
        segment_ids: Tensor | None = None,
        positions: Tensor | None = None,
        *,
        extra: Tensor | None = None,
    ) -> Tensor:
        """input_ids (B, L) int64, mask (B, L) bool, True = real → (B, L, hidden_dim).

        extra: (B, L, width of the word embeddings), added to them (what the tokenizer loses, such as letter case).
        Segments and positions are passed on where the architecture takes them; one that does not has no use for them.
        """
        if self.position_offset:
            count = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
            positions = (count if positions is None else positions) + self.position_offset
        optional = {"token_type_ids": segment_ids, "position_ids": positions}
        passed = {k: v for k, v in optional.items() if v is not None and k in self.accepted}
        if extra is None:
            passed["input_ids"] = input_ids
        else:
            passed["inputs_embeds"] = self.model.get_input_embeddings()(input_ids) + extra
        return self.model(attention_mask=mask.long(), **passed).last_hidden_state


def describe(hf_config: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """(hidden_dim, num_layers, max_positions, position_offset), by transformers' own common names for them."""
    config = _configuration(hf_config)
    hidden, layers = getattr(config, "hidden_size", None), getattr(config, "num_hidden_layers", None)
    if not isinstance(hidden, int) or not isinstance(layers, int):
        raise BackboneError(
            f"a {hf_config.get('model_type')!r} model has no plain hidden_size and num_hidden_layers.",
            hint="Choose a text encoder.",
        )
    longest = int(getattr(config, "max_position_embeddings", None) or 512)
    with torch.device("meta"):  # no weights
        parts = TransformersEncoder(hf_config).named_modules()
    tables = (part for name, part in parts if name.endswith("position_embeddings") and hasattr(part, "padding_idx"))
    return hidden, layers, *_numbered(next(tables, None), longest)


def _numbered(table: Any, longest: int) -> tuple[int, int]:
    """(max_positions, position_offset): positions begin after the padding id where that has an entry in their table
    (RoBERTa's habit), or after what the table holds beyond the ``longest`` text (Nystromformer's).
    """
    if table is None:
        return longest, 0
    if table.padding_idx is not None:
        offset = table.padding_idx + 1
        return len(table.weight) - offset, offset
    return longest, max(0, len(table.weight) - longest)


def pretrained_state(folder: Path, hf_config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The folder's weights in fp32 under the names of :class:`TransformersEncoder`'s state dict."""
    from transformers import AutoModel

    try:
        model, loading = AutoModel.from_pretrained(
            folder,
            config=_configuration(hf_config),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BackboneError(f"the weights in {folder} cannot be loaded: {error}.") from error
    missing = sorted(name for name in loading["missing_keys"] if "pooler" not in name)
    if missing:
        raise BackboneError(f"the weights in {folder} lack {len(missing)} tensors, {missing[0]!r} first.")
    return {f"model.{name}": tensor for name, tensor in model.state_dict().items()}


_FETCHES = (
    "auto_map",
    "attn_implementation",
    "experts_implementation",
    "quantization_config",
    "use_pretrained_backbone",
)
"""Settings by which transformers would fetch code, kernels or other weights."""


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, and those of the parts below, that say what is computed; none that fetches or runs anything.

    Raises :class:`BackboneError` where the encoder is one of another library.
    """
    if settings.get("use_timm_backbone") or str(settings.get("model_type", "")).startswith("timm"):
        raise BackboneError("an encoder of the library timm is not supported.", hint="Choose one of transformers' own.")
    kept = {key: value for key, value in settings.items() if key not in _FETCHES and not str(key).startswith("_")}
    return {key: _plain(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _configuration(hf_config: Mapping[str, Any]) -> Any:
    try:
        from transformers import AutoConfig
    except ImportError:
        raise BackboneError(
            f"a {hf_config.get('model_type')!r} encoder needs the transformers library.", hint=f"{pip_install('hub')}."
        ) from None
    settings = _plain(hf_config)
    kind = str(settings.pop("model_type", ""))
    try:
        return AutoConfig.for_model(kind, **settings)
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(
            f"transformers does not know the architecture {kind!r}: {str(error).splitlines()[0][:200]}",
            hint="Its code would have to come with the weights, which is never run; choose another encoder.",
        ) from error
