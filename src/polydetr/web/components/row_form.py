"""A form for one row: its cells stay in the browser until it is sent, its images come by an address of their own."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui import app
from nicegui.element import Element
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from polydetr.web.components.row_values import Field, Uploads, cells_of, row_of
from polydetr.web.words import Words

FIRST = 12
"""Columns that are shown at once; the others stand in groups."""
MOST_BYTES = 16 << 20
"""Of one image."""
_WORDS = (
    "ask", "example", "clear", "filter", "matching", "group", "characters", "range", "outside", "years",
    "outside_years", "names", "unknown", "more", "drop", "choose", "camera", "paste", "pasted", "sending", "remove",
    "item", "items", "add", "large", "lost", "cut",
)  # fmt: skip


class RowForm(Element, component="row_form.js"):
    """on_ask: called with the row and the origin of the page's address, when the form is sent; on_example: when an
    example is wanted. most_bytes: of one image. begin: the row that it holds first.
    """

    def __init__(
        self,
        words: Words,
        fields: Sequence[Field],
        *,
        on_ask: Callable[[dict[str, Any], str], Any],
        on_example: Callable[[], Any],
        begin: Mapping[str, Any] | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        super().__init__()
        self.fields, self._words, self._most = list(fields), words, most_bytes
        self.uploads = Uploads()
        self._url = f"/_nicegui/client/{self.client.id}/upload/{self.id}"
        if any(_takes_images(one) for one in self.fields):
            app.add_route(self._url, self._received, methods=["POST"])
        self._props["fields"] = [one.to_dict() for one in self.fields]
        self._props["words"] = {name: words(f"form.{name}") for name in _WORDS}
        self._props["url"], self._props["first"], self._props["most"] = self._url, FIRST, most_bytes
        self._props["faults"] = {}
        if begin is not None:
            self._props["begin"] = self._cells(begin)
        self.on("ask", lambda event: on_ask(*self._sent(event.args)))
        self.on("example", lambda: on_example(), [])

    def fill(self, row: Mapping[str, Any]) -> None:
        """Shows a row in place of what is there."""
        self.run_method("fill", self._cells(row))

    def blame(self, errors: Mapping[str, str]) -> None:
        """Shows errors beside their columns; {} none any more. The page may have errors that name none of them."""
        self._props["faults"] = {str(i): errors[one.name] for i, one in enumerate(self.fields) if one.name in errors}
        self.update()

    def _sent(self, args: Any) -> tuple[dict[str, Any], str]:
        args = args if isinstance(args, dict) else {}
        return row_of(self.fields, args.get("values"), self.uploads.get), str(args.get("origin", ""))[:300]

    def _cells(self, row: Mapping[str, Any]) -> list[Any]:
        return cells_of(self.fields, row, self._image)

    def _image(self, content: bytes) -> dict[str, str]:
        token = self.uploads.token_of(content) or self.uploads.keep(content)
        kind = next((k for mark, k in _KINDS.items() if content.startswith(mark)), "image/png")
        source = f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
        return {"token": token, "name": self._words("form.example_image"), "source": source}

    async def _received(self, request: Request) -> Response:
        """An image as the browser has it: the body is the file."""
        if self.is_deleted or self.is_ignoring_events:
            return _refusal(410, self._words("form.lost"))
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > self._most:
                size = {"size": f"> {self._most >> 20}", "most": f"{self._most >> 20}"}
                return _refusal(413, self._words("form.large", **size))
        return JSONResponse({"token": self.uploads.keep(bytes(content))})

    def _handle_delete(self) -> None:
        app.remove_route(self._url)
        self.uploads.clear()
        super()._handle_delete()


_KINDS = {b"\xff\xd8": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp", b"BM": "image/bmp"}


def _takes_images(one: Field) -> bool:
    return one.kind == "image" or any(map(_takes_images, one.fields))


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message}}, status_code=status)
