"""What the pages keep: people, sessions, the audit and corrections, in SQLite or PostgreSQL."""

DEFAULT_ADDRESS = "polydetr-studio.db"
"""Of the store, in the current folder, where no other is named."""


def check_packages() -> None:
    """Raises ConfigError where what the store needs is not installed."""
    from polydetr.core.installed import is_installed, pip_install
    from polydetr.errors import ConfigError

    for module in ("sqlalchemy", "alembic", "argon2"):
        if not is_installed(module):
            raise ConfigError(f"people and stores need {module}, which is not installed.", hint=pip_install("studio"))
