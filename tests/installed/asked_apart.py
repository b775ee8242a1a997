"""Asks a model and writes down what it answers, here with PyTorch and in an environment without: the same code in both.

Arguments: model folder, rows (JSON, images as {"pixels": ...}), answers (to be written), and "explain" or "answer".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def rows_from(text: str) -> list[dict[str, Any]]:
    import numpy as np

    def image(found: dict[str, Any]) -> Any:
        return np.array(found["pixels"], dtype=np.uint8) if found.keys() == {"pixels"} else found

    return json.loads(text, object_hook=image)


def plain(value: Any) -> Any:
    """For JSON: an image as its pixels, another array as a list."""
    if getattr(value, "dtype", None) == "uint8":
        return {"pixels": value.tolist()}
    return value.tolist() if hasattr(value, "tolist") else str(value)


def answers(predictor: Any, rows: list[dict[str, Any]]) -> Any:
    """Of each row the value, the probability and, of classes, all of them."""
    every = [one["y"] for one in predictor.predictions(rows)]
    found = [
        {"value": one.value, "probability": one.probability, "all": getattr(one.details, "probabilities", None)}
        for one in every
    ]
    return rows_from(json.dumps(found, default=plain))


def explained(predictor: Any, row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The probability that is explained, the method, and what was written; or why there is nothing to explain."""
    from polydetr.errors import InputError

    try:
        explanation = predictor.explain(row)
    except InputError as error:
        return {"error": str(error)}
    names = [path.name for path in explanation.save(folder)]
    size = len((folder / "explanation.html").read_text(encoding="utf-8"))
    return {"original": explanation.original, "method": explanation.method, "files": names, "characters": size}


if __name__ == "__main__":
    from polydetr import Predictor

    model, rows, out, how = sys.argv[1:]
    predictor = Predictor.load(model)
    given = rows_from(Path(rows).read_text(encoding="utf-8"))
    done: dict[str, Any] = {"answers": answers(predictor, given)}
    if how == "explain":
        done["explanation"] = explained(predictor, given[0], Path(out).with_suffix(""))
    done["imported"] = sorted({name.partition(".")[0] for name in sys.modules})
    Path(out).write_text(json.dumps(done, default=plain), encoding="utf-8")
