"""A place to drop a file, or to choose one: it is sent as it is, and refused before that where it is too large."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from polydetr.web.words import Words

_SAID = ("cancel", "sending", "one", "empty", "broken", "large_hint")


class Drop(Element, component="drop.js"):
    """address: takes the bytes of the file by POST, with its name in ``?name=``, and answers with JSON, or with
    ``{"error": {"message", "hint"}}``. suffixes: of files that are offered to choose from. most: bytes that it takes.
    on_sent: is given the answer.
    """

    def __init__(
        self,
        words: Words,
        *,
        address: str,
        suffixes: Sequence[str],
        most: int,
        kinds: str,
        on_sent: Callable[[Mapping[str, Any]], Any],
    ) -> None:
        super().__init__()
        said = {name: words(f"drop.{name}") for name in _SAID}
        said |= {"choose": words("drop.choose"), "kinds": kinds, "large": words("drop.large", most=in_bytes(most))}
        self._props.update({
            "address": address, "more": {}, "accept": ",".join(suffixes), "most": most, "said": said,
            "place": f"pd-file-{self.id}",
        })  # fmt: skip

        def told(event: GenericEventArguments) -> Any:
            return on_sent(event.args if isinstance(event.args, dict) else {})

        self.on("sent", told)

    def say(self, **more: Any) -> None:
        """What is said of the next file in the address that it is sent to; None: nothing."""
        self._props["more"] = {name: str(value) for name, value in more.items() if value is not None}
        self.update()


def in_bytes(size: int) -> str:
    """A size for people: "512 MB"."""
    for unit in ("bytes", "KB", "MB"):
        if size < 1024:
            return f"{size} {unit}"
        size //= 1024
    return f"{size:,} GB"
