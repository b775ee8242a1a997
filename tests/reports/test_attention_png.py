"""The table of attention as PNG: of many words those that are looked at most."""

from __future__ import annotations

import numpy as np
from PIL import Image

from polydetr.reports import attention_png as module
from polydetr.reports.attention_png import MOST_WORDS, attention_png


def test_few_words_make_a_small_picture(tmp_path):
    sizes = []
    for count in (3, 60, 200):
        words = [f"w{i}" if i % 3 else "花" for i in range(count)]
        attention = np.random.default_rng(0).random((count, count))
        attention_png(words, attention, tmp_path / "a.png", title="Attention: $x_1$")
        with Image.open(tmp_path / "a.png") as image:
            sizes.append(image.size)
    assert sizes[0] < sizes[1]
    assert sizes[1] == sizes[2]  # no more than MOST_WORDS


def test_those_that_are_looked_at_most_are_kept_in_reading_order(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(module, "drawable", lambda text: shown.append(text) or text)
    count = MOST_WORDS + 5
    attention = np.zeros((count, count))
    attention[:, 5:] = 0.5
    attention_png([f"w{i}" for i in range(count)], attention, tmp_path / "a.png", title="t")
    assert shown == [f"w{i}" for i in range(5, count)]
