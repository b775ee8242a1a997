"""What is said of a run that was too short, and of what was asked for and not used."""

import pytest

from polydetr.config.loading import load_config
from polydetr.model.build import _ignored_backbones
from polydetr.tasks.classification import ClassificationTask
from polydetr.tasks.detection import DetectionTask
from polydetr.tasks.tagging import TaggingTask
from polydetr.training.cautions import short_run
from polydetr.training.checkpoint import Progress


def ended(step, *, best, epochs=(1.0, 2.0)):
    history = [{"step": step * (i + 1) // len(epochs), "epoch": epoch} for i, epoch in enumerate(epochs)]
    return Progress(step=step, best_step=best, history=history)


def said(task, progress, **how):
    return short_run({"y": task}, progress, **{"epochs": 2.0, "time_limit": None, **how})


@pytest.mark.parametrize(("kind", "steps"), [(DetectionTask, 600), (TaggingTask, 100)])
def test_fewer_steps_than_the_task_needs(kind, steps):
    task = kind("y", kind.Options())
    (line,) = said(task, ended(steps - 1, best=1))
    assert line.startswith(f"'y': {steps - 1} steps are fewer than the {steps}")
    assert "more --epochs" in line
    assert not said(task, ended(steps, best=1))


def test_the_time_limit_is_named_where_it_ended_the_run():
    (line,) = said(
        TaggingTask("y", TaggingTask.Options()), ended(40, best=20, epochs=(0.4,)), epochs=5.0, time_limit=30.0
    )
    assert "(the time limit of 30 s ended it in epoch 0.4 of 5): a longer --time-limit would help" in line


def test_a_run_that_was_still_getting_better():
    task = ClassificationTask("y", ClassificationTask.Options())
    (line,) = said(task, ended(50, best=50))
    assert line.startswith("it was still getting better when it ended, after 50 steps")
    assert not said(task, ended(50, best=25))
    assert not said(task, ended(700, best=700))


@pytest.mark.parametrize(
    ("backbone", "read", "said"),
    [
        ("minilm", {"number"}, "'minilm' is not used: it reads text"),
        ("minilm", {"image"}, "'minilm' is not used: it reads text"),
        ("minilm", {"text", "number"}, None),
        ("someone/encoder", {"number"}, "'someone/encoder' is not used: it reads text or image"),
        ("auto", {"number"}, None),
        ({"text": "none", "image": "efficientnet-lite0"}, {"text"}, "'efficientnet-lite0' is not used: it reads image"),
        ({"text": "minilm"}, {"text"}, None),
    ],
)
def test_a_backbone_that_reads_nothing_is_told(backbone, read, said):
    config = load_config({"backbone": backbone}, target={"y": "classification"})
    lines = _ignored_backbones(config, read)
    assert [said in line for line in lines] == ([True] if said else [])
