"""What the distribution "polydetr" says of itself: all of it follows from that of "polydetr-core"."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

COPIED = ("description", "requires-python", "authors", "keywords", "classifiers")
LEFT_OUT = {"train", "cli", "parquet", "dev", "docs", "bench"}
"""Extras of polydetr-core that polydetr brings without being asked, or that are of use in a checkout alone."""


class Described(MetadataHookInterface):
    """Reads the checkout; a source archive has the outcome in its PKG-INFO, and needs none."""

    def update(self, metadata: dict[str, Any]) -> None:
        top = Path(self.root).parents[1]
        core = tomllib.loads((top / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        source = (top / "src" / "polydetr" / "__init__.py").read_text(encoding="utf-8")
        version = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)[0]
        metadata |= {field: core[field] for field in COPIED}
        metadata["version"] = version
        metadata["license"] = "Apache-2.0"
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": (top / core["readme"]).read_text(encoding="utf-8"),
        }
        metadata["dependencies"] = [f"polydetr-core[train]=={version}"]
        metadata["optional-dependencies"] = {
            extra: [f"polydetr-core[{extra}]=={version}"]
            for extra in core["optional-dependencies"]
            if extra not in LEFT_OUT
        }
