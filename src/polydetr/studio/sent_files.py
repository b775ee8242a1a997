"""Files that a page's visitor sends before anything is done with them: kept under a name that nobody can guess, until
the page takes them, or for an hour.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from polydetr.core.files import file_names, json_text, make_folder
from polydetr.errors import InputError, PolydetrError, SaveError
from polydetr.serving.refusal import Refused, error_body, refusal

PREFIX = ".incoming-"
"""How the folders begin that they lie in: hidden, and none of anything else."""
_OLD_S = 3600.0
_MOST = 32
"""Files at once: one page keeps one."""


class SentFiles:
    """folder: where they lie, on the disk where they will stay; most: bytes of one."""

    def __init__(self, folder: Path, *, most: int) -> None:
        self._folder, self._most = folder, most

    async def take(self, request: Request) -> str:
        """Keeps the body; returns its id, for ``path``.

        Raises:
            Refused: it is too large, empty, or did not come to its end, or too many are there. SaveError.
        """
        name = safe_name(request.query_params.get("name", ""))
        try:
            place = await asyncio.to_thread(self._make)
            size = 0
            try:
                with (place / name).open("xb") as file:
                    async for data in request.stream():
                        size += len(data)
                        if size > self._most:
                            raise Refused(413, f"the file has more than {self._most >> 20} MB.", reason="body")
                        await asyncio.to_thread(file.write, data)
                if not size:
                    raise Refused(400, "the file is empty.", reason="body")
            except BaseException:
                await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
                raise
        except ClientDisconnect:
            raise Refused(400, "the file did not come to its end.", reason="gone") from None
        except OSError as error:
            raise SaveError(
                f"the file cannot be kept: {error.strerror or error}.", hint="Free some disk space."
            ) from None
        return place.name.removeprefix(PREFIX)

    def path(self, id: Any) -> Path:
        """Where it lies. Blocks. Raises Refused: there is none of that id, any more."""
        if isinstance(id, str) and id.replace("_", "").isalnum():
            for found in (self._folder / f"{PREFIX}{id}").glob("*"):
                return found
        raise Refused(404, "the file is not there any more.", hint="Send it again.", reason="gone")

    def forget(self, path: Path) -> None:
        """It is not needed. Blocks."""
        shutil.rmtree(path.parent, ignore_errors=True)

    def close(self) -> None:
        """All of them go, with the folder where nothing else is in it. Blocks."""
        for path in self._folder.glob(f"{PREFIX}*"):
            shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            self._folder.rmdir()

    def _make(self) -> Path:
        make_folder(self._folder)
        there = list(self._folder.glob(f"{PREFIX}*"))
        for old in there:
            if time.time() - old.stat().st_mtime > _OLD_S:
                shutil.rmtree(old, ignore_errors=True)
        if len(there) > _MOST and sum(path.exists() for path in there) > _MOST:
            raise Refused(429, "many files were sent here within the hour.", hint="Try again later.", reason="busy")
        return Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._folder))


def without_place(error: PolydetrError, path: Path) -> PolydetrError:
    """What is wrong with a file that was sent, by its own name: where it lies on this machine is nobody's business."""

    def said(text: str) -> str:
        return text.replace(str(path), path.name).replace(f"{path.parent}/", "")

    place = error.location
    if place is not None:
        place = replace(place, file=path.name if place.file else None)
    return InputError(said(error.message), location=place, hint=said(error.hint) if error.hint else None)


def safe_name(name: str) -> str:
    """A file's name as it may be kept: letters, digits, and the suffixes that say what it is."""
    stem, *suffixes = name.replace("\\", "/").rpartition("/")[2].split(".")
    kept = ["".join(c for c in suffix if c.isalnum())[:10] for suffix in suffixes[-2:]]
    plain = next(iter(file_names([stem]).values())) or "rows"
    return ".".join([plain, *filter(None, kept)])


def told(handler: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """Errors of ours in the shape that the API has."""

    @wraps(handler)
    async def answer(*arguments: Any, **named: Any) -> Response:
        try:
            return await handler(*arguments, **named)
        except PolydetrError as error:
            refused = refusal(error)
            return json_response(error_body(refused), status=refused.status)

    return answer


def json_response(value: dict[str, Any], *, status: int = 200) -> Response:
    return Response(json_text(value), status_code=status, media_type="application/json")
