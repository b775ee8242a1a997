"""Every option that a message names exists on the verb that can print it."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest
import typer

import polydetr
from polydetr.cli import app
from polydetr.cli.reading import OPTIONS
from polydetr.config.sections import Config, ReadingConfig
from polydetr.core.reading import ReadOptions, option

SOURCE = Path(polydetr.__file__).parent
READ = {"train", "evaluate", "predict", "explain", "inspect"}
"""The verbs that read rows; a message that names an option which not all of them have names the verb as well."""
PRINTED_BY = {
    "training": {"train"}, "predictor.py": {"train"}, "model": {"train"}, "schema": {"train", "inspect"},
    "tuning": {"tune"}, "export": {"export"}, "serving": {"serve"}, "inference/proof.py": {"export", "optimize"},
    "inference/kept_rows.py": {"export", "optimize"}, "inference/writing.py": {"predict"},
    "inference/runs.py": {"runs list", "runs show", "runs compare"}, "web/store/backup.py": {"store restore"},
    "studio/correction_formats.py": {"corrections export"}, "studio/correct_list.py": {"train"},
    "web": {f"people {verb}" for verb in ("add", "list", "remove", "password")}
    | {f"store {verb}" for verb in ("backup", "restore", "retain", "erase")},
    "studio": {"serve"}, "studio/trainings.py": {"train"},
}  # fmt: skip
"""Room or module → the verbs that can print its messages, where these are not all that read rows."""
NOT_OURS = ("apps", "cli", "fetch")  # the demo names whole commands, the command line its own options, pip has its own
ELSEWHERE = {"pip install", "curl"}
VERBS = "|".join([*READ, "import", "export", "serve", "keys add", "people add", *sorted(ELSEWHERE)])
WORD = re.compile(rf"--[a-z][a-z0-9-]+|\b(?:{VERBS})\b(?= (?:without )?--)")
"""An option, or a verb before its first option; the others of the sentence are its own as well."""


def options_of() -> dict[str, set[str]]:
    """Verb → the options that it takes."""
    commands = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for group in ("runs", "keys", "people", "store", "corrections"):
        commands |= {f"{group} {name}": command for name, command in commands.pop(group).commands.items()}
    return {
        name: {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)}
        for name, command in commands.items()
    }


def messages(path: Path) -> list[tuple[int, str]]:
    """The texts of a module that are no docstrings, with their lines; what is filled in stands as "…"."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    inside = {id(part) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for part in n.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
            found.append((node.lineno, "".join(map(str, parts))))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (silent | inside):
            found.append((node.lineno, node.value))
    return found


def faults(text: str, printed_by: set[str], known: dict[str, set[str]]) -> list[str]:
    """The options in ``text`` that a verb lacks which can print it, or which the text itself names."""
    lacking = []
    for sentence in re.split(r"[.;] ", re.sub(r"var\(--[a-z-]+\)", "", text)):  # a variable of a style is no option
        verbs = printed_by
        for word in WORD.findall(sentence):
            if not word.startswith("--"):
                verbs = {word}
            else:
                lacking += [f"{verb} {word}" for verb in sorted(verbs - ELSEWHERE) if word not in known[verb]]
    return lacking


def hints() -> list[tuple[Path, int, str]]:
    paths = [path for path in sorted(SOURCE.rglob("*.py")) if path.relative_to(SOURCE).parts[0] not in NOT_OURS]
    said = [(path, line, re.sub(r"var\(--[a-z]+\)", "", text)) for path in paths for line, text in messages(path)]
    return [(path, line, text) for path, line, text in said if "--" in text and "<" not in text]


def test_every_hint_names_an_option_that_is_there():
    known, wrong = options_of(), []
    for path, line, text in hints():
        room = path.relative_to(SOURCE).parts[0]
        if "reading.py" in path.name and room == "core":
            continue  # it composes the options, see below
        found = faults(text, PRINTED_BY.get(path.relative_to(SOURCE).as_posix(), PRINTED_BY.get(room, READ)), known)
        wrong += [f"{path.relative_to(SOURCE)}:{line}: {fault} ({text})" for fault in found]
    assert not wrong, "\n".join(wrong)
    assert len(hints()) > 15


def test_the_walk_finds_what_is_wrong():
    known = options_of()
    assert faults("skip such rows with --set on_error=skip", READ, known) == [
        "evaluate --set", "explain --set", "inspect --set", "predict --set",
    ]  # fmt: skip
    assert faults("take it as missing (predict --lenient)", READ, known) == []
    assert faults("take it as missing (evaluate --lenient)", READ, known) == ["evaluate --lenient"]
    assert faults("Name it: --target", {"train", "inspect"}, known) == []


def test_hints_set_keys_that_exist():
    for path, _, text in hints():
        for key in re.findall(r"--set ([a-z_.]+)=", text):
            section = Config
            for part in key.split("."):
                assert part in section.model_fields, f"{path}: {key}"
                section = section.model_fields[part].annotation


# -- the options of reading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", sorted(READ))
def test_every_verb_that_reads_rows_has_every_option_of_reading(verb):
    every = {
        "--format",
        "--encoding",
        "--delimiter",
        "--header",
        "--no-header",
        "--columns",
        "--images",
        "--skip-errors",
    }
    assert every <= options_of()[verb]


def test_options_configuration_and_command_line_agree():
    names = {f.name for f in fields(ReadOptions)}
    assert set(ReadingConfig.model_fields) == names - {"on_error"}
    assert set(OPTIONS) - {"skip_errors"} <= names


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("encoding", "gb18030", "--encoding gb18030 (ReadOptions(encoding='gb18030'))"),
        ("header", False, "--no-header (ReadOptions(header=False))"),
        ("columns", ("a b", "c"), "--columns 'a b,c' (ReadOptions(columns=('a b', 'c')))"),
        ("delimiter", ";", "--delimiter ';' (ReadOptions(delimiter=';'))"),
        ("on_error", "skip", "--skip-errors (ReadOptions(on_error='skip'))"),
        ("images", "...", "--images ... (ReadOptions(images=...))"),
    ],
)
def test_how_an_option_is_said(name, value, said):
    assert option(name, value) == said
    if value != "...":
        assert getattr(ReadOptions(**{name: value}), name) == value
    assert said.split()[0] in options_of()["explain"]
