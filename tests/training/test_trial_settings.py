"""Which settings a study may vary, and what a trial's configuration becomes."""

from __future__ import annotations

import pytest

from polydetr.config.loading import load_config
from polydetr.config.sections import Config
from polydetr.errors import ConfigError
from polydetr.training.trial_settings import ENCODING, REFUSED, check_settings, with_settings

CONFIG = load_config({"training": {"lr": 1e-4}}, target={"label": "classification"})


def test_keys_that_change_how_rows_are_encoded_are_told():
    keys = [
        "training.lr",
        "text.max_tokens",
        "image.augment.flip",
        "backbone",
        "tasks.label.threshold",
        "model.dropout",
    ]
    assert check_settings(CONFIG, keys) == ["text.max_tokens", "backbone"]


@pytest.mark.parametrize(
    "key", [k for k in REFUSED if k not in ("reading", "target", "inputs", "detection", "entities")]
)
def test_what_would_make_scores_unlike_is_refused_with_its_reason(key):
    with pytest.raises(ConfigError) as caught:
        check_settings(CONFIG, [key])
    assert f"{key}: a study does not vary it: {REFUSED[key]}." in str(caught.value)


def test_all_faults_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        check_settings(
            CONFIG, ["target.label", "reading.encoding", "training.learning", "training", "seed", "training.lr"]
        )
    text = str(caught.value)
    for part in (
        "target.label: a study",
        "reading.encoding: a study",
        "training.learning: there is no such",
        "seed: a",
    ):
        assert part in text
    assert "training is a section" in text
    assert "training.lr:" not in text


def test_every_key_that_is_named_exists():
    for key in (*REFUSED, *ENCODING):
        section = Config
        for name in key.split("."):
            assert name in section.model_fields
            section = section.model_fields[name].annotation


def test_settings_are_laid_over_the_configuration():
    found = with_settings(CONFIG, {"training.lr": 1e-3, "image.augment.flip": False, "tasks.label.threshold": 0.4})
    assert (found.training.lr, found.image.augment.flip, found.tasks) == (1e-3, False, {"label": {"threshold": 0.4}})
    assert found.model_copy(update={n: getattr(CONFIG, n) for n in ("training", "image", "tasks")}) == CONFIG
    assert "batch_tokens" not in found.training.model_fields_set  # what nobody gave is not given now
    assert CONFIG.training.lr == 1e-4


def test_a_value_out_of_bounds_is_named_with_its_key():
    with pytest.raises(ConfigError, match=r"training\.lr = -1"):
        with_settings(CONFIG, {"training.lr": -1})
    with pytest.raises(ConfigError, match="weight_decay"):
        with_settings(CONFIG, {"training.weigth_decay": 0.1})
