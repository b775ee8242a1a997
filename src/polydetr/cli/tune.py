"""The verb that searches for better settings: ``tune``."""

from __future__ import annotations

from typing import Annotated

import typer

from polydetr.cli.corrections import corrections_file
from polydetr.cli.output import print_json, print_metrics, say, stdout_kept_clean
from polydetr.cli.reading import JsonFlag, MaxPixels, reads_rows
from polydetr.cli.train import (
    Backbone,
    Corrections,
    Group,
    Input,
    Preset,
    Target,
    TimeLimit,
    Track,
    Train,
    Unlabelled,
    config_and_rows,
    settings_of,
)
from polydetr.core.reading import ReadOptions


@reads_rows
def tune(
    file: Annotated[
        str | None,
        typer.Argument(help="Labeled rows, or a YAML file, in which search: says what is varied; options win over it."),
    ] = None,
    train: Train = None,
    valid: Annotated[
        str | None, typer.Option("--valid", help="Rows to compare the trials by; otherwise held out.")
    ] = None,
    test: Annotated[
        str | None, typer.Option("--test", help="Rows to measure the final model on, which no trial sees.")
    ] = None,
    unlabelled: Unlabelled = None,
    corrections: Corrections = None,
    target: Target = None,
    input: Input = None,
    group: Group = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Trainings in all, the default among them; 20, or as many as the time limit has room for."),
    ] = None,
    time_limit: TimeLimit = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Where the study is kept: a file, or postgresql://USER@HOST/NAME, which processes share."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study, by which other processes join it.")] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="By which weights and settings are chosen, for example macro_f1; else each target's first."),
    ] = None,
    keep: Annotated[int, typer.Option(help="Best trials whose models stay on the disk, beside the default's.")] = 3,
    refit: Annotated[
        bool, typer.Option("--refit", help="Train the kept settings once more, on the validation rows too.")
    ] = False,
    backbone: Backbone = None,
    preset: Preset = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training rows, in each trial.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed and one process give the same trials.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any configuration key, which stays as it is; may be repeated."),
    ] = None,
    track: Track = None,
    out: Annotated[
        str | None, typer.Option(help="The final model's folder; OUT.study holds the rest. Default: runs/NAME-DATE.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a study that was stopped, or join one that others work on.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the study and the model there.")] = False,
    max_pixels: MaxPixels = None,
    as_json: JsonFlag = False,
    *,
    reading: ReadOptions,
) -> None:
    """Search for better settings, and save the best model."""
    from polydetr.config.loading import load_config_mapping
    from polydetr.predictor import Predictor
    from polydetr.training.places import no_empty_runs

    config, train = config_and_rows(file, train)
    settings = settings_of(set_, max_pixels=max_pixels, track=track)
    corrections = corrections or load_config_mapping(config).get("corrections")
    with stdout_kept_clean(as_json), corrections_file(corrections) as corrected, no_empty_runs():
        predictor = Predictor.tune(
            train, target, trials=trials, time_limit=time_limit, valid=valid, test=test, unlabelled=unlabelled,
            corrections=corrected, inputs=input, group=group, out=out, storage=storage, name=name, metric=metric,
            keep=keep, refit=refit, backbone=backbone, preset=preset,  # type: ignore[arg-type]
            epochs=epochs, seed=seed, config=config, settings=settings, reading=reading, resume=resume,
            overwrite=overwrite,
        )  # fmt: skip
    if as_json:
        print_json({"out": str(predictor.folder), "metrics": predictor.metrics, "tuning": predictor.info["tuning"]})
        return
    print_metrics(predictor.metrics)
    say(
        f"\nsaved to {predictor.folder}\nwhat mattered: {predictor.folder}.study/report.html\n"
        f"next: polydetr predict {predictor.folder} FILE"
    )
