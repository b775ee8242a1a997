"""Scores, in NumPy and SciPy alone: gold and predicted values in, frozen reports with ``to_dict()`` out."""

from .bootstrap import Interval, confidence_interval
from .calibration import (
    CoverageRisk,
    ReliabilityCurve,
    Threshold,
    brier_score,
    choose_threshold,
    coverage_risk_curve,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability_curve,
    softmax,
)
from .classification import (
    ClassReport,
    ClassRow,
    accuracy,
    balanced_accuracy,
    classification_report,
    confusion_matrix,
    macro_f1,
    mcc,
    multilabel_report,
    weighted_f1,
)
from .entities import EntityReport, MatchScore, entity_f1, entity_report
from .qa import QaReport, best_no_answer_threshold, qa_report
from .regression import RegressionReport, mae, median_absolute_error, r2, regression_report, rmse, spearman
from .separation import auroc, average_precision, top_k_accuracy
from .tokens import token_report

__all__ = [
    "ClassReport",
    "ClassRow",
    "CoverageRisk",
    "EntityReport",
    "Interval",
    "MatchScore",
    "QaReport",
    "RegressionReport",
    "ReliabilityCurve",
    "Threshold",
    "accuracy",
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "best_no_answer_threshold",
    "brier_score",
    "choose_threshold",
    "classification_report",
    "confidence_interval",
    "confusion_matrix",
    "coverage_risk_curve",
    "entity_f1",
    "entity_report",
    "expected_calibration_error",
    "fit_temperature",
    "macro_f1",
    "mae",
    "mcc",
    "median_absolute_error",
    "multilabel_report",
    "negative_log_likelihood",
    "qa_report",
    "r2",
    "regression_report",
    "reliability_curve",
    "rmse",
    "softmax",
    "spearman",
    "token_report",
    "top_k_accuracy",
    "weighted_f1",
]
