"""What can be predicted: one file a task. Adding one is adding a line here."""

from __future__ import annotations

from polydetr.core.predictions import Evaluation, Prediction
from polydetr.tasks.base import Task
from polydetr.tasks.classification import ClassificationTask
from polydetr.tasks.detection import DetectionTask
from polydetr.tasks.embedding import EmbeddingTask
from polydetr.tasks.entities import EntitiesTask
from polydetr.tasks.generation import GenerationTask
from polydetr.tasks.qa import QuestionAnsweringTask
from polydetr.tasks.regression import RegressionTask
from polydetr.tasks.tagging import TaggingTask

TASKS: dict[str, type[Task]] = {
    "classification": ClassificationTask,
    "regression": RegressionTask,
    "tagging": TaggingTask,
    "qa": QuestionAnsweringTask,
    "generation": GenerationTask,
    "embedding": EmbeddingTask,
    "detection": DetectionTask,
    "entities": EntitiesTask,
}

__all__ = ["TASKS", "Evaluation", "Prediction", "Task"]
