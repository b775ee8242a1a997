"""A finished model is asked about images anywhere: where their paths begin, what may be opened, which image it was."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from film_models import SETTINGS
from polydetr import Predictor, ReadOptions
from polydetr.data.readers import TEST_PARTS
from polydetr.engine.inputs import ReadingWarning, asked_records
from polydetr.errors import DataFileError, InputError, SchemaError

SMALL = SETTINGS | {"image": {"size": 16, "patch_size": 8, "root": "pictures"}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of pictures/ that labels/rows.csv names; other/ has images that it never saw, private/ a secret."""
    folder = tmp_path_factory.mktemp("home")
    others = ("other/dark/1.png", "other/dark/10.png", "other/light/2.png")
    for name in (*(f"pictures/{i}.png" for i in range(8)), *others):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), ("red", "blue")[int(Path(name).stem) % 2]).save(folder / name)
    for name, content in {
        "private/token.txt": "hunter2",
        "labels/rows.csv": "photo,label\n" + "".join(f"{i}.png,{('dark', 'light')[i % 2]}\n" for i in range(8)),
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    (folder / "pictures/link.png").symlink_to(folder / "private/token.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("POLYDETR_CACHE", str(folder / "cache"))
        Predictor.fit("labels/rows.csv", "label", valid="labels/rows.csv", backbone="none", epochs=0.2, settings=SMALL,
                      out="model")  # fmt: skip
    return folder


@pytest.fixture
def model(home: Path, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    monkeypatch.chdir(home)
    return Predictor.load("model")


def errors(model: Predictor, rows: object, **how: object) -> list[str | None]:
    return [answer.get("error") for answer in model.stream(rows, **how)]  # type: ignore[arg-type]


def test_a_folder_is_named_from_the_working_directory(
    model: Predictor, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = model.predict(home / "other")
    assert len(expected) == 3
    for folder in ("other", "./other", "other/"):
        assert model.predict(folder) == expected
    assert model.evaluate("other").keys() == {"label"}
    assert model.predict("other/dark/1.png") == expected[:1]
    assert model.explain_file("other", row=2).task == "classification"
    monkeypatch.chdir(home / "labels")
    assert model.predict("../other") == expected
    assert model.predict(["../other/dark/1.png", Path("../other/dark/10.png"), "..\\other\\light\\2.png "]) == expected


def test_the_rows_of_the_training_are_read_without_naming_their_folder_again(model: Predictor, home: Path) -> None:
    assert model.evaluate("labels/rows.csv") == model.evaluate(
        "labels/rows.csv", reading=ReadOptions(images="pictures")
    )
    assert model.evaluate("labels/rows.csv") == model.evaluate(
        home / "labels/rows.csv", reading=ReadOptions(images=home / "pictures")
    )
    assert errors(model, "labels/rows.csv", reading=ReadOptions(images="other/dark"))[1:] != [None] * 7


def test_a_named_folder_confines_rows_of_every_origin(model: Predictor, home: Path) -> None:
    inside = ["0.png", str(home / "pictures/1.png"), "../pictures/2.png"]
    outside = ["../other/dark/1.png", str(home / "other/dark/1.png"), "link.png", "/dev/zero", "~/x.png"]
    for rows in ([*inside, *outside], [{"photo": path} for path in [*inside, *outside]]):
        found = errors(model, rows, reading=ReadOptions(images="pictures"))
        assert found[:3] == [None] * 3
        assert all(error and "leads out of the folder" in error for error in found[3:])
    with pytest.raises(InputError, match="leads out of the folder"):
        model.explain({"photo": outside[0]}, reading=ReadOptions(images="pictures"))
    assert model.explain({"photo": "0.png"}, reading=ReadOptions(images="pictures")).images
    with pytest.raises(DataFileError, match="'absent' is no folder of images"):
        model.predict(["0.png"], reading=ReadOptions(images="absent"))


def test_rows_from_standard_input_do_not_leave_the_working_directory(
    model: Predictor, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ["other/dark/1.png", str(home / "other/dark/1.png"), "../home/other/dark/1.png", "/etc/passwd", "../x.png"]
    given = "".join(json.dumps({"photo": path}) + "\n" for path in rows)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    found = errors(model, "-")
    assert found[:2] == [None] * 2
    assert all(error and "leads out of the folder" in error for error in found[3:])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    assert errors(model, "-", reading=ReadOptions(images=home.parent))[1] is None


def test_what_is_no_image_is_named_and_not_shown(model: Predictor, home: Path) -> None:
    for path in (str(home / "private/token.txt"), str(home / "pictures/link.png")):
        (error,) = errors(model, [path])
        assert error is not None
        assert path in error
        assert "is not an image" in error
        assert "hunter" not in error


# -- which image an answer is about -----------------------------------------------------------------------------------


def coco(home: Path, folder: Path) -> Path:
    """Two images, one that is not there, an annotation of no image, and one without a width."""
    images = [{"id": i, "file_name": name} for i, name in ((70, "1.png"), (71, "absent.png"), (72, "10.png"))]
    boxes = [(1, 5, [1, 1, 5, 5]), (2, 70, [1, 1, 0, 5]), (3, 72, [1, 1, 5, 5])]
    notes = [{"id": i, "image_id": image, "category_id": 1, "bbox": box} for i, image, box in boxes]
    shutil.copytree(home / "other/dark", folder / "images")
    path = folder / "boxes.json"
    path.write_text(json.dumps({"images": images, "annotations": notes, "categories": [{"id": 1, "name": "x"}]}))
    return path


def test_an_answer_names_its_row_and_its_image(model: Predictor, home: Path, tmp_path: Path) -> None:
    named = [(answer["row"], Path(answer["image"]).name) for answer in model.stream("other")]
    assert named == [(1, "1.png"), (2, "10.png"), (3, "2.png")]
    rows = tmp_path / "rows.jsonl"
    paths = [str(home / "other/dark/1.png"), str(home / "absent.png")]
    rows.write_text("".join(json.dumps({"photo": path, "id": f"r{i}"}) + "\n" for i, path in enumerate(paths)) + "{\n")
    answers = list(model.stream(rows))
    assert [(answer["row"], answer.get("image"), answer.get("id")) for answer in answers[:2]] == [
        (1, paths[0], "r0"),
        (2, paths[1], "r1"),
    ]
    assert (answers[2]["row"], answers[2]["file"]) == (3, str(rows))
    assert [answer.about["id"] for answer in model.answer(rows) if answer.error is None] == ["r0"]


def test_what_is_no_image_takes_no_row_and_is_told(model: Predictor, home: Path, tmp_path: Path) -> None:
    with pytest.warns(ReadingWarning) as told:
        answers = list(model.stream(coco(home, tmp_path)))
    assert [(a["row"], Path(a["image"]).name, a["image_id"], "error" in a) for a in answers] == [
        (1, "1.png", 70, False),
        (2, "absent.png", 71, True),
        (3, "10.png", 72, False),
    ]
    lines = [str(warning.message) for warning in told]
    assert any("annotation of no image (left out): 1 (first: " in line for line in lines)
    assert any("zero-area box (left out): 1 (first: " in line for line in lines)


def test_evaluate_tells_what_reading_left_out(model: Predictor, home: Path, run) -> None:
    (home / "other/more").mkdir()
    (home / "other/more/1.heic").touch()
    with pytest.warns(ReadingWarning, match=r"files that are no images: 1 \(first: .*'1\.heic' is passed over\)"):
        model.evaluate("other")
    code, printed, told = run("evaluate", "model", "other", "--json")
    assert (code, set(json.loads(printed))) == (0, {"label"})
    assert "polydetr: files that are no images: 1" in told
    (home / "other/more/1.heic").unlink()


# -- the parts of a data.yaml -----------------------------------------------------------------------------------------


def test_the_part_that_is_asked_about_is_no_training_part(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        (tmp_path / "images" / part).mkdir(parents=True)
        (tmp_path / "labels" / part).mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / "images" / part / f"{part}.png")
        (tmp_path / "labels" / part / f"{part}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    own = tmp_path / "data.yaml"
    parts = ["train: images/train", "val: images/val", "test: images/test"]

    def read(*parts: str, **how: object) -> list[str]:
        own.write_text("\n".join([*parts, "names: [x]\n"]))
        with pytest.warns(ReadingWarning) if len(parts) > 1 else pytest.MonkeyPatch.context() as told:
            found = [record.row["image_id"] for record in asked_records(own, ["image"], **how)]  # type: ignore[arg-type]
        if len(parts) > 1:
            assert any(f"part {found[0]!r} read" in str(warning.message) for warning in told)  # type: ignore[union-attr]
        return found

    assert read(*parts) == read(*parts, split=TEST_PARTS) == ["test"]
    assert read(*parts[:2]) == read(*parts[:2], split=TEST_PARTS) == ["val"]
    assert read(parts[0]) == ["train"]
    with pytest.raises(SchemaError, match="has no part 'test' or 'val'; it has 'train'"):
        read(parts[0], split=TEST_PARTS)
