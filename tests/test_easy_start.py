"""A table of pictures, texts, numbers, categories and dates, and which column to predict: nothing else is said."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from film_models import FLAGS, SETTINGS, Quiet
from polydetr import Predictor

SMALL = SETTINGS | {"image": {"size": 16, "patch_size": 8}}
IMAGE_FLAGS = [*FLAGS, "--set", "training.batch_tokens=512", "--set", "image.size=16", "--set", "image.patch_size=8"]
pytestmark = pytest.mark.usefixtures("quick_start")
READ = {"photo": "image", "title": "text", "colour": "category", "weight": "number", "added": "date", "sku": "ignore"}


def picture(i: int) -> Image.Image:
    return Image.new("RGB", (24, 20), ("red", "green", "blue")[i % 3])


def packed(i: int) -> bytes:
    held = io.BytesIO()
    picture(i).save(held, "PNG")
    return held.getvalue()


def products(count: int = 60) -> list[dict[str, Any]]:
    """Every fifth cell of a column is missing, another one in each."""
    rows = []
    for i in range(count):
        row = {
            "sku": 1000 + i,
            "photo": f"{i % 3}.png",
            "title": f"a {('plain', 'nice', 'fine')[i % 3]} thing for {('work', 'home')[i % 2]}, number {i}",
            "colour": ("red", "green", "blue")[i % 3],
            "weight": f"{1000 + 7.5 * i:,.1f}",
            "added": f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}",
            "price": 10.0 + 5 * (i % 3) + i / 100,
        }
        for place, name in enumerate(("photo", "title", "colour", "weight", "added")):
            if i % 5 == place and i >= 10:
                row[name] = "n/a" if name == "weight" else ""
        rows.append(row)
    return rows


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for i in range(3):
        picture(i).save(tmp_path / f"{i}.png")
    rows = products()
    lines = [",".join(rows[0]), *(",".join(f'"{cell}"' for cell in row.values()) for row in rows)]
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_nothing_is_said_but_the_target(shop: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    model = shop / "model"
    code, out, err = run(
        "train", shop / "data.csv", "--target", "price", "--preset", "fast", "--out", model, *IMAGE_FLAGS
    )
    assert code == 0
    reads = ", ".join(f"{name} ({kind})" for name, kind in READ.items() if kind != "ignore")
    for line in (
        "Column 'sku' is left out: it numbers the rows.",
        f"reads {reads}; predicts price (regression)",
        "read a column otherwise: --input NAME:MODALITY",
        "54 training and 6 validation rows, the latter held out of the training rows",
        "preset 'fast': up to 2 epochs",
    ):
        assert line in err
    for name in ("photo", "title", "colour", "weight", "added"):
        assert f"column {name!r}: missing in" in err
    assert "valid price: rmse " in out
    assert "total 6" in out
    code, out, err = run("predict", model, shop / "data.csv")
    answers = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert all(isinstance(answer["prediction"]["price"], float) for answer in answers)
    code, out, _ = run("evaluate", model, shop / "data.csv", "--json")
    assert {"rmse", "mae", "r2"} <= json.loads(out)["price"].keys()


def test_it_is_looked_at_first(shop: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("inspect", shop / "data.csv", "--json")
    assert code == 0
    found = json.loads(out)
    assert {f["name"]: f["modality"] for f in found["schema"]["inputs"]} == READ | {"price": "number"}
    assert found["schema"]["targets"] == []
    assert [found["splits"]["train"]["columns"][name]["missing"] for name in READ] == [10] * 5 + [0]
    code, out, _ = run("inspect", shop / "data.csv", "--target", "price")
    assert code == 0
    assert "→ regression" in out
    assert "– left out" in out


@pytest.mark.parametrize("source", ["frame", "parquet", "rows"])
def test_pictures_come_as_bytes_arrays_or_pillows(tmp_path: Path, source: str) -> None:
    """What was trained on one kind answers for every other alike."""
    kinds: list[Callable[[int], Any]] = [packed, lambda i: np.asarray(picture(i)), picture]
    rows = [{"photo": packed(i), "title": f"thing {i}", "price": 10.0 + 5 * (i % 3) + i / 100} for i in range(30)]
    table = pa.Table.from_pylist(rows)
    given: Any = {"frame": table, "parquet": str(tmp_path / "data.parquet"), "rows": rows}[source]
    pq.write_table(table, tmp_path / "data.parquet")
    model = Predictor.fit(given, "price", backbone="none", epochs=0.5, settings=SMALL, display=Quiet())
    assert {f.name: f.modality for f in model.schema.inputs} == {"photo": "image", "title": "text"}
    asked = [{"photo": kind(2), "title": "thing"} for kind in kinds]
    several = {"photo": [packed(0), packed(1)], "title": "thing"}
    first, *others, last = model.predict([*asked, several])
    assert [answer["price"] for answer in others] == pytest.approx([first["price"]] * 2)
    assert last["price"] != pytest.approx(first["price"], abs=1e-6)


def test_a_history_is_known_by_its_lists(tmp_path: Path) -> None:
    path = tmp_path / "clicks.jsonl"
    lines = [
        {"clicked": [{"title": f"film {(i + j) % 7}", "days": j} for j in range(i % 4)] or None, "hour": i % 24,
         "next": ("comedy", "drama")[i % 2]}
        for i in range(60)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = Quiet()
    model = Predictor.fit(str(path), "next", backbone="none", epochs=0.5, settings=SMALL, display=shown)
    assert {f.name: f.modality for f in model.schema.inputs} == {"clicked": "history", "hour": "number"}
    assert any("column 'clicked': missing in" in note for note in shown.notes)
    assert model.predict([{"clicked": [], "hour": 3}])[0]["next"] in ("comedy", "drama")
