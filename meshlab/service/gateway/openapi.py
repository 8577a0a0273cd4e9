"""The OpenAPI document of the gateway, as data."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from meshlab.jsontext import MAX_DEPTH
from meshlab.service.gateway.admission import Limits
from meshlab.wal.frame import MAX_KEY

_UID = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", "description": "Whose log."}
_KEY = {"type": "string", "pattern": r"^[!#-\[\]-~]{1,%d}$" % MAX_KEY}
_POST = {
    "type": "object",
    "required": ["userId", "event"],
    "properties": {
        "userId": _UID,
        "event": {
            "description": "Any JSON value; Insert, Update and Delete of memories are checked. "
            f"At most {MAX_DEPTH} levels deep."
        },
        "key": {**_KEY, "description": "The idempotency key, instead of the header."},
    },
}
_LSN = {"type": "string", "pattern": r"^\d{8}:\d+$", "description": "Where it stands: day and byte offset."}
_WRITTEN = {
    "type": "object",
    "required": ["success", "seq", "lsn", "duplicate"],
    "properties": {
        "success": {"const": True},
        "seq": {"type": "integer", "minimum": 1},
        "lsn": _LSN,
        "duplicate": {"type": "boolean", "description": "The key was known: this is where the event has stood before."},
    },
}
_ERROR = {
    "type": "object",
    "required": ["success", "error", "kind"],
    "properties": {
        "success": {"const": False},
        "error": {"type": "string"},
        "kind": {"type": "string"},
        "hint": {"type": ["string", "null"]},
        "retryAfter": {"type": "integer", "description": "Seconds."},
    },
}
_LINE = {
    "type": "object",
    "required": ["line", "status", "success"],
    "properties": {
        "line": {"type": "integer", "minimum": 1},
        "status": {"type": "integer"},
        "success": {"type": "boolean"},
        "seq": {"type": "integer"},
        "lsn": _LSN,
        "duplicate": {"type": "boolean"},
        "error": {"type": "string"},
        "kind": {"type": "string"},
        "hint": {"type": ["string", "null"]},
        "retryAfter": {"type": "integer"},
    },
}
_BATCH = {
    "type": "object",
    "required": ["success", "written", "failed", "results"],
    "properties": {
        "success": {"type": "boolean"},
        "written": {"type": "integer"},
        "failed": {"type": "integer"},
        "results": {"type": "array", "items": _LINE},
    },
}
_STATE = {
    "type": "object",
    "required": ["success", "userId", "records", "memories"],
    "properties": {"memories": {"type": "array", "items": {"type": "object"}}},
}
_READY = {
    "type": "object",
    "required": ["ready", "reasons"],
    "properties": {"ready": {"type": "boolean"}, "reasons": {"type": "array", "items": {"type": "string"}}},
}
_SAID = {"type": "object", "required": ["success"], "properties": {"success": {"const": True}}}
_REASONS = {
    400: "The request is not what this route takes",
    401: "No token, or one nobody knows",
    403: "The token, host or origin may not do this",
    404: "There is no such user or moment",
    408: "The request took too long to arrive",
    409: "The key stands for another event; or damage, or another checkpoint, is in the way",
    413: "Too large",
    429: "Too many events per second of one user",
    431: "The head of the request is too large",
    503: "The log takes no appends, or too much waits: try again after Retry-After seconds",
}


def document(limits: Limits) -> dict[str, Any]:
    """The document, with the limits in force."""
    body = f"At most {limits.body:,} bytes."
    lines = f"One event per line; at most {limits.lines:,} lines and {limits.batch:,} bytes. Users keep their order."
    return {
        "openapi": "3.1.0",
        "info": {"title": "meshlab gateway", "version": version("meshlab")},
        "components": {
            "schemas": {"Post": _POST, "Written": _WRITTEN, "Error": _ERROR, "Batch": _BATCH},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
        "paths": {
            "/api/mesh/wal": {"post": _append("Append one event", body)},
            "/api/mesh/wal/batch": {"post": _append_batch(lines)},
            "/api/mesh/wal/stats": {"get": _read("What the log of a user holds", _SAID, [])},
            "/api/mesh/state": {"get": _read("The memories of a user", _STATE, [_AT])},
            "/api/mesh/checkpoint": {"post": _checkpoint()},
            "/healthz": {"get": _open("The process answers", {"type": "object"})},
            "/readyz": {"get": _open("Appends would be taken", _READY, {503: _READY})},
            "/metrics": {"get": _text("Metrics as Prometheus reads them")},
            "/openapi.json": {"get": _open("This document", {"type": "object"})},
        },
    }


_USER = {"name": "userId", "in": "query", "required": True, "schema": _UID}
_AT = {
    "name": "at",
    "in": "query",
    "description": "As of then, inclusive: an RFC 3339 time, or the place of an event.",
    "schema": {"type": "string"},
}


def _content(schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {kind: {"schema": schema}}


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): {"description": _REASONS[status], "content": _content(_ERROR)} for status in statuses}


def _append(summary: str, description: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "description": description,
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "Within 24 hours the same key is the same event.",
                "schema": _KEY,
            }
        ],
        "requestBody": {"required": True, "content": _content({"$ref": "#/components/schemas/Post"})},
        "responses": {
            "200": {"description": "It is on disk", "content": _content({"$ref": "#/components/schemas/Written"})},
            **_errors(400, 401, 403, 408, 409, 413, 429, 431, 503),
        },
    }


def _append_batch(description: str) -> dict[str, Any]:
    result = _content({"$ref": "#/components/schemas/Batch"})
    return {
        "summary": "Append many events",
        "description": description,
        "requestBody": {"required": True, "content": _content({"type": "string"}, "application/x-ndjson")},
        "responses": {
            "200": {"description": "Every line is on disk", "content": result},
            "207": {"description": "Some lines are not: see their statuses", "content": result},
            **_errors(400, 401, 403, 408, 413, 431, 503),
        },
    }


def _read(summary: str, schema: dict[str, Any], more: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": [_USER, *more],
        "responses": {
            "200": {"description": "Found", "content": _content(schema)},
            **_errors(400, 401, 403, 404, 408, 409, 431, 503),
        },
    }


def _checkpoint() -> dict[str, Any]:
    schema = {"type": "object", "required": ["userId"], "properties": {"userId": _UID}}
    return {
        "summary": "Fold what the log of a user gained into layers",
        "requestBody": {"required": True, "content": _content(schema)},
        "responses": {
            "200": {"description": "Done, or nothing to do", "content": _content(_SAID)},
            **_errors(400, 401, 403, 404, 408, 409, 413, 431, 503),
        },
    }


def _open(summary: str, schema: dict[str, Any], more: dict[int, dict[str, Any]] | None = None) -> dict[str, Any]:
    others = {str(status): {"description": "No", "content": _content(one)} for status, one in (more or {}).items()}
    return {
        "summary": summary,
        "security": [],
        "responses": {"200": {"description": "Yes", "content": _content(schema)}, **others, **_errors(403, 431)},
    }


def _text(summary: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {
            "200": {"description": "The text", "content": _content({"type": "string"}, "text/plain")},
            **_errors(401, 403, 431),
        },
    }
