"""Labels in diagrams: any script, never a box, no two alike; and the diagrams of numbers."""

import numpy as np
import pytest

from polydetr.errors import InputError
from polydetr.metrics.classification import classification_report, display_width
from polydetr.reports import fonts
from polydetr.reports.box_drawing import draw_boxes
from polydetr.reports.fonts import drawable, undrawable
from polydetr.reports.label_names import key_of, label_names
from polydetr.reports.numbers_png import predicted_true_png, residuals_png
from polydetr.reports.plots import confusion_matrix_png, learning_curve_png

CJK = ["财经新闻", "體育賽事", "日本語ラベル", "ひらがな", "한국어", "全角ＡＢＣ、。「」"]


@pytest.fixture
def bare(monkeypatch):
    """A machine on which no Chinese font is installed."""
    monkeypatch.setattr(fonts, "installed_cjk", lambda: None)


def test_chinese_japanese_and_korean_are_drawn_without_an_installed_font(bare, tmp_path):
    assert not undrawable("".join(CJK))
    confusion_matrix_png(classification_report(CJK, CJK), tmp_path / "a.png", title="混淆矩阵")  # a warning is an error
    others = ["甲乙", "丙丁", "戊己", "庚辛", "壬癸", "子丑"]
    confusion_matrix_png(classification_report(others, others), tmp_path / "b.png", title="混淆矩阵")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()  # not boxes, which are all alike


def test_a_font_whose_file_is_gone_is_unpacked_again(bare, tmp_path):
    fonts._unpacked().unlink()
    confusion_matrix_png(classification_report(CJK, CJK), tmp_path / "a.png")
    assert fonts._unpacked().is_file()


def test_a_cache_that_cannot_be_written_costs_no_diagram(bare, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "file"))
    fonts._unpacked.cache_clear()
    assert fonts._unpacked().is_file()
    assert not undrawable("财经")


def test_a_label_that_no_font_has_is_called_by_its_number(bare, tmp_path):
    labels = ["财经", "ภาษาไทย", "\U000e0041\U0001f9a9", "plain"]
    names = label_names(labels)
    assert names["财经"] == "财经"
    assert names["ภาษาไทย"] == f"label {sorted(labels).index('ภาษาไทย') + 1}"
    assert key_of(labels) == [f"{names[label]}: {label}" for label in sorted(labels) if names[label] != label]
    assert drawable("a ไ b") == "a ? b"
    confusion_matrix_png(classification_report(labels, labels), tmp_path / "a.png", title="ภาษา")


@pytest.mark.parametrize(
    "labels",
    [
        ["balance_not_updated_after_bank_transfer", "balance_not_updated_after_cheque_or_cash_deposit"],
        ["x" * 80 + "a" + "y" * 80, "x" * 80 + "b" + "y" * 80, "x" * 80 + "c" + "y" * 80],
        ["财" * 40 + "甲" + "经" * 40, "财" * 40 + "乙" + "经" * 40],
        [f"{'a' * 60}{i}{'b' * 60}" for i in range(30)],
        ["a" * 90, "a" * 91, "a" * 92],
    ],
)
@pytest.mark.parametrize("limit", [18, 24, 36])
def test_long_labels_stay_short_and_apart(labels, limit):
    names = label_names(labels, limit=limit)
    assert len(set(names.values())) == len(labels)
    assert max(map(display_width, names.values())) <= limit


def test_what_long_labels_differ_in_is_kept():
    first, second = label_names(["x" * 80 + "apple" + "y" * 80, "x" * 80 + "lemon" + "y" * 80]).values()
    assert "apple" in first
    assert "lemon" in second


def test_boxes_are_named_in_any_script(bare):
    image = np.full((200, 300, 3), 120, np.uint8)

    def draw(label):
        one = {"box": [20, 60, 200, 160], "label": label, "score": 0.9}
        return np.asarray(draw_boxes(image, [one], colors={label: "#2f6db3"}))

    drawn = [draw(label) for label in ("财经", "体育", "ไ", "ย")]
    assert (drawn[0] != drawn[1]).any()
    assert np.array_equal(drawn[2][:600], drawn[3][:600])  # both "?": what is drawn says that it is not known


@pytest.mark.parametrize("rows", [1, 2, 25, 5000])
def test_numbers_are_drawn_for_any_number_of_rows(rows, tmp_path):
    gold = np.random.default_rng(0).normal(size=rows) * 1e6
    for draw in (predicted_true_png, residuals_png):
        draw(gold, gold + 10, tmp_path / "a.png", title="价格")
        first = (tmp_path / "a.png").read_bytes()
        draw(gold, gold, tmp_path / "a.png", title="价格")
        assert (tmp_path / "a.png").read_bytes() != first
    with pytest.raises(InputError):
        predicted_true_png([], [], tmp_path / "none.png", title="t")


def test_the_losses_of_the_steps_are_drawn_behind_the_curve(tmp_path):
    history = [{"epoch": e, "train_loss": 1 / e, "valid_loss": 1.2 / e} for e in (1, 2, 3)]
    learning_curve_png(history, tmp_path / "plain.png")
    learning_curve_png(history, tmp_path / "steps.png", losses=[(i / 10, 1 / (i + 1)) for i in range(30)])
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "steps.png").read_bytes()
