"""What the pages keep: people, sessions, the audit and corrections, in SQLite or PostgreSQL."""

DEFAULT_ADDRESS = "polydetr-studio.db"
"""Of the store, in the current folder, where no other is named."""
