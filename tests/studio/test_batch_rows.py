"""Answered rows as the rows of a table."""

from __future__ import annotations

import base64
from typing import Any

from polydetr.serving.answered_rows import AnsweredRow
from polydetr.serving.contract import ModelInfo
from polydetr.studio.batch_rows import Plan, confidence, detail, doubt, flags, grid_row, image_address, text_of
from polydetr.web.words import Words

WORDS = Words("en")
SCHEMA = {
    "inputs": [{"name": "text", "modality": "text"}, {"name": "minutes", "modality": "number"}],
    "targets": [{"name": "label"}, {"name": "stars"}, {"name": "spans"}],
}
INFO = ModelInfo("films", "v1", {"schema": SCHEMA}, {}, {}, "torch")
SPANS = [{"start": 0, "end": 3, "label": "W", "text": "bad", "probability": p} for p in (0.9, 0.3)]


def reply(**more: Any) -> dict[str, Any]:
    cells = {
        "predicted_label": "good", "label_confidence": 0.8, "predicted_stars": 4.25, "stars_low": 3.0,
        "stars_high": 5.5,
        "predicted_spans": SPANS, "spans_text": "bad [W]; bad [W]", "warnings": None, "error": None,
    }  # fmt: skip
    found = {
        "row": 1, "prediction": {"label": "good", "stars": 4.25, "spans": SPANS}, "probability": {"label": 0.8},
        "cells": cells,
    }  # fmt: skip
    return found | more


ROW = AnsweredRow({"note": "n", "minutes": 80, "text": "=1+2 <script>", "label": "bad"}, reply())
REJECTED = AnsweredRow({"text": None}, {"row": 2, "error": {"message": "no text.", "hint": "Give one."}, "cells": {}})
UNREAD = AnsweredRow(None, {"row": 3, "error": {"message": "a broken line."}})
PLAN = Plan.of(INFO, ["note", "minutes", "text", "label"], [ROW, REJECTED])


def test_the_plan_has_inputs_first_and_knows_what_answers_have() -> None:
    assert PLAN.own == ("text", "minutes", "note")
    assert PLAN.labeled == ("label",)
    assert PLAN.numeric == {"stars"}
    assert PLAN.sure == {"label", "spans"}
    fields = [column.field for column in PLAN.columns(WORDS)]
    assert fields == ["n", "f", "o0", "a0", "g0", "c0", "a1", "a1low", "a1high", "a2", "c2", "q", "o1", "o2", "w"]


def test_a_row_has_answers_gold_confidence_and_texts_as_they_are() -> None:
    found = grid_row(7, ROW, PLAN)
    assert (found["n"], found["o0"], found["a0"], found["g0"]) == (7, "=1+2 <script>", "good", "bad")
    assert (found["a1"], found["a1low"], found["a1high"]) == (4.25, 3.0, 5.5)
    assert found["a2"] == "bad [W]; bad [W]"
    assert found["q"] == 0.3, "the least sure of all answers, of the least probable span"
    assert "f" not in found


def test_a_rejected_row_stands_in_its_place_with_its_reason() -> None:
    assert grid_row(2, REJECTED, PLAN) == {"n": 2, "f": ["rejected"], "w": "no text. Give one."}
    assert grid_row(3, UNREAD, PLAN) == {"n": 3, "f": ["rejected"], "w": "a broken line."}
    fields = detail(3, UNREAD, PLAN, WORDS)["fields"]
    assert fields == [{"name": "Rejected", "text": "a broken line.", "tone": "bad"}]


def test_what_a_row_is() -> None:
    doubted = AnsweredRow(ROW.row, reply(abstained=True, out_of_scope=["label"], warnings=["odd"]))
    assert grid_row(1, doubted, PLAN)["f"] == ["abstained", "outside", "warned"]
    wrong = {"label": frozenset({7})}
    assert grid_row(7, ROW, PLAN, wrong=wrong)["f"] == ["wrong"]
    assert grid_row(8, ROW, PLAN, wrong=wrong)["f"] == ["right"]
    unlabeled = AnsweredRow({"text": "x"}, reply())
    assert "f" not in grid_row(9, unlabeled, PLAN, wrong=wrong)
    names = {flag.name for flag in flags(WORDS, measured=True)}
    assert names == {"abstained", "outside", "rejected", "warned", "wrong", "right"}
    assert names - {flag.name for flag in flags(WORDS)} == {"wrong", "right"}


def test_the_confidence_of_a_list_is_that_of_its_least_probable_item() -> None:
    assert confidence(ROW.reply, "label") == 0.8
    assert confidence(ROW.reply, "spans") == 0.3
    assert confidence(ROW.reply, "stars") is None
    assert doubt(REJECTED.reply, PLAN.targets) is None


def test_cells_are_text_and_long_ones_are_cut() -> None:
    assert text_of("x" * 1000) == "x" * 300
    assert text_of([0.25] * 64) == "[0.25, 0.25, 0.25, 0.25, …] (64)"
    assert text_of({"base64": base64.b64encode(b"12345").decode()}) == "<6 bytes>"
    assert text_of(True) == "true"
    assert text_of({"a": [1]}) == '{"a": [1]}'


def test_only_images_that_browsers_show_are_shown_as_such() -> None:
    png = base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
    assert image_address({"base64": png}) == f"data:image/png;base64,{png}"
    assert image_address({"base64": base64.b64encode(b"<svg onload=x>").decode()}) is None
    assert image_address("data:image/svg+xml;base64,AAAA") is None
    assert image_address("https://example.org/a.png") is None


def test_of_300_columns_24_stand_in_the_table_and_all_in_the_detail() -> None:
    names = [f"onclick{i}" for i in range(300)]
    row = AnsweredRow(dict.fromkeys(names, "x"), reply())
    plan = Plan.of(INFO, names, [row])
    assert len(plan.own) == 24
    assert len(grid_row(1, row, plan)) < 40
    assert {f["name"] for f in detail(1, row, plan, WORDS)["fields"]} >= set(names)
