"""What stands before everything: names, keys, rates, sizes, compressed bodies, headers, ids, and what is logged."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_service import Service

from polydetr.serving.keys import KeyFile
from polydetr.serving.limits import JobLimits, Limits, Place
from polydetr.serving.rates import Buckets, Failures

PREDICT = "/v1/models/film/predict"


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def body(pieces: int, *, read: list[int] | None = None) -> Iterator[bytes]:
    """Sent in chunks, without a length."""
    for number in range(pieces):
        if read is not None:
            read.append(number)
        yield b"x" * 1000


# -- Host -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:80", "[::1]:8000", "LOCALHOST"])
def test_this_machine_by_its_names(service: Service, host: str) -> None:
    assert service().get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "localhost@evil", "10.0.0.1", "a\\b"],
)
def test_another_name_is_refused_also_on_loopback(service: Service, host: str) -> None:
    """A page of another site can point its own name here, and its scripts then read what is answered."""
    answer = service().get("/healthz", headers={"host": host})
    assert answer.status_code == 400
    assert "Host" in answer.json()["error"]["message"]


def test_names_can_be_added(service: Service) -> None:
    client = service(place=Place(hosts=("api.example.org", "*.example.net", Place.NUMBERS)))
    for host, status in {
        "api.example.org": 200, "a.b.example.net:443": 200, "example.net": 400, "xexample.net": 400, "10.1.2.3:80": 200,
        "[fe80::1]": 200, "10.1.2.3.evil.example": 400, "localhost": 400, "<numbers>": 400,
    }.items():  # fmt: skip
        assert client.get("/healthz", headers={"host": host}).status_code == status, host


# -- keys -------------------------------------------------------------------------------------------------------------


def test_without_a_key_nothing_is_told_of_any_model(service: Service, keys: KeyFile) -> None:
    key = keys.add("app")
    client = service(keys=keys)
    for path in ("/v1/models", "/v1/models/film", "/openapi.json", "/metrics", "/v1/jobs/x", "/nowhere"):
        for headers in ({}, bearer("wrong"), bearer(key[:-1]), bearer(key + "x"), bearer(""), {"x-api-key": "no"}):
            answer = client.get(path, headers=headers)
            assert answer.status_code in (401, 429), path
            assert "film" not in answer.text
    for path in ("/healthz", "/readyz", "/docs", "/docs/page.js"):
        assert client.get(path).status_code == 200
    basic = base64.b64encode(f"anybody:{key}".encode()).decode()
    for headers in (bearer(key), {"x-api-key": key}, {"authorization": f"Basic {basic}"}):
        assert client.get("/v1/models", headers=headers).status_code == 200
    assert client.get("/v1/models").headers["www-authenticate"].startswith("Bearer")


def test_a_refusal_comes_before_the_body_is_read(service: Service, keys: KeyFile) -> None:
    keys.add("app")
    client = service(keys=keys, limits=Limits(body_bytes=100))
    answer = client.post(PREDICT, content=b"x" * 1000, headers={"content-type": "application/json"})
    assert answer.status_code == 401
    assert answer.headers["connection"] == "close"


def test_ten_thousand_keys_are_not_tried(service: Service, keys: KeyFile) -> None:
    key = keys.add("app")
    client = service(keys=keys, limits=Limits(failures=20))
    statuses = [client.get("/v1/models", headers=bearer(f"pdk_{i}")).status_code for i in range(10_000 // 50)]
    assert statuses[:20] == [401] * 20
    assert set(statuses[20:]) == {429}
    answer = client.get("/v1/models", headers=bearer("pdk_x"))
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert client.get("/v1/models", headers=bearer(key)).status_code == 200  # of the same address
    for _ in range(10_000 - 200):
        client.app._failures.note("testclient")  # type: ignore[attr-defined]
    assert len(client.app._failures._tried["testclient"]) == 20  # type: ignore[attr-defined]


def test_a_revoked_key_is_worthless_at_once(service: Service, keys: KeyFile) -> None:
    key, other = keys.add("app"), keys.add("other")
    client = service(keys=keys)
    assert client.get("/v1/models", headers=bearer(key)).status_code == 200
    KeyFile(keys.path).revoke("app")
    assert client.get("/v1/models", headers=bearer(key)).status_code == 401
    assert client.get("/v1/models", headers=bearer(other)).status_code == 200
    keys.path.write_text("no keys")
    assert client.get("/v1/models", headers=bearer(other)).status_code == 401
    keys.path.unlink()
    assert client.get("/v1/models", headers=bearer(other)).status_code == 401


# -- rates ------------------------------------------------------------------------------------------------------------


def test_each_key_has_a_rate_of_its_own(service: Service, keys: KeyFile) -> None:
    first, second = keys.add("first"), keys.add("second")
    client = service(keys=keys, limits=Limits(rate=0.5, burst=3))
    statuses = [client.get("/v1/models", headers=bearer(first)).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    refused = client.get("/v1/models", headers=bearer(first))
    assert refused.headers["retry-after"] in ("1", "2")
    assert client.get("/v1/models", headers=bearer(second)).status_code == 200
    assert client.get("/healthz").status_code == 200


def test_a_bucket_fills_again() -> None:
    now = [0.0]
    buckets = Buckets(2.0, 2, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    now[0] = 0.5
    assert buckets.take("a") == 0.0
    now[0] = 100.0
    assert [buckets.take("a") for _ in range(3)] == [0.0, 0.0, 0.5]


def test_counts_are_bounded_however_many_ask() -> None:
    buckets, failures = Buckets(1.0, 1), Failures(1, 60.0)
    for i in range(20_000):
        buckets.take(str(i))
        failures.note(str(i))
    assert len(buckets._held) == len(failures._tried) == 10_000


# -- bodies -----------------------------------------------------------------------------------------------------------


def test_a_body_that_says_how_long_it_is(service: Service) -> None:
    answer = service(limits=Limits(body_bytes=100)).post(
        PREDICT, content=b"x" * 101, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413
    assert "more than 100 bytes" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [(PREDICT, "POST /v1/jobs"), ("/v1/jobs?model=film", "in several files"), ("/label-studio/film/predict", None)],
)
def test_what_is_too_large_is_told_what_this_address_takes(service: Service, path: str, hint: str | None) -> None:
    client = service(limits=Limits(body_bytes=100), job_limits=JobLimits(file_bytes=100))
    for content in (b"x" * 101, body(5)):
        kind = "text/csv" if "jobs" in path else "application/json"
        told = client.post(path, content=content, headers={"content-type": kind}).json()["error"]
        assert "more than 100 bytes" in told["message"]
        assert hint in told["hint"] if hint else "hint" not in told


def test_a_body_that_does_not_say_is_counted(service: Service) -> None:
    client = service(limits=Limits(body_bytes=10_000))
    answer = client.post(PREDICT, content=body(1000), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert client.fleet.asked == []


def test_a_form_is_counted_before_it_is_parsed(service: Service) -> None:
    client = service(limits=Limits(body_bytes=10_000))
    answer = client.post(PREDICT, files={"file": ("a.csv", b"text\n" + b"a\n" * 100_000)})
    assert answer.status_code == 413
    answer = client.get("/v1/models", headers={"content-length": "100000", "content-type": "multipart/form-data"})
    assert answer.status_code == 413


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "x"])
def test_compressed_bodies_are_not_unpacked(service: Service, coding: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": coding}
    answer = service().post(PREDICT, content=b"\x1f\x8b", headers=headers)
    assert answer.status_code == 415
    assert "compressed" in answer.json()["error"]["message"]


# -- headers, ids, logs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/v1/models", "/nowhere", PREDICT, "/openapi.json", "/metrics"])
def test_every_answer_has_the_headers_that_protect(service: Service, path: str) -> None:
    answer = service().get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "server" not in answer.headers


def test_other_sites_get_no_leave(service: Service) -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = service().options(PREDICT, headers=headers)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1.2_3", True), ("a" * 64, True), ("a" * 65, False), ("a b", False), ("<script>", False), ("", False)],
)
def test_a_request_id_is_taken_over_if_it_is_one(service: Service, given: str, kept: bool) -> None:
    answer = service().get("/healthz", headers={"x-request-id": given})
    assert (answer.headers["x-request-id"] == given) == kept
    assert answer.headers["x-request-id"]


def test_the_log_has_ids_and_numbers_and_no_texts(
    service: Service, keys: KeyFile, caplog: pytest.LogCaptureFixture
) -> None:
    key = keys.add("app")
    secret = "my secret text"
    client = service(keys=keys)
    with caplog.at_level(logging.INFO, "polydetr.serving"):
        headers = bearer(key) | {"x-request-id": "id-1"}
        client.post(PREDICT, json={"rows": [{"text": secret}, {"text": None, secret: 1}]}, headers=headers)
        client.post(PREDICT, content=secret, headers=headers)
        client.get(f"/{secret}?{secret}", headers=headers)
    lines: list[dict[str, Any]] = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    first, second, third = lines
    assert (first["id"], first["key"], first["model"]) == ("id-1", "app", "film")
    assert (first["rows"], first["rejected"], first["status"]) == (2, 1, 200)
    assert second["reason"] == "type"
    assert third["route"] == ""
    told = json.dumps([str(vars(record)) for record in caplog.records])
    assert secret not in told
    assert key not in told


def test_a_fault_of_ours_says_nothing_of_the_machine(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    client = service()
    client.fleet.failing.append(RuntimeError("/home/somebody: secret"))
    with caplog.at_level(logging.INFO, "polydetr.serving"):
        answer = client.post(PREDICT, json={"rows": ["a"]})
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "the service failed."
    assert answer.headers["x-request-id"] in answer.json()["error"]["hint"]
    assert [r.fields["id"] for r in caplog.records] == [answer.headers["x-request-id"]] * 2  # type: ignore[attr-defined]
    assert client.post(PREDICT, json={"rows": ["a"]}).status_code == 200
