"""A place to drop files, or to choose them with a button that says what it is: Quasar's own has no name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui
from nicegui.element import Element


class FileDrop(Element, component="file_drop.js"):
    """on_files: called with ``MultiUploadEventArguments``; on_rejected: where a file is larger than ``most`` bytes, or
    of another kind than ``suffixes``.
    """

    def __init__(
        self, title: str, *, suffixes: Sequence[str], most: int, on_files: Callable[[Any], Any],
        on_rejected: Callable[[], Any],
    ) -> None:  # fmt: skip
        super().__init__()
        accepted = ",".join(suffixes)
        self.uploader = ui.upload(
            multiple=True, auto_upload=True, max_file_size=most, max_files=500, on_multi_upload=on_files,
            on_rejected=on_rejected,
        )  # fmt: skip
        self.uploader.style("display: none")
        self.uploader._props["accept"] = accepted
        self._props.update({"title": title, "accept": accepted, "uploader": self.uploader.id})

    def reset(self) -> None:
        """Ready for other files."""
        self.uploader.reset()
