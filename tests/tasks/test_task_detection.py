"""The detection task, from rows of images to boxes in their pixels, through the public face where that is quick."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detection_scenes import SMALL, scene, scenes
from polydetr import Predictor
from polydetr.config.loading import load_config, merge
from polydetr.core.predictions import Prediction
from polydetr.embedders.image_augment import ImageAugment
from polydetr.embedders.image_scene import SceneAugment
from polydetr.errors import ConfigError, InputError, RowError, SchemaError
from polydetr.inference.tiling import predict_tiled, tiles_of
from polydetr.nn.batch import Batch, Scene
from polydetr.tasks.detection import BoxDetails, DetectionOptions, DetectionTask
from polydetr.values.objects import Objects
from tiny_models import as_records, batch_loss, encode_all, make_engine, metrics

TARGET = {"objects": "detection"}
WIDE = {"model": {"embed_dim": 64}, "detection": {"hidden_dim": 64}}


def box_at(left: float, top: float, right: float, bottom: float, label: str = "ruby", **more: Any) -> dict[str, Any]:
    return {"box": [left, top, right, bottom], "label": label, **more}


def engine_of(rows: list[dict[str, Any]], **settings: Any) -> Any:
    return make_engine(rows, TARGET, inputs={"photo": "image"}, settings=merge(SMALL, settings))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, trained on eight images until it knows them by heart."""
    folder = tmp_path_factory.mktemp("detection") / "model"
    rows = scenes()
    patch = pytest.MonkeyPatch()
    patch.setenv("POLYDETR_CACHE", str(folder.parent / "cache"))
    training = {"head_lr": 3e-3, "batch_tokens": 512, "ema_decay": 0.9, "precision": "fp32"}
    settings = merge(SMALL, WIDE | {"steps": 400, "training": training})
    Predictor.fit(rows, valid=rows, backbone="none", seed=2, settings=settings, out=folder)
    patch.undo()
    return folder


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return Predictor.load(model)


# -- the whole way ----------------------------------------------------------------------------------------------------


def test_eight_images_are_learned_by_heart(predictor: Predictor) -> None:
    found = predictor.evaluate(scenes())["objects"]
    assert found["map_50"] == 1.0
    assert found["map"] > 0.9
    assert predictor.schema.to_dict()["targets"] == [{"name": "objects", "task": "detection"}]
    assert predictor.info["training"]["steps"] == 400


def test_answers_are_boxes_in_pixels_the_highest_scoring_first(predictor: Predictor) -> None:
    for number in range(8):
        row = scene(number)
        answer = predictor.predict(row)[0]["objects"]
        assert [one["score"] for one in answer] == sorted((one["score"] for one in answer), reverse=True)
        assert len(answer) == len(row["objects"])
        for one in row["objects"]:
            best = min(answer, key=lambda other: np.abs(np.subtract(other["box"], one["box"])).sum())
            assert best["label"] == one["label"]
            assert np.abs(np.subtract(best["box"], one["box"])).max() < 3


def test_a_image_of_another_size_is_answered_in_its_own_pixels(predictor: Predictor) -> None:
    row = scene(3)
    twice = np.asarray(Image.fromarray(row["photo"]).resize((192, 128), Image.Resampling.NEAREST))
    plain, large = (predictor.predict(picture)[0]["objects"] for picture in (row["photo"], twice))
    assert len(plain) == len(large) > 0
    for one, other in zip(plain, large, strict=True):
        assert np.multiply(one["box"], [3, 2, 3, 2]) == pytest.approx(other["box"], abs=2.5)


def test_saved_and_loaded_it_answers_the_same(predictor: Predictor, tmp_path: Path) -> None:
    predictor.save(tmp_path / "copy")
    again = Predictor.load(tmp_path / "copy")
    assert again.predict(scenes()) == predictor.predict(scenes())


def test_reports_show_curves_confusion_and_mistakes(model: Path) -> None:
    names = {path.name for path in (model / "reports").iterdir()}
    expected = ("precision-recall.png", "confusion.png", "mistakes.html", "objects.txt")
    assert {f"valid-{name}" for name in expected} <= names
    assert "AP50" in (model / "reports" / "valid-objects.txt").read_text()


def test_files_folders_and_arrays_are_answered_and_drawn(model: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        Image.fromarray(scene(number)["photo"]).save(pictures / f"photo{number}.png")
    column = "image"  # of readers; this model's is called otherwise
    rows = [{"photo": row.row[column]} for row in _read(pictures)]
    predictor = Predictor.load(model)
    answers = list(predictor.stream(rows, draw=tmp_path / "drawn"))
    assert [answer["prediction"] for answer in answers] == predictor.predict([scene(i)["photo"] for i in range(3)])
    for picture in (scene(1)["photo"], Image.fromarray(scene(1)["photo"])):
        (alone,) = predictor.predict(picture)
        for one, other in zip(alone["objects"], answers[1]["prediction"]["objects"], strict=True):
            assert one["box"] == pytest.approx(other["box"], abs=0.02)
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert drawn == ["00001-photo0.jpg", "00002-photo1.jpg", "00003-photo2.jpg"]
    with Image.open(tmp_path / "drawn" / drawn[0]) as picture:
        assert picture.format == "JPEG"


def _read(folder: Path) -> list[Any]:
    from polydetr.data.readers import read_records

    return list(read_records(folder))


# -- tiles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(64, 64), (65, 64), (200, 130), (40, 300), (1, 1)])
def test_tiles_own_every_point_once(width: int, height: int) -> None:
    tiles = tiles_of(width, height, tile=64, overlap=20)
    for x in np.linspace(0, width, 41):
        for y in np.linspace(0, height, 41):
            owners = [t for t in tiles if t.owned[0] <= x < t.owned[2] and t.owned[1] <= y < t.owned[3]]
            assert len(owners) == 1
            left, top, right, bottom = owners[0].shown
            assert left <= x <= right
            assert top <= y <= bottom
            # Half the overlap around every owned point is seen, or the image ends there.
            assert x - left >= 10 or left == 0
            assert right - x >= 10 or right == width


def test_tiles_find_what_single_images_show(predictor: Predictor) -> None:
    rows = scenes(4)
    wide = np.concatenate([row["photo"] for row in rows], axis=1)
    found = predict_tiled(predictor, wide, tile=64, overlap=0)
    single = [predictor.predict(row)[0]["objects"] for row in rows]
    expected = [{**one, "box": [one["box"][0] + 64 * i, one["box"][1], one["box"][2] + 64 * i, one["box"][3]]}
                for i, objects in enumerate(single) for one in objects]  # fmt: skip
    assert len(found) == len(expected)
    for one in expected:
        other = min(found, key=lambda item: np.abs(np.subtract(item["box"], one["box"])).sum())
        assert other["box"] == pytest.approx(one["box"], abs=0.5)
        assert other["score"] == pytest.approx(one["score"], abs=1e-3)
    with pytest.raises(InputError, match="cannot overlap"):
        tiles_of(100, 100, tile=10, overlap=10)


# -- what is learned --------------------------------------------------------------------------------------------------


def arrays_of(row: dict[str, Any], **settings: Any) -> Any:
    rows = [*scenes(2), row]
    return encode_all(engine_of(rows, **settings), rows, with_targets=True)[2].targets["objects"]


def test_targets_are_shares_of_what_the_model_sees() -> None:
    picture = np.zeros((50, 100, 3), dtype=np.uint8)
    row = {"photo": picture, "objects": [box_at(10, 20, 30, 40), box_at(0, 0, 100, 50, "azure")]}
    found = arrays_of(row)
    assert found["boxes_cxcywh"] == pytest.approx(np.array([[0.2, 0.6, 0.2, 0.4], [0.5, 0.5, 1, 1]]))
    assert found["labels"].tolist() == [1, 0]
    padded = arrays_of(row, image={"fit": "pad"})["boxes_cxcywh"]
    assert padded == pytest.approx(np.array([[0.2, 0.55, 0.2, 0.2], [0.5, 0.5, 1, 0.5]]))
    cropped = arrays_of(row, image={"fit": "crop"})["boxes_cxcywh"]  # the first is out of sight but for a tenth
    assert cropped == pytest.approx(np.array([[0.5, 0.5, 1, 1]]))


def test_a_large_jpeg_is_measured_in_its_own_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (640, 320)).save(tmp_path / "large.jpg")  # decoded at a fraction of its size
    found = arrays_of({"photo": str(tmp_path / "large.jpg"), "objects": [box_at(160, 80, 320, 240)]})
    assert found["boxes_cxcywh"] == pytest.approx(np.array([[0.375, 0.5, 0.25, 0.5]]))


def test_what_cannot_be_learned_is_left_out_with_a_message() -> None:
    dark = np.zeros((40, 40, 3), dtype=np.uint8)
    objects = [
        box_at(30, 30, 10, 10), box_at(5, 5, 5, 20), box_at(-10, 0, 20, 20), box_at(50, 50, 60, 60),
        box_at(0, 0, 40, 40, crowd=True),
    ]  # fmt: skip
    rows = [*scenes(2), {"photo": dark, "objects": objects, "width": 40, "height": 40}]
    engine = engine_of(rows)
    document = engine.encoder.encode(as_records(rows)[2:], with_targets=True)
    found = document.examples[0].targets["objects"]["boxes_cxcywh"]
    assert found == pytest.approx(np.array([[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5]]))
    told = " ".join(str(warning) for warning in document.warnings)
    for part in ("wrong order", "no area", "reaches 10 pixels out", "lies outside"):
        assert part in told
    del rows[2]["width"]  # without a size nothing is cut until the image is seen
    document = engine.encoder.encode(as_records(rows)[2:], with_targets=True)
    assert document.examples[0].targets["objects"]["boxes_cxcywh"] == pytest.approx(found)


def test_crowds_are_neither_targets_nor_mistakes() -> None:
    rows = scenes(2)
    crowded = [{**row, "objects": [*row["objects"], box_at(0, 0, 64, 64, crowd=True)]} for row in rows]
    engine = engine_of(rows)
    plain, with_crowd = (encode_all(engine, found, with_targets=True) for found in (rows, crowded))
    for one, other in zip(plain, with_crowd, strict=True):
        for name, array in one.targets["objects"].items():
            assert np.array_equal(array, other.targets["objects"][name])
    assert metrics(engine, crowded)["objects"]["map"] >= metrics(engine, rows)["objects"]["map"]


def test_images_without_objects_and_without_labels() -> None:
    rows = [*scenes(3), {"photo": scene(5)["photo"], "objects": []}, {"photo": scene(6)["photo"], "objects": None}]
    engine = engine_of(rows)
    examples = encode_all(engine, rows, with_targets=True)
    assert [float(example.targets["objects"]["known"]) for example in examples] == [1, 1, 1, 1, 0]
    losses = [float(batch_loss(engine, Batch.collate([example])).detach()) for example in examples]
    assert losses[3] > 0  # there is something to learn from an image of nothing: that nothing is there
    assert losses[4] == 0
    with torch.no_grad():
        together = float(batch_loss(engine, Batch.collate(examples)))
        known = float(batch_loss(engine, Batch.collate(examples[:4])))
    assert together == pytest.approx(known, rel=1e-5)


def test_a_report_is_measured_at_the_threshold_of_the_model_and_not_of_the_measured_rows() -> None:
    task, gold = DetectionTask("objects", DetectionOptions()), Objects((box_at(0, 0, 10, 10),))
    task.labels = ["ruby"]

    def answered(right: float, wrong: float) -> Prediction:
        boxes = [box_at(0, 0, 10, 10, score=right), box_at(40, 40, 50, 50, score=wrong)]
        return Prediction([], None, BoxDetails(boxes))

    (message,) = task.tune([answered(0.9, 0.4)], [gold])
    assert message.endswith("from a score of 0.900 on (validation rows: precision 1.000, recall 1.000)")
    report = task.evaluate([answered(0.8, 0.95)], [gold]).data  # the best on this row would be 0.8
    assert report["threshold"] == task.threshold == 0.9
    assert (report["all"]["precision"], report["all"]["recall"], report["map_50"]) == (0.0, 0.0, 0.5)


def test_more_objects_than_queries_are_reported() -> None:
    notes: list[str] = []
    rows = scenes(8)
    settings = merge(SMALL, {"detection": {"num_queries": 2}})
    engine = make_engine(rows, TARGET, inputs={"photo": "image"}, settings=settings, notes=notes)
    full = sum(len(row["objects"]) > 2 for row in rows)
    assert full
    assert any(
        f"{full} images hold more objects than the model can find, 2 (tasks.objects.num_queries)" in n for n in notes
    )
    loss = batch_loss(engine, Batch.collate(encode_all(engine, rows, with_targets=True)))
    assert torch.isfinite(loss)


def test_five_thousand_boxes_in_one_image() -> None:
    chance = np.random.default_rng(0)
    corners = chance.uniform(0, 56, (5000, 2))
    crowd = [box_at(x, y, x + 6, y + 6) for x, y in corners.tolist()]
    rows = [*scenes(2), {"photo": scene(0)["photo"], "objects": crowd}]
    engine = engine_of(rows)
    loss = batch_loss(engine, Batch.collate(encode_all(engine, rows, with_targets=True)))
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("none", "is no list of objects"),
        ([5], "object 1: 5 is no mapping"),
        ([{"box": [0, 0, 1, 1]}], "object 1: there is no 'label'"),
        ([{"label": "ruby"}], "object 1: there is no 'box'"),
        ([box_at(0, 0, 5, 5), {"box": [1, 2, 3], "label": "ruby"}], "object 2: the box [1, 2, 3] is not four numbers"),
        ([{"box": [1, 2, "x", 4], "label": "ruby"}], "is not four numbers"),
        ([box_at(0, 0, float("nan"), 5)], "not a finite number"),
        ([box_at(0, 0, 5, 5, " ")], "its label is empty"),
    ],
)
def test_what_is_no_box_is_an_error_with_its_place(value: Any, said: str) -> None:
    engine = engine_of(scenes(2))
    records = as_records([*scenes(2), {"photo": scene(0)["photo"], "objects": value}])
    with pytest.raises(RowError) as error:
        engine.encoder.encode(records[2:], with_targets=True)
    assert said in str(error.value)
    assert "row 3" in str(error.value)
    assert "Expected a list of" in str(error.value.hint)


def test_data_that_cannot_be_learned_from() -> None:
    rows = scenes(2)
    with pytest.raises(SchemaError, match="no object in any training row"):
        engine_of([{**row, "objects": []} for row in rows])
    with pytest.raises(SchemaError, match=r"not in the given label set\. Did you mean 'rubi'"):
        engine_of(rows, tasks={"objects": {"labels": ["rubi", "azure"]}})
    with pytest.raises(SchemaError, match="no input column holds images"):
        make_engine([{"text": "a word", "objects": row["objects"]} for row in rows], TARGET, inputs={"text": "text"})
    with pytest.raises(SchemaError, match="one image per row"):
        make_engine(
            [{**row, "second": row["photo"]} for row in rows], TARGET, inputs={"photo": "image", "second": "image"},
            settings=SMALL,
        )  # fmt: skip
    with pytest.raises(ConfigError, match=r"image\.augment\.mix"):
        engine_of(rows, image={"augment": {"mix": "mixup"}})
    with pytest.raises(ConfigError, match="freeze_backbones"):
        engine_of(rows, training={"freeze_backbones": True})


def test_one_class_alone_can_be_learned() -> None:
    rows = [{**row, "objects": [{**one, "label": "thing"} for one in row["objects"]]} for row in scenes(2)]
    engine = engine_of(rows)
    assert engine.tasks["objects"].labels == ["thing"]
    assert torch.isfinite(batch_loss(engine, Batch.collate(encode_all(engine, rows, with_targets=True))))


def test_defaults_of_detection_give_way_to_what_was_asked_for() -> None:
    from polydetr.config.loading import for_tasks

    assert for_tasks(load_config(None), ["classification"]) == load_config(None)
    assert for_tasks(load_config(None), ["detection"]).image.size == 416
    asked = for_tasks(load_config({"image": {"size": 96}, "training": {"lr": 1e-3}}), ["detection"])
    assert (asked.image.size, asked.training.lr) == (96, 1e-3)
    assert asked.training.ema_decay > 0
    assert load_config(None).steps == 2000
    assert load_config({"epochs": 3}).steps is None
    assert load_config({"epochs": 3, "steps": 70}).steps == 70


# -- images that are moved ---------------------------------------------------------------------------------------------


def test_boxes_stay_on_their_objects_however_images_are_augmented() -> None:
    """In every varied image each box holds its object's color, and what is colored is in a box."""
    rows = scenes(6)
    engine = engine_of(rows)
    batch = Batch.collate(encode_all(engine, rows, with_targets=True))
    pixels = batch.groups["image"].values["pixels"][:, 0]
    varied = ImageAugment(flip=0.5, flip_vertical=0.5, crop=0.6, color=0.0)
    augment = SceneAugment(varied, zoom=0.5, fill=(30, 30, 30))
    labels = engine.tasks["objects"].labels
    smaller = 0
    for seed in range(6):
        shown, scene_of = augment(pixels, torch.Generator().manual_seed(seed))
        found = engine.runner.model.head_of("objects").transform_targets(batch.targets["objects"], scene_of)
        smaller += int((scene_of.scale.abs() < 1).any())
        assert found["known"].tolist() == [1.0] * 6
        for picture, boxes, names in zip(shown, found["boxes_cxcywh"], found["labels"].tolist(), strict=True):
            inside = torch.zeros(64, 64, dtype=torch.bool)
            for (x, y, width, height), name in zip((boxes * 64).tolist(), names, strict=True):
                if name < 0:
                    continue
                left, top = max(0, round(x - width / 2)), max(0, round(y - height / 2))
                right, bottom = round(x + width / 2), round(y + height / 2)
                inside[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = True
                middle = picture[:, top + 1 : bottom - 1, left + 1 : right - 1].float()
                if middle.numel():
                    channel = 0 if labels[name] == "ruby" else 2
                    assert (middle.mean((1, 2)).argmax() == channel) or middle.shape[1] < 3
                    assert middle[channel].mean() > 130
            bright = picture.amax(0) > 150
            # Slivers of objects that were cut away are no objects any more.
            assert (bright & ~inside).float().mean() < 0.06
    assert smaller


def test_the_same_seed_gives_the_same_scenes_and_the_last_steps_see_whole_images() -> None:
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    augment = SceneAugment(ImageAugment(flip=0.0, crop=1.0, color=0.0), zoom=0.5, fill=(0, 0, 0))
    one, other = (augment(pixels, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[0], pixels)
    late, scene_of = augment(pixels, torch.Generator().manual_seed(3), progress=0.9)
    assert torch.equal(late, pixels)
    assert torch.equal(scene_of.window, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(4, -1))


def test_boxes_follow_an_image_that_is_shown_smaller() -> None:
    rows = [scene(0), {**scene(1), "objects": None}]
    engine = engine_of([*rows, scene(2)])
    batch = Batch.collate(encode_all(engine, rows, with_targets=True))
    half, shift = torch.full((2, 2), 0.5), torch.tensor([[0.5, 0.0]] * 2)
    seen = Scene(half, shift, torch.tensor([[0.5, 0.0, 1.0, 0.5]] * 2))
    found = engine.runner.model.head_of("objects").transform_targets(batch.targets["objects"], seen)
    assert found["known"].tolist() == [1.0, 0.0]
    count, before = len(rows[0]["objects"]), batch.targets["objects"]["boxes_cxcywh"][0]
    expected = before / 2 + torch.tensor([0.5, 0, 0, 0])
    assert found["boxes_cxcywh"][0, :count] == pytest.approx(expected[:count], abs=1e-6)
    assert torch.equal(found["labels"], batch.targets["objects"]["labels"])


def test_of_several_images_the_first_is_searched() -> None:
    rows = [*scenes(3), {**scene(4), "photo": [scene(4)["photo"], scene(5)["photo"]]}]
    engine = engine_of(rows)
    document = engine.encoder.encode(as_records(rows)[3:], with_targets=True)
    assert [finding.kind for finding in document.warnings] == ["truncated"]
    alone = encode_all(engine, [scene(4)], with_targets=True)[0]
    for name, array in alone.groups["image"].items():
        assert np.array_equal(array, document.examples[0].groups["image"][name])


@pytest.mark.parametrize("architecture", ["detr-fast", "detr"])
def test_a_row_without_a_image_has_no_objects(architecture: str) -> None:
    rows = [{"text": f"picture number {i}", **scene(i)} for i in range(4)]
    engine = make_engine(
        rows, TARGET, inputs={"text": "text", "photo": "image"},
        settings=merge(SMALL, {"detection": {"architecture": architecture, "encoder_layers": 1}}),
    )  # fmt: skip
    batch = Batch.collate(encode_all(engine, rows, with_targets=True))
    group = batch.groups["image"]
    hidden = replace(batch, groups={**batch.groups, "image": replace(group, mask=group.mask & False)})
    assert float(batch_loss(engine, hidden).detach()) == 0.0  # as training hides it: what is not seen is not asked for
    results = list(engine.run(as_records([{**rows[0], "photo": None}, rows[1]])))
    assert results[0].predictions["objects"].value == []
    assert len(results[1].predictions["objects"].details.all) > 0
