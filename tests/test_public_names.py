"""The public face is a decision: what can be imported, and with which arguments."""

from __future__ import annotations

import inspect

import pytest

import polydetr
from polydetr import Predictor


def test_exported_names():
    assert sorted(polydetr.__all__) == ["Predictor", "__version__"]
    for name in polydetr.__all__:
        assert getattr(polydetr, name)
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        polydetr.Predicter  # noqa: B018


def test_the_verbs_are_there():
    public = {name for name in vars(Predictor) if not name.startswith("_")}
    promised = {"fit", "predict", "predict_proba", "evaluate", "explain", "save", "load"}
    also = {
        "from_checkpoint",
        "stream",
        "check",
        "embed",
        "predictions",
        "evaluation",
        "explain_file",
        "metrics",
        "tables",
        "info",
    }
    assert promised <= public <= promised | also


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


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert polydetr.__version__ == version("polydetr")
