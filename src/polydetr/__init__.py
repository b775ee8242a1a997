"""polydetr: one attention model for text, images and tables."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polydetr.core.predictions import Evaluation, Prediction
    from polydetr.core.reading import ReadOptions
    from polydetr.data.readers import read_records
    from polydetr.engine.inputs import ReadingWarning
    from polydetr.engine.outputs import Answer, Problem
    from polydetr.errors import PolydetrError
    from polydetr.fetch.samples import fetch_sample
    from polydetr.inference.model import LoadedModel, MeasureWarning
    from polydetr.inference.options import Options
    from polydetr.predictor import Predictor
    from polydetr.reports.spans_terminal import colored_entities
    from polydetr.values.spans import Span

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Evaluation",
    "LoadedModel",
    "MeasureWarning",
    "Options",
    "PolydetrError",
    "Prediction",
    "Predictor",
    "Problem",
    "ReadOptions",
    "ReadingWarning",
    "Span",
    "__version__",
    "colored_entities",
    "fetch_sample",
    "read_records",
]
_HOMES = {
    "Answer": "engine.outputs",
    "Evaluation": "core.predictions",
    "LoadedModel": "inference.model",
    "MeasureWarning": "inference.model",
    "Options": "inference.options",
    "PolydetrError": "errors",
    "Prediction": "core.predictions",
    "Predictor": "predictor",
    "Problem": "engine.outputs",
    "ReadOptions": "core.reading",
    "ReadingWarning": "engine.inputs",
    "Span": "values.spans",
    "colored_entities": "reports.spans_terminal",
    "fetch_sample": "fetch.samples",
    "read_records": "data.readers",
}


def __getattr__(name: str) -> object:
    """Loads the public face on first use: ``import polydetr`` alone stays instant."""
    if name in _HOMES:
        return getattr(import_module(f"polydetr.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'polydetr' has no attribute {name!r}")
