"""Options of targets: each task's own, wrong ones reported with their key, old sections as defaults for all."""

from __future__ import annotations

from typing import Any

import pytest

from detection_scenes import SMALL, scenes
from polydetr import Predictor
from polydetr.config.loading import load_config, merge
from polydetr.errors import ConfigError
from polydetr.schema.spec import FieldSpec, Schema, TargetSpec
from polydetr.tasks.detection import DetectionTask
from polydetr.tasks.entities import EntitiesTask
from polydetr.tasks.options import old_keys, read_options
from tiny_models import answers, make_engine

TWO = {"objects": "detection", "others": "detection"}


def schema_of(**tasks: str) -> Schema:
    return Schema((FieldSpec("text", "text"),), tuple(TargetSpec(name, task) for name, task in tasks.items()))


def test_every_fault_is_reported_with_its_key_and_the_nearest_valid_one() -> None:
    wrong = {
        "ner": {"schem": "iob2"},
        "y": {"loss_weight": -1, "nesting": "any"},
        "objects": {"num_queries": 0, "mosaic": 0.5},
        "found": {"denoising": 0},
        "z": {},
    }
    schema = schema_of(ner="tagging", y="classification", objects="detection", found="detection")
    with pytest.raises(ConfigError) as caught:
        read_options(load_config({"tasks": wrong, "entities": {"taging": 0}}), schema)
    message = str(caught.value)
    assert message.startswith("7 faults in the configuration:"), message
    for part in (
        "tasks.z: 'z' is not a target.",
        "unknown key 'entities.taging'. Did you mean 'tagging'",
        "tasks.ner.schem = 'iob2': the task 'tagging' has no such option. Did you mean 'scheme'?",
        "tasks.y.loss_weight = -1: input should be greater than 0",
        "tasks.y.nesting = 'any': the task 'classification' has no such option. Known: 'loss_weight', 'metric'",
        "tasks.objects: 'mosaic' was removed, for it gives nothing",
        "tasks.found: 'denoising' was removed, for it costs",
    ):
        assert part in message


def test_a_target_whose_name_has_a_dot_is_told_how_to_be_written() -> None:
    schema = schema_of(**{"net.price": "regression"})
    with pytest.raises(ConfigError, match=r"tasks\.net: 'net' is not a target\. .* 'tasks\.\"net\.price\"\.KEY=VALUE'"):
        read_options(load_config({"tasks": {"net": {"price": {"loss_weight": 2}}}}), schema)


def test_wrong_options_are_reported_before_anything_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polydetr.training.fit.fit", lambda *_, **__: pytest.fail("it went on"))
    rows = [{"text": f"word {i}", "y": "ab"[i % 2]} for i in range(8)]
    with pytest.raises(ConfigError, match=r"tasks\.y\.lables .* Did you mean 'labels'"):
        Predictor.fit(rows, {"y": "classification"}, settings={"tasks": {"y": {"lables": ["a"]}}})


def test_old_sections_are_defaults_of_all_their_targets_and_say_where_they_belong() -> None:
    given = {"detection": {"threshold": 0.4, "num_queries": 7}, "tasks": {"others": {"num_queries": 9}}}
    config, schema = load_config(given), schema_of(**TWO)
    options = read_options(config, schema)
    assert [(o.threshold, o.num_queries) for o in options.values()] == [(0.4, 7), (0.4, 9)]  # type: ignore[attr-defined]
    assert old_keys(config, schema)[:2] == [
        "detection.threshold: write it as tasks.objects.threshold",
        "detection.threshold: write it as tasks.others.threshold",
    ]
    assert old_keys(load_config(), schema) == []


def two(**tasks: Any) -> dict[str, Any]:
    """Two detections of one image, the second of the azure objects alone."""
    rows = [{**r, "others": [o for o in r["objects"] if o["label"] == "azure"]} for r in scenes(6)]
    settings = merge(SMALL, {"tasks": tasks})
    notes: list[str] = []
    engine = make_engine(rows, TWO, inputs={"photo": "image"}, settings=settings, notes=notes)
    return {"engine": engine, "rows": rows, "notes": notes}


def test_two_detections_with_their_own_thresholds_and_queries() -> None:
    found = two(objects={"threshold": 0.9, "num_queries": 5}, others={"threshold": 0.0, "num_queries": 3})
    tasks = found["engine"].tasks
    assert [(task.threshold, task.options.num_queries) for task in tasks.values()] == [(0.9, 5), (0.0, 3)]
    for result in answers(found["engine"], found["rows"]):
        first, second = result.predictions["objects"], result.predictions["others"]
        assert (len(first.value), len(first.details.all)) == (0, 5 * 2)
        assert len(second.value) == len(second.details.all) == 3
    again = {target: DetectionTask.from_state(task.state()) for target, task in tasks.items()}
    assert [task.threshold for task in again.values()] == [0.9, 0.0]


def test_two_detections_share_the_images_that_training_shows() -> None:
    with pytest.raises(ConfigError, match=r"tasks\.objects\.zoom = 1, tasks\.others\.zoom = 0\.5"):
        two(others={"zoom": 0.5})


def test_states_of_polydetr_0_1_are_read() -> None:
    common = {
        "labels": ["a"], "class_weights": "none", "loss_weight": 2.0, "scheme": "bioes", "max_answer_tokens": 48,
        "multi_label": None, "image_size": None, "patch_size": None, "sampling_steps": 12, "guidance": 1.25,
    }  # fmt: skip
    state = {"target": "y", "config": common, "temperature": 1.0, "labels": ["a", "b"], "threshold": 0.25}
    detection = {"denoising": 60, "mosaic": 0.5, "num_queries": 11, "deformable": False, "threshold": None}
    boxes = DetectionTask.from_state({**state, "detection": detection})
    assert isinstance(boxes, DetectionTask)
    assert (boxes.options.num_queries, boxes.options.deformable, boxes.options.loss_weight) == (11, False, 2.0)
    assert (boxes.labels, boxes.threshold) == (["a", "b"], 0.25)
    entities = {"hidden_dim": 32, "max_words": 5, "tagging": 0.0}
    spans = EntitiesTask.from_state({**state, "nesting": "nested", "entities": entities})
    assert isinstance(spans, EntitiesTask)
    assert (spans.options.hidden_dim, spans.options.max_words, spans.options.scheme) == (32, 5, "bioes")
    assert EntitiesTask.from_state(spans.state()).state() == spans.state()
