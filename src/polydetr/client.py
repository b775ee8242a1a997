"""A client of the service: rows to answers over HTTP. It needs httpx and nothing else of this package's requirements.

with Client("http://localhost:8000", key="...") as client:
    for answer in client.predict("film", [{"text": "A lovely evening."}]):
        print(answer["prediction"])
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from polydetr.errors import InputError, PolydetrError

Row = Mapping[str, Any]
_NDJSON = "application/x-ndjson"
_OF_JSON = {"content-type": "application/json"}
_TYPES = {".csv": "text/csv", ".tsv": "text/tab-separated-values", ".parquet": "application/vnd.apache.parquet",
          ".jsonl": _NDJSON, ".ndjson": _NDJSON}  # fmt: skip
_LONGEST_WAIT_S = 60.0
_PART_ROWS, _PART_BYTES = 256, 1 << 16
"""Of a stream, sent at once: so little is taken by the service, and what lies between, before an answer is read."""


class ServiceError(PolydetrError):
    """The service refused, or could not be reached. status: of HTTP, None where nothing came back."""

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class RequestError(ServiceError, InputError):
    """The service says that the request is wrong: no such model, a wrong option, too many rows, a wrong key."""

    exit_code = 2


class Client:
    """One service. It holds connections open: use it as a context manager, or call ``close``.

    url: of the service, with whatever a reverse proxy puts before its addresses. key: made by ``polydetr keys add``.
    timeout: for one answer, in seconds. retries: how often a request is sent again that was refused because too much is
    waiting, each time after as long as the service asked for. transport: of httpx, for tests.

    Raises:
        RequestError: the url is no http address, or the key cannot be one.
    """

    def __init__(
        self,
        url: str = "http://localhost:8000",
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        key = (key or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise RequestError(
                "the key holds a character that no key has.", hint="Copy it as polydetr keys add printed it."
            )
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._retries = retries
        try:
            self._http = httpx.Client(
                base_url=url.rstrip("/") + "/", headers=headers, timeout=timeout, transport=transport
            )
        except httpx.InvalidURL as error:
            raise _no_address(url, str(error)) from None
        if self._http.base_url.scheme not in ("http", "https") or not self._http.base_url.host:
            raise _no_address(url, "it names no host")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def models(self) -> list[dict[str, Any]]:
        """What is served: name, version, columns, answers, labels, metrics of each. Raises ServiceError."""
        return _told(self._answered("GET", "v1/models"), "models")["models"]

    def predict(self, model: str, rows: Sequence[Row | str], **options: Any) -> list[dict[str, Any]]:
        """One answer per row, in order: ``prediction``, ``probability``, ... by target, or ``error``.

        rows: mappings, or bare values where the model reads one column; or a data frame. A path (``pathlib.Path``) or
        bytes stand for an image: the file is read here, and its bytes are sent. options: explain, min_confidence,
        accuracy, strictness, seed, probabilities, target, choice.

        Raises:
            RequestError: the request is wrong. ServiceError: it cannot be answered now.
        """
        body = b'{"rows": [%s]}' % b", ".join(map(_json, _each(rows)))
        path = f"v1/models/{quote(model, safe='')}/predict"
        return _told(self._answered("POST", path, content=body, params=_query(options)), "answers")["answers"]

    def stream(self, model: str, rows: Iterable[Row | str], **options: Any) -> Iterator[dict[str, Any]]:
        """The same for any number of rows, one after the other, in constant memory: up to 256 rows are taken and sent,
        fewer where they are long, and their answers given before the next are taken.

        Raises:
            RequestError, ServiceError: the stream ends there; what was answered before is not lost.
        """
        path, params = f"v1/models/{quote(model, safe='')}/predict", _query(options)
        headers, done = {"content-type": _NDJSON, "accept": _NDJSON}, 0
        for lines in _parts(rows):
            answer = self._answered("POST", path, content=b"".join(lines), params=params, headers=headers)
            for line in answer.content.splitlines():
                yield _answer_of(line, done)
            done += len(lines)

    def job(self, model: str, file: str | Path, *, table: bool = False, **options: Any) -> ServiceJob:
        """Has a long file answered. file: CSV, TSV, Parquet or JSON lines, by its name. table: answers as CSV, beside
        the rows' own columns, in place of JSON lines.

        Raises:
            RequestError: the file is none of these, or too large. ServiceError: it cannot be taken now.
        """
        path = Path(file)
        kind = _TYPES.get(path.suffix.lower())
        if kind is None:
            raise RequestError(f"{path.name!r} is no file of rows.", hint=f"Its name may end in {', '.join(_TYPES)}.")
        headers = {"content-type": kind, "accept": "text/csv" if table else _NDJSON}
        params = {"model": model, **_query(options)}
        try:
            taken = self._answered("POST", "v1/jobs", file=path, params=params, headers=headers)
        except OSError as error:
            raise RequestError(f"{str(path)!r} cannot be read: {error.strerror}.") from None
        return ServiceJob(self, _told(taken, "id")["id"])

    # -- inside -------------------------------------------------------------------------------------------------------

    def _answered(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        file: Path | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] = _OF_JSON,
    ) -> httpx.Response:
        """Raises ServiceError."""
        left = self._retries
        while True:
            try:
                body = _chunks(file) if file is not None else content
                answer = self._http.request(method, path, content=body, params=params, headers=headers)
            except httpx.HTTPError as error:
                raise _unreachable(error) from error
            if answer.status_code != 429 or not left:
                break
            left -= 1
            time.sleep(_wait_of(answer))
        if not answer.is_success:
            raise _error(answer)
        return answer


@dataclass(frozen=True)
class ServiceJob:
    """A long file that is being answered."""

    client: Client
    id: str

    def state(self) -> dict[str, Any]:
        """``state``, ``rows_done``, ``rows_rejected``, ``share_done``. Raises ServiceError."""
        return _told(self.client._answered("GET", f"v1/jobs/{self.id}"), "state")

    def wait(self, *, every: float = 1.0, timeout: float | None = None) -> dict[str, Any]:
        """Until it has ended, for ``timeout`` seconds at most.

        Raises:
            ServiceError: it failed, or has not ended in time.
        """
        began = time.monotonic()
        while (told := self.state())["state"] in ("waiting", "running"):
            if timeout is not None and time.monotonic() - began > timeout:
                raise ServiceError(f"the job has not ended within {timeout:g} s.", hint="Wait longer, or cancel it.")
            time.sleep(every)
        if told["state"] != "done":
            error = told.get("error") or {}
            raise ServiceError(error.get("message", f"the job is {told['state']}."), hint=error.get("hint"))
        return told

    def save(self, path: str | Path) -> Path:
        """Writes the answers into a file, which appears when it is whole. Raises ServiceError, OSError."""
        place = Path(path)
        part = place.with_name(f".{place.name}.part")
        try:
            with self.client._http.stream("GET", f"v1/jobs/{self.id}/result") as answer, part.open("wb") as file:
                if not answer.is_success:
                    answer.read()
                    raise _error(answer)
                for data in answer.iter_bytes():
                    file.write(data)
            part.replace(place)
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        finally:
            part.unlink(missing_ok=True)
        return place

    def cancel(self) -> None:
        """Ends it, and has its rows and answers forgotten. Raises ServiceError."""
        self.client._answered("DELETE", f"v1/jobs/{self.id}")


# -- what is sent and what comes back ---------------------------------------------------------------------------------


def _each(rows: Any) -> Iterable[Any]:
    """The rows of a list, or of a data frame. Raises RequestError for a single one."""
    if isinstance(rows, str | bytes | bytearray | Path | Mapping):
        raise RequestError(
            f"the rows are {type(rows).__name__}, expected a list of rows.",
            hint="Put a single row into a list: [row]; a file of rows is sent by Client.job.",
        )
    if not hasattr(rows, "columns"):
        return rows
    for method, how in (("to_dicts", ()), ("to_pylist", ()), ("to_dict", ("records",))):  # Polars, PyArrow, pandas
        if hasattr(rows, method):
            return getattr(rows, method)(*how)
    raise RequestError(f"the rows are {type(rows).__name__}, expected a list of rows.")


def _parts(rows: Any) -> Iterator[list[bytes]]:
    """The rows as JSON lines, some at a time. Raises RequestError."""
    part, size = list[bytes](), 0
    for row in _each(rows):
        line = _json(row) + b"\n"
        if part and (len(part) == _PART_ROWS or size + len(line) > _PART_BYTES):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield part


def _json(row: Any) -> bytes:
    """Raises RequestError."""
    try:
        return json.dumps(_sent(row), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise RequestError(f"a row cannot be sent as JSON: {error}.") from None


def _sent(value: Any) -> Any:
    """A row, or a value in it, as JSON: images as base64. Raises RequestError."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Path):
        try:
            return {"base64": base64.b64encode(value.read_bytes()).decode()}
        except OSError as error:
            raise RequestError(f"{str(value)!r} cannot be read: {error.strerror}.") from None
    if isinstance(value, Mapping):
        return {str(name): _sent(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_sent(one) for one in value]
    if isinstance(value, float):
        if math.isinf(value):  # refused there, by name; None would be a missing value
            return str(value)
        return None if math.isnan(value) else value
    if isinstance(value, Decimal):
        return _sent(float(value))
    if type(value).__name__ in ("NAType", "NaTType"):  # of pandas
        return None
    if tolist := getattr(value, "tolist", None):  # of NumPy
        return _sent(tolist())
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if isoformat else value


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(1 << 20), b"")


def _query(options: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(int(value)) if isinstance(value, bool) else str(value)
        for name, value in options.items()
        if value is not None
    }


def _answer_of(line: bytes, before: int) -> dict[str, Any]:
    """before: rows of earlier requests. Raises ServiceError where the line says that the stream ended there."""
    try:
        answer = json.loads(line)
        if "row" not in answer:
            raise ServiceError(answer["error"]["message"], hint=answer["error"].get("hint"))
    except (ValueError, KeyError, TypeError):
        raise _another(line) from None
    answer["row"] += before
    if "row" in (place := answer.get("error", {}).get("location", {})):
        place["row"] = answer["row"]
    return answer


def _told(answer: httpx.Response, holds: str) -> dict[str, Any]:
    """The object that came back. Raises ServiceError where it is not the service that answered."""
    try:
        told = answer.json()
        told[holds]
    except (ValueError, KeyError, TypeError):
        raise _another(answer.content) from None
    return told


def _another(said: bytes) -> ServiceError:
    """Something else stands at the address, such as the page of a proxy."""
    begins = said[:60].decode(errors="replace")
    return ServiceError(
        f"what came back is no answer of the service: it begins with {begins!r}.",
        hint="Check the address, and what stands before the service.",
    )


def _no_address(url: str, why: str) -> RequestError:
    return RequestError(f"{url!r} is no address of a service: {why}.", hint='Such as "http://localhost:8000".')


def _wait_of(answer: httpx.Response) -> float:
    try:
        return max(0.0, min(float(answer.headers.get("retry-after", "1")), _LONGEST_WAIT_S))
    except ValueError:
        return 1.0


def _error(answer: httpx.Response) -> ServiceError:
    """What the service said, in its words."""
    try:
        told = answer.json()["error"]
        message, hint = str(told["message"]), told.get("hint")
    except (ValueError, KeyError, TypeError):
        message = f"the service answered {answer.status_code} {answer.reason_phrase}."
        place = answer.headers.get("location") if answer.has_redirect_location else None
        hint = f"It points to {place}: give the client that address." if place else None
    waits = answer.status_code in (408, 429) or answer.status_code >= 500
    return (ServiceError if waits else RequestError)(message, hint=hint, status=answer.status_code)


def _unreachable(error: httpx.HTTPError) -> ServiceError:
    late = isinstance(error, httpx.TimeoutException)
    return ServiceError(
        "the service did not answer in time." if late else f"the service cannot be reached: {error}.",
        hint="Ask for fewer rows at once, or give it longer: Client(timeout=...)." if late else "Check the address.",
    )
