"""What is missing says how to get it, and brings no PyTorch where there is none."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import polydetr
from polydetr import Predictor
from polydetr.core.installed import NOT_IN_CORE, check_installed, check_torch, pip_install, pip_upgrade
from polydetr.errors import ConfigError

ROOT = Path(__file__).parents[2]
SAVED = ROOT / "tests" / "model" / "saved_by_old" / "text" / "model"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else find(name))


@pytest.mark.usefixtures("no_torch")
def test_what_needs_torch_names_it_and_what_to_install(tmp_path: Path) -> None:
    said = r"training needs PyTorch, which is not installed\. pip install polydetr brings it\."
    for verb in (Predictor.fit, Predictor.tune):
        with pytest.raises(ConfigError, match=said) as raised:
            verb([{"a": 1, "label": "x"}], "label")
        assert raised.value.exit_code == 2
    with pytest.raises(ConfigError, match=r"model '.*' needs PyTorch.*pip install polydetr.*polydetr export MODEL"):
        Predictor.load(SAVED)
    with pytest.raises(ConfigError, match="published DETR needs PyTorch"):
        Predictor.from_checkpoint(tmp_path, tmp_path / "out")


def only(name: str) -> Callable[[str], None]:
    """Stands for ``importlib.metadata.distribution`` where this one alone is installed."""

    def distribution(wanted: str) -> None:
        if wanted != name:
            raise importlib.metadata.PackageNotFoundError(wanted)

    return distribution


def test_an_extra_is_added_to_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for there in ("polydetr", "polydetr-core"):
        monkeypatch.setattr("importlib.metadata.distribution", only(there))
        assert (pip_install("xlsx"), pip_upgrade()) == (
            f"pip install '{there}[xlsx]'",
            f"pip install --upgrade {there}",
        )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"reports needs matplotlib, which is not installed\."):
        check_installed("matplotlib", "a folder of reports")
    with pytest.raises(ConfigError, match=r"brings it\. Or wait"):
        check_torch("this", hint="Or wait.")


def test_the_runtime_asks_for_nothing_heavy() -> None:
    project = PROJECT["project"]
    names = {re.split(r"[<>=\[]", line)[0] for line in project["dependencies"]}
    assert names == {"numpy", "onnxruntime", "pillow", "pydantic", "pyyaml", "safetensors", "tokenizers"}
    more = [*project["optional-dependencies"]["train"], *project["optional-dependencies"]["cli"],
            *project["optional-dependencies"]["parquet"]]  # fmt: skip
    added = {re.split(r"[<>=\[]", line)[0].replace("-", "_") for line in more}
    assert {"sklearn" if name == "scikit_learn" else name for name in added} == NOT_IN_CORE | {"typer", "polydetr_core"}


def test_the_version_stands_in_one_place() -> None:
    assert "version" not in PROJECT["project"]
    assert (ROOT / PROJECT["tool"]["hatch"]["version"]["path"]).samefile(polydetr.__file__)
    other = tomllib.loads((ROOT / "packages" / "polydetr" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert other.keys() == {"name", "dynamic"}
    assert "version" in other["dynamic"]


def test_without_typer_the_command_names_its_extra() -> None:
    code = (
        "import sys\nclass Blocker:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': raise ModuleNotFoundError('no typer', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\nfrom polydetr.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "polydetr: the command line needs Typer, which is not installed. pip install 'polydetr-core[cli]' brings it.\n"
    )
