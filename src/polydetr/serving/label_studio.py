"""Models as ML backends of Label Studio: it sends tasks, and shows what the model says of them as predictions.

Sources: labelstud.io/guide/ml_create (addresses), labelstud.io/guide/predictions and labelstud.io/guide/task_format
(results). Images are taken as ``data:`` addresses alone: what lies behind any other address is not fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from polydetr.errors import PolydetrError, RowError, quoted
from polydetr.serving.asking import model_named, replies_to
from polydetr.serving.bodies import content_type
from polydetr.serving.body_limit import CALLER
from polydetr.serving.contract import Ask, Fleet, ModelInfo, Reply
from polydetr.serving.json_body import json_object
from polydetr.serving.limits import Limits
from polydetr.serving.refusal import Refused, json_bytes
from polydetr.serving.rows import Columns, Item, item_of
from polydetr.values.decoding import shown_size

_LONGEST_CONFIG = 1 << 20
_TASKS_OF = {
    "Choices": ("classification",),
    "Labels": ("tagging", "entities"),
    "RectangleLabels": ("detection",),
    "Number": ("regression",),
    "Rating": ("regression",),
}
"""Control tag → the tasks whose answers it shows."""


@dataclass(frozen=True)
class Control:
    """A control tag of a labeling configuration. source: the key of a task's data that its object shows."""

    tag: str
    name: str
    about: str
    source: str


def controls_of(config: str) -> list[Control]:
    """The control tags of a labeling configuration, in their order.

    Raises:
        Refused: it is no XML, or declares entities, which can be nested to fill the memory.
    """
    if len(config) > _LONGEST_CONFIG or "<!ENTITY" in config or "<!DOCTYPE" in config:
        raise Refused(400, "the labeling configuration is too long, or declares entities.", reason="config")
    try:
        tags = [element for element in ElementTree.fromstring(config).iter() if element.get("name")]
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise Refused(400, f"the labeling configuration is no XML: {error}.", reason="config") from None
    shown = {tag.get("name"): (tag.get("value") or "").removeprefix("$") for tag in tags if tag.get("value")}
    return [
        Control(tag.tag, tag.get("name") or "", about, shown[about])
        for tag in tags
        if tag.tag in _TASKS_OF and (about := (tag.get("toName") or "").partition(",")[0]) in shown
    ]


def matched(controls: Sequence[Control], targets: Mapping[str, str]) -> dict[str, Control]:
    """Target → the control that shows its answers: of its name, else the first of its kind that none has taken.

    targets: target → task.
    """
    found: dict[str, Control] = {}
    for by_name in (True, False):
        for target, task in targets.items():
            free = [c for c in controls if task in _TASKS_OF[c.tag] and c not in found.values()]
            chosen = next((c for c in free if c.name == target), None) if by_name else next(iter(free), None)
            if target not in found and chosen is not None:
                found[target] = chosen
    return found


def row_of_task(task: Any, columns: Columns, controls: Sequence[Control]) -> Item:
    """The row of a task: the data of a column's name; or, of a model that reads one column, what is shown to people.

    An image that is no ``data:`` address is an error of this task.
    """
    data = task.get("data") if isinstance(task, Mapping) else None
    if not isinstance(data, Mapping):
        return RowError(f"the task is {quoted(task, 60)}, expected a mapping with data.")
    row = {name: data[name] for name in columns.inputs if name in data}
    if not row and len(columns.inputs) == 1:
        source = next((c.source for c in controls if c.source in data), None)
        row = {} if source is None else {columns.inputs[0]: data[source]}
    if missing := [name for name in columns.inputs if name not in row]:
        return RowError(
            f"the task has no {quoted(missing[0], 60)}, which the model reads; its data hold "
            f"{', '.join(map(str, data)) or 'nothing':.200}.",
            hint='Call the data as the model\'s columns, or show them by an object tag (value="$...").',
        )
    return item_of(row, columns)


def results_of(reply: Reply, row: Mapping[str, Any], shown: Mapping[str, Control], columns: Columns) -> dict[str, Any]:
    """One reply as Label Studio has it: ``result`` and ``score``, the least probability of its answers."""
    result: list[dict[str, Any]] = []
    for target, control in shown.items():
        value = (reply.get("prediction") or {}).get(target)
        score = (reply.get("probability") or {}).get(target)
        result += _regions(control, value, score, row, columns)
    scores = [one["score"] for one in result if one.get("score") is not None]
    return {"result": result, "score": min(scores, default=0.0)}


def _regions(
    control: Control, value: Any, score: float | None, row: Mapping[str, Any], columns: Columns
) -> list[dict[str, Any]]:
    common: dict[str, Any] = {"from_name": control.name, "to_name": control.about, "type": control.tag.lower()}
    if value is None:
        return []
    if control.tag == "Choices":
        labels = [str(label) for label in (value if isinstance(value, list) else [value])]
        return [{**common, "value": {"choices": labels}, "score": score}] if labels else []
    if control.tag in ("Number", "Rating"):
        key = control.tag.lower()
        return [{**common, "value": {key: round(value) if control.tag == "Rating" else value}}]
    if control.tag == "Labels":
        text = next((row[name] for name in (control.source, *columns.texts) if isinstance(row.get(name), str)), "")
        return [_span(common, one, text) for one in value]
    image = next((one for name in columns.inputs if isinstance(one := _lone(row.get(name)), bytes)), None)
    if image is None:
        raise RowError("boxes of several images cannot be shown.", hint="Give each image a task of its own.")
    (width, height), _ = shown_size(image)
    return [_box(common, one, width, height) for one in value]


def _lone(cell: Any) -> Any:
    """An image, also where it stands in a list of one."""
    return cell[0] if isinstance(cell, list) and len(cell) == 1 else cell


def _span(common: Mapping[str, Any], one: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Label Studio counts as its browser does, in units of UTF-16: a character beyond the basic plane counts twice."""
    start, end = one["start"], one["end"]
    value = {
        "start": _units(text[:start]), "end": _units(text[:end]), "text": text[start:end], "labels": [str(one["label"])]
    }  # fmt: skip
    return {**common, "value": value, "score": one.get("probability")}


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _box(common: Mapping[str, Any], one: Mapping[str, Any], width: int, height: int) -> dict[str, Any]:
    """In percent of the image, from its upper left corner."""
    left, top, right, bottom = one["box"]
    value = {
        "x": 100 * left / width, "y": 100 * top / height, "width": 100 * (right - left) / width,
        "height": 100 * (bottom - top) / height, "rotation": 0, "rectanglelabels": [str(one["label"])],
    }  # fmt: skip
    sizes = {"original_width": width, "original_height": height, "image_rotation": 0}
    return {**common, **sizes, "value": value, "score": one.get("probability")}


def label_studio_routes(fleet: Fleet, limits: Limits) -> APIRouter:
    """The addresses that Label Studio calls below the one that it is given."""
    router = APIRouter(prefix="/label-studio/{name}")

    @router.get("/health")
    async def health(name: str) -> Response:
        info = model_named(fleet, name)
        return _json({"status": "UP" if info.state == "ready" else "DOWN", "model_class": info.name})

    @router.post("/setup")
    async def setup(name: str, request: Request) -> Response:
        """Told when a project is joined; a configuration that shows nothing of the model is refused here."""
        info = model_named(fleet, name)
        document = await _document(request)
        config = document.get("schema") or document.get("label_config")
        if config:
            _shown(info, config)
        return _json({"model_version": info.version})

    @router.post("/predict")
    async def predict(name: str, request: Request) -> Response:
        info = model_named(fleet, name)
        document = await _document(request)
        tasks = document.get("tasks")
        if not isinstance(tasks, list):
            raise Refused(400, f'"tasks" is {quoted(tasks, 60)}, expected a list.', reason="json")
        if len(tasks) > limits.rows:
            raise Refused(413, f"there are more than {limits.rows:,} tasks.", reason="rows")
        columns = Columns.of(info)
        controls, shown = _shown(info, document.get("label_config") or "")
        items = await asyncio.to_thread(lambda: [row_of_task(task, columns, controls) for task in tasks])
        replies = await replies_to(fleet, name, items, Ask(), timeout_s=limits.timeout_s)
        request.scope[CALLER].facts |= {"model": name, "rows": len(items)}
        results = [
            {**_told(reply, item, shown, columns), "model_version": info.version}
            for reply, item in zip(replies, items, strict=True)
        ]
        return _json({"results": results, "model_version": info.version})

    return router


def _told(reply: Reply, item: Item, shown: Mapping[str, Control], columns: Columns) -> dict[str, Any]:
    if isinstance(item, RowError) or "error" in reply:
        return _failed(reply["error"]["message"], reply["error"].get("hint"))
    try:
        return results_of(reply, item, shown, columns)
    except PolydetrError as error:
        return _failed(error.message, error.hint)


def _failed(message: str, hint: str | None) -> dict[str, Any]:
    return {"result": [], "score": 0.0, "error": " ".join(filter(None, (message, hint)))}


def _shown(info: ModelInfo, config: Any) -> tuple[list[Control], dict[str, Control]]:
    """The controls, and which of them shows which target. Raises Refused where none shows any."""
    targets = {target["name"]: target["task"] for target in info.description["schema"]["targets"]}
    controls = controls_of(config) if isinstance(config, str) and config.strip() else _usual(info, targets)
    shown = matched(controls, targets)
    if not shown:
        wanted = {tag for tag, tasks in _TASKS_OF.items() for task in targets.values() if task in tasks}
        raise Refused(
            400, f"no control of the labeling configuration shows what {quoted(info.name)} answers.", reason="config",
            hint=f"It takes {' or '.join(f'<{tag}>' for tag in sorted(wanted))}." if wanted else None,
        )  # fmt: skip
    return controls, shown


def _usual(info: ModelInfo, targets: Mapping[str, str]) -> list[Control]:
    """Without a configuration: controls called as the targets, about the first column."""
    about = Columns.of(info).inputs[0]
    tags = {task: tag for tag, tasks in reversed(_TASKS_OF.items()) for task in tasks}
    return [Control(tags[task], target, about, about) for target, task in targets.items() if task in tags]


async def _document(request: Request) -> Mapping[str, Any]:
    if content_type(request) != "application/json":
        raise Refused(415, "this address takes JSON.", hint="Content-Type: application/json", reason="type")
    return json_object(await request.body())


def _json(value: Mapping[str, Any]) -> Response:
    return Response(json_bytes(value), media_type="application/json")
