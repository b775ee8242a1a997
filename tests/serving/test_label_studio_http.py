"""Models as ML backends of Label Studio: tasks and configurations as it sends them, answers as it shows them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from running_service import Service

from polydetr.inference.service import ServiceModel
from polydetr.serving.limits import Limits

SAVED = Path(__file__).parents[1] / "model" / "saved_by_old"
CHOICES = """<View><Text name="review" value="$text"/>
<Choices name="sentiment" toName="review" choice="single">
<Choice value="good"/><Choice value="bad"/></Choices></View>"""
SPANS = """<View><Labels name="label" toName="text"><Label value="MOOD" background="red"/></Labels>
<Text name="text" value="$text"/></View>"""
BOXES = """<View><Image name="image" value="$photo" zoom="true"/><RectangleLabels name="tag" toName="image">
<Label value="ruby"/><Label value="azure"/></RectangleLabels></View>"""


def task(number: int, **data: Any) -> dict[str, Any]:
    """As Label Studio 1.20 sends one to /predict."""
    return {
        "id": number, "data": data, "meta": {}, "created_at": "2026-03-09T21:52:49.513742Z",
        "updated_at": "2026-03-09T21:52:49.513751Z", "is_labeled": False, "overlap": 1, "inner_id": number,
        "total_annotations": 0, "cancelled_annotations": 0, "total_predictions": 0, "comment_count": 0, "project": 7,
        "annotations": [], "predictions": [],
    }  # fmt: skip


def asked(client: Any, name: str, tasks: list[Any], config: str | None = None, *, status: int = 200) -> Any:
    body = {
        "tasks": tasks, "model_version": None, "project": "7.1773096769", "label_config": config or "",
        "params": {"login": None, "password": None, "context": None},
    }  # fmt: skip
    answer = client.post(f"/label-studio/{name}/predict", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_its_three_addresses(service: Service) -> None:
    client = service()
    assert client.get("/label-studio/film/health").json()["status"] == "UP"
    body = {
        "project": "7.1773096769", "schema": CHOICES, "hostname": "http://localhost:8080", "access_token": "t",
        "extra_params": None,
    }  # fmt: skip
    version = client.post("/label-studio/film/setup", json=body).json()["model_version"]
    assert version == client.get("/v1/models/film").json()["version"]
    answer = client.post("/label-studio/film/setup", json=body | {"schema": BOXES})
    assert answer.status_code == 400
    assert "<Choices>" in answer.json()["error"]["hint"]
    assert client.get("/label-studio/flim/health").status_code == 404


def test_choices(service: Service, film: ServiceModel) -> None:
    text = "scene 3 of a lovely evening"
    answer = asked(service(), "film", [task(1, text=text)], CHOICES)
    (result,) = answer["results"]
    (region,) = result["result"]
    (expected,) = film.answer([text])
    assert region["from_name"] == "sentiment"
    assert (region["to_name"], region["type"]) == ("review", "choices")
    assert region["value"] == {"choices": [expected.values["label"]]}
    assert region["score"] == result["score"] == pytest.approx(expected.predictions["label"].probability, abs=1e-6)
    assert result["model_version"] == answer["model_version"]


def test_data_of_another_name_is_what_people_are_shown(service: Service) -> None:
    config = CHOICES.replace("$text", "$body")
    (result,) = asked(service(), "film", [task(1, body="a lovely evening", title="x")], config)["results"]
    assert result["result"]


def test_spans_are_counted_as_its_browser_does(service: Service, several: ServiceModel) -> None:
    model = ServiceModel.load(SAVED / "entities" / "model")
    name = model.schema.names("text")[0]
    rows = json.loads((SAVED / "entities" / "rows.json").read_text())
    texts = ["\U0001f600 " + row[name] for row in rows]
    expected, text = next((a.values, a.record.row[name]) for a in model.answer(texts) if a.values["spans"])
    config = SPANS.replace("$text", f"${name}")
    (result,) = asked(service({"e": model}), "e", [task(1, **{name: text})], config)["results"]
    assert len(result["result"]) == len(expected["spans"])
    for region, span in zip(result["result"], expected["spans"], strict=True):
        assert region["type"] == "labels"
        value = region["value"]
        coded = text.encode("utf-16-le")
        assert coded[2 * value["start"] : 2 * value["end"]].decode("utf-16-le") == span["text"] == value["text"]
        assert value["labels"] == [span["label"]]
        assert value["start"] == span["start"] + 1


def test_boxes_in_percent(service: Service) -> None:
    model = ServiceModel.load(SAVED / "detection" / "model")
    content = (SAVED / "detection" / "scene0.png").read_bytes()
    image = "data:image/png;base64," + base64.b64encode(content).decode()
    expected = next(iter(model.answer([{"photo": content}]))).values["objects"]
    assert expected
    (result,) = asked(service({"d": model}), "d", [task(1, photo=image)], BOXES)["results"]
    for region, box in zip(result["result"], expected, strict=True):
        assert (region["from_name"], region["to_name"], region["type"]) == ("tag", "image", "rectanglelabels")
        width, height, value = region["original_width"], region["original_height"], region["value"]
        left, top = value["x"] * width / 100, value["y"] * height / 100
        right, bottom = left + value["width"] * width / 100, top + value["height"] * height / 100
        assert [left, top, right, bottom] == pytest.approx(box["box"], abs=0.02)
        assert value["rectanglelabels"] == [box["label"]]
        assert region["score"] == pytest.approx(box["probability"], abs=1e-4)


def test_an_image_in_a_list_and_several_that_have_no_boxes(service: Service) -> None:
    model = ServiceModel.load(SAVED / "detection" / "model")
    content = (SAVED / "detection" / "scene0.png").read_bytes()
    image = "data:image/png;base64," + base64.b64encode(content).decode()
    tasks = [task(1, photo=image), task(2, photo=[image]), task(3, photo=[image, image])]
    alone, listed, two = asked(service({"d": model}), "d", tasks, BOXES)["results"]
    assert alone["result"]
    assert listed == alone
    assert "cannot be shown" in two["error"]


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/a.png",
        "/data/upload/7/a.png",
        "/data/local-files/?d=a.png",
        "s3://bucket/a.png",
        "/etc/passwd",
    ],
)
def test_an_address_of_an_image_is_never_opened(service: Service, address: str) -> None:
    model = ServiceModel.load(SAVED / "detection" / "model")
    client = service({"d": model})
    (result,) = asked(client, "d", [task(1, photo=address)], BOXES)["results"]
    assert result["result"] == []
    assert "no path and no address is opened here" in result["error"]
    assert client.fleet.asked == []


def test_several_targets_by_the_names_of_their_controls(service: Service, several: ServiceModel) -> None:
    config = """<View><Text name="t" value="$text"/><Number name="stars" toName="t"/>
    <Labels name="entities" toName="t"><Label value="MOOD"/></Labels>
    <Choices name="other" toName="t"><Choice value="x"/></Choices>
    <Choices name="label" toName="t"><Choice value="good"/></Choices></View>"""
    client = service({"several": several})
    (result,) = asked(client, "several", [task(1, text="a lovely evening", minutes=90)], config)["results"]
    found = {region["from_name"]: region for region in result["result"]}
    assert found.keys() >= {"stars", "label"}
    assert "other" not in found
    assert isinstance(found["stars"]["value"]["number"], float)
    (result,) = asked(client, "several", [task(1, text="a lovely evening")], config)["results"]
    assert "no 'minutes', which the model reads" in result["error"]


def test_a_bad_task_fails_alone(service: Service) -> None:
    tasks = [task(1, text="a"), {}, "x", {"data": 5}, task(2, txt="a"), task(3, text=5), task(4, text="b")]
    results = asked(service(), "film", tasks, CHOICES)["results"]
    assert ["error" in result for result in results] == [False, True, True, True, True, True, False]
    assert all(result["result"] == [] for result in results[1:6])


@pytest.mark.parametrize(
    "config",
    ["<View", "<!DOCTYPE x [<!ENTITY a 'b'>]><View/>", "<View/>", "<a>" * 5_000, "x" * (1 << 21), "<View>\x00</View>"],
    ids=["broken", "entities", "no control", "deep", "long", "zero"],
)
def test_a_configuration_that_shows_nothing(service: Service, config: str) -> None:
    asked(service(), "film", [task(1, text="a")], config, status=400)


def test_without_a_configuration_controls_are_called_as_the_targets(service: Service) -> None:
    (result,) = asked(service(), "film", [task(1, text="a")])["results"]
    assert [(r["from_name"], r["to_name"]) for r in result["result"]] == [("label", "text")]


def test_what_it_sends_is_bounded(service: Service) -> None:
    client = service(limits=Limits(rows=2))
    assert "more than 2 tasks" in asked(client, "film", [{}] * 3, status=413)["error"]["message"]
    assert client.post("/label-studio/film/predict", json={"tasks": 5}).status_code == 400
    assert client.post("/label-studio/film/predict", content="x").status_code == 415
