"""A study's files: the answer comes first and is right, states differ by their marks, and data stays text."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from polydetr.config.loading import load_config
from polydetr.core.studies import Gain
from polydetr.errors import InputError, SaveError
from polydetr.reports.tuning_page import study_html, trials_csv, write_study
from polydetr.reports.tuning_plots import PHONE, curves_png, dimensions, history_png, importances_png, parallel_png
from polydetr.reports.tuning_words import duration_text, settings_yaml, verdict
from study_records import WEIGHT, study, trial

HOSTILE = "</p><script>alert(1)</script> & \"' \u202e =1+1"
FILES = {"study.json", "trials.csv", "report.html", "history.png", "importances.png", "parallel.png", "curves.png"}


class Page(HTMLParser):
    """The elements of a page, what they link to, its text; every element is closed."""

    EMPTY = frozenset({"meta", "img", "source"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "srcset", "action")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += "" if self.open and self.open[-1] == "style" else data


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def test_all_files_are_written_and_the_page_needs_no_other_host(tmp_path: Path) -> None:
    written = write_study(study(), tmp_path / "reviews.study")
    assert {path.name for path in written} == {path.name for path in (tmp_path / "reviews.study").iterdir()} == FILES
    found = Page((tmp_path / "reviews.study" / "report.html").read_text("utf-8"))
    assert "script" not in found.names
    assert len(found.links) == 8  # four images, for a page and for a telephone
    assert all(link.startswith("data:image/png;base64,") for link in found.links)
    record = json.loads((tmp_path / "reviews.study" / "study.json").read_text("utf-8"))
    assert (record["kept"], record["gain"]["rows"], record["trials"][2]["state"]) == (1, 488, "pruned")


def test_the_page_begins_with_what_was_gained() -> None:
    found = Page(study_html(study(), {})).text
    head = found[: found.index("Settings to write")]
    for said in ("Trial 1 gains +0.0312 标签 accuracy, and is kept", "On 488 rows that chose nothing",
                 "+0.0101 to +0.0523", "in 97 % of the resamples", "0.8400 against the default's 0.8000"):  # fmt: skip
        assert said in head
    assert "lr: 0.0002" in found
    assert "0.5 to 2, step 0.5, where training.schedule is cosine" in found
    assert "1 × out of memory" in found
    assert "5 trials: 3 complete, 1 pruned, 1 failed" in found


def test_where_nothing_is_gained_the_default_is_kept_and_the_page_says_so() -> None:
    doubtful = study(kept=0, gain=Gain(0.002, -0.013, 0.017, 488, 0.58))
    found = Page(study_html(doubtful, {})).text
    assert "Nothing was gained that can be relied on: the default is kept." in found
    assert "−0.0130 to +0.0170" in found
    assert "None: what the configuration says already was kept." in found
    assert found.index("Those of trial 1, which was not kept") < found.index("lr: 0.0002")
    said = verdict(study(best=0, kept=0, gain=None))
    assert (said.gained, said.head) == ("no", "Nothing was gained: the default is kept.")
    assert "None of 2 other completed trials did better" in said.text


def test_a_gain_that_was_not_measured_is_not_claimed() -> None:
    assert verdict(study(gain=None)).gained == "unknown"
    assert "was not measured" in verdict(study(gain=None)).head
    assert "was not measured" in verdict(study(gain=None, kept=0)).head
    assert "every trial is cross-validated" in verdict(study(cross_validated=True)).text


def test_a_study_in_which_all_failed_says_why(tmp_path: Path) -> None:
    failed = [replace(trial(i), state="failed", reason=f"NaN at step {i % 2}") for i in range(3)]
    record = study(trials=failed, best=0, kept=0, gain=None, importances={})
    written = {path.name for path in write_study(record, tmp_path)}
    assert written == {"study.json", "trials.csv", "report.html"}
    found = Page((tmp_path / "report.html").read_text("utf-8")).text
    assert found.index("No trial was completed") < found.index("2 failed: NaN at step 0") < found.index("Settings")


def test_images_of_an_earlier_report_do_not_outlive_it(tmp_path: Path) -> None:
    write_study(study(), tmp_path)
    write_study(study(importances={}), tmp_path)
    assert not (tmp_path / "importances.png").exists()
    assert "Too few completed trials to say which" in (tmp_path / "report.html").read_text("utf-8")


def test_data_stays_text(tmp_path: Path) -> None:
    hostile = replace(trial(5, 0.81, backbone=HOSTILE), reason=HOSTILE)
    failed = replace(trial(6), state="failed", reason=HOSTILE)
    record = study(hostile, failed, name=HOSTILE, metric=HOSTILE, best=5, kept=5, rows={HOSTILE: 3},
                   space=[{"key": HOSTILE, "kind": "choice", "values": [HOSTILE]}])  # fmt: skip
    write_study(record, tmp_path)
    found = Page((tmp_path / "report.html").read_text("utf-8"))
    assert not {"script"} & set(found.names)
    assert "\u202e" not in found.text
    assert "<script>alert(1)" in found.text


def test_the_table_of_trials_is_read_back_and_runs_no_formula() -> None:
    hostile = replace(trial(5, 0.81, backbone='=HYPERLINK("x")', **{"training.devices": -1}), reason="+SUM(A1)\nx")
    rows = list(csv.DictReader(io.StringIO(trials_csv(study(hostile)))))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert (float(rows[1]["training.lr"]), rows[0]["training.lr"], rows[1][WEIGHT]) == (2e-4, "", "1.5")
    assert float(rows[1]["标签 accuracy"]) == 0.84
    assert (rows[2]["state"], rows[2]["score"], rows[3]["reason"]) == ("pruned", "", "out of memory")
    assert rows[5]["backbone"] == '\'=HYPERLINK("x")'
    assert rows[5]["reason"] == "'+SUM(A1) x"
    assert rows[5]["training.devices"] == "-1"  # a number is none


def test_the_settings_are_yaml_that_a_configuration_takes(tmp_path: Path) -> None:
    settings = {"training.lr": 1e-05, "training.lora.rank": 4, WEIGHT: 1.5, "text.context": False, "backbone": "none"}
    (tmp_path / "run.yaml").write_text(settings_yaml(settings), encoding="utf-8")
    config = load_config(tmp_path / "run.yaml")
    assert (config.training.lr, config.training.lora.rank, config.text.context) == (1e-05, 4, False)
    assert yaml.safe_load(settings_yaml(settings))["tasks"] == {"净.价": {"loss_weight": 1.5}}
    assert settings_yaml({}) == ""


def test_a_long_study_folds_its_later_trials_away() -> None:
    many = [trial(number, 0.5 + number / 1000, **{"training.lr": number / 1e6}) for number in range(5, 140)]
    found = study_html(study(*many), {})
    assert "40 more trials" in found
    assert found.count('<tr class="complete') == 138


def test_pictures_are_narrow_for_a_telephone(tmp_path: Path) -> None:
    for draw in (history_png, importances_png, curves_png, parallel_png):
        draw(study(), tmp_path / "wide.png")
        draw(study(), tmp_path / "narrow.png", width=PHONE)
        wide, narrow = (np.asarray(opened(tmp_path / f"{name}.png")) for name in ("wide", "narrow"))
        assert narrow.shape[1] < 0.5 * wide.shape[1]
        assert len({row.tobytes() for row in narrow}) > 50


def test_a_pruned_and_a_failed_trial_are_told_apart_without_color(tmp_path: Path) -> None:
    """The same two trials, of which the second one is pruned, fails or is completed: three different gray images."""
    images = set()
    for state, score in (("pruned", None), ("failed", None), ("complete", 0.7)):
        second = replace(trial(1, score), state=state, curve=[(10, 0.7)])
        history_png(study(trials=[trial(0, 0.8), second], best=0), tmp_path / "history.png")
        image = opened(tmp_path / "history.png").convert("L")
        images.add(image.crop((0, 0, image.width, image.height * 3 // 4)).point(lambda v: 255 * (v > 200)).tobytes())
    assert len(images) == 3


def test_an_axis_of_parallel_coordinates_stands_for_what_was_searched() -> None:
    lr, schedule, weight, score = dimensions(study())
    assert lr.places[1] == pytest.approx(0.65, abs=0.01)  # log(2e-4) between log(1e-5) and log(1e-3)
    assert (schedule.places, [text for _, text in schedule.marks]) == ({1: 1.0, 4: 0.0}, ["linear", "cosine"])
    assert weight.places[4] == 0.0  # trial 4 lacks it
    assert weight.marks[0] == (0.0, "not set")
    assert (score.places[1], score.places[4]) == (1.0, 0.0)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    empty = study(trials=[replace(trial(0), state="running")], importances={})
    for draw in (history_png, importances_png, curves_png, parallel_png):
        with pytest.raises(InputError, match="the study has"):
            draw(empty, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError):
        write_study(study(), tmp_path / "file" / "study")


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (12.3, "12 s"), (300, "5 min"), (11100, "3 h 5 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
