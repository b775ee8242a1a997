"""The page "from your labeling tool to a model": its files read as shown, and its commands run in an empty folder."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from markdown_blocks import ROOT, blocks_of, run_python
from polydetr.data.readers import read_records

PAGE = ROOT / "docs" / "guide" / "labeling.md"
BLOCKS = blocks_of(PAGE)
FILES = {b.title: b.content for b in BLOCKS if b.title and " " not in b.title}
SHOWN = {
    b.title.removeprefix("first row of "): b.content for b in BLOCKS if b.title and b.title.startswith("first row")
}
COMMANDS = [
    line for b in BLOCKS if b.language == "sh" for line in b.content.splitlines() if line.startswith("polydetr ")
]
SMALL = (
    "--backbone none --epochs 1 --set model.embed_dim=16 --set model.num_layers=1 --set text.vocab_size=300 --set "
    "image.size=32 --set image.patch_size=8 --set training.precision=fp32 --set training.patience=0"
)
SMALL_SETS = "--set tasks.objects.num_queries=8 --set tasks.objects.hidden_dim=16 --set tasks.objects.decoder_layers=1"
"""Settings that make a model small; what the page prints stands before them."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a reader of the page has made: its files, and the images that its code draws."""
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "empty"
    place.mkdir()
    monkeypatch.chdir(place)
    for name, content in FILES.items():
        (place / name).write_text(content, encoding="utf-8")
    run_python(PAGE)
    return place


def test_every_tool_has_a_file_and_a_command() -> None:
    assert set(SHOWN) <= set(FILES)
    assert len(FILES) >= 8
    assert {name for line in COMMANDS for name in shlex.split(line) if name in FILES} == set(FILES) - {
        "dataset_info.json"
    }


@pytest.mark.parametrize("name", SHOWN)
def test_its_first_row_is_read_as_shown(name: str, folder: Path) -> None:
    assert dict(next(iter(read_records(folder / name))).row) == json.loads(SHOWN[name])


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_run_from_an_empty_folder(command: str, folder: Path, run) -> None:
    words = shlex.split(command)[1:]
    if words[0] == "train":
        words += shlex.split(SMALL) + (shlex.split(SMALL_SETS) if "objects" in words else [])
    code, out, err = run(*words)
    assert code == 0, err
    assert out.strip()
    if words[0] == "train":
        assert (folder / words[words.index("--out") + 1] / "README.md").is_file()
