"""A process that measures labeled rows: ``python -m polydetr.studio.measuring_process MODEL ANSWERED OUT``.

MODEL is a model folder, ANSWERED a file of rows as ``serving.answered_rows`` keeps them, OUT a folder that is there.
It computes what ``polydetr evaluate`` computes, by the same code, and writes ``measured.json`` and the pages of the
worst mistakes into OUT. A process of its own: it may be ended at any time, and what it held is then free.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from polydetr.core.files import write_json
from polydetr.errors import PolydetrError

RESULT = "measured.json"
_NICE = 5
"""Those who ask the model now go first."""


def measure(model: Path, answered: Path, out: Path) -> dict[str, Any]:
    """What stands in ``RESULT``. Raises PolydetrError, OSError."""
    from polydetr.core.records import ReadReport
    from polydetr.engine.render import image_of
    from polydetr.inference.service import ServiceModel
    from polydetr.metrics.figures import BoxFigures
    from polydetr.reports.evaluation import write_evaluations
    from polydetr.serving.answered_rows import rows_of
    from polydetr.serving.contract import ModelInfo
    from polydetr.serving.rows import Columns

    loaded = ServiceModel.load(model)
    columns = Columns.of(ModelInfo("", "", loaded.info, {}, {}, ""))
    numbers: list[int] = []
    wrong: dict[str, dict[int, str]] = {}

    def rows() -> Iterator[Any]:
        for number, row in enumerate(rows_of(answered), start=1):
            if isinstance(item := row.item(columns), dict) and "error" not in row.reply:
                numbers.append(number)
                yield item

    def told(target: str, result: Any, mistake: Any) -> None:
        if (place := result.record.location.row) is not None:
            wrong.setdefault(target, {}).setdefault(numbers[place - 1], mistake.kind)

    report = ReadReport()
    evaluations, lines = loaded.evaluate_sent(rows(), report=report, told=told)
    of_boxes = any(isinstance(e.figures, BoxFigures) for e in evaluations.values())
    write_evaluations(out, evaluations, name="rows", image_of=partial(image_of, loaded.engine), draws=of_boxes)
    pages = sorted(path.name for path in out.glob("*-mistakes.html"))
    return {
        "targets": {
            target: {
                "metrics": dict(e.metrics), "tables": dict(e.tables), "shows_mistakes": e.mistakes is not None,
                "mistakes": None if e.mistakes is None else e.mistakes.to_dict(),
                "wrong": {str(number): kind for number, kind in wrong.get(target, {}).items()},
            }
            for target, e in evaluations.items()
        },
        "lines": lines,
        "pages": pages,
    }  # fmt: skip


def main(model: Path, answered: Path, out: Path) -> None:
    warnings.simplefilter("ignore")  # they quote rows
    with suppress(OSError, AttributeError):
        os.nice(_NICE)
    try:
        found = measure(model, answered, out)
    except PolydetrError as error:
        found = {"error": {"message": error.message, "hint": error.hint}}
    except Exception as error:
        found = {"error": {"message": f"measuring failed ({type(error).__name__}).", "hint": None}}
    write_json(out / RESULT, json.loads(json.dumps(found, default=str)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
