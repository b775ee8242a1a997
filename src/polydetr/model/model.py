"""The whole model: an embedder per modality, the shared encoder over all of them, a head per target.

``forward`` gives each task's raw outputs; losses and decoding live with the tasks.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from polydetr import embedders, heads
from polydetr.backbones.bert import BertEncoder
from polydetr.config.sections import ModelConfig
from polydetr.core.examples import PaddedGroup
from polydetr.embedders.base import AddsUp, Embedder, GivesMaps, HasDetr
from polydetr.errors import ConfigError
from polydetr.heads.base import DecodesSets, EncoderShape, GeneratesImages, Head, NamesLabels, TakesDetr, TakesSums
from polydetr.modalities.base import Modality
from polydetr.nn.batch import Batch, Embedded, Encoded, TokenGroup
from polydetr.nn.cpu.linear import Linear, Packed, pack
from polydetr.nn.encoder import AttentionWeights, MultiModalEncoder
from polydetr.nn.numbers import CellSums
from polydetr.nn.pooling import masked_mean, mean_of_groups
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import BringsTokens, FindsInImages, HasLabels, HasPositive


class PolyModel(nn.Module):
    """Embedders, the shared encoder, and one head per target. label_smoothing: of the heads' losses."""

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        tasks: Mapping[str, Task],
        config: ModelConfig,
        *,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedders = nn.ModuleDict()
        self._positives = {
            target: task.positive_modality
            for target, task in tasks.items()
            if isinstance(task, HasPositive) and task.positive_modality is not None
        }
        width = config.embed_dim
        for name, modality in modalities.items():
            embedder = embedders.build(modality, embed_dim=width, others=dict(self.embedders.items()))
            self.embedders[name], width = embedder, embedder.embed_dim
        assert width is not None
        shape = _shape(self.embedders, width, maps=any(isinstance(task, FindsInImages) for task in tasks.values()))
        self.embed_dim = width
        pretrained = any(m.is_pretrained for m in modalities.values())
        # ModuleDict keys may not hold dots, and column names may
        self._slots = {target: f"target_{i}" for i, target in enumerate(tasks)}
        self._bringing = [self._slots[target] for target, task in tasks.items() if isinstance(task, BringsTokens)]
        read = [name for name, modality in modalities.items() if modality.fields or name in self._positives.values()]
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
            zero_init=pretrained,
        )
        self.heads = nn.ModuleDict(
            {self._slots[t]: heads.build(task, shape, label_smoothing=label_smoothing) for t, task in tasks.items()}
        )
        self.decoder = _share_decoder(self.heads) if config.share_decoder else None
        self.additive = self._add_up(modalities, rank=config.pair_factors) if config.additive else {}
        self.means = nn.ModuleDict()
        """Slot → modality → what the mean of its backbone's tokens adds to the same logits."""
        for target, reader in self.additive.items():
            others = [n for n, m in modalities.items() if m.fields and n != reader and m.is_pretrained]
            num_outputs = self.adder_of(target)[1].num_outputs
            self.means[self._slots[target]] = nn.ModuleDict({name: _zero_linear(width, num_outputs) for name in others})
        # What attention adds to such sums is this share of it (``open_gate``).
        self.gate: Tensor | None
        self.register_buffer("gate", torch.ones(1) if self.additive else None)
        # Log variances that balance several losses (Kendall et al. 2018, arXiv 1705.07115, eq. 7)
        self.log_variance = nn.Parameter(torch.zeros(len(tasks))) if len(tasks) > 1 else None

    def _add_up(self, modalities: Mapping[str, Modality], *, rank: int) -> dict[str, str]:
        """Target → the modality whose cells add up to a part of its logits."""
        reader = next((n for n, m in modalities.items() if m.fields and isinstance(self.embedders[n], AddsUp)), None)
        added: dict[str, str] = {}
        if reader is None:
            return added
        for target, slot in self._slots.items():
            head, embedder = self.heads[slot], self.embedders[reader]
            if isinstance(head, TakesSums) and isinstance(embedder, AddsUp):
                embedder.add_up(slot, head.num_outputs, rank=rank)
                added[target] = reader
        return added

    def adder_of(self, target: str) -> tuple[AddsUp, CellSums]:
        """The embedder whose cells add up to a part of the target's logits, and how; of targets in ``additive``."""
        embedder = self.embedders[self.additive[target]]
        assert isinstance(embedder, AddsUp)
        return embedder, embedder.sums_of(self._slots[target])

    def open_gate(self, share: float) -> None:
        """Lets this share of what attention adds to sums through, 0 … 1. Training opens it in its first steps: a head
        of zeros, or a gate that is learned, stays shut over a network that knows nothing yet, which then never learns.
        """
        if self.gate is not None:
            self.gate.fill_(min(1.0, share))

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
        others = any(isinstance(m, Packed) and not isinstance(m, Linear) for m in self.modules())
        return reads_text and not others and not self._bringing

    def use_int8(self, on: bool = True, *, encoder: torch.dtype = torch.float32) -> None:
        """Text encoders predict in 8-bit integers (``nn.cpu.int8``) or no longer (``on=False``); the rest in float32.

        encoder: the dtype of the shared encoder, which may be bfloat16.
        """
        self.float()
        self.encoder.to(encoder)
        for module in self.modules():
            if isinstance(module, BertEncoder):
                module.use_int8(on)
        self.train(self.training)

    def encode(self, batch: Batch) -> Encoded:
        """Rows to attended tokens."""
        return self._encoded(self.embed(batch))

    def forward(
        self,
        batch: Batch,
        targets: Collection[str] | None = None,
        *,
        last_only: bool | None = None,
        by_shape: bool = False,
        embedded: Mapping[str, Embedded] | None = None,
    ) -> dict[str, dict[str, Tensor]]:
        """Target → named outputs, for all targets or the named ones. A head that brings tokens has an encoder pass of
        its own, so that no other head sees them; so do the positives of an embedding, where the batch holds them.

        last_only: whether heads that decode in layers give the outputs of the last one alone; by default they do, but
        in training, where every layer has a loss. by_shape: no size depends on the values of a tensor, for export.
        embedded: what ``embed`` made of the batch, where it was called before.
        """
        last_only = not self.training if last_only is None else last_only
        embedded = self.embed(batch) if embedded is None else embedded
        encoded = self._encoded(embedded) if len(self._bringing) < len(self._slots) else None
        outputs: dict[str, dict[str, Tensor]] = {}
        for target, slot in self._slots.items():
            if targets is not None and target not in targets:
                continue
            head = self.heads[slot]
            if isinstance(head, GeneratesImages):
                numbers, seed = batch.example_ids, batch.seed
                draws = head.draw(len(numbers)) if self.training else head.numbered_draws(numbers, seed)
                attend = partial(self._attend, embedded, slot)
                outputs[target] = head.outputs(attend, draws, batch.targets.get(target))
            elif isinstance(head, DecodesSets):
                assert encoded is not None
                outputs[target] = head(encoded, last_only=last_only, by_shape=by_shape)
            else:
                outputs[target] = head(encoded)
                if target in self.additive and self.gate is not None:
                    logits = self._sum(embedded, target) + self.gate * outputs[target]["logits"]
                    outputs[target] = {**outputs[target], "logits": logits}
        for target, group in batch.positives.items():
            if target in outputs:
                name = self.positive_side(target)
                positive = self._encoded({name: self.embedders[name](group)})
                outputs[target]["positive"] = self.heads[self._slots[target]](positive)["vector"]
        return outputs

    def _sum(self, embedded: Mapping[str, Embedded], target: str) -> Tensor:
        """(B, outputs): what a row's cells add up to, nothing of those that are hidden."""
        group = embedded[self.additive[target]]
        summands = group.sums[self._slots[target]].masked_fill(~group.mask[..., None], 0.0)
        logits = self.adder_of(target)[1].total(summands)
        for name, linear in self.means_of(target).items():
            tokens, mask = embedded[name].tokens, embedded[name].mask
            logits = logits + linear(masked_mean(tokens, mask)) * mask.any(1, keepdim=True)
        return logits

    def means_of(self, target: str) -> dict[str, nn.Linear]:
        """Modality → what the mean of its backbone's tokens adds to the target's logits; of targets in ``additive``."""
        linears = cast(nn.ModuleDict, self.means[self._slots[target]])
        return {name: cast(nn.Linear, linear) for name, linear in linears.items()}

    def embedder_of(self, name: str) -> Embedder:
        """The embedder of a modality."""
        return cast(Embedder, self.embedders[name])

    def velocity(self, target: str, embedded: Mapping[str, Embedded], noisy: Tensor, time: Tensor) -> Tensor:
        """The velocity that a generating head predicts for images (B, C, S, S) at time (B,) (``core.flow``), beside
        the row's tokens; without any the unconditional one.
        """
        head = self.head_of(target)
        assert isinstance(head, GeneratesImages)
        return head(noisy, time, partial(self._attend, embedded, self._slots[target]))

    def head_of(self, target: str) -> Head:
        """The head of a target."""
        return cast(Head, self.heads[self._slots[target]])

    def positive_side(self, target: str) -> str:
        """The modality that reads the positives of a target (``HasPositive``)."""
        return self._positives[target]

    def embed(self, batch: Batch) -> dict[str, Embedded]:
        """Rows to tokens of each modality, before the shared encoder."""
        return {name: self.embedders[name](group) for name, group in batch.groups.items()}

    def _encoded(self, embedded: Mapping[str, Embedded]) -> Encoded:
        attended, _ = self.attend(embedded)
        masks = {name: group.mask for name, group in embedded.items()}
        return Encoded(attended, masks, mean_of_groups(attended, masks), embedded)

    def attend(
        self, embedded: Mapping[str, Embedded], *, need_weights: bool = False
    ) -> tuple[dict[str, Tensor], AttentionWeights | None]:
        """Embedded modalities → their tokens after the shared encoder, and with ``need_weights`` its attention weights.

        The encoder may have another dtype than the modules around it (``use_int8``).
        """
        masks = {name: group.mask for name, group in embedded.items()}
        dtype = next((p.dtype for p in self.encoder.parameters()), None)
        tokens = {name: group.tokens if dtype is None else group.tokens.to(dtype) for name, group in embedded.items()}
        attended, weights = self.encoder(tokens, masks, need_weights=need_weights)
        return {name: found.to(embedded[name].tokens.dtype) for name, found in attended.items()}, weights

    def _attend(self, embedded: Mapping[str, Embedded], slot: str, own: Embedded, hidden: Tensor | None) -> Tensor:
        """The tokens that a head brings, after the encoder's pass over them and the row's (``heads.base.Attend``).

        hidden: (B,) bool, examples whose row is masked.
        """
        groups = dict(embedded)
        if hidden is not None:
            groups = {n: Embedded(g.tokens, g.mask & ~hidden[:, None]) for n, g in groups.items() if not hidden.all()}
        groups[slot] = own
        return self.attend(groups)[0][slot]

    def total_loss(self, terms: Mapping[str, Mapping[str, Tensor]], tasks: Mapping[str, Task]) -> Tensor:
        """All targets' terms as one number: weighted by the configuration, and balanced where there are several."""
        sums = [tasks[target].options.loss_weight * sum(named.values()) for target, named in terms.items()]
        losses = torch.stack([torch.as_tensor(s) for s in sums])
        if self.log_variance is None:
            return losses.sum()
        balanced = torch.exp(-self.log_variance) * losses + 0.5 * self.log_variance
        # A target without a label in this batch must not move its weight, which would otherwise grow without bound.
        return balanced[losses.detach() != 0].sum()

    def load_pretrained(self, modalities: Mapping[str, Modality]) -> None:
        """Lays each modality's pretrained weights over the random ones, and those of a published DETR over the heads
        that read its maps.
        """
        for name, modality in modalities.items():
            embedder = self.embedder_of(name)
            weights = embedder.pretrained(modality)
            if weights:
                unexpected = embedder.load_state_dict(dict(weights), strict=False).unexpected_keys
                assert not unexpected, unexpected
            detr = embedder.pretrained_detr(modality) if isinstance(embedder, HasDetr) else None
            if detr is not None:
                for head in self.heads.values():
                    if isinstance(head, TakesDetr):
                        head.load_pretrained(detr)

    @torch.no_grad()
    def name_labels(self, tasks: Mapping[str, Task], text: Modality) -> None:
        """Gives heads that know labels by vectors those of the labels' names (``capabilities.HasLabels``)."""
        reader = text.over(["label"])
        for target, task in tasks.items():
            head = self.head_of(target)
            if not (isinstance(task, HasLabels) and isinstance(head, NamesLabels)):
                continue
            names = [re.sub(r"[\W_]+", " ", label) for label in task.labels]
            windows = [reader.encode([{"label": name}]).windows[0] for name in names]
            group = TokenGroup.of(PaddedGroup.of([window.arrays for window in windows]))
            embedded = self.embedders["text"](group)
            head.name_labels(masked_mean(embedded.tokens, embedded.mask))


def _shape(embedders: nn.ModuleDict, width: int, *, maps: bool) -> EncoderShape:
    """What heads are built on."""
    for embedder in embedders.values():
        if maps and isinstance(embedder, GivesMaps):
            detr = embedder.detr if isinstance(embedder, HasDetr) else None
            return EncoderShape(width, embedder.map_channels, embedder.grid, detr)
    return EncoderShape(width)


def _zero_linear(width: int, num_outputs: int) -> nn.Linear:
    linear = nn.Linear(width, num_outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _share_decoder(heads: nn.ModuleDict) -> nn.Module:
    """One decoder for all heads that decode sets, which learns from the boxes of one and the spans of another.

    Raises:
        ConfigError: there are no two such heads, or their decoders are not of one shape.
    """
    users = [head for head in heads.values() if isinstance(head, DecodesSets)]
    lent = next((head.decoder for head in users if head.decoder is not None), None)
    if len(users) < 2 or lent is None:
        raise ConfigError(
            "model.share_decoder: there are no two targets that could share one",
            hint="It is for a target of entities beside one of detection, with decoder_layers of entities above 0.",
        )
    for head in users:
        head.use_decoder(lent)
    return lent


def default_layers(config: ModelConfig, *, pretrained: bool, num_modalities: int) -> int:
    """A pretrained backbone alone already attends; modalities that must meet, and random weights, need layers."""
    if config.num_layers is not None:
        return config.num_layers
    return 0 if pretrained and num_modalities == 1 else 2


def _heads(wanted: int, width: int) -> int:
    """The largest number of heads up to ``wanted`` that divides the width."""
    return next(h for h in range(wanted, 0, -1) if width % h == 0)
