"""Every page does what it prints: Python and commands are typed in order, in an empty folder, without a network.

A page needs no entry here to be run; one that speaks of files of the reader's own has them listed under ``GIVEN``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import page_files as files
from markdown_blocks import ROOT, blocks_of, run_python
from page_files import Maker, columns, film_rows, reviews, table
from page_reader import NOT_RUN, PageReader, commands_of, is_run

DOCS = ROOT / "docs"
GENERATED = {DOCS / "reference" / "cli.md"}
"""Shows how commands are put together; made from the command line itself, and compared with it in test_docs.py."""
OWN_TESTS = {
    DOCS / "guide" / "equations.md": "tests/nn/test_guide_equations.py",
    DOCS / "guide" / "extending.md": "test_readme.py",
    DOCS / "guide" / "labeling.md": "test_labeling_page.py",
}
CHINESE = {
    ROOT / "README.zh-CN.md": ROOT / "README.md",
    DOCS / "zh" / "quickstart.md": DOCS / "quickstart.md",
    **{page: DOCS / "guide" / page.name for page in (DOCS / "zh").glob("*.md") if page.name != "quickstart.md"},
}
"""Chinese page → the English one, which has the same blocks and is run."""
PAGES = [
    page
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
    if page not in GENERATED | OWN_TESTS.keys() | CHINESE.keys()
    and {b.language for b in blocks_of(page)} & {"python", "sh"}
]

LABELED = {"train.csv": table(reviews()), "dev.csv": table(reviews(44)), "test.csv": table(reviews(12))}
MESSAGES = columns([row | {"intent": row["label"]} for row in film_rows(40)], "text", "intent", "entities")
ASKED = [{"question": f"where is no {i}", "answer": f"at place {i % 4}"} for i in range(20)]
GIVEN: Mapping[str, Mapping[str, Maker]] = {
    "guide/answers.md": {
        "model": files.model_of_reviews, "qa": files.model_of_questions, "new.csv": table(columns(reviews(8), "text")),
        "new.xlsx": files.workbook, "new.txt": files.texts,
    },
    "guide/backbones.md": {"detr.pth": lambda path: _weights(path)},
    "guide/cache.md": {"reviews.csv": table(reviews())},
    "guide/classification.md": {"reviews.csv": table(reviews())},
    "guide/detection.md": {
        "more.csv": files.boxes_of_tiles, "test.csv": files.boxes_of_tiles, "detr-resnet-50": files.detr,
    },
    "guide/entities.md": {"pairs.jsonl": files.captions},
    "guide/explain.md": {"model": files.model_of_reviews, "reviews.csv": table(reviews(12))},
    "guide/generation.md": {
        "digits.jsonl": files.digits, "wanted.csv": table([{"digit": "3"}, {"digit": "7"}]), "images/": Path.mkdir,
    },
    "guide/export.md": {
        "labeled.csv": table([{"text": f"a {word} evening", "label": word} for word in ("red", "blue") * 9]),
        "new.csv": table(columns(reviews(8), "text")),
    },
    "guide/gpu.md": {"reviews.csv": table(reviews())},
    "guide/images.md": {
        "photos/train": files.labeled_images, "photos/valid": files.labeled_images, "photos/new": files.images(3),
        "labels/boxes.json": files.boxes_coco("pictures"), "other": files.images(3),
        "test/boxes.json": files.boxes_coco("test/pictures"),
    },
    "guide/mixed.md": {"data.csv": table(files.mixed())},
    "guide/operate.md": {"model": files.model_of_reviews},
    "guide/qa.md": {"train-v2.0.json": files.squad, "dev-v2.0.json": files.squad},
    "guide/retrieval.md": {"faq.csv": table(ASKED)},
    "guide/serve.md": {
        "reviews.csv": table(reviews()), "new.csv": table(columns(reviews(8), "text")),
        "photo-model": files.model_of_boxes, "cat.png": files.photo,
    },
    "guide/targets.md": {"messages.jsonl": table(MESSAGES)},
    "guide/training.md": LABELED | {"new.csv": table(columns(reviews(8), "text"))},
    "guide/studio.md": {"reviews.csv": table(reviews())},
    "guide/tracking.md": {"reviews.csv": table(reviews())},
    "guide/tuning.md": {"reviews.csv": table(reviews())},
}  # fmt: skip
"""Page → the reader's own files. A name that ends in a slash is a folder for what a command writes."""


NAMES: Mapping[str, Callable[[], Mapping[str, Any]]] = {"guide/explain.md": files.explained}
"""Page → what its Python supposes to be there; every other page begins from nothing."""


def _weights(path: Path) -> None:
    import torch

    torch.save({"model": {"weight": torch.zeros(2, 2)}}, path)


def _id(page: Path) -> str:
    return page.relative_to(DOCS if DOCS in page.parents else ROOT).as_posix()


def _has_commands(page: Path) -> bool:
    return any(is_run(c) for b in blocks_of(page) if b.language == "sh" for c in commands_of(b))


SLOW = {
    "README.md", "guide/backbones.md", "guide/cache.md", "guide/detection.md", "guide/entities.md", "guide/export.md",
    "guide/generation.md", "guide/gpu.md", "guide/images.md", "guide/mixed.md", "guide/operate.md", "guide/qa.md",
    "guide/serve.md", "guide/studio.md", "guide/tagging.md",
    "guide/targets.md", "guide/tracking.md", "guide/training.md", "guide/tuning.md",
}  # fmt: skip
"""Pages whose commands take more than two seconds of one core; their Python alone is quicker."""
NEEDS_COMMANDS = {"guide/export.md", "guide/serve.md", "guide/training.md", "guide/tuning.md"}
"""Python that asks a model that the page's commands have trained, or takes as long as they do."""


@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=pytest.mark.slow if _id(p) in SLOW else ()) for p in PAGES], ids=_id
)
def test_a_page_does_what_it_prints(
    page: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "reader"
    shutil.copytree(ROOT / "configs", folder / "configs")
    monkeypatch.chdir(folder)
    files.made_here(monkeypatch)
    for name, make in GIVEN.get(_id(page), {}).items():
        make(Path(name))
    names = NAMES[_id(page)]() if _id(page) in NAMES else {}
    typed = PageReader(run, monkeypatch, names=names).read(page)
    assert bool(typed) == _has_commands(page)


@pytest.mark.parametrize("name", sorted(SLOW - NEEDS_COMMANDS - {"README.md"}))  # that one's: test_readme.py
def test_the_python_of_a_slow_page_prints_what_it_shows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if any(block.language == "python" for block in blocks_of(DOCS / name)):
        run_python(DOCS / name)


@pytest.mark.parametrize("page", CHINESE, ids=_id)
def test_a_chinese_page_has_the_blocks_of_the_english_one(page: Path) -> None:
    """So that running one runs both."""
    ours, theirs = ([(b.language, b.title, b.content, b.output) for b in blocks_of(p)] for p in (page, CHINESE[page]))
    assert ours == theirs
    assert ours


def test_the_chinese_guide_has_its_four_pages() -> None:
    assert {p.name for p in (DOCS / "zh").glob("*.md")} == {
        "quickstart.md",
        "classification.md",
        "tagging.md",
        "detection.md",
    }


def test_commands_stand_in_blocks_of_a_shell() -> None:
    """A command in a block of another kind would not be run."""
    for page in {*PAGES, *DOCS.rglob("*.md")} - GENERATED:
        for block in blocks_of(page):
            if block.language not in ("sh", "python"):
                found = [line for line in block.content.splitlines() if line.startswith(("polydetr ", "make ", "pip "))]
                assert not found, f"{_id(page)}:{block.line}"


def test_what_is_not_run_is_printed_somewhere() -> None:
    """An exception that no page needs would hide the next command that looks like it."""
    printed = [c for page in PAGES for b in blocks_of(page) if b.language == "sh" for c in commands_of(b)]
    unused = [pattern for pattern in NOT_RUN if not any(re.fullmatch(pattern, c) for c in printed)]
    assert not unused
    assert sum(map(is_run, printed)) > 40


def test_the_files_of_the_reader_belong_to_pages_that_are_run() -> None:
    assert set(GIVEN) <= {_id(page) for page in PAGES}
    for page, test in OWN_TESTS.items():
        named = next((ROOT / "tests").rglob(Path(test).name)).read_text(encoding="utf-8")
        assert page.name in named or page.stem in named


def test_a_wrong_command_fails(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for content in (
        "```sh\npolydetr inspect nowhere.csv\n```\n",
        "```sh\nls nowhere\n```\n",
        "```python\nprint(1)\n```\n",
    ):
        page = tmp_path / "page.md"
        page.write_text(content)
        with pytest.raises(AssertionError):
            PageReader(run, monkeypatch).read(page)
