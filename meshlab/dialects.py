"""The dialects of a log: what a line means, whoever wrote it.

The decoder here (msgspec, strict RFC 8259) is the definition; every faster path must
agree with it.

>>> parse_event(b'{"Delete":"m1"}').id
'm1'
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from meshlab.jsontext import parse_json
from meshlab.records import FIELD_SET, Fields, fits_u64

OPS = ("insert", "update", "delete", "other")
INSERT, UPDATE, DELETE, OTHER = range(4)
TAGS = {"Insert": INSERT, "Update": UPDATE, "Delete": DELETE}


class _Envelope(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    timestamp: msgspec.Raw
    event: msgspec.Raw


_strict_record = msgspec.json.Decoder(Fields).decode
_raw_map = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_envelope = msgspec.json.Decoder(_Envelope).decode
_FIELD_DECODERS = {field.name: msgspec.json.Decoder(field.type).decode for field in msgspec.structs.fields(Fields)}


class Parsed(NamedTuple):
    """One tagged or free event as the decoder sees it.

    ``op`` indexes ``OPS``; ``fields`` holds the known fields of an Insert or Update;
    ``extra`` maps unknown names, and known ones whose value does not fit, to raw JSON.
    """

    op: int
    id: str | None
    fields: Fields | None
    extra: dict[str, bytes] | None


class ParsedLine(NamedTuple):
    """One line outside a frame: its dialect, time text, event and the event's raw JSON."""

    dialect: str
    time: str | None
    event: Parsed
    payload: bytes


class OutsideFrame(ValueError):
    """The line carries a ``seq``: it belongs in a frame and may not be read alone."""


def parse_event(raw: bytes) -> Parsed:
    """Parse the JSON of one event.  Raises ``NotJson``.

    >>> parse_event(b'{"Update":{"id":"m1","theme":"dark"}}').extra
    {'theme': b'"dark"'}
    """
    for tag, prefix in _PREFIXES:
        if raw.startswith(prefix):
            parsed = _parse_tagged(raw, tag)
            if parsed is not None:
                return parsed
    value = parse_json(raw)
    if isinstance(value, dict) and len(value) == 1:
        parsed = _parse_tagged(raw, next(iter(value)))
        if parsed is not None:
            return parsed
    return Parsed(OTHER, None, None, None)


def parse_line(line: bytes) -> ParsedLine:
    """Parse a line that no frame covers.  Raises ``NotJson`` or ``OutsideFrame``.

    >>> parse_line(b'{"timestamp":"2025-07-07T08:00:00Z","event":42}').dialect
    'gateway'
    >>> parse_line(b'{"Delete":"m1"}').dialect
    'bare'
    """
    line = line.strip(b" \t\r\n")
    if line.startswith(_BARE_PREFIXES):
        event = parse_event(line)
        return ParsedLine("bare" if event.op != OTHER else "other", None, event, line)
    try:
        envelope = _envelope(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _parse_unusual(line)
    return _gateway(bytes(envelope.timestamp), bytes(envelope.event))


def parse_record(raw: bytes) -> tuple[Fields | None, dict[str, bytes] | None]:
    """Known fields, and raw JSON of all that is unknown or does not fit.

    Returns ``(None, None)`` when the JSON is no object with a usable id.
    """
    try:
        fields = _strict_record(raw)
        if fields.id and (fields.access_count is None or fits_u64(fields.access_count)):
            return fields, None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    value = parse_json(raw)
    if not isinstance(value, dict) or not isinstance(value.get("id"), str) or not value["id"]:
        return None, None
    known: dict[str, Any] = {}
    extra: dict[str, bytes] = {}
    for name, item in _raw_map(raw).items():
        fits, typed = _fit(name, item)
        if fits:
            known[name] = typed
        else:
            extra[name] = bytes(item)
    return Fields(**known), extra or None


def _fit(name: str, item: msgspec.Raw) -> tuple[bool, Any]:
    if name not in FIELD_SET:
        return False, None
    try:
        typed = _FIELD_DECODERS[name](item)
    except msgspec.MsgspecError:
        return False, None
    return not (name == "access_count" and typed is not None and not fits_u64(typed)), typed


def _parse_tagged(raw: bytes, tag: str) -> Parsed | None:
    """A tagged event, or None when it is no such thing (then it is ``other``)."""
    if tag not in TAGS:
        return None
    try:
        tagged = _raw_map(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if len(tagged) != 1 or tag not in tagged:
        return None
    body = bytes(tagged[tag])
    if TAGS[tag] == DELETE and not body.startswith(b"{"):
        value = parse_json(body)
        return Parsed(DELETE, value, None, None) if isinstance(value, str) and value else None
    fields, extra = parse_record(body)
    if fields is None:
        return None
    if TAGS[tag] == DELETE:
        return Parsed(DELETE, fields.id, None, None)
    return Parsed(TAGS[tag], fields.id, fields, extra)


def _parse_unusual(line: bytes) -> ParsedLine:
    value = parse_json(line)
    if isinstance(value, dict):
        framed = "seq" in value or ("prev" in value and "sum" in value)
        if (framed and ("timestamp" in value or "event" in value)) or _is_damaged_member(line):
            raise OutsideFrame("the line has the fields of a frame but no valid frame covers it")
        if set(value) == {"timestamp", "event"}:
            parts = _raw_map(line)
            return _gateway(bytes(parts["timestamp"]), bytes(parts["event"]))
    event = parse_event(line)
    return ParsedLine("bare" if event.op != OTHER else "other", None, event, line)


def _is_damaged_member(line: bytes) -> bool:
    """Whether a line is one of ours with a bit flipped in its ``seq`` key: no line of anyone else's."""
    found = _MEMBER_LIKE.fullmatch(line)
    return found is not None and sum((a ^ b).bit_count() for a, b in zip(found[1], b"seq", strict=True)) == 1


def _gateway(timestamp: bytes, payload: bytes) -> ParsedLine:
    time = parse_json(timestamp)
    return ParsedLine("gateway", time if isinstance(time, str) else None, parse_event(payload), payload)


_MEMBER_LIKE = re.compile(rb'\{"timestamp":"[0-9T:.-]{26}Z","event":.*,"(...)":\d{1,18}\}', re.DOTALL)
_PREFIXES = tuple((tag, b'{"' + tag.encode() + b'":') for tag in TAGS)
_BARE_PREFIXES = tuple(prefix for _, prefix in _PREFIXES)
