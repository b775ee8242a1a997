"""Exported models are explained where PyTorch, matplotlib and Rich are not: by occlusion, through the same outputs.

Each is exported here, and explained in a process in which those packages are blocked:

    pytest tests/explain/test_explain_without_torch.py -m "slow or not slow"
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polydetr import Predictor
from task_pairs import save_pair

for _needed in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(_needed)

SCRIPT = """
import json, sys
from pathlib import Path

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "matplotlib", "rich", "scipy", "sklearn", "pyarrow", "safetensors"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
sys.path.insert(0, sys.argv[1])
import numpy as np
from polydetr import Predictor

place = Path(sys.argv[2])
row = json.loads((place / "row.json").read_text())
row = {name: np.array(value["pixels"], np.uint8) if name == "photo" else value for name, value in row.items()}
explanation = Predictor.load(place / "graphs").explain(row)
(place / "page.html").write_text(explanation.to_html(), encoding="utf-8")
print(json.dumps(explanation.to_dict()))
"""


@pytest.mark.parametrize(
    ("task", "modality", "units"),
    [
        ("classification", "text", "words"),
        pytest.param("tagging", "text", "words", marks=pytest.mark.slow),
        pytest.param("regression", "table", "columns", marks=pytest.mark.slow),
        pytest.param("detection", "image", "images", marks=pytest.mark.slow),
    ],
)
def test_an_exported_model_is_explained_without_torch(task: str, modality: str, units: str, tmp_path: Path) -> None:
    row = {name: value for name, value in save_pair(task, modality, tmp_path / "model")[3].items() if name != "y"}
    predictor = Predictor.load(tmp_path / "model", precision="fp32")
    predictor.export(tmp_path / "graphs")
    (tmp_path / "row.json").write_text(json.dumps(row, default=lambda image: {"pixels": image.tolist()}))
    known = predictor.explain(row)
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run([sys.executable, "-c", SCRIPT, source, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["task"], found["method"]) == (task, "occlusion")
    assert found["original"] == pytest.approx(known.original, abs=1e-4)
    assert found["explained"]["value"] == pytest.approx(found["original"], abs=1e-6)  # losses of that same number
    assert len(found[units]) == len(getattr(known, units)) > 0
    assert any("No gradients" in note for note in found["notes"])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<html" in page
    assert known.answer.partition(" (")[0] in page
    if task == "detection":  # explained by occlusion in PyTorch too: the same losses
        heat = [value for line in found["images"][0]["heat"] for value in line]
        assert heat == pytest.approx(known.images[0].heat.ravel().tolist(), abs=1e-4)
