"""The ground costs what it needs: no model's packages, no page's, and nothing before a verb asks for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "scipy", "sklearn", "pyarrow", "matplotlib", "rich", "numpy", "onnxruntime"}


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["store.database", "store.backup", "store.retention", "people.people", "people.erasing", "people.login"]
)
def test_store_and_people_import_nothing_heavy(module: str) -> None:
    found = modules_after(f"import polydetr.web.{module}")
    assert f"polydetr.web.{module}" in found
    assert not found & {*HEAVY, "nicegui", "fastapi", "psycopg"}
    assert not {name for name in found if name.startswith(("polydetr.serving", "polydetr.inference"))}


def test_the_command_line_waits_with_them() -> None:
    found = modules_after("import polydetr.cli")
    assert "polydetr.cli.people" in found
    assert not found & {"sqlalchemy", "alembic", "argon2", "starlette"}
