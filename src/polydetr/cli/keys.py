"""The verbs of API keys: ``keys add``, ``keys list``, ``keys revoke``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polydetr.cli.output import print_json, say, show
from polydetr.cli.reading import JsonFlag

KEYS = Path("polydetr-keys.json")
KeysPath = Annotated[Path, typer.Option("--keys", help="The file of the keys' hashes.")]


def keys_add(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what for.")],
    admin: Annotated[bool, typer.Option("--admin", help="It may also exchange models.")] = False,
    keys: KeysPath = KEYS,
) -> None:
    """Make a key. It is printed this once: the file holds only its hash."""
    from polydetr.serving.keys import KeyFile

    key = KeyFile(keys).add(name, admin=admin)
    say(f"polydetr: the key of {name!r}, which is not kept anywhere; {keys} holds its hash")
    show(key)


def keys_list(keys: KeysPath = KEYS, as_json: JsonFlag = False) -> None:
    """Show whose keys there are."""
    from polydetr.serving.keys import KeyFile

    every = KeyFile(keys).keys()
    if as_json:
        print_json([{"name": key.name, "admin": key.admin, "created": key.created} for key in every])
        return
    for key in every:
        show(f"{key.name}  {'admin, ' if key.admin else ''}made {key.created}")
    if not every:
        say(f"polydetr: there is no key in {keys}; polydetr keys add NAME --keys {keys} makes one")


def keys_revoke(
    name: Annotated[str, typer.Argument(help="Whose key.")],
    keys: KeysPath = KEYS,
) -> None:
    """Make a key worthless. A running service notices at its next request."""
    from polydetr.serving.keys import KeyFile

    KeyFile(keys).revoke(name)
    say(f"polydetr: the key of {name!r} is revoked")
