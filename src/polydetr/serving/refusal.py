"""What is answered where a request cannot be: one shape for every error, and the status that goes with each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from polydetr.core.files import json_text
from polydetr.errors import InputError, Location, ModelFolderError, PolydetrError
from polydetr.serving.contract import Busy, TooLate, Unavailable, UnknownModel

Headers = Sequence[tuple[bytes, bytes]]


class Refused(PolydetrError):
    """A request that is not answered. status: of HTTP; reason: one word for the counters; headers: beside the usual
    ones.
    """

    def __init__(
        self, status: int, message: str, *, hint: str | None = None, reason: str = "request", headers: Headers = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.status, self.reason, self.headers = status, reason, headers


def refusal(error: PolydetrError) -> Refused:
    """What is said of an error of ours. Where it stands in a file of the server is not said."""
    if isinstance(error, Refused):
        return error
    hint = error.hint
    if isinstance(error, Busy):
        return Refused(429, error.message, reason="busy", headers=[retry_after(error.retry_after)], hint=hint)
    if isinstance(error, TooLate):
        return Refused(504, error.message, reason="late", hint=hint)
    if isinstance(error, Unavailable):
        return Refused(503, error.message, reason="unavailable", headers=[retry_after(1)], hint=hint)
    if isinstance(error, UnknownModel):
        return Refused(404, error.message, reason="unknown", hint=hint)
    if isinstance(error, ModelFolderError):
        return Refused(422, error.message, reason="folder", hint=hint)
    return Refused(400 if isinstance(error, InputError) else 500, error.message, hint=hint)


def not_kept(error: OSError) -> Refused:
    """The refusal where the disk takes no more; without the place on it."""
    return Refused(
        503, f"the file cannot be kept: {error.strerror or 'the disk failed'}.", reason="disk",
        hint="Ask whoever runs the service to free space, or send fewer rows at once.",
    )  # fmt: skip


def retry_after(seconds: float) -> tuple[bytes, bytes]:
    """The header, in whole seconds, at least one."""
    return b"retry-after", str(max(1, round(seconds + 0.4999))).encode()


def error_dict(message: str, *, hint: str | None = None, location: Location | None = None) -> dict[str, Any]:
    """An error as rows and requests have it, without what is not known and without files."""
    place = {k: v for k, v in asdict(location or Location()).items() if v is not None and k != "file"}
    return {"message": message, **({"location": place} if place else {}), **({"hint": hint} if hint else {})}


def error_body(error: Refused) -> dict[str, Any]:
    """The body of a refusal."""
    return {"error": error_dict(error.message, hint=error.hint)}


def json_bytes(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """JSON as it is sent. Numbers that JSON has not become null, halves of characters escapes."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError):
        return json_text(value).encode()
