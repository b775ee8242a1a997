"""What people may do."""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal["viewer", "editor", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may, and more: look; correct; change models, trainings and people."""


def reaches(role: Role, wanted: Role) -> bool:
    """Whether ``role`` may do what takes ``wanted``."""
    return ROLES.index(role) >= ROLES.index(wanted)
