"""One line of the log: whatever an event tells, it is JSON, with its own time, level and name."""

from __future__ import annotations

import json
import logging

import pytest

from polydetr.serving.log import JsonLines, log


def test_fields_of_any_name_are_kept_apart(caplog: pytest.LogCaptureFixture) -> None:
    """Targets of models are called as their users like."""
    with caplog.at_level(logging.INFO, "polydetr.serving"):
        log("shadow_differs", {"error": "x", "level": 1, "event": "no", "time": 0, "self": 2, "a\nb": object})
    (record,) = caplog.records
    text = JsonLines().format(record)
    assert "\n" not in text
    told = json.loads(text)
    assert (told["event"], told["level"], told["error"]) == ("shadow_differs", "info", "x")
    assert told["time"].endswith("Z")


def test_an_error_is_told_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "polydetr.serving"):
        try:
            raise ValueError("my secret text")
        except ValueError as error:
            log("fault", level=logging.ERROR, error=error, id="7")
    told = json.loads(JsonLines().format(caplog.records[0]))
    assert (told["error"], told["id"]) == ("ValueError", "7")
    assert "test_service_log.py" in told["at"][-1]
    assert "secret" not in json.dumps(told)
