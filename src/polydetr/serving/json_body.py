"""JSON as it is taken over HTTP: strictly as RFC 8259 has it, since a lenient reader and a strict one before it that
understand a body differently are a way past the strict one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from polydetr.data.readers.shapes import MAX_DEPTH
from polydetr.errors import InputError, quoted
from polydetr.serving.refusal import Refused

_NO_JSON = "Check it with a validator; curl --data-binary @FILE sends a file as it is."


class NotJson(InputError):
    """A text that is no JSON; the message says why, and has no subject."""


def parsed(body: bytes) -> Any:
    """The value of a text of JSON.

    Raises:
        NotJson: no UTF-8, no JSON, a key twice in one object, NaN or infinity, nested too deeply.
    """
    try:
        return json.loads(
            body.decode(), object_pairs_hook=_object, parse_constant=_constant
        )  # bytes would be taken for UTF-16 where they look so
    except UnicodeDecodeError as error:
        raise NotJson(f"is not UTF-8 (byte {error.start + 1})", hint="Send text as UTF-8.") from None
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise NotJson(f"is not JSON: {error.msg} at {place}", hint=_NO_JSON) from None
    except RecursionError:
        raise NotJson("is nested too deeply", hint=f"{MAX_DEPTH} levels are taken.") from None
    except NotJson:
        raise
    except ValueError:
        raise NotJson("holds a number of thousands of digits") from None


def json_object(body: bytes, *, what: str = "the body") -> Mapping[str, Any]:
    """A body that is an object. Raises Refused."""
    try:
        value = parsed(body)
    except NotJson as error:
        raise Refused(400, f"{what} {error.message}.", hint=error.hint, reason="json") from None
    if not isinstance(value, Mapping):
        raise Refused(400, f"{what} is {quoted(value, 60)}, expected an object.", hint='{"rows": [...]}', reason="json")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise NotJson(f"has the key {quoted(twice, 60)} twice in one object", hint="Leave one of them out.")
    return found


def _constant(name: str) -> Any:
    raise NotJson(f"holds {name}, which JSON has not", hint="Write null for what is missing.")
