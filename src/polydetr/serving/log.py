"""Structured logs: one JSON object per line, with the request's id, and never a text of the user's."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any

LOGGER = logging.getLogger("polydetr.serving")


_OURS = ("polydetr.serving", "polydetr.web", "polydetr.studio")


class JsonLines(logging.Formatter):
    """time, level, event and the fields of ``log``. Of an exception its type and where it was raised: its message may
    quote what was being read.
    """

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        found = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage() if record.name in _OURS or not record.exc_info else "fault",
        }
        found = {**found, **getattr(record, "fields", {}), **found}
        if record.exc_info and record.exc_info[1]:
            frames = traceback.extract_tb(record.exc_info[2])
            found["error"] = type(record.exc_info[1]).__name__
            found["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
        return json.dumps(found, ensure_ascii=True, default=str)


def log(
    event: str,
    about: Mapping[str, Any] = {},
    *,
    level: int = logging.INFO,
    error: BaseException | None = None,
    **fields: Any,
) -> None:
    """One line. Its fields, ``about`` among them, hold names and numbers, no texts of users."""
    LOGGER.log(level, event, extra={"fields": {**about, **fields}}, exc_info=error)


def to_standard_error(level: int = logging.INFO) -> None:
    """Sends the lines of the service, and those of uvicorn, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in (*_OURS, "nicegui", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = ([handler] if name != "uvicorn.error" else []), name == "uvicorn.error"
        logger.setLevel(level if name in _OURS else logging.WARNING)
