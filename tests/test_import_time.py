"""Starting costs little: what is heavy is imported when it is needed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "lightning_fabric", "pandas", "polars", "sklearn", "scipy", "matplotlib", "pyarrow")
LIGHT_TOO = ("numpy", "rich")


def modules_after(code: str) -> set[str]:
    listing = "import sys; print('MODULES', *sys.modules, file=sys.stderr)"
    call = [sys.executable, "-c", f"import atexit\natexit.register(lambda: exec({listing!r}))\n{code}"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("MODULES")]
    return set(line.split()[1:])


@pytest.mark.parametrize(
    "code",
    [
        "import polydetr",
        "import sys; sys.argv = ['polydetr', '--help']; from polydetr.cli import main; main()",
        "import sys; sys.argv = ['polydetr', 'train', '--help']; from polydetr.cli import main; main()",
    ],
)
def test_nothing_heavy_is_imported(code):
    found = modules_after(code)
    assert "polydetr" in found
    assert not found & {*HEAVY, *LIGHT_TOO}


def test_the_public_face_waits_with_torch_and_with_what_a_loaded_model_needs_later_or_never():
    found = modules_after("from polydetr import Predictor")
    assert "polydetr.predictor" in found
    assert not found & {*HEAVY, "rich", "onnxruntime", "safetensors", "yaml", "tokenizers", "importlib.metadata"}
    assert not {name for name in found if name.startswith(("polydetr.fetch", "polydetr.config.sections"))}


@pytest.mark.parametrize(
    ("code", "policy"),
    [("from polydetr import Predictor", ""), ("import polydetr.training.fit", "PASSIVE"),
     ("import os; os.environ['GOMP_SPINCOUNT'] = '9'; import polydetr.training", "")],
)  # fmt: skip
def test_threads_sleep_while_they_wait_only_in_a_process_that_trains(code: str, policy: str) -> None:
    given = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")}
    shown = "import os; print(os.environ.get('OMP_WAIT_POLICY', ''))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{shown}"], env=given, capture_output=True, text=True)
    assert done.stdout.strip() == policy, done.stderr
