"""The description of the service, and the page that shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from local_fleet import LocalFleet
from running_service import Running, Service

from polydetr.inference.service import ServiceModel
from polydetr.serving import openapi as described
from polydetr.serving.app import create_app
from polydetr.serving.keys import KeyFile
from polydetr.serving.limits import Place

SCRIPT = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SAVED = Path(__file__).parents[1] / "model" / "saved_by_old"


def test_it_shows_the_users_own_columns_and_answers(
    service: Service, several: ServiceModel, film: ServiceModel
) -> None:
    document = service({"several": several, "film": film}).get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    row = document["components"]["schemas"]["several.Row"]
    assert list(row["properties"]) == ["text", "minutes"]
    answer = document["components"]["schemas"]["several.Answer"]["properties"]["prediction"]
    assert list(answer["properties"]) == ["label", "stars", "entities"]
    ask = document["paths"]["/v1/models/film/predict"]["post"]
    assert {p["name"] for p in ask["parameters"]} >= {"explain", "min_confidence", "strictness", "encoding", "columns"}
    assert set(ask["requestBody"]["content"]) == {
        "application/json", "text/csv", "application/x-ndjson", "multipart/form-data",
    }  # fmt: skip


def test_every_address_is_described_and_every_reference_leads_somewhere(service: Service, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("app")
    client = service(keys=keys, root=tmp_path)
    document = client.get("/openapi.json", headers={"x-api-key": key}).json()
    assert document["security"] == [{"key": []}]
    told = {path.replace("{name}", "film").replace("{id}", "x") for path in document["paths"]}
    assert {"/v1/admin/models/film", "/v1/admin/models/film/rollback", "/v1/jobs/x/result", "/metrics"} <= told
    text = json.dumps(document)
    for place in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        assert place in document["components"]["schemas"]
    assert "/v1/admin" not in json.dumps(service().get("/openapi.json").json())
    ids = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(ids) == len(set(ids))


def test_images_are_described_as_what_is_taken(service: Service) -> None:
    model = ServiceModel.load(SAVED / "detection" / "model")
    document = service({"d": model}).get("/openapi.json").json()
    photo = document["components"]["schemas"]["d.Row"]["properties"]["photo"]
    assert photo["oneOf"][0]["required"] == ["base64"]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._tag = tag

    def handle_data(self, data: str) -> None:
        if self._tag in ("script", "style") and data.strip():
            self.inline.append(data)


def test_the_page_loads_what_the_service_serves_and_nothing_else(service: Service) -> None:
    client = service()
    answer = client.get("/", follow_redirects=True)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = _Page()
    page.feed(answer.text)
    assert page.inline == []
    addresses = [a for _, tag in page.found for name in ("src", "href") if (a := tag.get(name))]
    assert sorted(addresses) == ["docs/page.css", "docs/page.js", "openapi.json"]
    assert not [name for _, tag in page.found for name in tag if name.startswith("on") or name == "style"]
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for path, kind in (("docs/page.js", "text/javascript"), ("docs/page.css", "text/css")):
        part = client.get(f"/{path}")
        assert part.headers["content-type"].startswith(kind)
        assert not re.search(r"https?://|@import|url\(", part.text)


def test_the_script_of_the_page_writes_text_and_never_markup(service: Service) -> None:
    script = service().get("/docs/page.js").text
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", ".src", ".href",
                "setAttribute(\"on", "localStorage", "cookie"):  # fmt: skip
        assert way not in script
    assert "textContent" in script


class Marked(LocalFleet):
    """Its column, target, labels and example are markup."""

    def _info(self, name: str) -> Any:
        inputs, targets = [{"name": SCRIPT, "modality": "text"}], [{"name": SCRIPT, "task": "classification"}]
        return replace(
            super()._info(name), description={"schema": {"inputs": inputs, "targets": targets}, "metrics": {}},
            columns={SCRIPT: {"type": "string"}}, answers={SCRIPT: {"enum": [SCRIPT, "b"]}}, example={SCRIPT: SCRIPT},
        )  # fmt: skip


def test_a_script_in_a_column_or_label_stays_text(service: Service, film: ServiceModel) -> None:
    client = service(fleet=Marked({"film": film}))
    for path in ("/openapi.json", "/v1/models", "/v1/models/film"):
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/json"
        assert json.dumps(SCRIPT)[1:-1] in json.dumps(answer.json())
    assert client.get("/v1/models/film").json()["labels"] == {SCRIPT: [SCRIPT, "b"]}
    assert SCRIPT not in client.get("/docs").text


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no browser")
def test_a_browser_shows_markup_as_text(film: ServiceModel) -> None:
    """In a browser, where there is one: the page is drawn by its script, and no other script runs."""
    running = Running(Marked({"film": film}))
    try:
        look = [str(BROWSER), "--headless", "--no-sandbox", "--virtual-time-budget=10000", "--dump-dom", running.url]
        seen = subprocess.run(look, capture_output=True, text=True, timeout=120).stdout
    finally:
        running.stop()
    assert "<code>/v1/models/film/predict</code>" in seen
    assert "&lt;img src=x onerror=" in seen
    assert "<img" not in seen
    assert "<title>polydetr: the service</title>" in seen


def test_below_a_path_of_a_proxy(film: ServiceModel) -> None:
    """As uvicorn calls it with ``--root-path``: the page's own addresses are relative, so that they lead there."""
    from starlette.testclient import TestClient

    app = create_app(LocalFleet({"film": film}), place=Place(root_path="/models"))
    with TestClient(app, base_url="http://localhost", root_path="/models") as client:
        assert client.get("/models/healthz").status_code == 200
        assert client.get("/models/docs").status_code == 200
        assert client.get("/models/", follow_redirects=False).headers["location"].endswith("docs")
        document = client.get("/models/openapi.json").json()
        assert document["servers"] == [{"url": "/models"}]
        answer = client.post("/models/v1/models/film/predict", json={"rows": ["a"]})
        assert answer.json()["answers"][0]["prediction"]
        assert client.post("/models/v1/admin/models/film", json={}).status_code == 401


@pytest.mark.parametrize("state", ["loading", "its folder '/secret' is damaged"])
def test_whether_it_is_ready_is_told_without_why(service: Service, state: str) -> None:
    client = service()
    client.fleet.states["film"] = state
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "not ready"})
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/models/film").json()["state"] == state


def test_the_texts_of_refusals_are_told_for_every_status() -> None:
    assert set(described._USUAL) <= set(described._REFUSALS)
