"""The verbs that make a model: ``train``, ``import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from polydetr.cli.corrections import corrections_file
from polydetr.cli.output import print_json, print_metrics, say, show, stdout_kept_clean
from polydetr.cli.reading import JsonFlag, MaxPixels, reads_rows
from polydetr.core.reading import ReadOptions
from polydetr.errors import ConfigError, did_you_mean

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the model that is there, or an interrupted run's checkpoint.")
]
Train = Annotated[str | None, typer.Option("--train", help="Labeled rows: a file.")]
Unlabelled = Annotated[
    str | None, typer.Option("--unlabelled", help="Rows without labels, which help where labeled ones are few.")
]
Corrections = Annotated[
    str | None,
    typer.Option(
        "--corrections",
        help="Corrected rows, which replace the labels of the same inputs: a file (polydetr corrections export), "
        "or the address of a store.",
    ),
]
Target = Annotated[
    list[str] | None, typer.Option("--target", help="Column to predict, NAME or NAME:TASK; may be repeated.")
]
Input = Annotated[
    list[str] | None, typer.Option("--input", help="Column to read, NAME or NAME:MODALITY; may be repeated.")
]
Group = Annotated[
    str | None,
    typer.Option("--group", help="Column whose rows stay together when some are held out, for example a patient."),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        help="A name (polydetr backbones list), a folder, a Hugging Face id, none or auto; "
        "text=NAME,image=NAME where both are read.",
    ),
]
Preset = Annotated[str | None, typer.Option("--preset", help="fast, balanced or best.")]
TimeLimit = Annotated[str | None, typer.Option("--time-limit", help="End the whole command in time: 90s, 10m, 1h30m.")]
Track = Annotated[
    str | None,
    typer.Option("--track", help="Also record each run: tensorboard, wandb, mlflow, several with commas, or none."),
]


def config_and_rows(file: str | None, train: str | None) -> tuple[str | None, str | None]:
    """The YAML file and the file of rows, of which the first argument may be either.

    Raises:
        ConfigError: rows are named twice.
    """
    if not file or Path(file).suffix.lower() in (".yaml", ".yml"):
        return file, train
    if train:
        raise ConfigError(f"the training rows are named twice: {file!r} and --train {train!r}.")
    return None, file


def settings_of(set_: list[str] | None, *, max_pixels: int | None, track: str | None) -> dict[str, Any]:
    """What --set says, and options that are configuration keys. Raises ConfigError."""
    from polydetr.config.loading import merge, parse_settings

    settings = merge(parse_settings(set_ or []), {"image": {"max_pixels": max_pixels}} if max_pixels else {})
    return merge(settings, {"track": track} if track else {})


@reads_rows
def train(
    file: Annotated[
        str | None, typer.Argument(help="Labeled rows, or a YAML file with these same names; options win over it.")
    ] = None,
    train: Train = None,
    valid: Annotated[
        str | None, typer.Option("--valid", help="Rows to choose the best weights by; otherwise held out.")
    ] = None,
    test: Annotated[str | None, typer.Option("--test", help="Rows to measure the finished model on.")] = None,
    unlabelled: Unlabelled = None,
    corrections: Corrections = None,
    target: Target = None,
    input: Input = None,
    group: Group = None,
    backbone: Backbone = None,
    preset: Preset = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training rows.")] = None,
    time_limit: TimeLimit = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same model on the same machine.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any configuration key, for example training.lr=1e-4; may be repeated."),
    ] = None,
    track: Track = None,
    out: Annotated[
        str | None, typer.Option(help="Where the model folder is written. When not given: runs/NAME-DATE.")
    ] = None,
    overwrite: Overwrite = False,
    max_pixels: MaxPixels = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint of an interrupted run.")] = False,
    as_json: JsonFlag = False,
    *,
    reading: ReadOptions,
) -> None:
    """Train a model, measure it, save it."""
    from polydetr.config.loading import load_config_mapping
    from polydetr.predictor import Predictor
    from polydetr.training.places import no_empty_runs, place_of_run

    config, train = config_and_rows(file, train)
    settings = settings_of(set_, max_pixels=max_pixels, track=track)
    if out is None and not (load_config_mapping(config) | settings).get("out"):
        out = str(place_of_run(train or load_config_mapping(config).get("train"), resume=resume))
    corrections = corrections or load_config_mapping(config).get("corrections")
    with stdout_kept_clean(as_json), corrections_file(corrections) as corrected, no_empty_runs():
        predictor = Predictor.fit(
            train, target, valid=valid, test=test, unlabelled=unlabelled, corrections=corrected, inputs=input,
            group=group, out=out,
            backbone=backbone, preset=preset,  # type: ignore[arg-type]
            epochs=epochs, time_limit=time_limit, seed=seed, config=config, settings=settings, reading=reading,
            resume=resume, overwrite=overwrite,
        )  # fmt: skip
    from polydetr.training.devices import is_first_process  # brings torch, for which no wrong call should wait

    if not is_first_process():
        return
    if as_json:
        print_json({"out": str(predictor.folder), "metrics": predictor.metrics, "training": predictor.info["training"]})
        return
    for split, tables in predictor.tables.items():
        for title, table in tables.items():
            show(f"\n{split}: {title}\n{table}")
    print_metrics(predictor.metrics)
    say(f"\nsaved to {predictor.folder}\nnext: polydetr predict {predictor.folder} FILE")


def import_checkpoint(
    checkpoint: Annotated[str, typer.Argument(help="A folder or safetensors file with a published DETR.")],
    out: Annotated[Path, typer.Option(help="Where the model folder is written.")],
    size: Annotated[int, typer.Option(help="Pixels per side that the model sees.", min=32, max=2048)] = 800,
    fit: Annotated[str, typer.Option(help="How an image that is not square becomes so: stretch or pad.")] = "stretch",
    threshold: Annotated[float, typer.Option(help="Score from which a box is answered.", min=0, max=1)] = 0.5,
    overwrite: Overwrite = False,
) -> None:
    """Make a model folder of a published DETR, as it is: nothing is trained."""
    from polydetr.predictor import Predictor

    if fit not in ("stretch", "pad"):
        raise ConfigError(f"--fit {fit!r} is not known. {did_you_mean(fit, ('stretch', 'pad'))}")
    predictor = Predictor.from_checkpoint(checkpoint, out, size=size, fit=fit, threshold=threshold, overwrite=overwrite)  # type: ignore[arg-type]
    say(f"saved to {predictor.folder}\nnext: polydetr predict {predictor.folder} IMAGES --draw drawn")
