"""Explanations of rows of several modalities: what was planted in an image, a column, a word or an item is found, and
shown where it stands.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planted_rows import INPUTS, PATCH, SETTINGS, SIDE, TARGETS, row, rows
from polydetr import Predictor
from polydetr.explain import Explanation
from polydetr.modalities.image import ImageModality
from tiny_models import make_engine

ASKED = 8
"""Rows per target: shares of 32 rows hold on every processor, whose rounding leads training to other weights."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(tmp_path_factory.mktemp("cache")))
        return Predictor.fit(
            rows(450), dict.fromkeys(TARGETS, "classification"), valid=rows(40, seed=1000), inputs=INPUTS,
            backbone="none", epochs=8, settings=SETTINGS,
        )  # fmt: skip


@pytest.fixture(scope="module")
def found(trained: Predictor) -> dict[str, list[tuple[dict[str, Any], Explanation]]]:
    """Target → rows in which it is "yes", explained."""
    planted = {target: [row(5000 + i, yes=column) for i in range(ASKED)] for target, column in TARGETS.items()}
    return {target: [(r, trained.explain(r, target=target)) for r in some] for target, some in planted.items()}


def test_planted_column_carries_the_answer(found: dict[str, Any]) -> None:
    asked = [(TARGETS[target], e) for target, some in found.items() for _, e in some]
    explanations = [e for _, e in asked]
    assert np.mean([e.answer.startswith("yes") for e in explanations]) >= 0.95
    assert np.mean([e.sources.ranked[0].column == column for column, e in asked]) >= 0.85
    assert np.mean([bool(e.meaningful) for e in explanations]) >= 0.75
    without = [(c.without, e) for column, e in asked for c in e.columns if c.column == column]
    assert np.mean([level < e.original - 0.2 for level, e in without]) >= 0.9
    for e in explanations:
        assert sum(c.share for c in e.columns) == pytest.approx(1)
        assert sum(c.score for c in e.columns) == pytest.approx(e.value - e.baseline, abs=e.completeness_error + 1e-9)
        assert sum(e.attention_shares.values()) == pytest.approx(1)


def test_planted_region_word_and_item_are_the_strongest(found: dict[str, Any]) -> None:
    def patch(planted: dict[str, Any], e: Explanation) -> bool:
        heat = e.images[0].heat
        y, x = ((np.array(divmod(int(heat.argmax()), heat.shape[1])) + 0.5) * SIDE / heat.shape[0]).tolist()
        top, left = planted["corner"]
        return top <= y <= top + PATCH and left <= x <= left + PATCH

    def word(planted: dict[str, Any], e: Explanation) -> bool:
        return e.words[planted["word"]].score == max(e.scores)

    def item(planted: dict[str, Any], e: Explanation) -> bool:
        return max(e.items, key=lambda item: item.score).index == planted["item"]

    for target, hit in (("by_photo", patch), ("by_title", word), ("by_bought", item)):
        assert np.mean([hit(*pair) for pair in found[target]]) >= 0.9, target


def test_missing_values_are_shown_as_missing(trained: Predictor) -> None:
    full = row(5000, yes="photo")
    for missing in (None, float("nan")):
        e = trained.explain({**full, "price": missing, "title": missing, "bought": None}, target="by_photo")
        columns = {c.column: c for c in e.columns}
        for name in ("price", "title", "bought"):
            assert (columns[name].value, columns[name].score, columns[name].without) == ("missing", 0.0, None)
        assert columns["photo"].without is None  # a row without it would be empty
        assert e.words == () == e.items
        assert "missing" in e.to_html()
    assert e.deletion is not None
    assert set(e.deletion) == {"original", "without_top", "without_random", "random_std", "cells"}


def test_page_image_json_and_command_line(
    found: dict[str, Any], trained: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image
    from typer.testing import CliRunner

    from polydetr.cli import app

    planted, e = found["by_photo"][0]
    shown = json.loads(json.dumps(e.to_dict(), allow_nan=False))
    assert [c["column"] for c in shown["columns"]] == ["title", "photo", "price", "bought"]
    assert np.shape(shown["images"][0]["heat"]) == e.images[0].heat.shape
    trained.save(tmp_path / "model")
    Image.fromarray(planted["photo"]).save(tmp_path / "photo.png")
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({**planted, "photo": "photo.png"}) + "\n", encoding="utf-8")
    call = ["explain", str(tmp_path / "model"), str(data), "--target", "by_photo"]
    result = CliRunner().invoke(app, [*call, "--out", str(tmp_path / "why")])
    assert result.exit_code == 0, result.output
    assert "The answer rests on photo" in " ".join(result.stdout.split())
    page = (tmp_path / "why" / "explanation.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3  # the image, the same in gray, the colors over it
    assert "http" not in page.replace("http://www.w3.org", "")
    with Image.open(tmp_path / "why" / "explanation.png") as drawn:
        assert drawn.width == 1200
    again = json.loads(CliRunner().invoke(app, [*call, "--json"]).stdout)
    np.testing.assert_allclose(again["images"][0]["heat"], e.images[0].heat, atol=1e-4)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_painted_cells_are_gone_and_all_others_as_they_were(fit: str) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (50, 37, 3), dtype=np.uint8) for _ in range(2)]
    rows = [{"photo": images, "label": label} for label in "ab"]
    engine = make_engine(rows, {"label": "classification"}, inputs={"photo": "image"}, settings={
        "image": {"size": 24, "patch_size": 8, "fit": fit, "max_images": 2},
    })  # fmt: skip
    modality = engine.encoder.modalities["image"]
    assert isinstance(modality, ImageModality)
    windows = modality.encode(rows[:1]).windows
    before, part = windows[0].arrays, modality.units(rows[0], windows)
    assert len(part) == 2 * 8 * 8
    shorter = part.without(rows[0], {0, 64 + 9})
    after = modality.encode([shorter]).windows[0].arrays["pixels"]
    changed = (after != before["pixels"]).any(1)
    expected = np.zeros((2, 24, 24), dtype=bool)
    expected[0, :3, :3] = expected[1, 3:6, 3:6] = True
    assert not (changed & ~expected).any()
    assert changed[expected].mean() > 0.9
    assert len(np.unique(after[0, :, :3, :3].reshape(3, -1), axis=1).T) == 1


def test_probes_cover_every_cell_four_times() -> None:
    rows = [{"photo": [np.zeros((24, 24, 3), np.uint8)] * 2, "label": label} for label in "ab"]
    engine = make_engine(rows, {"label": "classification"}, inputs={"photo": "image"}, settings={
        "image": {"size": 24, "patch_size": 8, "max_images": 2},
    })  # fmt: skip
    modality = engine.encoder.modalities["image"]
    assert isinstance(modality, ImageModality)
    part = modality.units(rows[0], modality.encode(rows[:1]).windows)
    counts = np.bincount([cell for probe in part.probes for cell in probe], minlength=len(part))
    assert set(counts.tolist()) == {4}
    assert {0} in part.probes
    assert {0, 1, 8, 9} in part.probes
    assert all(len({cell // 64 for cell in probe}) == 1 for probe in part.probes)
