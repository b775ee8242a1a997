"""The guide to the equations runs as printed, and names only tests and pictures that exist."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guide" / "equations.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_every_block_runs_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    lines = [""] * (text.count("\n") + 1)
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python") >= 10
    for block in blocks:  # each at the line where the guide has it, so that a failure points at the guide's own line
        first, code = text[: block.start(1)].count("\n"), block.group(1).splitlines()
        lines[first : first + len(code)] = code
    program = tmp_path / "equations.py"
    program.write_text("\n".join(lines), encoding="utf-8")
    runpy.run_path(str(program))
    assert "spends" in capsys.readouterr().out


def test_every_test_it_names_exists() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", GUIDE.read_text(encoding="utf-8")))
    assert len(named) > 8
    assert not {name for name in named if f"def {name}(" not in sources}


def test_its_pictures_exist_and_can_be_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = re.findall(r"!\[[^\]]+\]\((pictures/[^)]+)\)", GUIDE.read_text(encoding="utf-8"))
    assert all((GUIDE.parent / picture).is_file() for picture in shown)
    monkeypatch.setattr(sys, "argv", ["equations_pictures.py", str(tmp_path)])
    runpy.run_path(str(ROOT / "benchmarks" / "equations_pictures.py"), run_name="__main__")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(Path(picture).name for picture in shown)
