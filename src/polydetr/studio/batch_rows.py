"""Answered rows as the rows of a table for people, and one of them in full."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polydetr.core.files import json_text
from polydetr.serving.answered_rows import AnsweredRow
from polydetr.serving.contract import ModelInfo, Reply
from polydetr.serving.rows import Columns
from polydetr.web.components.number_text import number_text
from polydetr.web.components.table import Column, Flag
from polydetr.web.words import Words

_OWN = 24
"""Columns of the user's that stand in the table; all stand in a row's detail."""
_CELL, _WHOLE = 300, 100_000
"""Characters of a cell that are shown, in the table and in a row's detail."""
_IMAGES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp", b"BM": "bmp"}
_MOST_IMAGE = 8 << 20


@dataclass(frozen=True)
class Plan:
    """The columns of a table of answers. own: the user's, inputs first; targets; numbers: target → further figures of
    its answers, such as the ends of an interval; labeled: targets that the rows have, too.
    """

    own: tuple[str, ...]
    targets: tuple[str, ...]
    labeled: tuple[str, ...]
    numbers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sure: frozenset[str] = frozenset()
    numeric: frozenset[str] = frozenset()

    @classmethod
    def of(cls, info: ModelInfo, names: Iterable[str], rows: Sequence[AnsweredRow]) -> Plan:
        """names: the columns of the file; rows: some of its rows, by which it is known what their answers have."""
        columns, known = Columns.of(info), list(names)
        own = [*(n for n in columns.inputs if n in known), *(n for n in known if n not in columns.inputs)]
        labeled = tuple(t for t in columns.targets if any(has_label(row, t) for row in rows))
        good = [row.reply for row in rows if "error" not in row.reply]
        cells = list(next((reply.get("cells") or {} for reply in good), {}))
        numbers = {
            t: [
                f"{t}_{end}" for end in ("low", "high") if f"{t}_{end}" in cells and f"{t}_{end}" not in columns.targets
            ]
            for t in columns.targets
        }
        return cls(
            tuple(n for n in own if n not in columns.targets)[:_OWN], columns.targets, labeled, numbers,
            frozenset(t for t in columns.targets if any(confidence(reply, t) is not None for reply in good)),
            frozenset(t for t in columns.targets if any(_is_number(_answer(reply, t)) for reply in good)),
        )  # fmt: skip

    def columns(self, words: Words) -> list[Column]:
        """As the table has them."""
        found = [
            Column("n", words("batch.row"), "number", width=88),
            Column("f", words("batch.state"), "state", width=128, card="aside"),
            *(Column(f"o{i}", name, card="title") for i, name in enumerate(self.own[:1])),
        ]
        for i, target in enumerate(self.targets):
            found += self._of_target(i, target, words)
        if self.sure:
            found.append(Column("q", words("batch.confidence"), "number", digits=2, width=152, card="aside"))
        found += [Column(f"o{i}", name) for i, name in enumerate(self.own) if i > 0]
        return [*found, Column("w", words("batch.notes"))]

    def _of_target(self, i: int, target: str, words: Words) -> list[Column]:
        several = len(self.targets) > 1

        def named(part: str) -> str:
            return words(f"batch.{part}.of", target=target) if several else words(f"batch.{part}")

        kind, width = ("number", 136) if target in self.numeric else ("text", None)
        found = [Column(f"a{i}", named("answer"), kind, card="answer", width=width)]
        ends = [end for end in ("low", "high") if f"{target}_{end}" in self.numbers.get(target, ())]
        found += [Column(f"a{i}{end}", words(f"batch.{end}"), "number", width=104) for end in ends]
        if target in self.labeled:
            found.append(Column(f"g{i}", named("gold"), kind, width=width))
        if target in self.sure and several:
            found.append(Column(f"c{i}", named("confidence"), "number", digits=2, width=152))
        return found


def flags(words: Words, *, measured: bool = False) -> list[Flag]:
    """What a row may be."""
    found = [
        Flag("abstained", words("batch.flag.abstained"), "?", "warn"),
        Flag("outside", words("batch.flag.outside"), "○", "warn"),
        Flag("rejected", words("batch.flag.rejected"), "✕", "bad"), Flag("warned", words("batch.flag.warned"), "!"),
    ]  # fmt: skip
    wrong = [
        Flag("wrong", words("batch.flag.wrong"), "≠", "bad"),
        Flag("right", words("batch.flag.right"), "✓", "good"),
    ]
    return [*wrong, *found] if measured else found


def grid_row(
    number: int, row: AnsweredRow, plan: Plan, *, wrong: Mapping[str, frozenset[int]] | None = None
) -> dict[str, Any]:
    """One row of the table, with cells as JSON. wrong: target → the numbers of the rows that it answered wrongly, where
    that was measured.
    """
    reply, found = row.reply, {"n": number, "f": states(number, row, plan, wrong)}
    for i, target in enumerate(plan.targets):
        value = _answer(reply, target)
        found[f"a{i}"] = value if target in plan.numeric and _is_number(value) else text_of(value)
        for name in plan.numbers.get(target, ()):
            found[f"a{i}{name[len(target) + 1 :]}"] = (reply.get("cells") or {}).get(name)
        if target in plan.labeled:
            gold = (row.row or {}).get(target)
            found[f"g{i}"] = gold if target in plan.numeric and _is_number(gold) else text_of(gold)
        if target in plan.sure and len(plan.targets) > 1:
            found[f"c{i}"] = confidence(reply, target)
    found["q"] = doubt(reply, plan.targets)
    for i, name in enumerate(plan.own):
        found[f"o{i}"] = text_of((row.row or {}).get(name))
    found["w"] = notes(reply)[:_CELL]
    return {name: value for name, value in found.items() if value not in ("", None, [])} | {"n": number}


def states(number: int, row: AnsweredRow, plan: Plan, wrong: Mapping[str, frozenset[int]] | None) -> list[str]:
    """The names of the flags of a row."""
    reply = row.reply
    if "error" in reply:
        return ["rejected"]
    found = [name for name, on in (
        ("abstained", reply.get("abstained")), ("outside", reply.get("out_of_scope")),
        ("warned", reply.get("warnings")),
    ) if on]  # fmt: skip
    if wrong is not None and any(has_label(row, t) for t in wrong):
        found.insert(0, "wrong" if any(number in rows for rows in wrong.values()) else "right")
    return found


def detail(number: int, row: AnsweredRow, plan: Plan, words: Words) -> dict[str, Any]:
    """One row in full: the reason of its rejection, answers, labels, all columns."""
    reply, fields = row.reply, list[dict[str, Any]]()

    def add(name: str, value: Any, *, tone: str = "") -> None:
        image = image_address(value)
        text = text_of(value, most=_WHOLE)
        if text or image:
            fields.append({"name": name, "text": text, "tone": tone} | ({"image": image} if image else {}))

    error = reply.get("error") or {}
    if error:
        add(words("batch.flag.rejected"), " ".join(filter(None, (error.get("message"), error.get("hint")))), tone="bad")
    for target in plan.targets:
        if not error:
            sure = confidence(reply, target)
            value = _answer(reply, target)
            shown = number_text(value, 6, grouped=False) if isinstance(value, float) else value
            add(words("batch.answer.of", target=target), shown, tone="pd-strong")
            add(words("batch.confidence.of", target=target), None if sure is None else f"{sure:.4f}")
            ends = [(reply.get("cells") or {}).get(name) for name in plan.numbers.get(target, ())]
            known = [number_text(end, 6, grouped=False) for end in ends if end is not None]
            add(words("batch.interval"), " – ".join(known) if len(known) == len(ends) else None)
        add(words("batch.gold.of", target=target), (row.row or {}).get(target))
    add(words("batch.notes"), "" if error else notes(reply))
    for name, value in (row.row or {}).items():
        if name not in plan.targets:
            add(name, value)
    return {"title": words("batch.row.number", number=f"{number:,}"), "fields": fields}


def confidence(reply: Reply, target: str) -> float | None:
    """The probability of the answer; of a list of spans or boxes, that of the least probable one."""
    known = (reply.get("probability") or {}).get(target)
    if known is not None:
        return float(known)
    value = (reply.get("prediction") or {}).get(target)
    each = [one["probability"] for one in value or () if "probability" in one] if _is_items(value) else []
    return float(min(each)) if each else None


def doubt(reply: Reply, targets: Iterable[str]) -> float | None:
    """How sure the model is of the least sure of its answers; rows are sorted by it, the most doubtful first."""
    known = [sure for t in targets if (sure := confidence(reply, t)) is not None]
    return min(known) if known else None


def has_label(row: AnsweredRow, target: str) -> bool:
    """Whether the row says what is right."""
    return (row.row or {}).get(target) not in (None, "")


def notes(reply: Reply) -> str:
    """Why a row was rejected, or what was odd about it."""
    error = reply.get("error")
    if error:
        return " ".join(filter(None, (error.get("message"), error.get("hint"))))
    return "; ".join(map(str, reply.get("warnings") or ()))


def text_of(value: Any, *, most: int = _CELL) -> str:
    """A cell as text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value[:most] if not value.startswith("data:image/") else "<image>"
    if isinstance(value, bool | int | float):
        return "true" if value is True else "false" if value is False else str(value)
    if isinstance(value, Mapping) and isinstance(value.get("base64"), str):
        return f"<{len(value['base64']) * 3 // 4:,} bytes>"
    if isinstance(value, list) and len(value) > 8 and all(map(_is_number, value)):
        return f"[{', '.join(f'{one:.4g}' for one in value[:4])}, …] ({len(value)})"
    return json_text(value)[:most]


def image_address(value: Any) -> str | None:
    """The image that a cell holds, as a data: address; None where it holds none that browsers show."""
    if isinstance(value, str) and value.startswith("data:image/png;base64,"):
        return value if len(value) <= _MOST_IMAGE else None
    coded = value.get("base64") if isinstance(value, Mapping) else None
    if not isinstance(coded, str) or len(coded) > _MOST_IMAGE:
        return None
    head = base64.b64decode(coded[:16] + "=" * (-len(coded[:16]) % 4))
    kind = next((kind for mark, kind in _IMAGES.items() if head.startswith(mark)), None)
    return f"data:image/{kind};base64,{coded}" if kind else None


def _answer(reply: Reply, target: str) -> Any:
    """What stands in the table for an answer: its words where the task has some, else the answer itself."""
    cells = reply.get("cells") or {}
    if f"{target}_text" in cells and _is_items((reply.get("prediction") or {}).get(target)):
        return cells[f"{target}_text"]
    return cells.get(f"predicted_{target}", (reply.get("prediction") or {}).get(target))


def _is_items(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) for one in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
