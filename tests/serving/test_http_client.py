"""``polydetr.client`` against a service behind a socket."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from film_models import plain_rows
from polydetr.client import Client, RequestError, ServiceError, ServiceJob
from polydetr.inference.service import ServiceModel
from polydetr.serving.contract import Busy
from polydetr.serving.keys import KeyFile

ROWS = [{"text": row["text"]} for row in plain_rows(5, start=60)]
SAVED = Path(__file__).parents[1] / "model" / "saved_by_old"


@pytest.fixture
def client(running: Callable[..., Any]) -> Iterator[Client]:
    with Client(running().url) as client:
        yield client


def test_rows_are_answered_as_in_python(client: Client, film: ServiceModel) -> None:
    answers = client.predict("film", [*ROWS, {"text": None}])
    assert [a["prediction"] for a in answers[:5]] == film.predict(ROWS)
    assert "text is missing" in answers[5]["error"]["message"]
    (answer,) = client.predict("film", ["a warm evening"], probabilities=True, min_confidence=0.999)
    assert answer["abstained"]
    assert answer["probabilities"]["label"]
    assert [m["name"] for m in client.models()] == ["film"]


def test_a_stream_in_both_directions(client: Client) -> None:
    sent = []

    def rows() -> Iterator[dict[str, str]]:
        for i in range(2_000):
            sent.append(i)
            yield {"text": f"evening {i}"}

    answers = list(client.stream("film", rows()))
    assert [a["row"] for a in answers] == list(range(1, 2_001))
    with pytest.raises(RequestError, match="no model 'flim' is served"):
        list(client.stream("flim", ROWS))


def test_a_stream_sends_little_before_it_reads(running: Callable[..., Any]) -> None:
    """However long the rows and the answers are; what is sent and not answered fits between the two."""
    service, sent, short = running(), 0, 300

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal sent
        for text in [*["a b"] * short, *["x" * 40_000] * 5, 5]:
            sent += 1
            yield {"text": text}

    with Client(service.url, timeout=10) as client:
        answers = [(answer, sent) for answer in client.stream("film", rows())]
    assert [answer["row"] for answer, _ in answers] == list(range(1, short + 7))
    assert max(sent - answer["row"] for answer, sent in answers[:short]) <= 256
    assert max(sent - answer["row"] for answer, sent in answers[short:]) <= 2
    assert answers[-1][0]["error"]["location"] == {"row": short + 6, "column": "text"}


def test_lines_end_where_json_ends_them() -> None:
    answer = '{"row": 1, "prediction": {"label": "a\u2028b\x85c"}}\n'.encode()
    with Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=answer))) as client:
        assert [a["prediction"]["label"] for a in client.stream("film", ["a"])] == ["a\u2028b\x85c"]


def test_images_are_bytes_by_the_time_they_are_sent(running: Callable[..., Any]) -> None:
    model = ServiceModel.load(SAVED / "detection" / "model")
    path = SAVED / "detection" / "scene0.png"
    with Client(running({"d": model}).url) as client:
        by_path, by_bytes, as_text = client.predict(
            "d", [{"photo": path}, {"photo": path.read_bytes()}, {"photo": str(path)}]
        )
        assert by_path["prediction"] == by_bytes["prediction"]
        assert by_path["prediction"]["objects"]
        assert "no path and no address is opened here" in as_text["error"]["message"]
        with pytest.raises(RequestError, match="cannot be read"):
            client.predict("d", [{"photo": Path("absent.png")}])


def test_what_python_has_and_json_has_not(client: Client, running: Callable[..., Any]) -> None:
    row: Any = {
        "text": "a",
        "n": np.float32(1.5),
        "m": [np.int64(2)],
        "x": float("nan"),
        "y": np.float64("-inf"),
        "a": np.zeros(2),
    }
    service = running()
    with Client(service.url) as other:
        other.predict("film", [row])
    assert service.fleet.asked == [[{"text": "a", "n": 1.5, "m": [2], "x": None, "y": "-inf", "a": [0.0, 0.0]}]]


class Frame:
    """What data frames have in common."""

    columns = ("text",)

    def __init__(self, method: str) -> None:
        setattr(self, method, lambda *_: ROWS)


@pytest.mark.parametrize("method", ["to_dicts", "to_pylist", "to_dict"])
def test_the_rows_of_a_data_frame(running: Callable[..., Any], method: str) -> None:
    service = running()
    with Client(service.url) as client:
        client.predict("film", Frame(method))  # type: ignore[arg-type]
        list(client.stream("film", Frame(method)))  # type: ignore[arg-type]
    assert service.fleet.asked == [ROWS, ROWS]


def test_a_missing_cell_and_a_number_of_pandas(running: Callable[..., Any]) -> None:
    pandas = pytest.importorskip("pandas")
    service = running()
    frame = pandas.DataFrame({"text": ["a"], "when": [pandas.NaT], "n": [pandas.NA], "price": [Decimal("1.5")]})
    with Client(service.url) as client:
        client.predict("film", frame)
    assert service.fleet.asked == [[{"text": "a", "when": None, "n": None, "price": 1.5}]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("abc", "the rows are str, expected a list of rows"),
        ({"text": "abc"}, "the rows are dict"),
        (Path("rows.csv"), "Client.job"),
        (SimpleNamespace(columns=("text",)), "SimpleNamespace"),
        ([{"text": {1}}], "cannot be sent as JSON"),
    ],
)
def test_what_is_no_list_of_rows_is_not_sent(rows: Any, said: str) -> None:
    with Client("http://127.0.0.1:9") as client:
        for ask in (client.predict, lambda *asked: list(client.stream(*asked))):
            with pytest.raises(RequestError, match=said):
                ask("film", rows)


def test_a_job_from_file_to_file(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,id\n" + "".join(f"evening {i},{i}\n" for i in range(300)))
    job = client.job("film", path, table=True)
    told = job.wait(every=0.02, timeout=20)
    assert (told["state"], told["rows_done"]) == ("done", 300)
    rows = list(csv.DictReader(job.save(tmp_path / "answers.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == [str(i) for i in range(300)]
    assert rows[0]["predicted_label"]
    job.cancel()
    with pytest.raises(RequestError, match="there is no job"):
        job.state()
    lines = client.job("film", path)
    lines.wait(every=0.02)
    answers = [json.loads(line) for line in lines.save(tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 300
    path.write_text("txt\na\n")
    with pytest.raises(ServiceError, match="no column 'text'"):
        client.job("film", path).wait(every=0.02)
    with pytest.raises(RequestError, match="no file of rows"):
        client.job("film", tmp_path / "rows.zip")
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".part") == []


def test_errors_are_the_services_own_words(running: Callable[..., Any], tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("app")
    service = running(keys=keys)
    with Client(service.url, "wrong") as client, pytest.raises(RequestError, match="the key is not known") as caught:
        client.models()
    assert caught.value.status == 401
    assert "Bearer" in (caught.value.hint or "")
    with Client(service.url + "/", key) as client:
        assert client.models()
        with pytest.raises(RequestError, match="'sed' in the address is unknown"):
            client.predict("film", ROWS, sed=1)
        with pytest.raises(RequestError, match="no column 'text'"):
            client.predict("film", [{"txt": "a"}])
        service.fleet.failing.append(RuntimeError("secret"))
        with pytest.raises(ServiceError, match="the service failed") as failed:
            client.predict("film", ROWS)
        assert not isinstance(failed.value, RequestError)


def test_a_key_is_never_told(running: Callable[..., Any], tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    with Client(running(keys=keys).url, keys.add("app") + "\n") as client:
        assert client.models()
    for key in ("pdk_secret\nx", "pdk_secrét"):
        with pytest.raises(RequestError, match="holds a character that no key has") as caught:
            Client(key=key)
        assert "secr" not in str(caught.value)


def test_another_address_than_the_one_it_is_at(tmp_path: Path) -> None:
    def moved(_: httpx.Request) -> httpx.Response:
        return httpx.Response(301, headers={"location": "https://there"}, text="<html>moved</html>")

    with Client(transport=httpx.MockTransport(moved)) as client:
        for ask in (
            client.models,
            lambda: client.predict("film", ROWS),
            lambda: list(client.stream("film", ROWS)),
            lambda: ServiceJob(client, "x").save(tmp_path / "answers"),
        ):
            with pytest.raises(RequestError, match=r"301 Moved Permanently.*https://there"):
                ask()
    assert not (tmp_path / "answers").exists()


def test_it_asks_again_after_as_long_as_it_is_told_to(running: Callable[..., Any], monkeypatch: Any) -> None:
    waited: list[float] = []
    service = running()
    monkeypatch.setattr("polydetr.client.time", SimpleNamespace(sleep=waited.append))
    with Client(service.url) as client:
        service.fleet.failing += [Busy("full", retry_after=3), Busy("full", retry_after=1)]
        assert len(client.predict("film", ROWS)) == 5
        assert waited == [3.0, 1.0]
        service.fleet.failing += [Busy("full", retry_after=500)] * 4
        with pytest.raises(ServiceError, match="full") as caught:
            client.predict("film", ROWS)
        assert caught.value.status == 429
        assert waited[2:] == [60.0] * 3

    def late(_: httpx.Request) -> httpx.Response:
        return httpx.Response(429, headers={"retry-after": "-5"}, json={"error": {"message": "full"}})

    with Client(transport=httpx.MockTransport(late), retries=1) as client, pytest.raises(ServiceError, match="full"):
        client.models()
    assert waited[5:] == [0.0]


def test_a_service_that_is_not_there() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(ServiceError, match="cannot be reached"):
        client.models()

    def late(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("")

    with Client(transport=httpx.MockTransport(late)) as client, pytest.raises(ServiceError, match="in time"):
        client.predict("film", ROWS)

    def page(_: httpx.Request) -> httpx.Response:
        return httpx.Response(502, text="<html>proxy</html>")

    with Client(transport=httpx.MockTransport(page)) as client, pytest.raises(ServiceError, match="502 Bad Gateway"):
        client.models()


@pytest.mark.parametrize(
    "body",
    [b"<html>Sign in</html>", b"[]", b"{}", b"", b'"x"', b"\xff"],
    ids=["page", "list", "object", "empty", "text", "bytes"],
)
def test_another_that_answers_in_place_of_the_service(body: bytes, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n')
    with Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=body))) as client:
        asked: list[Callable[[], Any]] = [
            client.models,
            lambda: client.predict("film", ROWS),
            lambda: client.job("film", file),
            ServiceJob(client, "a").state,
        ]
        if body:  # an empty stream has no line
            asked.append(lambda: list(client.stream("film", ROWS)))
        for ask in asked:
            with pytest.raises(ServiceError, match="no answer of the service"):
                ask()


@pytest.mark.parametrize("url", ["localhost:8000", "http://", "http://a:port", "", "ftp://a", "/v1"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(RequestError, match="no address of a service"):
        Client(url)


def test_it_loads_nothing_but_httpx() -> None:
    code = (
        "import sys, polydetr.client; loaded = {name.partition('.')[0] for name in sys.modules}; "
        "print(sorted(loaded & {'torch', 'numpy', 'pydantic', 'fastapi', 'pyarrow', 'PIL', 'tokenizers'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
