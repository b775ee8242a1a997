"""The whole model: embed each modality, attend over all of them, read the answers.

``forward`` gives each task's raw outputs; losses and decoding live with the tasks.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from polydetr import embedders
from polydetr.backbones.bert import BertEncoder
from polydetr.config import ModelConfig
from polydetr.core.examples import Example
from polydetr.embedders.base import GivesMaps
from polydetr.errors import ConfigError
from polydetr.modalities.base import Modality
from polydetr.nn.batch import Batch, Embedded, Encoded
from polydetr.nn.cpu.linear import Linear, pack
from polydetr.nn.encoder import AttentionWeights, MultiModalEncoder
from polydetr.nn.pooling import masked_mean, mean_of_groups
from polydetr.tasks.base import Task, is_view, view_group


class PolyModel(nn.Module):
    """Embedders, the shared encoder, and one head a target."""

    def __init__(self, modalities: Mapping[str, Modality], tasks: Mapping[str, Task], config: ModelConfig) -> None:
        super().__init__()
        self.embedders = nn.ModuleDict()
        self._views = {target: task.view for target, task in tasks.items() if task.view is not None}
        width = config.embed_dim
        for name, modality in modalities.items():
            embedder = embedders.build(modality, embed_dim=width, others=dict(self.embedders.items()))
            self.embedders[name], width = embedder, embedder.embed_dim
        assert width is not None
        self._reading_maps = _tell_of_maps(self.embedders, tasks)
        pretrained = any(m.is_pretrained for m in modalities.values())
        # ModuleDict keys may not hold dots, and column names may
        self._slots = {target: f"target_{i}" for i, target in enumerate(tasks)}
        self._bringing = [self._slots[target] for target, task in tasks.items() if task.brings_tokens]
        read = [name for name, modality in modalities.items() if modality.fields or name in self._views.values()]
        groups = [*read, *self._bringing]
        self.encoder = MultiModalEncoder(
            groups,
            embed_dim=width,
            num_heads=_heads(config.num_heads, width),
            num_layers=default_layers(config, pretrained=pretrained, num_modalities=len(groups)),
            ffn_dim=config.ffn_dim,
            fusion=config.fusion,
            share=config.share,
            dropout=config.dropout,
            residual_init="zero" if pretrained else "default",
        )
        self.heads = nn.ModuleDict({self._slots[t]: task.build_head(width) for t, task in tasks.items()})
        self.decoder = _share_decoder(self.heads) if config.share_decoder else None
        # Log variances that balance several losses (Kendall et al. 2018, arXiv 1705.07115, eq. 7)
        self.log_variance = nn.Parameter(torch.zeros(len(tasks))) if len(tasks) > 1 else None

    def train(self, mode: bool = True) -> PolyModel:
        """As in PyTorch; going to evaluation also lays the weights out for prediction."""
        super().train(mode)
        if not mode:
            pack(self)
        return self

    @property
    def fits_int8(self) -> bool:
        """Whether it has text encoders to predict in 8-bit integers, and no other backbone that is packed."""
        reads_text = any(isinstance(m, BertEncoder) and len(m.layers) for m in self.modules())
        others = any(callable(getattr(m, "pack", None)) and not isinstance(m, Linear) for m in self.modules())
        return reads_text and not others and not self._bringing

    def use_int8(self, on: bool = True, *, encoder: torch.dtype = torch.float32) -> None:
        """Text encoders predict in 8-bit integers (``nn.int8``), all around them in float32; or no longer.

        encoder: what the shared encoder computes in, at its full rate where there is one for bfloat16.
        """
        self.float()
        self.encoder.to(encoder)
        for module in self.modules():
            if isinstance(module, BertEncoder):
                module.use_int8(on)
        self.train(self.training)

    def encode(self, batch: Batch) -> Encoded:
        """Rows to attended tokens."""
        return self._encoded(self._embed(batch))

    def forward(self, batch: Batch, targets: Collection[str] | None = None) -> dict[str, dict[str, Tensor]]:
        """Target → named outputs, for all targets or those asked for. A head that brings tokens attends apart: the
        others never see them; so does a target's own value, where the batch holds it.
        """
        embedded = self._embed(batch)
        encoded = self._encoded(embedded) if len(self._bringing) < len(self._slots) else None
        outputs: dict[str, dict[str, Tensor]] = {
            target: self.heads[slot](batch, partial(self._attend, embedded, slot))
            if slot in self._bringing
            else self.heads[slot](encoded, batch.targets.get(target))
            if target in self._reading_maps
            else self.heads[slot](encoded)
            for target, slot in self._slots.items()
            if targets is None or target in targets
        }
        for target, name in self._views.items():
            group = batch.groups.get(view_group(target, name))
            if group is not None and target in outputs:
                found = self._encoded({name: self.embedders[name](group)})
                outputs[target]["positive"] = self.heads[self._slots[target]](found)["vector"]
        return outputs

    def head_of(self, target: str) -> nn.Module:
        """What answers ``target``."""
        return self.heads[self._slots[target]]

    def _embed(self, batch: Batch) -> dict[str, Embedded]:
        return {name: self.embedders[name](group) for name, group in batch.groups.items() if not is_view(name)}

    def _encoded(self, embedded: Mapping[str, Embedded]) -> Encoded:
        attended, _ = self.attend(embedded)
        masks = {name: found.mask for name, found in embedded.items()}
        return Encoded(attended, masks, mean_of_groups(attended, masks), embedded)

    def attend(
        self, embedded: Mapping[str, Embedded], *, need_weights: bool = False
    ) -> tuple[dict[str, Tensor], AttentionWeights | None]:
        """Embedded modalities → their tokens after all attended to all, and if asked for, who looked at whom.

        The encoder may compute in other numbers than what is around it (``use_int8``).
        """
        masks = {name: found.mask for name, found in embedded.items()}
        dtype = next((p.dtype for p in self.encoder.parameters()), None)
        tokens = {name: found.tokens if dtype is None else found.tokens.to(dtype) for name, found in embedded.items()}
        attended, weights = self.encoder(tokens, masks, need_weights=need_weights)
        return {name: found.to(embedded[name].tokens.dtype) for name, found in attended.items()}, weights

    def _attend(self, embedded: Mapping[str, Embedded], slot: str, own: Embedded, hidden: Tensor | None) -> Tensor:
        """The tokens that a head brings, after they and the row's attended to one another (``tasks.base.Attend``)."""
        groups = dict(embedded)
        if hidden is not None:
            groups = {n: Embedded(g.tokens, g.mask & ~hidden[:, None]) for n, g in groups.items() if not hidden.all()}
        groups[slot] = own
        return self.attend(groups)[0][slot]

    def total_loss(self, terms: Mapping[str, Mapping[str, Tensor]], tasks: Mapping[str, Task]) -> Tensor:
        """All targets' terms as one number: weighted by the configuration, and balanced where there are several."""
        sums = [tasks[target].config.loss_weight * sum(named.values()) for target, named in terms.items()]
        losses = torch.stack([torch.as_tensor(s) for s in sums])
        if self.log_variance is None:
            return losses.sum()
        balanced = torch.exp(-self.log_variance) * losses + 0.5 * self.log_variance
        # A target without one label in this batch has nothing to say about its weight, which would otherwise run away.
        return balanced[losses.detach() != 0].sum()

    def load_pretrained(self, modalities: Mapping[str, Modality]) -> None:
        """Lays each modality's pretrained weights over the random ones."""
        for name, modality in modalities.items():
            weights = embedders.pretrained(modality)
            if weights:
                unexpected = self.embedders[name].load_state_dict(dict(weights), strict=False).unexpected_keys
                assert not unexpected, unexpected

    @torch.no_grad()
    def name_labels(self, tasks: Mapping[str, Task], text: Modality) -> None:
        """Gives heads that know labels by vectors those of the labels' names (``Task.named_labels``)."""
        reader = text.over(["label"])
        for target, task in tasks.items():
            if not task.named_labels:
                continue
            spoken = [re.sub(r"[\W_]+", " ", label) for label in task.named_labels]
            windows = [reader.encode([{"label": name}]).windows[0] for name in spoken]
            group = Batch.collate([Example({"text": window.arrays}) for window in windows]).groups["text"]
            found = self.embedders["text"](group)
            self.heads[self._slots[target]].name_labels(masked_mean(found.tokens, found.mask))  # type: ignore[operator]


def _tell_of_maps(embedders: nn.ModuleDict, tasks: Mapping[str, Task]) -> set[str]:
    """The targets whose heads read maps, once they know what maps there are."""
    reading = {target for target, task in tasks.items() if task.reads_maps}
    for embedder in embedders.values():
        if reading and isinstance(embedder, GivesMaps):
            for target in reading:
                tasks[target].map_channels, tasks[target].grid = embedder.map_channels, embedder.grid
    return reading


def _share_decoder(heads: nn.ModuleDict) -> nn.Module:
    """One decoder for all heads that decode sets: what it learns from the boxes of one it knows for the spans of
    another.

    Raises:
        ConfigError: there are no two such heads, or their decoders are not of one shape.
    """
    users = [head for head in heads.values() if hasattr(head, "use_decoder")]
    lent = next((head.decoder for head in users if getattr(head, "decoder", None) is not None), None)
    if len(users) < 2 or lent is None:
        raise ConfigError(
            "model.share_decoder: there are no two targets that could share one",
            hint="It is for a target of entities beside one of detection, with entities.decoder_layers above 0.",
        )
    for head in users:
        head.use_decoder(lent)  # type: ignore[operator]
    return lent  # type: ignore[return-value]


def default_layers(config: ModelConfig, *, pretrained: bool, num_modalities: int) -> int:
    """A pretrained backbone alone already attends; modalities that must meet, and random weights, need layers."""
    if config.num_layers is not None:
        return config.num_layers
    return 0 if pretrained and num_modalities == 1 else 2


def _heads(wanted: int, width: int) -> int:
    """The largest number of heads up to ``wanted`` that divides the width."""
    return next(h for h in range(wanted, 0, -1) if width % h == 0)
