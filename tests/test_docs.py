"""The documentation: its commands exist, its files are read, generated pages are fresh, links lead somewhere."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from markdown_blocks import ROOT, blocks_of
from polydetr import errors
from polydetr.config.loading import load_config
from polydetr.config.sections import Config
from polydetr.core.plugs import MODALITIES, TASKS
from polydetr.data.readers import FORMATS, read_records
from polydetr.fetch.samples import SAMPLES
from polydetr.tasks.base import TaskOptions
from test_readme import parse_command

DOCS = ROOT / "docs"
TO_COME: set[str] = set()
"""Pages that the site names before they are there."""

PAGES = sorted(p for p in DOCS.rglob("*.md"))
MEASURED = {DOCS / "benchmarks.md", DOCS / "guide" / "explain.md"}


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


# -- code, commands, files ----------------------------------------------------------------------------------------


def test_every_command_in_the_pages_exists() -> None:
    lines, prose = [], []
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        text = page.read_text(encoding="utf-8")
        if page.parent.name != "reference":
            shown = [line for b in blocks_of(page) if b.language == "sh" for line in b.content.splitlines()]
            lines += [line for line in shown if line.startswith("polydetr ")]
        prose += re.findall(r"`(polydetr [a-z][^`]*)`", text)
    assert len(lines) > 10 < len(prose)
    for line in lines:
        parse_command(shlex.split(line, comments=True)[1:])
    for line in prose:
        parse_command(shlex.split(line)[1:], in_prose=True)


FILES = {b.title: b.content for b in blocks_of(DOCS / "guide" / "data.md") if b.title and " " not in b.title}


@pytest.mark.parametrize("name", FILES)
def test_every_example_file_reads_as_shown(name: str, tmp_path: Path) -> None:
    blocks = blocks_of(DOCS / "guide" / "data.md")
    (shown,) = [json.loads(b.content) for b in blocks if b.title == f"first row of {name}"]
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    first = next(iter(read_records(tmp_path / name)))
    assert dict(first.row) == shown


def test_every_format_has_an_example_and_stands_in_the_table() -> None:
    text = (DOCS / "guide" / "data.md").read_text(encoding="utf-8")
    read = {FORMATS[name.rpartition(".")[2]] for name in FILES} | {"parquet", "xlsx"}  # those are no text
    assert read == set(FORMATS.values())
    table = text.split("## All names")[1].split("## ")[0]
    assert set(re.findall(r"`(\w+)`", table)) == set(FORMATS)


# -- generated pages ----------------------------------------------------------------------------------------------


def generator() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "generate_reference.py"))


def test_the_generated_pages_are_fresh() -> None:
    stale = [_id(path) for path, text in generator()["pages"]().items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run: python docs/generate_reference.py"


def test_the_configuration_page_has_every_key_with_a_meaning() -> None:
    page = generator()["configuration_page"]()
    keys = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", page, re.MULTILINE)
    expected = sum(len(s.model_fields) for _, s in generator()["_sections"]("", Config))
    common = len(TaskOptions.model_fields)
    expected += common + sum(len(task.Options.model_fields) - common for task in TASKS.values())
    sections = page.count("\n## ") - 3  # the presets hold no keys, the top level and tasks.NAME are none
    assert len(keys) == expected - sections
    assert not [key for key, *_, meaning in keys if not meaning.strip()]


def test_the_notes_name_keys_that_exist() -> None:
    made = generator()
    keys = {f"{path}.{name}".lstrip(".") for path, s in made["_sections"]("", Config) for name in s.model_fields}
    assert set(made["NOTES"]) <= keys


def test_the_command_line_page_has_every_verb() -> None:
    made = generator()
    verbs = [" ".join(words) for words, _ in made["commands"]()]
    assert {"train", "evaluate", "predict", "inspect", "backbones list", "data fetch"} <= set(verbs)
    assert re.findall(r"^## `polydetr (.+)`$", made["cli_page"](), re.MULTILINE) == verbs


def test_the_errors_page_has_the_whole_tree() -> None:
    text = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| .+ \| (\d) \|$", text, re.MULTILINE))
    kinds = {n: k for n, k in vars(errors).items() if isinstance(k, type) and issubclass(k, errors.PolydetrError)}
    assert rows == {name: str(kind.exit_code) for name, kind in kinds.items() if name != "PolydetrError"}


# -- the site -----------------------------------------------------------------------------------------------------


def nav_pages() -> list[str]:
    def walk(item: Any) -> list[str]:
        if isinstance(item, str):
            return [item]
        return [page for inner in (item.values() if isinstance(item, dict) else item) for page in walk(inner)]

    return walk(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])


def test_the_navigation_has_every_page_once() -> None:
    pages = nav_pages()
    assert len(pages) == len(set(pages)) > 20
    there = {str(p.relative_to(DOCS)) for p in PAGES}
    assert set(pages) | TO_COME == there | TO_COME


@pytest.mark.parametrize("page", [p for p in PAGES if p not in MEASURED], ids=_id)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        file = (page.parent / target).resolve() if target else page
        if target and str(file.relative_to(DOCS)) in TO_COME:
            continue
        assert file.exists(), f"{target} in {_id(page)}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}, anchor


def test_nothing_is_loaded_from_other_hosts() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert config["theme"]["font"] is False
    assert not {"extra_javascript"} & config.keys()
    # The search of a page that was opened as a file: its index as a script, and our own frame in place of a worker.
    assert "offline" in config["plugins"]
    (shim,) = config["extra"]["polyfills"]
    assert "iframe-worker" in shim  # else the plugin adds one from another host
    assert (DOCS / shim).exists()
    for page in PAGES:
        assert not re.findall(r"(?:!\[[^\]]*\]\(|src=\"|```mermaid)https?:", page.read_text(encoding="utf-8")), page
    for picture in DOCS.rglob("*.svg"):
        assert not re.findall(r"(?:href|src)=\"https?:", picture.read_text(encoding="utf-8"))


def test_decisions_are_numbered_and_listed() -> None:
    pages = sorted(p.name for p in (DOCS / "adr").glob("0*.md"))
    assert [name[:4] for name in pages] == [f"{i:04d}" for i in range(1, len(pages) + 1)]
    index = (DOCS / "adr" / "index.md").read_text(encoding="utf-8")
    for name in pages:
        text = (DOCS / "adr" / name).read_text(encoding="utf-8")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
        assert f"({name})" in index


# -- shipped configurations ---------------------------------------------------------------------------------------

CONFIGS = sorted((ROOT / "configs").glob("*"))


def test_the_shipped_configurations_are_these() -> None:
    assert [p.name for p in CONFIGS] == ["classify.yaml", "multi_target.yaml", "ner.yaml", "pairs.yaml", "qa.yaml"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_a_shipped_configuration_loads(path: Path) -> None:
    config = load_config(path)
    assert config.train
    assert config.out
    assert set(config.target.values()) <= set(TASKS)
    assert config.inputs
    assert set(config.inputs.values()) <= set(MODALITIES)
    assert set(config.tasks) <= set(config.target)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_its_header_says_the_data_and_the_command(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    (command,) = re.findall(r"# Command: +polydetr (.+)", head)
    assert command == f"train configs/{path.name}"
    parse_command(shlex.split(command))
    assert re.search(r"^# Data: ", head, re.MULTILINE)
    config = load_config(path)
    for sample in re.findall(r"polydetr data fetch (\S+)", head):
        known = SAMPLES[sample]
        splits = {f"data/{sample}/{split}.{known.format}" for split in ("train", "dev", "test")}
        assert {config.train, config.valid, config.test} == splits
        assert list(config.target) == [known.target]
