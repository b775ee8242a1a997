"""Signing in and out through the addresses, as a browser and as a page's script do it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from polydetr.errors import StoreUnavailable
from polydetr.web.people.login import login_routes, safe_target
from polydetr.web.people.login_words import SENTENCES, language_of
from polydetr.web.people.people import People
from polydetr.web.store.database import Database

PASSWORD = "correct horse battery"
JSON = {"accept": "application/json"}
Open = Callable[[str], Database]


@pytest.fixture
def people(tmp_path: Any, open_store: Open, clock: Any, quick_hashes: None) -> People:
    people = People(open_store(str(tmp_path / "s.db")), now=clock)
    people.add("Anna", PASSWORD, role="admin")
    return people


def client_of(people: People, base_url: str = "http://localhost", prefix: str = "/studio", **how: Any) -> TestClient:
    return TestClient(
        Starlette(routes=login_routes(people, prefix=prefix)), base_url=base_url, follow_redirects=False, **how
    )


@pytest.fixture
def client(people: People) -> Iterator[TestClient]:
    with client_of(people) as client:
        yield client


def enter(client: TestClient, name: str = "Anna", password: str = PASSWORD, **more: Any) -> Any:
    headers = more.pop("headers", {})
    return client.post("/studio/login", data={"name": name, "password": password, **more}, headers=headers)


def test_the_page_is_a_form_that_needs_no_script(client: TestClient) -> None:
    answer = client.get("/studio/login?next=/studio/film/ask")
    page = answer.text
    assert answer.status_code == 200
    assert '<form method="post" action="/studio/login">' in page
    assert 'name="next" value="/studio/film/ask"' in page
    assert 'autocomplete="current-password"' in page
    assert "<script" not in page
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "set-cookie" not in answer.headers


def test_signed_in_by_the_form(client: TestClient, people: People) -> None:
    answer = enter(client, next="/studio/film/ask?row=3")
    assert (answer.status_code, answer.headers["location"]) == (303, "/studio/film/ask?row=3")
    cookie = answer.headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "path=/studio", "max-age=604800"} <= set(re.split("; *", cookie))
    assert "secure" not in cookie
    token = answer.cookies["polydetr_session"]
    person = people.person_of(token)
    assert person is not None
    assert person.name == "Anna"
    again = client.get("/studio/login?next=/studio/runs")
    assert (again.status_code, again.headers["location"]) == (303, "/studio/runs")
    assert client.get("/studio/login", headers=JSON).json() == {"name": "Anna", "role": "admin"}
    out = client.post("/studio/logout")
    assert (out.status_code, out.headers["location"]) == (303, "/studio/login")
    assert people.person_of(token) is None
    assert client.cookies == {}


def test_a_script_gets_json(client: TestClient, clock: Any) -> None:
    assert client.get("/studio/login", headers=JSON).status_code == 401
    answer = enter(client, headers=JSON)
    assert (answer.status_code, answer.json()) == (200, {"name": "Anna", "role": "admin"})
    assert client.post("/studio/logout", headers=JSON).json() == {}
    for _ in range(5):
        answer = enter(client, password="wrong", headers=JSON)
        assert (answer.status_code, answer.json()) == (401, {"error": "The name or the password is wrong."})
    answer = enter(client, headers=JSON)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json() == {"error": "Too many attempts. Try again in 1 s.", "wait_s": 1}
    clock.forward(seconds=1)
    assert enter(client, headers=JSON).status_code == 200


def test_within_a_dialog_of_another_page(client: TestClient) -> None:
    page = client.get("/studio/login?inside=1").text
    assert '<input type="hidden" name="inside" value="1">' in page
    answer = enter(client, inside="1", next="/studio/film/ask")
    assert answer.headers["location"] == "/studio/login/done"
    assert "You are signed in." in client.get("/studio/login/done").text
    assert client.get("/studio/login?inside=1").headers["location"] == "/studio/login/done"


def test_what_went_wrong_stands_above_the_form_and_the_name_stays(client: TestClient) -> None:
    answer = enter(client, "Anna", "wrong password", next="/studio/runs")
    assert answer.status_code == 401
    assert '<p class="bad" role="alert" id="fault">The name or the password is wrong.</p>' in answer.text
    assert 'value="Anna"' in answer.text
    assert 'name="next" value="/studio/runs"' in answer.text
    assert "wrong password" not in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\u202eanna\u200b", "{name}"]
)
def test_script_in_a_name_is_shown_as_text(client: TestClient, text: str) -> None:
    for answer in (enter(client, text), client.get(f"/studio/login?next={quote(text)}&name={quote(text)}")):
        assert "<script" not in answer.text
        assert "<img" not in answer.text
        assert answer.status_code in (200, 401)


# -- languages and light ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "en;q=0.5, zh;q=0.9", "zh"),
        (None, "fr,de", "en"),
        ("zh", "en", "zh"),
        ("xx", "zh", "zh"),
        (None, ";q=x,,,;;", "en"),
        (None, None, "en"),
    ],
)
def test_the_language_is_the_chosen_one_else_the_browsers(cookie: Any, accepted: Any, language: str) -> None:
    assert language_of(cookie, accepted) == language


def test_both_languages_say_everything_and_both_lights_are_there(client: TestClient) -> None:
    assert set(SENTENCES["en"]) == set(SENTENCES["zh"])
    for name, english in SENTENCES["en"].items():
        places = re.findall(r"\{\w+\}", english)
        assert places == re.findall(r"\{\w+\}", SENTENCES["zh"][name])
    page = client.get("/studio/login", headers={"accept-language": "zh"}).text
    assert '<html lang="zh" data-theme="system">' in page
    assert "登录" in page
    assert 'href="/studio/login?language=en&amp;next=%2Fstudio%2F" lang="en">English</a>' in page
    answer = client.get("/studio/login?language=zh&next=/studio/runs")
    assert "polydetr_language=zh" in answer.headers["set-cookie"]
    assert 'lang="zh"' in client.get("/studio/login").text
    client.cookies.set("polydetr_theme", "dark")
    assert 'data-theme="dark"' in client.get("/studio/login").text
    client.cookies.set("polydetr_theme", '"><script>')
    assert 'data-theme="system"' in client.get("/studio/login").text


# -- where it leads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "", "https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)",
        "/studio\r\nSet-Cookie: a=b", "/studio/\r\n\r\n<script>", "/studio/\nx", "/studio/\0", "/studio/ x", "/other",
        "/studiox", "studio/", "/studio/../v1/models", "/studio/..", "/studio//../..",
        "/studio/login", "/studio/logout",
        "/studio/login?next=/studio/login", "/studio/" + "x" * 3000, "/studio/\x85", "/studio/\u00a0", "http:/studio/",
    ],
)  # fmt: skip
def test_it_leads_nowhere_else(client: TestClient, target: str) -> None:
    assert safe_target(target, "/studio") == "/studio/"
    answer = enter(client, next=target)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/studio/"
    assert len(answer.headers.get_list("set-cookie")) == 1
    client.cookies.clear()
    page = client.get(f"/studio/login?{urlencode({'next': target})}").text
    assert 'name="next" value="/studio/"' in page


@pytest.mark.parametrize(
    ("target", "safe"),
    [
        ("/studio", "/studio"),
        ("/studio/film/ask?row=3&x=%2F", "/studio/film/ask?row=3&x=%2F"),
        ("/studio/电影/ask", "/studio/%E7%94%B5%E5%BD%B1/ask"),
        ("/studio/a?next=https://evil.example", "/studio/a?next=https://evil.example"),
        ('/studio/"<b>', "/studio/%22%3Cb%3E"),
    ],
)
def test_it_leads_to_any_page_of_ours(target: str, safe: str) -> None:
    assert safe_target(target, "/studio") == safe


def test_below_another_prefix_and_behind_a_proxy(people: People) -> None:
    with client_of(people, "https://desk.example", root_path="/team") as client:
        answer = client.post("/studio/login", data={"name": "Anna", "password": PASSWORD})
        assert answer.headers["location"] == "/team/studio/"
        cookie = answer.headers["set-cookie"].lower()
        assert "path=/team/studio;" in cookie
        assert "secure" in cookie
    with client_of(people, prefix="") as client:
        answer = client.post("/login", data={"name": "Anna", "password": PASSWORD, "next": "/inbox"})
        assert (answer.headers["location"], "path=/;" in answer.headers["set-cookie"].lower()) == ("/inbox", True)
        for other in ("//evil.example", "https://evil.example"):
            assert safe_target(other, "") == "/"


# -- what is no sign-in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost.evil.example"},
        {"origin": "localhost"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_page_of_another_site_signs_nobody_in_or_out(client: TestClient, people: People, headers: Any) -> None:
    answer = enter(client, headers=headers)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert "another site" in answer.text
    token = enter(client).cookies["polydetr_session"]
    assert client.post("/studio/logout", headers=headers).status_code == 403
    assert people.person_of(token)
    assert enter(client, headers={"origin": "http://localhost", "sec-fetch-site": "same-origin"}).status_code == 303


def test_bodies_that_are_no_form(client: TestClient, people: People) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    for content, headers, status in [
        (urlencode({"name": "Anna", "password": "x" * 2**20}), form, 413),
        ("name=" + "a" * 2**20, form, 413),
        ("&".join(f"a{n}=1" for n in range(100)), form, 400),
        ("name=%ff&password=x", form, 400),
        (b"name=\xff\xfe", form, 400),
        ('{"name": "Anna"}', {"content-type": "application/json"}, 415),
        ("name=Anna", {"content-type": "text/plain"}, 415),
        ("", form, 401),
        ("password=x", form, 401),
        ("name=Anna&name=Bo&password=x", form, 401),
        ("name=%00&password=%00", form, 401),
        ("name=%ed%a0%80&password=x", form, 400),
    ]:
        answer = client.post("/studio/login", content=content, headers={**headers, **JSON})
        assert (answer.status_code, next(iter(answer.json()))) == (status, "error"), content[:40]
    files = {"name": ("x.txt", b"Anna")}
    assert client.post("/studio/login", files=files).status_code == 415
    assert enter(client).status_code in (303, 429)


def test_a_body_without_end_is_not_read_to_it(people: People) -> None:
    taken = []

    def endless() -> Iterator[bytes]:
        for number in range(10_000):
            taken.append(number)
            yield b"x" * 1024

    with client_of(people) as client:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        assert client.post("/studio/login", content=endless(), headers=headers).status_code == 413


@pytest.mark.parametrize("token", ["x", "A" * 43, '"', "%00", "a" * 4000])
def test_a_foreign_or_ended_session_is_nobodys(client: TestClient, token: str) -> None:
    client.cookies.set("polydetr_session", token)
    assert client.get("/studio/login", headers=JSON).status_code == 401
    assert client.post("/studio/logout", headers=JSON).json() == {}


def test_a_replayed_session_is_nobodys_after_signing_out(client: TestClient, clock: Any) -> None:
    token = enter(client).cookies["polydetr_session"]
    client.post("/studio/logout")
    replayed = {"cookie": f"polydetr_session={token}", **JSON}
    assert client.get("/studio/login", headers=replayed).status_code == 401
    token = enter(client).cookies["polydetr_session"]
    clock.forward(hours=12.1)
    assert client.get("/studio/login", headers={"cookie": f"polydetr_session={token}", **JSON}).status_code == 401


def test_a_store_that_is_gone_is_told_without_its_place(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(self: Database) -> None:
        raise StoreUnavailable("the store /secret/place.db cannot be reached")

    monkeypatch.setattr(Database, "read", gone)
    monkeypatch.setattr(Database, "write", gone)
    client.cookies.set("polydetr_session", "x")
    answers = [client.get("/studio/login"), enter(client), client.post("/studio/logout")]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert all("does not work at this moment" in answer.text for answer in answers)
    assert not any("secret" in answer.text for answer in answers)
    assert "cannot be reached" in caplog.text
    assert PASSWORD not in caplog.text


def test_a_font_for_systems_without_chinese_is_named_and_the_style_is_the_one_that_may_apply(people: People) -> None:
    routes = login_routes(people, prefix="/studio", font="cjk.otf")
    with TestClient(Starlette(routes=routes), base_url="http://localhost") as client:
        for path in ("/studio/login", "/studio/login/done"):
            answer = client.get(path)
            (style,) = re.findall("<style>(.*?)</style>", answer.text, re.DOTALL)
            assert 'src: url("/studio/cjk.otf")' in style
            digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]


def test_who_has_no_people_is_told_how_to_add_one(tmp_path: Any, open_store: Open, quick_hashes: None) -> None:
    with client_of(People(open_store(str(tmp_path / "empty.db")))) as client:
        assert "<code>polydetr people add --role admin NAME</code>" in client.get("/studio/login").text


def test_other_methods_are_refused(client: TestClient) -> None:
    assert client.put("/studio/login").status_code == 405
    assert client.get("/studio/logout").status_code == 405
