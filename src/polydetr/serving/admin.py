"""Exchanging models while they are served: a folder below the configured one, never an upload."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from polydetr.errors import quoted
from polydetr.serving.about import model_dict
from polydetr.serving.bodies import content_type
from polydetr.serving.body_limit import CALLER
from polydetr.serving.contract import Fleet, ModelInfo
from polydetr.serving.json_body import json_object
from polydetr.serving.log import log
from polydetr.serving.refusal import Refused, json_bytes

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,127}")


def folder_below(root: Path, name: Any) -> str:
    """``name``, a path of folders below ``root``, none of them a link.

    Raises:
        Refused: it is anything else. What lies elsewhere on the machine is not told.
    """
    if not isinstance(name, str) or not all(map(_PART.fullmatch, name.split("/"))) or ".." in name:
        raise Refused(
            400, f"{quoted(name, 60)} is no name of a folder.", reason="folder",
            hint="Name a folder below the one given by polydetr serve --root, such as models/2.",
        )  # fmt: skip
    place = root
    for part in name.split("/"):
        place = place / part
        if place.is_symlink() or not place.is_dir():
            raise Refused(
                400, f"there is no folder {quoted(name, 60)} below the one of the models.", reason="folder",
                hint="Links are not followed.",
            )  # fmt: skip
    return name


def admin_routes(fleet: Fleet, root: Path | None) -> APIRouter:
    """The addresses."""
    router = APIRouter(prefix="/v1/admin", dependencies=[Depends(_check_admin)])

    @router.post("/models/{name}")
    async def exchange(name: str, request: Request) -> Response:
        wanted = _only(await _document(request), ("folder", "shadow"))
        if root is None:
            raise Refused(400, "no folder of models was named.", hint="polydetr serve --root DIR", reason="folder")
        shadow = wanted.get("shadow", False)
        if not isinstance(shadow, bool):
            raise Refused(400, f'"shadow" is {quoted(shadow, 60)}, expected true or false.', reason="json")
        folder = folder_below(root, wanted.get("folder"))
        return _told(request, "exchanged", await fleet.replace(name, folder, shadow=shadow))

    @router.post("/models/{name}/rollback")
    async def roll_back(name: str, request: Request) -> Response:
        _only(await _document(request), ())
        return _told(request, "rolled back", await fleet.roll_back(name))

    return router


async def _check_admin(request: Request) -> None:
    """The gate has looked at the key already, by the address; whoever changes addresses cannot lose it by that.

    Raises:
        Refused: it is no admin's.
    """
    key = request.scope[CALLER].key
    if key is None or not key.admin:
        raise Refused(403, "exchanging models takes an admin key.", reason="admin")


def _told(request: Request, event: str, info: ModelInfo) -> Response:
    caller = request.scope[CALLER]
    log(event, model=info.name, version=info.version, shadow=info.shadow, key=caller.name, id=caller.request_id)
    return Response(json_bytes(model_dict(info)), media_type="application/json")


async def _document(request: Request) -> dict[str, Any]:
    """JSON alone is taken: a form of another site in somebody's browser can send everything else. Raises Refused."""
    if content_type(request) != "application/json":
        raise Refused(415, "this address takes JSON.", hint="Content-Type: application/json", reason="type")
    body = await request.body()
    return dict(json_object(body)) if body.strip() else {}


def _only(document: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    wrong = next((name for name in document if name not in known), None)
    if wrong is not None:
        raise Refused(400, f"the key {quoted(wrong, 60)} is unknown.", hint=f"Known: {', '.join(known) or 'none'}.")
    return document
