"""Every component in every state on one page, for those who work on the pages, and for the tests, which photograph it.

A component has a line in ``ENTRIES``: a function that gives the states that it can be in, each by a function that
builds it. It stands below the pages, and shows texts that are hard to show.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from polydetr.errors import InputError
from polydetr.reports.style import label_colors
from polydetr.web.components.bars import Bar, bars, signed_bars
from polydetr.web.components.boxes import Box, Boxes
from polydetr.web.components.chart import Chart
from polydetr.web.components.chart_data import bars as bar_chart
from polydetr.web.components.chart_data import heat, pairs
from polydetr.web.components.chart_data import lines as line_chart
from polydetr.web.components.code_tabs import CodeTabs
from polydetr.web.components.confidence import confidence
from polydetr.web.components.drop import Drop
from polydetr.web.components.images import Shown, image_grid
from polydetr.web.components.marked import Mark, Weighed, marked_text, weighed_text
from polydetr.web.components.progress import Progress
from polydetr.web.components.quantity import quantity
from polydetr.web.components.row_form import RowForm
from polydetr.web.components.row_values import Field
from polydetr.web.components.table import Column, Flag, Table
from polydetr.web.components.vector import vector
from polydetr.web.editor_gallery import EDITORS
from polydetr.web.markup import box, button, text
from polydetr.web.notices import empty, failure, loading
from polydetr.web.words import Words

States = Mapping[str, Callable[[], Any]]
SCRIPT = "<script>document.title = 'taken'</script>"
RIGHT_TO_LEFT = "قال أحمد في القاهرة: hello \u202eworld\u202c."
ODD = ("onclick", SCRIPT, "__proto__", "style", 'class" onmouseover="x')
"""Names of columns that are something else to a browser."""
_COLORS = label_colors(["LOC", "ORG", "PER", SCRIPT])


def gallery(words: Words) -> None:
    """Builds all of them."""
    for name, states_of in ENTRIES.items():
        with box("section", "pd-panel", aria_label=name):
            text(name, "h2")
            with box("div", "pd-tiles"):
                for state, build in states_of(words).items():
                    with box("div", "pd-stack", data_state=state):
                        text(state, "h3")
                        build()


def _states(words: Words) -> States:
    error = InputError("'12 apples' is no number.", hint="Write 12.")
    return {
        "empty": lambda: empty("Nothing was asked yet.", how="Fill in the row.", begin="An example"),
        "loading": lambda: loading(words),
        "error": lambda: failure(words, error, retry=lambda: None),
    }


def _buttons(words: Words) -> States:
    kinds = ("plain", "primary", "danger", "quiet")
    return {
        kind: lambda kind=kind: button(kind, kind=kind, icon="check", key="x" if kind == "plain" else None)
        for kind in kinds
    } | {"disabled": lambda: button("disabled", disabled=True)}  # fmt: skip


def _confidence(words: Words) -> States:
    return {
        "sure": lambda: confidence(words, 0.97),
        "fairly sure": lambda: confidence(words, 0.81),
        "unsure": lambda: confidence(words, 0.54),
        "abstained": lambda: confidence(words, 0.54, least=0.7, abstained=True),
    }


def _bars(words: Words) -> States:
    several = [Bar("politics", 0.91, "#2f6db3", chosen=True), Bar("sport", 0.62, "#d9691e", chosen=True),
               Bar(SCRIPT, 0.2, "#2a9d6f"), Bar("a very long name of a class " * 3, 0.0, "#b0468c")]  # fmt: skip
    return {
        "full": lambda: bars(words, several[:1] + several[2:]),
        "threshold": lambda: bars(words, several, threshold=0.5),
        "empty": lambda: bars(words, []),
        "for and against": lambda: signed_bars(
            words, [Bar("price", 3.2, note="12.5"), Bar("color", -1.1, note="blue"), Bar("size", 0.0)]
        ),
    }


def _marked(words: Words) -> States:
    plain = "The University of Oslo lies in Oslo, says Kari."
    nested = [
        Mark(4, 22, "ORG", 0.98),
        Mark(18, 22, "LOC", 0.71),
        Mark(31, 35, "LOC", 0.99),
        Mark(42, 46, "PER", 0.4, weak=True),
    ]
    crossing = [Mark(0, 14, "ORG", 0.9), Mark(4, 22, "LOC", 0.5), Mark(18, 30, "PER", 0.3)]
    turned = [Mark(4, 8, "PER", 0.9), Mark(12, 19, "LOC", 0.8)]
    unseen = "before\u200b\u200dafter"
    return {
        "nested": lambda: marked_text(plain, nested, _COLORS),
        "crossing": lambda: marked_text(plain, crossing, _COLORS),
        "right to left": lambda: marked_text(RIGHT_TO_LEFT, turned, _COLORS),
        "zero width": lambda: marked_text(unseen, [Mark(6, 8, "PER", 0.5)], _COLORS),
        "script": lambda: marked_text(SCRIPT, [Mark(0, 8, SCRIPT, 0.5)], _COLORS),
        "empty": lambda: marked_text(plain, [], _COLORS),
        "for and against": lambda: weighed_text(
            [Weighed("A", 0.02), Weighed("lovely", 1.0, " "), Weighed("but", -0.3, " "), Weighed("slow", -0.8, " "),
             Weighed("evening", 0.4, " ", in_answer=True), Weighed(SCRIPT, 0.2, " ")]
        ),
    }  # fmt: skip


def _numbers(words: Words) -> States:
    return {
        "interval": lambda: quantity(words, 24.44, (19.2, 29.6)),
        "no interval": lambda: quantity(words, 0.000123),
        "large": lambda: quantity(words, 1234567.8, (1200000.0, 1270000.0)),
        "vector": lambda: vector(words, [0.1, -0.25, 0.5, 0.0, 0.3, -0.7, 0.2, 0.1, 0.05, 0.2]),
    }


def _boxes(words: Words) -> States:
    found = [
        Box((20, 30, 120, 110), "kettle", 0.96, "#2f6db3"),
        Box((90, 60, 180, 150), "pear", 0.61, "#d9691e", weak=True),
        Box((10, 2, 60, 40), SCRIPT, 0.3, "#2a9d6f"),
    ]
    return {
        "full": lambda: Boxes(words, image_source(200, 160), found, alt="photo"),
        "empty": lambda: Boxes(words, image_source(200, 160), [], alt="photo"),
        "error": lambda: Boxes(words, "data:image/png;base64,AAAA", found, alt="photo"),
        "images": lambda: image_grid([Shown(image_source(8, 8, i), f"Seed {i}", f"{i}.png") for i in range(4)],
                                     download=words("ask.download")),
    }  # fmt: skip


def _form(words: Words) -> States:
    def form(fields: list[Field], row: Mapping[str, Any], errors: Mapping[str, str] | None = None) -> None:
        one = RowForm(words, fields, on_ask=lambda row, origin: None, on_example=lambda: None, begin=row)
        one.blame(errors or {})

    every = [
        Field("text"),
        Field("price", "number", low=5, high=15, example="9.9"),
        Field("color", "category", names=("red", "green", SCRIPT), total=3),
        Field("sold", "date", low=2023.0, high=2024.9, example="2023-12-11"),
        Field("photo", "image", several=True),
        Field("bought", "history", fields=(Field("name"), Field("price", "number", low=1, high=6)), most=20),
    ]
    names = tuple(f"shop {i}" for i in range(5000))
    odd = [Field("shop", "category", names=names, total=5000), *(Field(n, "number") for n in ODD)]
    wide = [*odd, *(Field(f"column {i}", "number") for i in range(300 - len(odd)))]
    row = {
        "text": "A lovely evening.",
        "price": 99,
        "color": "mauve",
        "sold": "1999-01-01",
        "bought": [{"name": "tea", "price": 2}],
    }
    return {
        "empty": lambda: form(every, {}),
        "full": lambda: form(every, row),
        "error": lambda: form(every[:2], {"price": "cheap"}, {"price": "'cheap' is no number."}),
        "300 columns": lambda: form(wide, {}),
    }


def _code(words: Words) -> States:
    codes = {"curl": "curl -s http://localhost:8000/v1/models", "Python": f"print({SCRIPT!r})"}
    return {"full": lambda: CodeTabs(words, codes, label=words("code.title"))}


def _charts(words: Words) -> States:
    """Lines with names at their ends that would lie upon each other, bars, a matrix, no numbers at all."""
    runs = {f"run {i}": [(step, 1 - 0.9 ** (step + i)) for step in range(1, 30)] for i in range(4)}
    cells = [(0, 0, 8), (0, 1, 2), (1, 1, 5), (1, 2, 5), (2, 2, 9)]
    values = {"LOC": 30.0, "ORG": 12.0, SCRIPT: 3.0}
    return {
        "full": lambda: Chart(words, line_chart("Scores", runs, x="step", y="score", bounds=(0, 1)), height=240),
        "bars": lambda: Chart(words, bar_chart("Labels", values, unit="rows", colors=_COLORS)),
        "intervals": lambda: Chart(
            words,
            bar_chart(
                "Parts",
                {"short": 0.5, "long": 0.8},
                unit="right",
                share=True,
                most=1.0,
                intervals={"short": (0.4, 0.6), "long": (0.7, 0.9)},
            ),
        ),
        "matrix": lambda: Chart(words, heat("Confusion", ["LOC", "ORG", SCRIPT], cells, of=("label", "answer"))),
        "pairs": lambda: Chart(words, pairs("Drift", {"low": (0.5, 0.2), "high": (0.5, 0.8)}, of=("then", "now"))),
        "empty": lambda: Chart(words, line_chart("Scores", {}, x="step", y="score"), height=160),
    }


def _table(words: Words) -> States:
    columns = [Column("n", "row", "number", width=88), Column("f", "state", "state", card="aside"),
               Column("t", SCRIPT, card="title"), Column("a", "answer", card="answer"),
               Column("q", "confidence", "number", digits=2, card="aside")]  # fmt: skip
    flags = [Flag("bad", "rejected", "✕", "bad")]
    rows = [{"n": n, "t": (SCRIPT, RIGHT_TO_LEFT, "=1+2")[n % 3], "a": "ORG" if n % 2 else "PER", "q": n / 60,
             "f": ["bad"] if n == 4 else []} for n in range(1, 60)]  # fmt: skip
    how: Mapping[str, Any] = {"name": "rows", "columns": columns, "flags": flags}
    return {
        "full": lambda: Table(words, rows=rows, labels=("a", "answer"), doubt="q", **how),
        "empty": lambda: Table(words, **how),
        "error": lambda: Table(words, source="nowhere", there=5, **how),
    }


def _file(words: Words) -> States:
    def drop() -> None:
        Drop(words, address="nowhere", suffixes=[".csv"], most=1 << 20, kinds="CSV", on_sent=lambda answer: None)

    def progress(share: float | None) -> None:
        Progress(words, what="rows", on_cancel=lambda: None).tell("12 rows", share=share, elapsed_s=60)

    return {
        "empty": drop, "begun": lambda: progress(None), "part": lambda: progress(0.4), "nearly": lambda: progress(0.98),
    }  # fmt: skip


ENTRIES: dict[str, Callable[[Words], States]] = {
    "States of a view": _states,
    "Buttons": _buttons,
    "Confidence": _confidence,
    "Bars": _bars,
    "Marked text": _marked,
    "Numbers": _numbers,
    "Boxes and images": _boxes,
    "Form of a row": _form,
    "Charts": _charts,
    "Code": _code,
    "Table": _table,
    "File and progress": _file,
    **EDITORS,
}


def image_source(width: int, height: int, seed: int = 0) -> str:
    """A small image as a data: address, without any library: 8-bit gray PNG (RFC 2083)."""
    lines = b"".join(b"\0" + bytes((seed * 40 + 3 * x + 5 * y) % 256 for x in range(width)) for y in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
