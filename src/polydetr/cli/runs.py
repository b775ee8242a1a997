"""The verbs ``runs list``, ``runs show`` and ``runs compare``: what the folder of runs holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polydetr.cli.output import print_json, say, show
from polydetr.cli.reading import JsonFlag
from polydetr.errors import ConfigError, InputError

if TYPE_CHECKING:
    from polydetr.inference.saved_run import SavedRun

_MOST_COMPARED = 8
Named = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RUN]...", help="Names in the folder of runs, their beginnings, or paths."),
]
Folder = Annotated[Path, typer.Option("--runs", help="The folder of runs, for example NAME.study/trials.")]
_HERE = Path("runs")


def runs_list(runs: Named = None, folder: Folder = _HERE, as_json: JsonFlag = False) -> None:
    """Every run: date, target, scores, steps, minutes, and whether it is finished."""
    from polydetr.cli.runs_view import list_lines, run_json

    found = _found(runs, folder)
    if as_json:
        print_json([run_json(run) for run in found])
        return
    if not found:
        say(f"there are no runs in {str(folder)!r} yet: polydetr train keeps its models there where no --out is given")
    for line in list_lines(found):
        show(line)


def runs_show(runs: Named = None, folder: Folder = _HERE, as_json: JsonFlag = False) -> None:
    """Runs in full: scores, settings that differ from the defaults, rows, machine, curve. By default the newest."""
    from polydetr.cli.runs_view import run_json, show_lines

    found = _found(runs, folder) if runs else _found(None, folder)[:1]
    if not found:
        raise InputError(f"there are no runs in {str(folder)!r} yet.", hint="Name a model folder by its path.")
    if as_json:
        print_json([run_json(run, whole=True) for run in found])
        return
    for line in show_lines(found):
        show(line)


def runs_compare(
    runs: Named = None,
    folder: Folder = _HERE,
    out: Annotated[Path | None, typer.Option(help="Draw the curves into this PNG file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Runs side by side: scores, the settings that differ among them, curves. By default the newest eight."""
    from polydetr.cli.runs_view import compare_json, compare_lines, metric_of
    from polydetr.inference.run_comparison import is_like
    from polydetr.reports.runs_png import runs_curves_png

    if out is not None and out.suffix.lower() != ".png":
        raise ConfigError(f"--out {str(out)!r}: the curves are drawn as PNG.", hint="Name a file that ends in .png.")
    compared = _compared(runs, folder)
    if as_json:
        print_json(compare_json(compared))
    else:
        for line in compare_lines(compared):
            show(line)
    if not is_like(compared):
        say("these runs do not predict the same: their scores are of different targets or metrics")
    if out is not None:
        curves = {run.name: run.curve for run in compared}
        say(f"wrote {runs_curves_png(curves, out, metric=metric_of(compared))}")


def _found(names: list[str] | None, folder: Path) -> list[SavedRun]:
    from polydetr.inference.runs import find_runs, list_runs

    if names:
        return find_runs(names, folder)
    if folder == _HERE and not folder.exists():
        return []
    return list_runs(folder)


def _compared(names: list[str] | None, folder: Path) -> list[SavedRun]:
    """Raises InputError where there are not two runs with scores."""
    found = _found(names, folder)
    studies = [run for run in found if run.study is not None or run.state == "study"]
    if names and studies:
        trials = studies[0].folder / "trials"
        raise InputError(
            f"{studies[0].name!r} is a study, not one run.",
            hint=f"Its table is in {studies[0].folder / 'trials.csv'}; the trials that were kept: --runs {trials}.",
        )
    found = [run for run in found if run not in studies]
    usable = [run for run in found if run.metrics or run.curve]
    if names and len(usable) < len(found):
        empty = next(run for run in found if run not in usable)
        raise InputError(f"{empty.name!r} has no scores: {empty.reason or empty.state}.", hint="Leave it out.")
    if len(usable) < 2:
        raise InputError(f"comparing needs two runs with scores, found {len(usable)}.", hint="polydetr runs list")
    if not names and len(usable) > _MOST_COMPARED:
        say(f"the newest {_MOST_COMPARED} of {len(usable)} runs; name others to compare them")
        usable = usable[:_MOST_COMPARED]
    return usable
