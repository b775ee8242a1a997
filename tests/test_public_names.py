"""The public face is a decision: what can be imported, and with which arguments."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import polydetr
from polydetr import LoadedModel, Predictor


def test_exported_names():
    models = {"Predictor", "LoadedModel", "Options", "ReadOptions"}
    answers = {"Answer", "Problem", "Prediction", "Evaluation", "MeasureWarning", "ReadingWarning", "PolydetrError"}
    helpers = {"Span", "read_records", "fetch_sample", "colored_entities", "__version__"}
    assert sorted(polydetr.__all__) == sorted(models | answers | helpers)
    for name in polydetr.__all__:
        assert getattr(polydetr, name)
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        polydetr.Predicter  # noqa: B018


def test_the_verbs_are_there():
    public = verbs(Predictor)
    promised = {"fit", "predict", "predict_proba", "evaluate", "explain", "save", "load"}
    also = {
        "answer",
        "stream",
        "write",
        "check",
        "embed",
        "predictions",
        "evaluation",
        "explain_file",
        "metrics",
        "info",
    } | {
        "thresholds",
        "open_image",
        "optimize",
    }
    assert public == {"fit", "tune", "from_checkpoint", "save", "export", "tables"}
    assert verbs(LoadedModel) == (promised | also) - public


def verbs(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_what_loads_and_asks_neither_trains_nor_imports_what_does():
    code = (
        "import sys; from polydetr import LoadedModel; assert not hasattr(LoadedModel, 'fit'); "
        "print([m for m in sys.modules if m.startswith(('polydetr.training', 'polydetr.predictor', 'torch'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_arguments_of_fit():
    parameters = inspect.signature(Predictor.fit).parameters
    assert list(parameters)[:2] == ["train", "target"]
    promised = {
        "valid",
        "test",
        "inputs",
        "out",
        "backbone",
        "preset",
        "epochs",
        "time_limit",
        "seed",
        "config",
        "resume",
    }
    assert promised <= set(parameters)
    assert all(p.kind is p.KEYWORD_ONLY for name, p in parameters.items() if name not in ("train", "target"))


def test_the_arguments_of_tune_are_those_of_fit_and_the_searchs_own():
    fit, tune = (set(inspect.signature(verb).parameters) for verb in (Predictor.fit, Predictor.tune))
    assert tune - fit == {"trials", "search", "storage", "name", "keep", "refit", "metric"}
    assert fit <= tune
