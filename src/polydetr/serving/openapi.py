"""The service described as OpenAPI 3.1: each model with its own columns and labels, written out for this service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polydetr import __version__
from polydetr.core.files import json_text
from polydetr.serving.asking import FileQuery
from polydetr.serving.bodies import FORM, STREAMS
from polydetr.serving.contract import ModelInfo
from polydetr.serving.limits import Limits
from polydetr.serving.rows import Columns

Json = dict[str, Any]
_ERROR = {"$ref": "#/components/schemas/Error"}
_MODEL = {"$ref": "#/components/schemas/Model"}
_JOB = {"$ref": "#/components/schemas/Job"}
_IMAGE = {
    "description": "an image: its bytes as base64; no path and no address is opened",
    "oneOf": [
        {"type": "object", "properties": {"base64": {"type": "string", "contentEncoding": "base64"}},
         "required": ["base64"]},
        {"type": "string", "pattern": "^data:image/[^;]+;base64,"},
        {"type": "null"},
    ],
}  # fmt: skip
_REFUSALS = {
    400: "The request is wrong; the message says what, the hint how to repair it.",
    401: "A key is asked for.",
    403: "This key may not do that.",
    404: "There is none of this name.",
    405: "This address takes other methods.",
    408: "The body came too slowly.",
    409: "Not now: the hint says when.",
    413: "Too large: the body, its rows, or what it unpacks to.",
    415: "A body of this kind is not taken.",
    422: "The model cannot be loaded.",
    429: "Too much is waiting, or too many requests were sent; Retry-After says when to ask again.",
    503: "The model cannot answer now.",
    504: "It was not answered in time.",
}
_USUAL = (400, 401, 408, 413, 415, 429)


def openapi(
    models: Mapping[str, ModelInfo], *, limits: Limits, root_path: str = "", with_keys: bool, with_admin: bool
) -> Json:
    """The document. with_keys: whether keys are asked for; with_admin: whether models can be exchanged."""
    paths: Json = {}
    schemas: Json = dict(_SHARED)
    for name, info in models.items():
        schemas |= {f"{name}.Row": _row(info), f"{name}.Answer": _answer(info)}
        paths[f"/v1/models/{name}/predict"] = {"post": _predict(name, info, limits)}
        paths[f"/label-studio/{name}/predict"] = {"post": _label_studio(name)}
    paths |= _about()
    paths |= _jobs(list(models))
    if with_admin:
        paths |= _admin(list(models))
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "polydetr", "version": __version__, "description": "Models that answer rows."},
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if with_keys:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


# -- one model --------------------------------------------------------------------------------------------------------


def _row(info: ModelInfo) -> Json:
    """A row as this model reads it. What is wrong with one is that row's error, not the request's, so that nothing is
    required here and other columns may stand beside.
    """
    columns = Columns.of(info)
    properties = {
        name: _IMAGE if name in columns.images else dict(info.columns.get(name, {})) for name in columns.inputs
    }
    found: Json = {"type": "object", "properties": properties, "additionalProperties": True}
    if example := _example(info):
        found["examples"] = [example]
    return found


def _example(info: ModelInfo) -> Json | None:
    """A row without bytes."""
    return None if any(isinstance(v, bytes) for v in info.example.values()) else dict(info.example)


def _answer(info: ModelInfo) -> Json:
    targets = list(info.answers)
    of_each = {"type": "object", "additionalProperties": True}
    return {
        "type": "object",
        "required": ["row"],
        "properties": {
            "row": {"type": "integer", "minimum": 1, "description": "the number of the row in the request"},
            "prediction": {"type": "object", "properties": {t: dict(info.answers[t]) for t in targets}},
            "probability": {**of_each, "description": "target → calibrated probability of its answer"},
            "probabilities": {**of_each, "description": "target → label → probability"},
            "abstained": {"type": "boolean", "description": "the answer is withheld: less probable than asked for"},
            "warnings": {"type": "array", "items": {"type": "string"}},
            "explanation": of_each,
            "error": {"$ref": "#/components/schemas/RowError"},
        },
        "additionalProperties": True,
    }


def _parameters() -> list[Json]:
    schema = FileQuery.model_json_schema()["properties"]
    found = []
    for name, one in schema.items():
        one = {key: value for key, value in one.items() if key not in ("title", "description")}
        described = FileQuery.model_fields[name].description
        found.append({"name": name, "in": "query", "required": False, "schema": one,
                      **({"description": described} if described else {})})  # fmt: skip
    return found


def _predict(name: str, info: ModelInfo, limits: Limits) -> Json:
    row, answer = {"$ref": f"#/components/schemas/{name}.Row"}, {"$ref": f"#/components/schemas/{name}.Answer"}
    rows: Json = {
        "type": "object", "required": ["rows"], "additionalProperties": False,
        "properties": {"rows": {"type": "array", "items": row, "maxItems": limits.rows}},
    }  # fmt: skip
    example = _example(info)
    body: Json = {
        "application/json": {"schema": rows, **({"example": {"rows": [example]}} if example else {})},
        "text/csv": {"schema": {"type": "string"}},
        STREAMS[0]: {"schema": {"type": "string", "description": "a row per line; answered while they come"}},
        FORM: {"schema": {"type": "object", "additionalProperties": True}},
    }
    answers = {"type": "object", "required": ["answers"], "properties": {"answers": {"type": "array", "items": answer}}}
    good: Json = {
        "description": "One answer per row, in order; a row that cannot be answered has an error in its place.",
        "content": {
            "application/json": {"schema": answers},
            "text/csv": {"schema": {"type": "string"}},
            "text/tab-separated-values": {"schema": {"type": "string"}},
            STREAMS[0]: {"schema": {"type": "string"}},
        },
    }
    return {
        "operationId": f"predict_{name}",
        "summary": f"Ask {name}",
        "description": f"Reads {', '.join(Columns.of(info).inputs)}; answers {', '.join(info.answers)}.",
        "parameters": _parameters(),
        "requestBody": {"required": True, "content": body},
        "responses": {"200": good, **_refusals(*_USUAL, 404, 503, 504)},
    }


def _label_studio(name: str) -> Json:
    body = {"type": "object", "required": ["tasks"], "properties": {"tasks": {"type": "array"}}}
    return {
        "operationId": f"label_studio_{name}",
        "summary": f"{name} as an ML backend of Label Studio",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": _json("What the model says of each task.", {"type": "object", "required": ["results"]}),
            **_refusals(*_USUAL, 404, 503, 504),
        },
    }


# -- the service ------------------------------------------------------------------------------------------------------


def _about() -> Json:
    listed = {"type": "object", "properties": {"models": {"type": "array", "items": _MODEL}}}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    state = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
    return {
        "/v1/models": {"get": {"operationId": "models", "summary": "The models",
                               "responses": {"200": _json("All of them.", listed), **_refusals(401, 429)}}},
        "/v1/models/{name}": {"get": {"operationId": "model", "summary": "One model", "parameters": [name],
                                      "responses": {"200": _json("It.", _MODEL), **_refusals(400, 401, 404, 429)}}},
        "/healthz": {"get": {"operationId": "alive", "summary": "Whether the service runs",
                             "responses": {"200": _json("It does.", state)}}},
        "/readyz": {"get": {"operationId": "ready", "summary": "Whether every model answers",
                            "responses": {"200": _json("They do.", state), "503": _json("One does not.", state)}}},
        "/metrics": {"get": {"operationId": "metrics", "summary": "What was measured, for Prometheus",
                             "responses": {"200": {"description": "Prometheus' text format.",
                                                   "content": {"text/plain": {"schema": {"type": "string"}}}},
                                           **_refusals(401, 429)}}},
    }  # fmt: skip


def _jobs(models: list[str]) -> Json:
    model = {"name": "model", "in": "query", "required": True, "schema": {"type": "string", "enum": models}}
    job = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    text = {"schema": {"type": "string"}}
    files = dict.fromkeys(("text/csv", "text/tab-separated-values", STREAMS[0]), text)
    return {
        "/v1/jobs": {"post": {
            "operationId": "begin_job", "summary": "Answer a long file", "parameters": [model, *_parameters()],
            "requestBody": {"required": True, "content": files},
            "responses": {"202": _json("It has begun.", _JOB), **_refusals(*_USUAL, 404, 503)},
        }},
        "/v1/jobs/{id}": {
            "get": {"operationId": "job", "summary": "How far it is", "parameters": [job],
                    "responses": {"200": _json("Its state.", _JOB), **_refusals(400, 401, 404, 429)}},
            "delete": {"operationId": "cancel_job", "summary": "Cancel and forget it", "parameters": [job],
                       "responses": {"200": _json("It was.", _JOB), **_refusals(400, 401, 404, 429)}},
        },
        "/v1/jobs/{id}/result": {"get": {
            "operationId": "job_result", "summary": "Its answers", "parameters": [job],
            "responses": {"200": {"description": "All answers, in order.",
                                  "content": files},
                          **_refusals(400, 401, 404, 409, 429)},
        }},
    }  # fmt: skip


def _admin(models: list[str]) -> Json:
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "enum": models}}
    body = {
        "type": "object", "required": ["folder"], "additionalProperties": False,
        "properties": {"folder": {"type": "string"}, "shadow": {"type": "boolean", "default": False}},
    }  # fmt: skip
    good = {"200": _json("What answers now.", _MODEL), **_refusals(*_USUAL, 403, 404, 422, 503, 504)}
    return {
        "/v1/admin/models/{name}": {"post": {
            "operationId": "exchange", "summary": "Exchange a model", "parameters": [name],
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}}, "responses": good,
        }},
        "/v1/admin/models/{name}/rollback": {"post": {
            "operationId": "roll_back", "summary": "Bring the previous model back", "parameters": [name],
            "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}, "responses": good,
        }},
    }  # fmt: skip


def _json(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusals(*statuses: int) -> Json:
    return {str(status): _json(_REFUSALS[status], _ERROR) for status in dict.fromkeys(statuses)}


_TOLD: Json = {
    "type": "object", "required": ["message"],
    "properties": {"message": {"type": "string"}, "location": {"type": "object"}, "hint": {"type": "string"}},
}  # fmt: skip
_SHARED: Json = {
    "RowError": _TOLD,
    "Error": {"type": "object", "required": ["error"], "properties": {"error": _TOLD}},
    "Model": {
        "type": "object", "required": ["name", "version", "state"],
        "properties": {
            "name": {"type": "string"}, "version": {"type": "string"}, "state": {"type": "string"},
            "runtime": {"type": "string"}, "columns": {"type": "object"}, "answers": {"type": "object"},
            "schema": {"type": "object"}, "labels": {"type": "object"}, "metrics": {"type": "object"},
            "previous": {"type": ["string", "null"]}, "shadow": {"type": ["string", "null"]},
        },
    },
    "Job": {
        "type": "object", "required": ["id", "state", "rows_done", "rows_rejected"],
        "properties": {
            "id": {"type": "string"}, "model": {"type": "string"},
            "state": {"type": "string", "enum": ["waiting", "running", "done", "failed", "cancelled"]},
            "rows_done": {"type": "integer"}, "rows_rejected": {"type": "integer"},
            "share_done": {"type": ["number", "null"], "description": "of the file's bytes"}, "error": _TOLD,
        },
    },
}  # fmt: skip


def openapi_bytes(document: Json) -> bytes:
    """As it is sent; whatever stands in a label is JSON's own text."""
    return json_text(document).encode()
