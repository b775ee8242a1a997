"""The command line."""

__all__ = ["app", "main"]

try:
    from polydetr.cli.app import app, main
except ModuleNotFoundError as error:
    if error.name not in ("typer", "rich"):
        raise

    def main() -> None:
        """Says what is missing: the runtime alone (``polydetr-core``) may be without a command line."""
        import sys

        remedy = "pip install 'polydetr-core[cli]' brings it."
        print(f"polydetr: the command line needs Typer, which is not installed. {remedy}", file=sys.stderr)
        sys.exit(2)
