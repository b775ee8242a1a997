"""All settings of a run: small nested models, each field with its default, its bounds and a description."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from polydetr.errors import did_you_mean, quoted

Preset = Literal["fast", "balanced", "best"]


def parse_duration(value: object) -> object:
    """``"10m"``, ``"90s"``, ``"1h30m"`` or a number of seconds → seconds."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(?:(\d+(?:\.\d+)?)h)?\s*(?:(\d+(?:\.\d+)?)m)?\s*(?:(\d+(?:\.\d+)?)s?)?\s*", value)
    if not match or not any(match.groups()):
        raise ValueError(f"{value!r} is not a duration: write it like 90s, 10m or 1h30m")
    hours, minutes, seconds = (float(g or 0) for g in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def parse_backbone(value: object) -> object:
    """``"text=minilm,image=mobilenet-v2"`` → a mapping; any other name stays as it is."""
    if not isinstance(value, str) or "=" not in value:
        return value
    pairs = [part.partition("=") for part in value.split(",")]
    if not all(name.strip() and equals and kind.strip() for name, equals, kind in pairs):
        raise ValueError(f"{value!r} is not of the form text=NAME,image=NAME")
    return {name.strip(): kind.strip() for name, _, kind in pairs}


Tool = Literal["tensorboard", "wandb", "mlflow"]


def parse_track(value: object) -> object:
    """``"tensorboard,wandb"`` → the names, each once; ``"none"`` → none."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"write it like tensorboard,wandb; known are {', '.join(get_args(Tool))} and none")
    asked = dict.fromkeys(name.strip() for name in names)
    unknown = [name for name in asked if name not in (*get_args(Tool), "none", "")]
    if unknown:
        raise ValueError(f"{quoted(unknown[0])} is no tracker. {did_you_mean(unknown[0], (*get_args(Tool), 'none'))}")
    return [name for name in asked if name not in ("none", "")]


_DECADE = 10 * 365.25 * 24 * 3600

Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=_DECADE)]


class _Section(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, protected_namespaces=())


class ReadingConfig(_Section):
    """What the files of rows do not say about themselves; null: it is recognized."""

    format: str | None = Field(default=None, description="the files' format, where their names do not tell it")
    encoding: str | None = Field(default=None, description="of text files that are not UTF-8, for example gb18030")
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="of tables of text: one character"
    )
    header: bool | None = Field(default=None, description="whether the first line of a table names its columns")
    columns: list[str] | None = Field(default=None, description="the names of a table's columns, in their order")
    images: str | None = Field(
        default=None, description="the folder of the images: paths begin there, and do not leave it"
    )
    scheme: str = Field(default="auto", description="of the tags of a column file: IOB1, IOB2, BIOES, BMES or plain")
    split: str | None = Field(default=None, description="the part of a YOLO data.yaml: train, val or test")


class TextConfig(_Section):
    """How text becomes tokens."""

    max_tokens: int = Field(default=384, ge=8, le=8192, description="length of one window, special tokens included")
    overlap: int = Field(
        default=64, ge=0, le=8192, description="tokens that two neighboring windows of a long text share"
    )
    context: bool = Field(
        default=True, description="let token-level tasks see the neighboring sentences of the same document"
    )
    word_shape: bool = Field(
        default=True, description="embed the letter case and kind of each word beside its subwords"
    )
    pieces: bool = Field(
        default=True,
        description="read scripts without spaces in the backbone's own subwords; answers stay by character",
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1,
        description="in the backbone's layers; default: 0, for a Hugging Face backbone what its config.json has",
    )  # fmt: skip
    vocab_size: int = Field(
        default=8000, ge=100, le=1_000_000, description="size of the vocabulary learned when there is no backbone"
    )


class AugmentConfig(_Section):
    """What may be done to an image in training without changing what it shows."""

    flip: bool = Field(default=True, description="mirror half of the images, left to right")
    flip_vertical: bool = Field(
        default=False, description="and half of them top to bottom: for images without an up, as under a microscope"
    )
    crop: float = Field(default=0.7, gt=0, le=1, description="smallest share a random crop keeps; 1 = off")
    color: float = Field(default=0.2, ge=0, lt=1, description="largest change of brightness, contrast and saturation")
    mix: Literal["none", "mixup", "cutmix"] = Field(
        default="none", description="blend two rows' images and their losses; for models that read images alone"
    )


class ImageConfig(_Section):
    """How images become tokens."""

    size: int = Field(default=160, ge=8, le=2048, description="pixels per side that the model sees")
    fit: Literal["stretch", "crop", "pad"] = Field(
        default="stretch", description="how an image that is not square becomes so"
    )
    patch_size: int = Field(default=16, ge=2, le=2048, description="pixels per side of one token, without a backbone")
    root: str | None = Field(
        default=None,
        description="the folder, from the working directory, where the paths of the run's rows begin, and which they "
        "do not leave; default: the folder of the file that names them, which relative ones do not leave either",
    )
    max_images: int = Field(default=4, ge=1, le=1000, description="images of one field that are read, the first ones")
    max_pixels: int = Field(
        default=64_000_000, ge=1, le=10_000_000_000, description="a larger image is refused before it is decoded"
    )
    augment: AugmentConfig = AugmentConfig()


class TableConfig(_Section):
    """How number, category and date columns become tokens."""

    numbers: Literal["standard", "quantile"] = Field(
        default="quantile", description="by mean and standard deviation, or by rank to a normal distribution"
    )
    embedding: Literal["linear", "periodic"] = Field(
        default="periodic", description="a line per column, or waves of learned frequencies, which bend"
    )
    max_categories: int = Field(
        default=10_000, ge=1, le=10_000_000, description="the most frequent values that get a token each"
    )
    min_count: int = Field(default=2, ge=1, le=1_000_000, description="rarer categories share one token")
    column_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of the cells hidden in training, so that none is relied on alone"
    )


class HistoryConfig(_Section):
    """How lists of items become tokens."""

    max_items: int = Field(
        default=20, ge=1, le=10_000, description="items of one history that are read, the latest ones"
    )
    item_tokens: int = Field(default=32, ge=4, le=512, description="tokens of an item's text that are read")
    age: str | None = Field(default=None, description="the item's field that says how old it is, in days")
    fields: dict[str, str | None] | None = Field(
        default=None, description="the item's fields that are read → modality, or null to infer it; default: all"
    )


class ModelConfig(_Section):
    """The shared encoder."""

    embed_dim: int | None = Field(
        default=None, ge=8, le=16_384, description="the common space; default: the backbone's width, or 128"
    )
    num_heads: int = Field(default=8, ge=1, le=1024)
    num_layers: int | None = Field(
        default=None, ge=0, le=48, description="default: 0 over a pretrained backbone alone, else 2"
    )
    ffn_dim: int | None = Field(default=None, ge=8, le=131_072, description="default: 4 × embed_dim")
    fusion: Literal["sum", "joint"] = "joint"
    share: Literal["none", "modalities", "layers", "both"] = "none"
    dropout: float = Field(default=0.1, ge=0, lt=1)
    additive: bool = Field(
        default=True,
        description="of a table: answers begin as a sum over its cells, fitted at once; attention adds the rest",
    )
    pair_factors: int = Field(
        default=8, ge=0, le=64, description="of such a sum: factors by which its cells also act in pairs; 0: alone"
    )
    share_decoder: bool = Field(
        default=False, description="entities and objects are found by one and the same decoder, which learns from both"
    )


class LoRAConfig(_Section):
    """Low-rank adapters in the backbone (Hu et al. 2021, arXiv 2106.09685); rank 0 trains the weights themselves."""

    rank: int = Field(default=0, ge=0, le=256)
    alpha: float = Field(default=16.0, gt=0, le=100_000)


class TrainingConfig(_Section):
    """The one training loop."""

    batch_tokens: int = Field(default=1024, ge=16, le=100_000_000, description="padded tokens per step")
    min_steps: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="at least about so many, by smaller batches and more epochs where rows are few; 600 unless epochs "
        "are given",
    )
    lr: float = Field(
        default=2e-4,
        gt=0,
        le=1000,
        description="peak learning rate of the backbone, and of what is fitted at the start",
    )
    head_lr: float = Field(
        default=1e-3, gt=0, le=1000, description="peak learning rate of everything that starts from random weights"
    )
    layer_decay: float = Field(
        default=0.9, gt=0, le=1, description="factor on the learning rate for each layer further down"
    )
    weight_decay: float = Field(default=0.01, ge=0, le=1000)
    warmup: float = Field(default=0.1, ge=0, lt=1, description="fraction of the steps")
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    clip_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.0, ge=0, lt=1, description="average the weights over the last steps; 0 = off")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    freeze_embeddings: bool = Field(default=True, description="keep the pretrained word embeddings as they are")
    freeze_layers: int = Field(
        default=0, ge=0, le=1000, description="backbone layers, from the bottom, that stay as they are"
    )
    freeze_backbones: bool = Field(
        default=False, description="train only what stands on the backbones, from features computed once"
    )
    modality_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="share of the modalities hidden in training, where there are several"
    )
    lora: LoRAConfig = LoRAConfig()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    devices: int = Field(default=1, ge=1, le=1024, description="GPUs, or processes on a CPU, that train it together")
    head_start: bool = Field(
        default=True,
        description="over a pretrained backbone, heads of classification begin as a logistic regression",
    )
    few_rows: bool | None = Field(
        default=None,
        description="classify by what suits few rows: cross-validation, contrastive pairs, a regression; null: with up "
        "to 64 rows per class, or 400 in all, over a pretrained backbone without a table, unless epochs are named",
    )
    patience: int = Field(
        default=3, ge=0, le=1_000_000, description="evaluations without progress before it stops; 0 = never"
    )
    evaluations_per_epoch: int = Field(default=1, ge=1, le=10_000)
    valid_fraction: float = Field(
        default=0.1, gt=0, lt=0.9, description="share of the training rows held out when no valid file is given"
    )
    keep_rows: int = Field(
        default=500,
        ge=0,
        le=10_000,
        description="validation rows that the model folder keeps, encoded, to prove faster ways to answer by; 0: none",
    )


class Config(_Section):
    """Everything that one run is made from."""

    train: str | None = None
    valid: str | None = None
    test: str | None = None
    unlabelled: str | None = Field(
        default=None, description="rows without labels, which help where those with labels are few"
    )
    corrections: str | None = Field(
        default=None,
        description="rows with corrected labels: they replace those of the same inputs, others are added",
    )
    reading: ReadingConfig = ReadingConfig()
    target: dict[str, str | None] = Field(default_factory=dict, description="target column → task, or null to infer it")
    inputs: dict[str, str | None] | None = Field(
        default=None, description="input column → modality, or null to infer it"
    )
    group: str | None = Field(
        default=None, description="column of which no value stands on both sides when rows are held out"
    )
    backbone: Annotated[str | dict[str, str], BeforeValidator(parse_backbone)] = Field(
        default="auto", description='a name; "none"; or modality → name, where there are several'
    )
    preset: Preset = "balanced"
    epochs: float | None = Field(default=None, gt=0, le=1_000_000)
    steps: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="at least so many, for tasks that count in steps (detection), however few rows",
    )
    time_limit: Seconds | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    out: str | None = None
    on_error: Literal["raise", "skip"] = "raise"
    track: Annotated[list[Tool], BeforeValidator(parse_track)] = Field(
        default_factory=list,
        description="also record the run, beside the models in tracking.runs/: tensorboard, wandb, mlflow",
    )
    text: TextConfig = TextConfig()
    image: ImageConfig = ImageConfig()
    table: TableConfig = TableConfig()
    history: HistoryConfig = HistoryConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    tasks: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="target → the options of its task, see below; read once the tasks are known"
    )
    search: dict[str, Any] = Field(
        default_factory=dict,
        description="what `polydetr tune` varies, key by key as in this file: `[a, b]`, or `{low, high, log, step, "
        "when}`; empty: a space that fits tasks and backbones",
    )
    detection: dict[str, Any] = Field(
        default_factory=dict, description="old: options for every target of this task; write `tasks.NAME` instead"
    )
    entities: dict[str, Any] = Field(default_factory=dict, description="old, likewise")

    def backbone_of(self, modality: str) -> str:
        """The backbone asked for in one modality; "auto" where none was named."""
        return self.backbone if isinstance(self.backbone, str) else self.backbone.get(modality, "auto")
