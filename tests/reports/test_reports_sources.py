"""What an explanation says of columns and images: sentences, places, pages, drawings, from numbers made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polydetr.reports.explained import ExplainedColumn, ExplainedImage, ExplainedItem, Sources
from polydetr.reports.explanation import deletion_verdict
from polydetr.reports.heat import caption, gaze_overlay, outline, overlay
from polydetr.reports.html import explanation_html
from polydetr.reports.sources_png import explanation_png


def column(name: str, score: float, share: float, without: float | None = None, modality: str = "table") -> Any:
    return ExplainedColumn(name, modality, "<b>黑色</b> & 3", score, share, without)


def sources(*columns: ExplainedColumn, **more: Any) -> Sources:
    shares = {c.modality: sum(d.share for d in columns if d.modality == c.modality) for c in columns}
    options: dict[str, Any] = {"original": 0.9, "without": dict.fromkeys(shares), **more}
    return Sources(columns, shares, **options)


def image(heat: np.ndarray, **more: Any) -> ExplainedImage:
    return ExplainedImage("photo", 0, heat, np.full((40, 20, 3), 200, np.uint8), **more)


def test_statement_names_what_carries_what_speaks_against_and_what_hardly_matters() -> None:
    found = sources(
        column("a", 0.5, 0.5, 0.2), column("b", -0.4, 0.4), column("c", 0.06, 0.06), column("d", 0.04, 0.04)
    )
    assert found.statement == (
        "The answer rests on a (50%). Against it: b (40%). Without a its probability is 20.0% instead of 90.0%. "
        "Of little weight: c and d."
    )
    assert (
        "Even so, without a its probability stays (89.0%"
        in sources(column("a", 1.0, 0.9, 0.89), column("b", 0.1, 0.1)).statement
    )
    number = sources(column("a", -3.0, 0.95, 12.5), column("b", 0.1, 0.05), original=9.0, measure="likelihood")
    assert number.statement == "The answer rests on a (95%). Without a it is 12.5 instead of 9. Of little weight: b."
    alike = sources(column("a", 0.5, 0.9, 0.125), column("b", 0.1, 0.1), measure="similarity")
    assert "Without a its similarity is 0.125 instead of 0.900." in alike.statement
    assert sources(column("a", 1.0, 1.0)).statement == "The model reads a alone."
    assert "whatever the row holds" in sources(column("a", 0.0, 0.0), column("b", 0.0, 0.0)).statement


@pytest.mark.parametrize(
    ("cell", "place"),
    [((0, 0), "top left"), ((9, 5), "bottom"), ((5, 9), "right"), ((5, 5), "middle"), (None, "nowhere")],
)
def test_place_of_the_strongest_cells_in_words(cell: tuple[int, int] | None, place: str) -> None:
    heat = np.zeros((10, 10))
    if cell is not None:
        heat[cell] = -2.0
    assert image(heat).place == place


def test_gaze_inside_the_box() -> None:
    gaze = np.zeros((4, 4))
    gaze[1, 1], gaze[3, 3] = 3.0, 1.0
    looked = image(np.zeros((8, 8)), box=(0.0, 0.0, 0.5, 0.5), gaze=gaze)
    assert looked.gaze_inside == 0.75
    assert image(np.zeros((8, 8))).gaze_inside is None
    assert gaze_overlay(gaze)[..., 3].argmax() == 5


def test_colors_and_lines_of_a_heat_map() -> None:
    colors = overlay(np.array([[1.0, -1.0, 0.0]]))
    assert colors.shape == (1, 3, 4)
    assert colors[0, 0, 2] > colors[0, 0, 0]  # blue for
    assert colors[0, 1, 0] > colors[0, 1, 2]  # orange against
    assert colors[0, 2, 3] == 0
    assert len(outline(np.array([[True, True], [False, False]]))) == 6


def test_pale_where_a_column_hardly_matters() -> None:
    heat = np.full((8, 8), 0.01)
    found = sources(column("photo", 0.64, 0.01, modality="image"), column("b", 9.0, 0.99), images=[image(heat)])
    assert np.abs(found.strength(found.images[0])).max() == pytest.approx(0.1)
    assert caption(found, found.images[0]).endswith("hardly matters")


def test_page_and_image_of_many_columns_items_and_an_object(tmp_path: Path) -> None:
    heat = np.zeros((8, 8))
    heat[2, 3] = 1.0
    shown = image(heat, box=(0.1, 0.2, 0.6, 0.7), gaze=np.eye(24))
    columns = [column(f"column {i}", (-1) ** i * (30.0 - i), 1 / 31) for i in range(30)]
    items = [ExplainedItem("seen", i, "一把很长的椅子 " * 9, float(i - 7)) for i in range(15)]
    found = sources(*columns, column("photo", 1.0, 1 / 31, modality="image"), images=[shown], items=items)
    words, scores = ["很", "好", "chair"], [0.5, -0.25, 0.0]
    page = explanation_html(words, scores, title="t", prediction="p", sources=found, notes=["<i>note</i>"])
    assert "<b>" not in page
    assert "<i>note" not in page
    assert "&lt;b&gt;黑色" in page
    assert page.count('<th scope="row"') >= 30 + 15 + 3
    path = tmp_path / "why.png"
    explanation_png(words, scores, path, title="t", prediction="p", sources=found)
    with Image.open(path) as drawn:
        assert drawn.width == 1200
        assert drawn.height < 150 * 20  # the strongest 24 columns and 12 items, and a line that says so


def test_verdict_names_its_measure() -> None:
    deletion = {"original": 0.9, "without_top": 0.2, "without_random": 0.85, "cells": 3.0, "items": 1.0}
    text = deletion_verdict(deletion, measure="similarity").text
    assert text.startswith(
        "Deleting the 4 highest-scored parts (3 image cells, 1 item) changes the similarity of this answer"
    )
    assert "from 0.900 to 0.200" in text
