"""Bodies that are wrong as a whole: one refusal each, with what is wrong and how to repair it; never a fault."""

from __future__ import annotations

import json
from typing import Any

import pytest
from running_service import Service

from polydetr.serving.json_body import NotJson, parsed
from polydetr.serving.limits import Limits

PREDICT = "/v1/models/film/predict"
JSON = {"content-type": "application/json"}
ROW = b'{"text": "a"}'

BODIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is not JSON"),
    "not JSON": (b"rows=1", "is not JSON: Expecting value at column 1"),
    "two documents": (b'{"rows": []} {"rows": []}', "Extra data"),
    "cut off": (b'{"rows": [' + ROW, "is not JSON"),
    "nested 10,000 deep": (b'{"rows": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested too deeply"),
    "nested 10,000 deep by objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested too deeply"),
    "a key twice": (b'{"rows": [], "rows": []}', "the key 'rows' twice"),
    "a key twice in a row": (b'{"rows": [{"text": "a", "text": "b"}]}', "the key 'text' twice"),
    "NaN": (b'{"rows": [{"text": NaN}]}', "holds NaN"),
    "infinity": (b'{"rows": [{"text": -Infinity}]}', "holds -Infinity"),
    "invalid UTF-8": (b'{"rows": [{"text": "\xff"}]}', "is not UTF-8 (byte 21)"),
    "UTF-16": ('{"rows": []}'.encode("utf-16"), "is not UTF-8"),
    "a mark before it": (b"\xef\xbb\xbf" + b'{"rows": []}', "is not JSON"),
    "a number of 10,000 digits": (b'{"rows": [' + b"9" * 10_000 + b"]}", "thousands of digits"),
    "a list": (b"[]", "the body is [], expected an object"),
    "a string": (b'"rows"', "expected an object"),
    "null": (b"null", "expected an object"),
    "no rows": (b"{}", 'has no key, expected "rows"'),
    "another key": (b'{"row": []}', "has the key 'row'"),
    "a key more": (b'{"rows": [], "explain": true}', "has the key 'explain'"),
    "rows that are none": (b'{"rows": {"text": "a"}}', "expected a list of rows"),
    "rows that are null": (b'{"rows": null}', '"rows" is None'),
    "a control character": (b'{"rows": ["a\x00"]}', "Invalid control character"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_wrong_body_is_one_refusal(service: Service, name: str) -> None:
    body, says = BODIES[name]
    client = service()
    answer = client.post(PREDICT, content=body, headers=JSON)
    assert answer.status_code == 400, answer.text
    told = answer.json()["error"]
    assert says in told["message"]
    assert len(answer.content) < 1_500
    assert client.fleet.asked == []


KINDS = ["", "text/plain", "application/xml", "application/x-www-form-urlencoded", "application/json; charset=utf-8",
         "APPLICATION/JSON", "application/json-seq", "text/html", "\x7f", "application/octet-stream"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_content_type_says_what_a_body_is(service: Service, kind: str) -> None:
    answer = service().post(PREDICT, content=b'{"rows": []}', headers={"content-type": kind})
    if kind.lower().partition(";")[0] == "application/json":
        assert answer.json() == {"answers": []}
        return
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]["hint"]


FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "no boundary": ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, "boundary"),
    "empty": ({"content": b"--b--\r\n", "headers": {"content-type": "multipart/form-data; boundary=b"}}, "empty"),
    "no parts": ({"content": b"nonsense", "headers": {"content-type": "multipart/form-data; boundary=b"}}, ""),
    **{
        f"in {charset!r}": (
            {
                "content": b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\na b\r\n--b--\r\n',
                "headers": {"content-type": f"multipart/form-data; boundary=b; charset={charset}"},
            },
            "not in the charset that its content type names",
        )
        for charset in ("undefined", "punycode", "a\0b")
    },
    "a file of another kind": ({"files": {"file": ("a.exe", b"MZ")}}, "of no kind that is taken"),
    "a name that is a path": ({"files": {"file": ("../../etc/passwd", b"text\nhello\n")}}, "of no kind"),
    "a column twice": ({"files": [("text", (None, "a")), ("other", (None, "b")), ("other", (None, "c"))]}, "twice"),
    "too many parts": ({"files": [("text", (None, "a"))] * 30}, ""),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_wrong_form_is_one_refusal(service: Service, name: str) -> None:
    given, says = FORMS[name]
    answer = service(limits=Limits(parts=20)).post(PREDICT, **given)
    assert 400 <= answer.status_code < 500, answer.text
    assert says in json.dumps(answer.json())


def test_markup_in_texts_and_names_stays_text(service: Service) -> None:
    """It comes back as JSON, with a type that no browser takes for a page."""
    script = "<script>alert(1)</script>"
    answer = service().post(PREDICT, json={"rows": [{"text": script, script: script}], script: 1})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    answer = service().get(f"/v1/models/{script}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")


@pytest.mark.parametrize(
    "name", ["..", "../film", "%2e%2e", "..%2f..%2fetc", "%2fetc%2fpasswd", "film%00", "a" * 5_000, "\u202e"]
)
def test_a_model_is_a_name_and_no_path(service: Service, name: str) -> None:
    for path in (f"/v1/models/{name}", f"/v1/models/{name}/predict"):
        answer = service().post(path, json={"rows": []})
        assert answer.status_code in (404, 405)
        assert len(answer.content) < 1_000
        assert "/tmp" not in answer.text


def test_strict_json_takes_what_json_is() -> None:
    for value in ({"a": [1, 2.5, -3e2, True, None, "é\u2028\U0001f600"]}, [], "x", 1e308, {"": {"": {}}}):
        assert parsed(json.dumps(value).encode()) == value
    with pytest.raises(NotJson, match="twice"):
        parsed(b'{"a": {"b": 1, "b": 2}}')
