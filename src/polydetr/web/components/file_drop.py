"""A place to drop several files: it looks as that for one does, and NiceGUI takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui
from nicegui.element import Element


class FileDrop(Element, component="drop.js"):
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
        said = {"choose": title, "kinds": ""}
        self._props.update({
            "accept": accepted, "said": said, "uploader": self.uploader.id, "place": f"pd-file-{self.id}",
        })  # fmt: skip

    def reset(self) -> None:
        """Ready for other files."""
        self.uploader.reset()
