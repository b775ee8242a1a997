"""The command line: every verb is a call of the public face.

Heavy imports wait until a verb runs, so that ``--help`` is instant.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from polydetr import __version__
from polydetr.cli import (
    ask,
    backbones,
    corrections,
    data,
    export,
    keys,
    optimize,
    people,
    runs,
    serve,
    store,
    train,
    tune,
)  # fmt: skip
from polydetr.cli.output import fit_streams_to_encoding, say
from polydetr.core.clock import command
from polydetr.core.installed import NOT_IN_CORE
from polydetr.errors import PolydetrError, bounded

_HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    name="polydetr",
    context_settings=_HELP,
    help="One attention model for text, images and tables: from labeled rows to a measured, saved model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would double the time that --help takes
)


def _group(name: str, help: str, *verbs: Callable[..., None]) -> None:
    """Verbs below another: ``NAME VERB``, where each is called ``name_verb``."""
    group = typer.Typer(help=help, no_args_is_help=True, rich_markup_mode=None, context_settings=_HELP)
    for verb in verbs:
        group.command(verb.__name__.removeprefix(f"{name}_"))(verb)
    app.add_typer(group, name=name)


_group("backbones", "Pretrained encoders: list them, fetch one.", backbones.backbones_list, backbones.backbones_fetch)
_group("data", "Sample data that need no account: list them, fetch one.", data.data_list, data.data_fetch)
for _verb in (train.train, tune.tune, ask.evaluate, ask.predict, ask.explain, data.inspect, serve.serve):
    app.command()(_verb)
for _verb in (export.export, optimize.optimize):
    app.command()(_verb)
app.command("import")(train.import_checkpoint)
_group(
    "runs", "What was trained: list the runs, show one, compare several.",
    runs.runs_list, runs.runs_show, runs.runs_compare,
)  # fmt: skip
_group("keys", "Keys of the service: make one, list them, revoke one.", keys.keys_add, keys.keys_list, keys.keys_revoke)
_group(
    "people", "People of the pages: add one, list them, change a role or a password, remove one.",
    people.people_add, people.people_list, people.people_role, people.people_password, people.people_remove,
)  # fmt: skip
_group(
    "store", "What the pages keep: back it up, restore it, see who did what, remove what is old or came from somebody.",
    store.store_backup, store.store_restore, store.store_audit, store.store_retain, store.store_erase,
)  # fmt: skip
_group(
    "corrections", "What people corrected on the pages: list it, write it as training rows.",
    corrections.corrections_list, corrections.corrections_export,
)  # fmt: skip


def main() -> None:
    """Runs the command line; errors become one line on standard error and an exit code: 1 failed, 2 a wrong call."""
    # A tenth of a command's start went into searching PyTorch's modules for garbage, while they load and at the exit.
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)
    fit_streams_to_encoding()
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = _show_warning
        with command():
            code = _run()
        sys.exit(code)


def _run() -> int:
    """The exit code of one call; every error is reported on standard error."""
    try:
        code = app(standalone_mode=False, prog_name="polydetr")
    except PolydetrError as error:
        say(f"polydetr: {error}")
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        say("polydetr: stopped")
        return 1
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        show = getattr(error, "show", None)
        if show is not None:  # a wrong call, which the parser explains
            show()
            return int(getattr(error, "exit_code", 2))
        if os.environ.get("POLYDETR_DEBUG"):
            raise
        if isinstance(error, ModuleNotFoundError) and error.name in NOT_IN_CORE:
            say(f"polydetr: this needs {error.name}, which is not installed. pip install polydetr brings it.")
            return 2
        kind = type(error).__name__
        say(
            f"polydetr: {bounded(f'{kind}: {error}')}. This is a fault of polydetr; POLYDETR_DEBUG=1 shows where it is."
        )
        return 1
    return code if isinstance(code, int) else 0


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    if category.__module__.startswith("polydetr"):  # what libraries warn of is for us, not for users
        say(f"polydetr: {bounded(str(message))}")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"polydetr {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
