"""Encoded rows in files: those that a later run finds again, and those that go with the process."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from polydetr.core.documents import EncodedDocument
from polydetr.core.examples import Example
from polydetr.core.files import cache_dir, write_json
from polydetr.data.store import ExampleStore, StoredExamples, trim_cache
from polydetr.errors import DataFileError, SaveError
from polydetr.modalities.base import Notify


def stored(examples: Callable[[], Iterable[Example]], name: str | None = None, *, notify: Notify) -> ExampleStore:
    """The examples in a file of the cache: one that a later run finds by its ``name``, or one of this process alone.
    Where the cache cannot be written or is full, the user is told, and the file lies among the temporary ones.

    Raises:
        SaveError: neither folder can be written.
    """
    folder = cache_dir() / "encoded"
    try:
        return ExampleStore.write(examples(), folder / name) if name else _private(examples(), folder)
    except SaveError as error:
        reason = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error.message
        notify(f"the run does without a cache: {str(folder)!r}: {reason} (POLYDETR_CACHE names another folder)")
        return _private(examples(), Path(tempfile.gettempdir()))


def _private(examples: Iterable[Example], folder: Path) -> ExampleStore:
    """In a file that goes with this process. Raises SaveError."""
    store = ExampleStore.write(examples, folder / f"measured-{secrets.token_hex(8)}.arrow")
    with suppress(OSError):  # it is open: where the system does not allow this, it goes when the cache is trimmed
        store.path.unlink()
    return store


def on_disk(
    documents: Callable[[], Iterable[EncodedDocument]],
    change: Callable[[Iterator[Example]], Iterator[Example]] = iter,
    *,
    notify: Notify,
) -> list[EncodedDocument]:
    """The documents with their examples, or what ``change`` makes of those, in a file of this process alone.

    Raises:
        SaveError: the file cannot be written.
    """
    kept: list[EncodedDocument] = []

    def examples() -> Iterator[Example]:
        kept.clear()
        for document in documents():
            kept.append(replace(document, examples=range(len(document.examples))))  # type: ignore[arg-type]
            yield from document.examples

    store = stored(lambda: change(examples()), notify=notify)
    results, start = [], 0
    for document in kept:
        places = range(start, start + len(document.examples))
        results.append(replace(document, examples=StoredExamples(store, places)))
        start = places.stop
    return results


def kept_with_account(path: Path, account: dict[str, list[Any]]) -> ExampleStore | None:
    """What an earlier run wrote to ``path``, and into ``account`` what it left out and warned of; None where there is
    none that can be read.
    """
    try:
        kept = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        account.update({name: kept[name] for name in ("rejected", "warnings", "messages")})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kept_store(path)


def kept_store(path: Path) -> ExampleStore | None:
    """The file of an earlier run, marked as used; None where there is none that can be read."""
    try:
        store = ExampleStore(path)
    except DataFileError:
        return None
    with suppress(OSError):  # of another user
        path.touch()
    return store


def keep_account(path: Path, account: Mapping[str, Any]) -> None:
    """Writes the account beside the rows, without which they are not read again, and tidies the cache."""
    with suppress(OSError):
        write_json(path.with_suffix(".json"), account)
        trim_cache(path.parent, keep=path)
        for stray in path.parent.glob("*.json"):
            if not stray.with_suffix(".arrow").exists():
                stray.unlink(missing_ok=True)
