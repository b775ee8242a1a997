"""Images: right size, something drawn, any label, nothing half written."""

import struct
import zlib

import numpy as np
import pytest

from polydetr.errors import InputError
from polydetr.metrics.calibration import reliability_curve
from polydetr.metrics.classification import classification_report, multilabel_report
from polydetr.metrics.entities import entity_report
from polydetr.reports import fonts, style
from polydetr.reports.plots import confusion_matrix_png, entity_bars_png, learning_curve_png, reliability_png
from polydetr.reports.sources_png import explanation_png
from polydetr.values.spans import Span


def pixels(path):
    """(height, width, 4) uint8, read without any imaging library: PNG filters undone by hand."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert (depth, kind) == (8, 6)
    body, at = b"", 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            body += data[at + 8 : at + 8 + size]
        at += size + 12
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, 1 + 4 * width)
    return width, height, len({row.tobytes() for row in rows[:, 1:]})


def report(classes, rows=600, names=None):
    random = np.random.default_rng(0)
    gold = np.concatenate([np.arange(classes), random.integers(0, classes, rows)])
    predicted = np.where(random.random(len(gold)) < 0.8, gold, (gold + 1) % classes)
    names = names or [f"label_{i}" for i in range(classes)]
    return classification_report([names[i] for i in gold], [names[i] for i in predicted])


def test_learning_curve_draws_two_panels_and_bears_gaps(tmp_path):
    history = [
        {"epoch": 1, "train_loss": 1.0, "valid_loss": 0.9, "accuracy": 0.5, "准确率 $5 $": 0.5, "lr": 1e-3},
        {"epoch": 2, "train_loss": 0.5, "valid_loss": None, "accuracy": float("nan")},
        {"epoch": 3, "train_loss": 0.4, "valid_loss": 0.6, "accuracy": 0.8, "note": "text is no curve"},
    ]
    learning_curve_png(history, tmp_path / "curve.png", best=3)
    width, height, distinct = pixels(tmp_path / "curve.png")
    assert (width, height) == (int(2 * 5.2 * style.DPI), int(3.9 * style.DPI))
    assert distinct > 50
    learning_curve_png(history[:1], tmp_path / "one.png")
    with pytest.raises(InputError, match="at least one measurement"):
        learning_curve_png([{"epoch": 1, "lr": 0.1}], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_learning_curve_takes_the_training_loops_history():
    from polydetr.reports.plots import _curves

    entry = {"step": 40, "epoch": 0.5, "seconds": 9.0, "train_loss": 0.3, "score": 0.8}
    one = _curves([{**entry, "metrics": {"tags": {"entity_f1": 0.8, "ece": 0.1}}}])
    assert one == {"train_loss": [(0.5, 0.3)], "entity_f1": [(0.5, 0.8)]}
    two = _curves([{**entry, "metrics": {"a": {"accuracy": 0.8}, "b": {"accuracy": 0.7, "ece": 0.1}}}])
    assert list(two) == ["train_loss", "a accuracy", "b accuracy"]
    assert list(_curves([entry])) == ["train_loss", "score"]


@pytest.mark.parametrize(
    ("classes", "most_inches"), [(1, 6), (2, 6), (30, 14), pytest.param(77, 18, marks=pytest.mark.slow), (150, 18)]
)
def test_confusion_matrix_of_any_number_of_classes(tmp_path, classes, most_inches):
    confusion_matrix_png(report(classes), tmp_path / "cm.png")
    width, height, distinct = pixels(tmp_path / "cm.png")
    assert 3 * style.DPI < height <= width <= most_inches * style.DPI
    assert distinct > 50


def test_many_classes_keep_the_most_confused_and_every_row():
    from polydetr.reports.plots import _most_confused, _worst_pairs

    matrix = np.diag(np.full(60, 10))
    matrix[7, 3], matrix[40, 41], matrix[41, 40] = 9, 5, 4
    merged, labels = _most_confused(matrix, [f"c{i}" for i in range(60)])
    assert labels[:4] == ["c7", "c3", "c40", "c41"]
    assert labels[-1] == "40 others"
    assert merged.sum() == matrix.sum()
    assert merged[0, 1] == 9
    assert _worst_pairs(matrix, [f"c{i}" for i in range(60)])[0] == ("c7", "c3", 9, pytest.approx(9 / 19))


def test_chinese_and_unknown_characters_do_not_warn(tmp_path, monkeypatch):
    names = ["财经", "体育", "\U000e0041\U0001f9a9", "a\nb", "$x$"]
    confusion_matrix_png(report(5, names=names), tmp_path / "cm.png", title="混淆矩阵")
    monkeypatch.setattr(fonts, "installed_cjk", lambda: None)  # a machine without any Chinese font
    confusion_matrix_png(report(5, names=names), tmp_path / "no_font.png", title="混淆矩阵")
    assert pixels(tmp_path / "no_font.png")[2] > 50


def test_many_label_reports_have_no_confusion(tmp_path):
    with pytest.raises(InputError, match="holds no confusion matrix"):
        confusion_matrix_png(multilabel_report([["a"]], [["a"]], ["a"]), tmp_path / "cm.png")


def test_reliability_with_and_without_calibration(tmp_path):
    confidence = np.random.default_rng(0).random(500)
    curve = reliability_curve(confidence, confidence > 0.4)
    reliability_png(curve, None, tmp_path / "one.png")
    reliability_png(curve, reliability_curve([1.0], [True]), tmp_path / "two.png")
    for name in ("one", "two"):
        width, height, _ = pixels(tmp_path / f"{name}.png")
        assert (width, height) == (int(5.4 * style.DPI), 6 * style.DPI)
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "two.png").read_bytes()


def test_entity_bars_of_none_and_of_many_types(tmp_path):
    entity_bars_png(entity_report([[]], [[]]), tmp_path / "none.png")
    spans = [[Span(i, i + 1, f"TYPE{i}") for i in range(55)]]
    entity_bars_png(entity_report(spans, spans), tmp_path / "many.png")
    assert pixels(tmp_path / "many.png")[1] == int((1.9 + 0.36 * 41) * style.DPI)


def test_explanation_wraps_and_says_what_is_left_out(tmp_path):
    one, long = tmp_path / "one.png", tmp_path / "long.png"
    explanation_png(["好"], [0.0], one, title="t", prediction="p")
    words = ["y" * 300_000, *["字", "word", "$a$", "\n", "x" * 300] * 100]
    scores = np.linspace(-1, 1, 501).tolist()
    deletion = {"original": 0.9, "without_top": 0.2, "without_random": 0.8}
    explanation_png(words, scores, long, title="t" * 200, prediction="p" * 200, deletion=deletion)
    assert pixels(one)[0] == pixels(long)[0] == 8 * style.DPI
    assert pixels(long)[1] > 10 * pixels(one)[1]
    with pytest.raises(InputError, match="one score for each word"):
        explanation_png(["a", "b"], [1.0], one, title="t", prediction="p")


def test_shorten_keeps_the_end_that_tells_names_apart():
    assert style.shorten("card_payment_fee_charged", 30) == "card_payment_fee_charged"
    assert style.shorten("a  b\nc", 9) == "a b c"
    for text in ("apple_pay_or_google_pay_number_2", "一二三四五六七八九十一二三四五六七八九十"):
        for keep in (False, True):
            short = style.shorten(text, 20, keep_end=keep)
            assert style.display_width(short) <= 20
            assert "…" in short
            assert short.endswith(text[-3:]) == keep
