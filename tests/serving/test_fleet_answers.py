"""A fleet answers as ``predict`` does, row by row, whoever else asks at the same time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_cases import NAMES, SAVED, Loop, close_to, rows_of
from prometheus_client.parser import text_string_to_metric_families

from polydetr.errors import InputError, RowError, SchemaError
from polydetr.inference.model import LoadedModel
from polydetr.inference.options import Options
from polydetr.serving.asking import replies_to
from polydetr.serving.contract import Ask, TooLate, UnknownModel
from polydetr.serving.fleet import ModelFleet

PLAIN, ORDINARY = Ask(), Options()
BAD_ROWS: list[Any] = [
    {"text": 5},
    {"text": None},
    {},
    {"text": ["a", 1]},
    {"text": {"deep": "er"}},
    {"text": "half \ud83d of one"},
    {"text": "x", "other": 10**5000},
    {"text": "x", "list": [[[["a"]]]]},
    {"text": float("nan")},
]


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def fleet(loop: Loop) -> Iterator[ModelFleet]:
    fleet = loop(ModelFleet.start({name: SAVED / name / "model" for name in NAMES}))
    yield fleet
    loop(fleet.stop(grace_s=5))


@pytest.fixture(scope="module")
def models() -> dict[str, LoadedModel]:
    return {name: LoadedModel.load(SAVED / name / "model") for name in NAMES}


def ask(loop: Loop, fleet: ModelFleet, name: str, rows: list[Any], how: Ask = PLAIN) -> list[dict[str, Any]]:
    return loop(fleet.answer(name, rows, how, timeout_s=60))


def told(model: LoadedModel, rows: list[Any], options: Options = ORDINARY, **how: Any) -> list[dict[str, Any]]:
    """What ``answer`` gives in this process, as replies have it."""
    replies = []
    for answer in model.answer(rows, options=options):
        reply = answer.to_dict(**how)
        if (problem := answer.error) is not None:
            where = {"row": problem.location.row, "column": problem.location.column}
            reply["error"] = {"message": problem.message, "location": where, "hint": problem.hint}
        replies.append(reply)
    return replies


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_predict(loop: Loop, fleet: ModelFleet, models: dict[str, LoadedModel], name: str) -> None:
    rows = rows_of(name)
    found = ask(loop, fleet, name, rows)
    assert close_to(found, json.loads(json.dumps(told(models[name], rows))))
    assert [reply["row"] for reply in found] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "generation"])
def test_a_row_is_answered_alone_as_among_others(loop: Loop, fleet: ModelFleet, name: str) -> None:
    rows = rows_of(name)
    alone = [ask(loop, fleet, name, [row])[0] for row in rows]
    many = rows * 3
    random.Random(0).shuffle(many)

    async def together() -> list[Any]:
        each = [fleet.answer(name, [row], Ask(), timeout_s=60) for row in many]
        other = fleet.answer("text", rows_of("text") * 20, Ask(), timeout_s=60)
        return (await asyncio.gather(other, *each))[1:]

    for row, (reply,) in zip(many, loop(together()), strict=True):
        assert close_to(reply, alone[rows.index(row)])


def test_images_that_are_generated_follow_the_seed_and_the_number_of_their_row(
    loop: Loop, fleet: ModelFleet, models: dict[str, LoadedModel]
) -> None:
    rows = rows_of("generation") * 6
    options = Options(seed=3)
    expected = [answer.json_values()["picture"] for answer in models["generation"].answer(rows, options=options)]

    async def beside_others() -> list[dict[str, Any]]:
        others = [fleet.answer("generation", rows[:2], Ask(seed=seed), timeout_s=60) for seed in (1, 3)]
        return (await asyncio.gather(fleet.answer("generation", rows, Ask(seed=3), timeout_s=60), *others))[0]

    found = [reply["prediction"]["picture"] for reply in loop(beside_others())]
    assert found == expected
    assert len(set(found)) > 1


@pytest.mark.parametrize("bad", BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_a_bad_row_fails_alone_and_with_the_text_of_predict(
    loop: Loop, fleet: ModelFleet, models: dict[str, LoadedModel], bad: Any
) -> None:
    rows = [{"text": "Book a flight"}, bad, {"text": "play some music"}]
    found, expected = ask(loop, fleet, "text", rows), told(models["text"], rows)
    assert close_to(found, expected)
    assert "prediction" in found[0]
    assert "prediction" in found[2]


def test_a_row_of_ten_thousand_brackets_fails_alone(loop: Loop, fleet: ModelFleet) -> None:
    found = ask(loop, fleet, "text", [{"text": "fine"}, {"text": "x", "deep": nested(10_000)}, {"text": "fine"}])
    assert ["error" in reply for reply in found] == [False, True, False]
    assert "60 deep" in found[1]["error"]["message"]
    assert found[1]["error"]["location"] == {"row": 2, "column": None}


def test_rows_of_a_long_request_keep_their_numbers(
    loop: Loop, fleet: ModelFleet, models: dict[str, LoadedModel]
) -> None:
    rows: list[Any] = [{"text": f"word {i}"} if i % 7 else {"text": i} for i in range(150)]
    found = ask(loop, fleet, "text", rows)
    assert close_to(found, told(models["text"], rows))


def test_the_columns_of_a_request_are_looked_at_as_a_whole(
    loop: Loop, fleet: ModelFleet, models: dict[str, LoadedModel]
) -> None:
    """The first rows, which are sent by themselves, lack a column that later ones have."""
    rows: list[Any] = [{"price": 3 + i} for i in range(70)] + rows_of("table")
    assert close_to(ask(loop, fleet, "table", rows), told(models["table"], rows))
    with pytest.raises(SchemaError) as expected:
        list(models["table"].answer(rows[:70]))
    with pytest.raises(InputError) as found:
        ask(loop, fleet, "table", rows[:70])
    assert found.value.message == expected.value.message
    lenient = ask(loop, fleet, "table", rows[:70], Ask(strictness="lenient"))
    assert close_to(lenient, told(models["table"], rows[:70], Options(strictness="lenient")))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("text", {"min_confidence": 0.9}),
        ("text", {"strictness": "strict"}),
        ("image", {"min_confidence": 0.8}),
        ("qa", {"min_confidence": 0.5}),
    ],
)
def test_options_mean_what_they_mean_to_predict(
    loop: Loop, fleet: ModelFleet, models: dict[str, LoadedModel], name: str, options: dict[str, Any]
) -> None:
    rows = rows_of(name)
    assert close_to(ask(loop, fleet, name, rows, Ask(**options)), told(models[name], rows, Options(**options)))


def test_probabilities_and_cells_of_a_table(loop: Loop, fleet: ModelFleet, models: dict[str, LoadedModel]) -> None:
    rows = [*rows_of("text"), {"text": 3}]
    found = ask(loop, fleet, "text", rows, Ask(probabilities=True, cells=True))
    cells = [reply.pop("cells") for reply in found]
    assert close_to(found, told(models["text"], rows, probabilities=True))
    assert cells[0]["predicted_intent"] == found[0]["prediction"]["intent"]
    assert cells[0]["error"] is None
    assert "row 9" in cells[-1]["error"]
    assert "expected a string" in cells[-1]["error"]


@pytest.mark.parametrize(
    ("name", "options"),
    [("table", {"min_confidence": 0.5}), ("text", {"min_confidence": 1.5}), ("text", {"seed": -1})],
)
def test_options_that_fit_no_target_are_refused(
    loop: Loop, fleet: ModelFleet, name: str, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        ask(loop, fleet, name, rows_of(name), Ask(**options))


def test_a_text_is_never_the_name_of_a_file(loop: Loop, fleet: ModelFleet, tmp_path: Path) -> None:
    """Neither an image that is there, nor a secret, nor an address is opened; no answer tells whether it exists."""
    image, secret = SAVED / "image" / "scene0.png", tmp_path / "secret.txt"
    secret.write_text("the secret is sesame", encoding="utf-8")
    cells: list[Any] = [
        str(image), str(secret), "/etc/passwd", "scene0.png", "http://127.0.0.1:9/x.png", "file:///etc/passwd",
        "data:image/png;base64,AAAA", [str(image)], {"path": str(image)}, {"bytes": None, "path": str(secret)},
        secret.read_bytes(), "~/.ssh/id_rsa", "../" * 20 + "etc/passwd", str(tmp_path / "absent.png"),
    ]  # fmt: skip
    for name in ("image", "detection"):
        replies = ask(loop, fleet, name, [{"photo": cell} for cell in cells])
        for cell, reply in zip(cells, replies, strict=True):
            error = reply["error"]
            assert "expected the content of an image" in error["message"], cell
            assert "base64" in error["hint"]
            assert error["location"]["column"] == "photo"
            assert "sesame" not in json.dumps(error).replace("the secret is sesame", "")
    assert "prediction" in ask(loop, fleet, "image", [{"photo": image.read_bytes()}])[0]


def test_broken_and_huge_images_fail_alone(loop: Loop, fleet: ModelFleet) -> None:
    whole = (SAVED / "image" / "scene0.png").read_bytes()
    rows = [{"photo": whole}, {"photo": whole[:60]}, {"photo": b"no image"}, {"photo": b""}, {"photo": whole}]
    replies = ask(loop, fleet, "image", rows)
    assert ["error" in reply for reply in replies] == [False, True, True, True, False]


def test_a_request_of_many_rows_lets_single_rows_pass(loop: Loop, fleet: ModelFleet) -> None:
    """Eight requests, one after the other, are answered before one of 4,000 rows that came first."""

    async def run() -> bool:
        bulk = asyncio.create_task(fleet.answer("text", rows_of("text") * 500, Ask(), timeout_s=120))
        await asyncio.sleep(0.2)
        for row in rows_of("text"):
            await fleet.answer("text", [row], Ask(), timeout_s=60)
        unfinished = not bulk.done()
        await bulk
        return unfinished

    assert loop(run())


def test_what_comes_too_late_is_not_answered(loop: Loop, fleet: ModelFleet) -> None:
    with pytest.raises(TooLate):
        loop(fleet.answer("text", rows_of("text"), Ask(), timeout_s=0.0))
    with pytest.raises(UnknownModel, match="no model 'txt'"):
        ask(loop, fleet, "txt", [{"text": "x"}])
    assert ask(loop, fleet, "text", []) == []


def test_who_goes_away_leaves_nothing_behind(loop: Loop, fleet: ModelFleet) -> None:
    async def run() -> None:
        task = asyncio.create_task(fleet.answer("text", rows_of("text") * 100, Ask(), timeout_s=60))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop(run())
    assert "polydetr_waiting_rows 0.0" in fleet.measurements()
    assert 'status="left"} 1.0' in fleet.measurements()
    assert "prediction" in ask(loop, fleet, "text", [{"text": "still there"}])[0]


def test_explanations_come_with_the_answers(loop: Loop, fleet: ModelFleet) -> None:
    rows: list[Any] = [{"text": "Book a flight to Cairo"}, {"text": 3}, {"text": "play some music"}]
    found = ask(loop, fleet, "text", rows, Ask(explain=True, target="intent"))
    assert [word["text"] for word in found[0]["explanation"]["words"]] == ["Book", "a", "flight", "to", "Cairo"]
    assert found[2]["explanation"]["target"] == "intent"
    assert "explanation" not in found[1]
    wrong = ask(loop, fleet, "text", rows[:1], Ask(explain=True, target="absent"))
    assert "absent" in wrong[0]["explanation"]["error"]["message"]


def test_a_model_says_what_it_reads_and_answers(loop: Loop, fleet: ModelFleet) -> None:
    known = fleet.models()
    assert list(known) == NAMES
    for name, info in known.items():
        assert info.state == "ready"
        assert info.runtime.startswith("torch ")
        assert len(info.version) == 64
        assert set(info.example) == set(info.columns)
        (reply,) = ask(loop, fleet, name, [dict(info.example)], Ask(strictness="strict"))
        assert "prediction" in reply, (name, reply)
        assert set(reply["prediction"]) == set(info.answers)
    table = known["table"].columns
    assert {name: column["x-modality"] for name, column in table.items()} == {
        "price": "number", "pieces": "number", "tint": "category", "sold": "date", "bought": "history",
    }  # fmt: skip
    assert "in the training rows" in table["price"]["description"]
    assert table["tint"]["examples"] == ["blue", "red", "green"]
    item = table["bought"]["anyOf"][0]["items"]["anyOf"][0]["properties"]
    assert set(item) >= {"name", "price"}
    assert known["text"].answers["intent"] == {"enum": ["flight", "music", "weather"], "x-task": "classification"}
    assert known["image"].answers["paints"]["items"] == {"enum": ["azure", "ruby"]}
    assert known["detection"].answers["objects"]["items"]["properties"]["label"] == {"enum": ["azure", "ruby"]}


@pytest.mark.parametrize("name", NAMES)
def test_every_answer_has_the_form_that_its_schema_says(loop: Loop, fleet: ModelFleet, name: str) -> None:
    validator = pytest.importorskip("jsonschema_rs")
    schemas = fleet.models()[name].answers
    for reply in ask(loop, fleet, name, rows_of(name), Ask(min_confidence=0.9 if name == "entities" else None)):
        for target, value in reply["prediction"].items():
            validator.validate(schemas[target], value)


def test_what_was_counted_can_be_read_by_prometheus(loop: Loop, fleet: ModelFleet) -> None:
    ask(loop, fleet, "text", [*rows_of("text"), {"text": 3}])
    unread = [RowError("it is no row.")]
    loop(replies_to(fleet, "text", unread, Ask(), timeout_s=5))
    families = {family.name: family for family in text_string_to_metric_families(fleet.measurements())}
    assert {
        "polydetr_requests", "polydetr_rows", "polydetr_rows_rejected", "polydetr_request_seconds",
        "polydetr_stage_seconds", "polydetr_turn_rows", "polydetr_turn_tokens", "polydetr_confidence",
        "polydetr_waiting_rows", "polydetr_processes_ready",
    } <= families.keys()  # fmt: skip
    rejected = {(s.labels["model"], s.labels["reason"]) for s in families["polydetr_rows_rejected"].samples}
    assert {("text", "text"), ("text", "row")} <= rejected
    stages = {s.labels["stage"] for s in families["polydetr_stage_seconds"].samples}
    assert stages == {"queue", "encode", "forward", "decode"}
