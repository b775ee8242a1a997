"""The verbs of corrections: ``corrections list``, ``corrections export``; and a store named as training rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polydetr.cli.output import print_json, say, show
from polydetr.cli.people import StoreAddress, opened
from polydetr.cli.reading import JsonFlag
from polydetr.errors import ConfigError, InputError, did_you_mean, quoted
from polydetr.web.store import DEFAULT_ADDRESS

if TYPE_CHECKING:
    from polydetr.studio.corrections import Corrections

_SQLITE = b"SQLite format 3\0"
OfModel = Annotated[str, typer.Option("--model", help="The name under which the model is served.")]
OfTarget = Annotated[str | None, typer.Option("--target", help="Only corrections of this target.")]
OfPerson = Annotated[str | None, typer.Option("--person", help="Only those of this person.")]


def corrections_list(
    model: OfModel,
    store: StoreAddress = DEFAULT_ADDRESS,
    target: OfTarget = None,
    person: OfPerson = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what people corrected: who, when, which answer, and what is right."""
    with _opened(store) as kept:
        _check_model(kept, model)
        found = kept.list(model, target=target, person=person)
    if as_json:
        print_json([_as_json(one) for one in found])
        return
    for one in found:
        said = one.answer.get("prediction")
        changed = f"{quoted(said, 40)} → {quoted(one.value, 60)}" if one.kind == "repaired" else quoted(one.value, 60)
        show(f"{one.at:%Y-%m-%d %H:%M}  {quoted(one.person, 40)}  {one.kind}  {quoted(one.target, 40)}: {changed}")
    count = f"{len(found):,} correction{'s' * (len(found) != 1)}"
    say(f"polydetr: {count}; polydetr corrections export --model {model} --out FILE writes them")


def corrections_export(
    model: OfModel,
    out: Annotated[Path, typer.Option(help="rows.jsonl, rows.csv, rows.json (COCO: boxes) or rows.conll (spans).")],
    store: StoreAddress = DEFAULT_ADDRESS,
    target: OfTarget = None,
    person: OfPerson = None,
    people: Annotated[
        bool, typer.Option("--people", help="Also who corrected and when, into a file of its own beside it.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write corrections as training rows, for train --corrections."""
    with _opened(store) as kept:
        written = kept.export(model, out, target=target, person=person, people=people)
    for message in written.messages:
        say(f"polydetr: {message}")
    if as_json:
        print_json(written.to_dict())
        return
    beside = [f"{what} in {path}" for what, path in (("images", written.images), ("people", written.people)) if path]
    count = f"{written.corrections:,} correction{'s' * (written.corrections != 1)}"
    rows = f"{written.rows:,} row{'s' * (written.rows != 1)}"
    say(f"polydetr: {count} of {rows} in {', '.join([str(out), *beside])}")
    say(f"next: polydetr train FILE --corrections {out}")


@contextmanager
def corrections_file(named: str | None) -> Iterator[str | None]:
    """The file of corrections that is meant: the one named, or, where that is a store, one that is written of it and
    stays until the block ends. A store with corrections of several models is named with one of them: ADDRESS#MODEL.

    Raises:
        ConfigError, InputError: no store, none of this model, or several models and none named.
    """
    address, _, model = (named or "").partition("#")
    if named is None or not _is_store(address):
        yield named
        return
    with TemporaryDirectory(prefix="polydetr-corrections-") as folder:
        with _opened(address) as kept:
            model = model or _only_model(kept, address)
            written = kept.export(model, Path(folder) / "corrections.jsonl")
        yield str(written.path)


def _is_store(address: str) -> bool:
    if "://" in address:
        return True
    try:
        with Path(address).open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except (OSError, ValueError):
        return False


def _only_model(kept: Corrections, address: str) -> str:
    known = kept.models()
    if not known:
        raise InputError(f"there are no corrections in {quoted(address)}.")
    if len(known) > 1:
        raise ConfigError(
            f"{quoted(address)} has corrections of {len(known)} models.",
            hint=f"Name one: --corrections '{address}#{next(iter(known))}'.",
        )
    return next(iter(known))


def _check_model(kept: Corrections, model: str) -> None:
    """Raises InputError where nothing of this model was corrected."""
    known = kept.models()
    if model not in known:
        raise InputError(f"there are no corrections of {quoted(model)}.", hint=did_you_mean(model, known))


@contextmanager
def _opened(address: str) -> Iterator[Corrections]:
    """Raises InputError where there is no file of this name: looking makes no store."""
    with opened(address) as database:
        from polydetr.studio.corrections import Corrections

        yield Corrections(database)


def _as_json(one: Any) -> dict[str, Any]:
    """A correction without its row, which may hold images: that is what ``corrections export`` is for."""
    return {
        "id": one.id, "row_key": one.row_key, "target": one.target, "answer": one.answer, "value": one.value,
        "kind": one.kind, "person": one.person, "at": one.at.isoformat(), "version": one.version,
        "revision": one.revision,
    }  # fmt: skip
