"""The command line."""

from polydetr.cli.app import app, main

__all__ = ["app", "main"]
