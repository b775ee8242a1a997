"""What is installed: all of polydetr, or the runtime alone (``polydetr-core``), which has no PyTorch."""

from __future__ import annotations

import importlib.util

from polydetr.errors import ConfigError

NOT_IN_CORE = frozenset(
    {"torch", "lightning_fabric", "scipy", "sklearn", "matplotlib", "pyarrow", "threadpoolctl", "rich"}
)
"""Modules that ``polydetr`` needs and its runtime does without."""


def is_installed(module: str) -> bool:
    """Without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # it was put among the imported modules without a specification
        return True


def project() -> str:
    """The distribution that is installed: ``polydetr``; or ``polydetr-core`` alone, the runtime or a checkout."""
    from importlib import metadata

    try:
        metadata.distribution("polydetr")
    except metadata.PackageNotFoundError:
        return "polydetr-core"
    return "polydetr"


def pip_install(extra: str) -> str:
    """The command that adds an extra to what is installed, and brings no PyTorch where there is none."""
    return f"pip install '{project()}[{extra}]'"


def pip_upgrade() -> str:
    """The command that upgrades what is installed."""
    return f"pip install --upgrade {project()}"


def check_torch(what: str, *, hint: str = "") -> None:
    """hint: what else can be done. Raises ConfigError where ``what`` cannot be had, as PyTorch is not installed."""
    check_installed("torch", what, name="PyTorch", hint=hint)


def check_installed(module: str, what: str, *, name: str | None = None, hint: str = "") -> None:
    """Raises ConfigError where ``what`` cannot be had without a package that comes with polydetr, not with its runtime.

    name: of the package, where it is called otherwise than its module.
    """
    if not is_installed(module):
        raise ConfigError(
            f"{what} needs {name or module}, which is not installed.",
            hint=f"pip install polydetr brings it.{f' {hint}' if hint else ''}",
        )
