"""The process that speaks HTTP loads no model, and nothing that computes one."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "torch",
    "transformers",
    "scipy",
    "sklearn",
    "pyarrow",
    "pandas",
    "matplotlib",
    "rich",
    "onnxruntime",
    "lightning_fabric",
)


def test_the_front_process_is_light() -> None:
    code = (
        "import sys, polydetr.serving.app, polydetr.serving.run, polydetr.serving.fleet; "
        f"print(sorted(set({HEAVY!r}) & {{name.partition('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
