"""``python -m polydetr`` is the command line."""

from polydetr.cli import main

if __name__ == "__main__":
    main()
