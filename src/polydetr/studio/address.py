"""What of the page Ask stands in its address, so that reload, back and a link to it find it again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

MOST = 2_000
"""Characters of a row in an address."""


@dataclass(frozen=True)
class Asked:
    """row: the columns that the address names; least, accuracy: what is withheld; seed: of generated images."""

    row: Mapping[str, Any] = field(default_factory=dict)
    least: float | None = None
    accuracy: float | None = None
    seed: int = 0

    @classmethod
    def of(cls, query: Mapping[str, str], columns: list[str]) -> Asked:
        """As an address says it; what it says wrongly is left out, for anybody may write a link."""
        row: dict[str, Any] = {}
        if "row" in query:
            try:
                found = json.loads(query["row"][: 2 * MOST])
            except (ValueError, RecursionError):
                found = None
            row = {k: v for k, v in found.items() if k in columns} if isinstance(found, dict) else {}
        if not row and "text" in query and columns:
            row = {columns[0]: query["text"][: 2 * MOST]}
        return cls(row, _share(query.get("least")), _share(query.get("accuracy")), _whole(query.get("seed")))

    def query(self, columns: list[str]) -> str:
        """The part of the address behind "?"; "" where there is nothing to say. A row with an image, or a long one, is
        not said.
        """
        said: dict[str, Any] = {}
        row = {k: v for k, v in self.row.items() if v is not None}
        if len(columns) == 1 and isinstance(only := row.get(columns[0]), str):
            said["text"] = only
        elif row:
            said["row"] = _json(row)
        if len(next(iter(said.values()), None) or "") > MOST or (row and None in said.values()):
            said = {}
        said |= {name: f"{v:g}" for name, v in (("least", self.least), ("accuracy", self.accuracy)) if v is not None}
        said |= {"seed": self.seed} if self.seed else {}
        return urlencode(said, errors="replace")


def _json(row: Mapping[str, Any]) -> str | None:
    try:
        return json.dumps(row, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return None  # an image


def _share(said: str | None) -> float | None:
    try:
        share = float(said or "")
    except ValueError:
        return None
    return share if math.isfinite(share) and 0 <= share <= 1 else None


def _whole(said: str | None) -> int:
    return int(said) if said and said.isascii() and said.isdigit() and len(said) < 18 else 0
