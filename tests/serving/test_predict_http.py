"""What is answered over HTTP is what ``predict`` answers: values, errors, tables; however the rows are sent."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from running_service import Service

from film_models import plain_rows
from huge_pictures import huge_png
from polydetr.inference.options import Options
from polydetr.inference.service import ServiceModel
from polydetr.serving.limits import Limits

PREDICT = "/v1/models/film/predict"
ROWS = [{"text": row["text"]} for row in plain_rows(5, start=60)]
BAD: list[Any] = [
    {"text": None}, {"text": 5}, {"text": True}, {"text": {"a": 1}}, {"text": [1, 2]}, {"text": ["a", None]},
    {"text": "half \ud83d"}, {"text": [[[]]]},
]  # fmt: skip
SAVED = Path(__file__).parents[1] / "model" / "saved_by_old"


def ask(client: Any, rows: Any, path: str = PREDICT, **how: Any) -> Any:
    answer = client.post(path, content=json.dumps({"rows": rows}), headers={"content-type": "application/json"}, **how)
    assert answer.status_code == 200, answer.text
    return answer.json()["answers"]


def test_answers_are_those_of_predict_in_order(service: Service, film: ServiceModel) -> None:
    answers = ask(service(), ROWS)
    assert [a["row"] for a in answers] == [1, 2, 3, 4, 5]
    for answer, expected in zip(answers, film.answer(ROWS), strict=True):
        assert answer["prediction"] == expected.values
        assert answer["probability"]["label"] == pytest.approx(expected.predictions["label"].probability, abs=1e-6)


def test_a_bad_row_fails_alone_and_with_the_words_of_predict(service: Service, film: ServiceModel) -> None:
    rows = [row for bad in BAD for row in (ROWS[0], bad)]
    answers = ask(service(), rows)
    expected = list(film.answer(rows))
    assert len(answers) == len(expected) == 2 * len(BAD)
    for number, (answer, one) in enumerate(zip(answers, expected, strict=True), start=1):
        assert ("error" in answer) == (one.error is not None) == (number % 2 == 0), answer
        if one.error is not None:
            assert answer["error"]["message"] == one.error.message
            assert answer["error"].get("hint") == one.error.hint
            assert answer["error"]["location"]["row"] == number
            assert answer["error"]["location"].get("column") == one.error.location.column


def test_a_row_that_is_no_mapping(service: Service, several: ServiceModel) -> None:
    """For a model that reads one column its bare value is a row, as in Python; of others it is an error."""
    assert [a["prediction"] for a in ask(service(), ["a warm evening"])] == [
        a["prediction"] for a in ask(service(), [{"text": "a warm evening"}])
    ]
    good, bad = ask(service({"several": several}), [{"text": "a", "minutes": 1}, 7], path="/v1/models/several/predict")
    assert "prediction" in good
    assert "a row is 7, but the model reads 2 columns: 'text', 'minutes'" in bad["error"]["message"]


def test_several_targets_with_their_own_kinds_of_answers(service: Service, several: ServiceModel) -> None:
    row = {"text": "scene 1 of a lovely evening", "minutes": 91, "extra": [1]}
    (answer,) = ask(service({"several": several}), [row], path="/v1/models/several/predict?probabilities=1")
    assert answer["prediction"].keys() == {"label", "stars", "entities"}
    assert set(answer["probabilities"]["label"]) == {"good", "bad"}


def test_a_missing_column_is_one_error_as_in_predict(service: Service) -> None:
    answer = service().post(PREDICT, json={"rows": [{"txt": "a"}, {"txt": "b"}]})
    assert answer.status_code == 400
    told = answer.json()["error"]
    assert "no column 'text', which the model reads" in told["message"]
    assert told["hint"] == "Did you mean 'txt'?"


@pytest.mark.parametrize("name", ["min_confidence=0.999", "accuracy=0.9", "strictness=lenient", "seed=4", "explain=1"])
def test_options_are_those_of_predict(service: Service, film: ServiceModel, name: str) -> None:
    answers = ask(service(), ROWS[:2], path=f"{PREDICT}?{name}")
    key, _, value = name.partition("=")
    if key == "explain":
        assert answers[0]["explanation"]["method"]
        assert (
            {word["text"] for word in answers[0]["explanation"]["words"]} if "words" in answers[0]["explanation"] else 1
        )
        return
    given: Any = {key: value if key == "strictness" else float(value) if "." in value else int(value)}
    expected = list(film.answer(ROWS[:2], options=Options(**given)))
    assert [a.get("abstained", False) for a in answers] == [e.predictions["label"].abstained for e in expected]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("sed=1", "'sed' in the address is unknown"), ("seed=x", "'seed' in the address is 'x'"),
        ("seed=-1", "greater than or equal to 0"), ("min_confidence=2", "less than or equal to 1"),
        ("min_confidence=nan", "finite number"), ("strictness=hard", "'normal', 'strict' or 'lenient'"),
        ("explain=maybe", "valid boolean"), ("seed=99999999999999999999", "less than"), ("seed=1&seed=2", "twice"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_error_that_names_it(service: Service, query: str, says: str) -> None:
    answer = service().post(f"{PREDICT}?{query}", json={"rows": []})
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    hint, name = answer.json()["error"]["hint"], query.partition("=")[0]
    assert hint
    assert f"mean {name!r}" not in hint  # what was written is no remedy


def test_no_rows_are_no_answers_and_reach_no_model(service: Service) -> None:
    client = service()
    assert ask(client, []) == []
    assert client.fleet.asked == []


# -- files ------------------------------------------------------------------------------------------------------------

TABLES = {
    "text/csv": "id,text\n7,a warm evening\n8,a cold evening\n",
    "text/tab-separated-values": "id\ttext\n7\ta warm evening\n8\ta cold evening\n",
    "application/x-ndjson": '{"id": 7, "text": "a warm evening"}\n\n{"id": 8, "text": "a cold evening"}\n',
}
BAD_FILES = {
    "missing column": ("text/csv", "txt\nhello\n", "no column 'text'"),
    "empty": ("text/csv", "", "is empty"),
    "header alone": ("text/csv", "text\n", "the file"),
    "wrong encoding": ("text/csv", "text\n很好的电影\n".encode("gb18030"), "likely gb18030"),
    "no parquet": ("application/vnd.apache.parquet", "text\nhello\n", "not readable as Parquet"),
    "an archive": ("text/csv", b"PK\x03\x04 and more", "a zip archive"),
    "a picture": ("text/csv", b"\x89PNG and more", "a PNG image"),
    "nothing but blanks": ("text/tab-separated-values", " \n \n", "is empty"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_files_of_rows(service: Service, kind: str) -> None:
    expected = [a["prediction"] for a in ask(service(), ["a warm evening", "a cold evening"])]
    answer = service().post(PREDICT, content=TABLES[kind], headers={"content-type": kind})
    lines = [json.loads(line) for line in answer.text.splitlines()] if "json" in kind else answer.json()["answers"]
    assert [line["prediction"] for line in lines] == expected
    name = {"text/csv": "a.csv", "text/tab-separated-values": "a.tsv"}.get(kind, "a.jsonl")
    sent = service().post(PREDICT, files={"file": (name, TABLES[kind])})
    assert [a["prediction"] for a in sent.json()["answers"]] == expected


def test_a_parquet_file(service: Service) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["a warm evening", None, "a cold evening"], "n": [1, 2, 3]}), file)
    headers = {"content-type": "application/vnd.apache.parquet"}
    first, none, last = service().post(PREDICT, content=file.getvalue(), headers=headers).json()["answers"]
    assert "prediction" in first
    assert "text is missing" in none["error"]["message"]
    assert last["row"] == 3


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_none_is_one_error_without_a_path(service: Service, name: str) -> None:
    kind, content, says = BAD_FILES[name]
    answer = service().post(PREDICT, content=content, headers={"content-type": kind})
    assert answer.status_code == 400
    told = " ".join(answer.json()["error"].values())
    assert says in told
    assert "/" not in told


def test_a_row_of_a_file_that_cannot_be_read_keeps_its_place(service: Service) -> None:
    content = "text,id\na warm evening,1\nonly,two,many\na cold evening,3\n"
    answers = service().post(PREDICT, content=content, headers={"content-type": "text/csv"}).json()["answers"]
    assert [("error" in a, a["row"]) for a in answers] == [(False, 1), (True, 2), (False, 3)]
    assert answers[1]["error"]["location"] == {"row": 2, "line": 3}
    assert "expected 2" in answers[1]["error"]["message"]


def test_what_a_parquet_file_unpacks_to_is_bounded(service: Service) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["x" * 2_000_000] * 100}), file, compression="zstd")
    assert len(file.getvalue()) < 1_000_000
    headers = {"content-type": "application/vnd.apache.parquet"}
    answer = service().post(PREDICT, content=file.getvalue(), headers=headers)
    assert answer.status_code == 413
    assert "unpacks to more than" in answer.json()["error"]["message"]


def test_a_full_disk_is_told_without_its_place(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    client = service()
    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for how in (
        {"content": b"text\na\n", "headers": {"content-type": "text/csv"}},
        {"files": {"file": ("a.csv", b"text\na\n")}},
    ):
        answer = client.post(PREDICT, **how)
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "the file cannot be kept: No space left on device."
    assert list(tmp_path.iterdir()) == []


SAID = [
    ("?encoding=latin-1", "text\nä b\n".encode("latin-1"), "It is likely latin-1: pass ?encoding=latin-1,"),
    ("?header=0&columns=text", b"a warm evening\nb\n", "say ?header=0"),
    ("?delimiter=;&columns=text,id", b"a;b\nc;d\n", "say ?header=0"),
    ("?columns=text,id", b"text,text\na,b\n", "name all columns with ?columns=..."),
    ("?delimiter=tab", b"text\tid\na\tb\n", ""),
]


@pytest.mark.parametrize(("query", "content", "hint"), SAID)
def test_what_a_table_does_not_say_stands_in_the_address(
    service: Service, query: str, content: bytes, hint: str
) -> None:
    """And the hints of the readers name it as it is given there."""
    client, kind = service(), {"content-type": "text/csv"}
    asked = client.post(PREDICT + query, content=content, headers=kind)
    assert asked.status_code == 200, asked.text
    assert "prediction" in asked.json()["answers"][-1]
    assert client.post(PREDICT + query, files={"file": ("a.csv", content)}).json() == asked.json()
    job = client.post(f"/v1/jobs{query}&model=film", content=content, headers=kind).json()["id"]
    while (told := client.get(f"/v1/jobs/{job}").json())["state"] in ("waiting", "running"):
        pass
    assert told["state"] == "done", told
    plain = client.post(PREDICT, content=content, headers=kind)
    assert hint in plain.text
    assert not re.search("--|ReadOptions", plain.text)
    for kind in ("application/json", "application/x-ndjson"):
        refused = client.post(PREDICT + query, content=b'{"rows": ["a"]}', headers={"content-type": kind})
        assert refused.status_code == 400
        assert "is of tables, and the body is none" in refused.json()["error"]["message"]


def test_a_delimiter_that_is_none(service: Service) -> None:
    answer = service().post(PREDICT + "?delimiter=::", content=b"text\na\n", headers={"content-type": "text/csv"})
    assert answer.status_code == 400
    assert "expected one character" in answer.json()["error"]["message"]


def test_csv_answers_are_what_predict_writes(service: Service, film: ServiceModel, tmp_path: Path) -> None:
    rows = [{"id": "1", "text": "=1+1"}, {"id": "@x", "text": "a warm evening"}, {"id": None, "text": None}]
    out = tmp_path / "answers.csv"
    film.write(rows, out, probabilities=True)
    answer = service().post(f"{PREDICT}?probabilities=1", json={"rows": rows}, headers={"accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    ours, theirs = (list(csv.DictReader(io.StringIO(text))) for text in (answer.text, out.read_text()))
    assert list(ours[0]) == list(theirs[0])
    assert [{k: v for k, v in row.items() if "bility" not in k and "confid" not in k} for row in ours] == [
        {k: v for k, v in row.items() if "bility" not in k and "confid" not in k} for row in theirs
    ]
    assert ours[0]["text"] == "'=1+1"
    assert ours[1]["id"] == "'@x"
    assert "text is missing" in ours[2]["error"]


# -- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos() -> ServiceModel:
    return ServiceModel.load(SAVED / "image" / "model")


def png(color: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 20), color).save(file, "PNG")
    return file.getvalue()


def image_column(model: ServiceModel) -> str:
    return model.schema.names("image")[0]


def whole_row(model: ServiceModel, image: Any) -> dict[str, Any]:
    """A row whose other columns are empty."""
    return {f.name: image if f.modality == "image" else "" for f in model.schema.inputs}


def test_an_image_as_base64_data_address_and_part(service: Service, photos: ServiceModel) -> None:
    client, path = service({"photos": photos}), "/v1/models/photos/predict?strictness=lenient"
    coded = base64.b64encode(png()).decode()
    answers = ask(
        client,
        [
            whole_row(photos, {"base64": coded}),
            whole_row(photos, f"data:image/png;base64,{coded}"),
            whole_row(photos, {"base64": f"data:image/png;base64,{coded}"}),
        ],
        path=path,
    )
    (expected,) = photos.answer([whole_row(photos, png())], options=Options(strictness="lenient"))
    parts = {
        name: ("a.png", value, "image/png") if isinstance(value, bytes) else (None, value)
        for name, value in whole_row(photos, png()).items()
    }
    answers += client.post(path, files=parts).json()["answers"]
    assert [a.get("prediction") for a in answers] == [expected.values] * 4, answers
    sent = [row[image_column(photos)] for rows in client.fleet.asked for row in rows]
    assert sent == [png()] * 4


@pytest.mark.parametrize(
    "value",
    [
        "/etc/passwd", "../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/a.png", "a.png", "C:\\a.png",
        {"path": "/etc/passwd"}, {"bytes": None, "path": "/etc/passwd"}, {"base64": 5}, {"base64": "%%%"},
        "data:image/png;base64,%%%", "data:text/html,x", ["/etc/passwd"], [{"path": "/etc/passwd"}], [["/etc/passwd"]],
        5, True,
    ],
)  # fmt: skip
def test_a_string_is_never_a_path(service: Service, photos: ServiceModel, value: Any) -> None:
    """What names a file is refused here already: it does not reach a model process."""
    client = service({"photos": photos})
    path = "/v1/models/photos/predict"
    rows = [whole_row(photos, value), {"image": value, "objects": [], "image_id": 1} | whole_row(photos, None)]
    for answer in ask(client, rows, path=path):
        assert "prediction" not in answer
        assert "root:" not in json.dumps(answer)
        assert not re.search(r"NumPy|PIL|a path,", json.dumps(answer))
    assert all("passwd" not in repr(row) for rows in client.fleet.asked for row in rows)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (huge_png(40_000, 40_000), "pixels, more than image.max_pixels"),
        (b"", "is missing"), (b"\0\1\2\3", "is not an image that can be read"), (b"some words", "is text, expected"),
        (png()[:60], "is broken or cut off"),
    ],
)  # fmt: skip
def test_a_bad_image_is_the_error_of_its_row(service: Service, photos: ServiceModel, content: bytes, says: str) -> None:
    client = service({"photos": photos})
    good, bad = (whole_row(photos, {"base64": base64.b64encode(c).decode()}) for c in (png(), content))
    first, second = ask(client, [good, bad], path="/v1/models/photos/predict?strictness=normal")
    assert "prediction" in first or "error" in first
    assert says in second["error"]["message"]


def test_a_body_that_is_an_image(service: Service, photos: ServiceModel) -> None:
    answer = service({"photos": photos}).post(
        "/v1/models/photos/predict", content=png(), headers={"content-type": "image/png"}
    )
    single = len([f for f in photos.schema.inputs if f.modality != "ignore"]) == 1
    assert answer.status_code == (200 if single else 415)
    refused = service().post(PREDICT, content=png(), headers={"content-type": "image/png"})
    assert refused.status_code == 415
    assert "multipart/form-data" in refused.json()["error"]["hint"]


def test_the_number_of_rows_is_bounded(service: Service) -> None:
    client = service(limits=Limits(rows=10))
    for body, kind in (
        (json.dumps({"rows": ["a"] * 10_000}), "application/json"),
        ("text\n" + "a\n" * 10_000, "text/csv"),
    ):
        answer = client.post(PREDICT, content=body, headers={"content-type": kind})
        assert answer.status_code == 413
        assert "more than 10 rows" in answer.json()["error"]["message"]
    assert client.fleet.asked == []
