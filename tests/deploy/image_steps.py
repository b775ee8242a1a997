"""A Dockerfile, read: its instructions, stage by stage, as Docker's reference defines them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One instruction: its word in capitals, and the rest of its line."""

    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """Of the exec form, ["a", "b"]."""
        return json.loads(self.rest)


def stages_of(dockerfile: Path) -> list[list[Step]]:
    """The steps of every stage, each of which begins with FROM."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    steps = [Step(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]
    begins = [number for number, step in enumerate(steps) if step.word == "FROM"]
    assert begins[0] == 0
    return [steps[begin:end] for begin, end in zip(begins, [*begins[1:], len(steps)], strict=True)]


def only(steps: Sequence[Step], word: str) -> Step:
    """The one step of this word."""
    (found,) = [step for step in steps if step.word == word]
    return found


def copied(top: Path, ignore: Path) -> list[Path]:
    """What of ``top`` an ignore file lets through that begins with "*" and then names what is taken after all."""
    lines = [line for line in ignore.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    return [top / line[1:] for line in lines[1:] if line.startswith("!")]
