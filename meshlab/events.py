"""Mesh events and the records they carry: bytes to events, events to bytes.

A ``MeshEvent`` is one of ``Insert``, ``Update``, ``Delete``, ``Other``.  On disk it
is an externally tagged JSON value (docs/format.md).  The decoder here (msgspec,
strict RFC 8259) defines what a line means; every faster path must agree with it.

>>> event = Update(SolitonMemory(id="m1", amplitude=0.5))
>>> encode_event(event)
b'{"Update":{"id":"m1","amplitude":0.5}}'
>>> decode_event(b'{"Delete":{"id":"m1"}}')
Delete(id='m1')
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from meshlab.dialects import DELETE, INSERT, TAGS, parse_event
from meshlab.errors import BadEvent
from meshlab.jsontext import MAX_DEPTH, NotJson, depth, parse_json
from meshlab.records import FIELD_SET, FIELDS, Fields, Tagged, fits_u64

_encode = msgspec.json.encode
_encode_lines = msgspec.json.Encoder().encode_lines
_convert = msgspec.convert
_decode = msgspec.json.decode


class SolitonMemory(Fields, frozen=True, omit_defaults=True):
    """One memory, or the changed fields of one.  None means "not given".

    Checked when made: a field of the wrong type, an empty id, NaN or an infinity
    raise ``BadEvent``.  ``extra`` holds fields this version does not know, as JSON
    values; a known name in ``extra`` is refused.

    >>> SolitonMemory(id="m1", amplitude=0.5).to_dict()
    {'id': 'm1', 'amplitude': 0.5}
    >>> SolitonMemory(id="m1", extra={"theme": "dark"}).to_dict()
    {'id': 'm1', 'theme': 'dark'}
    """

    extra: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        record = _record_json(self)
        _check_record(record, where="memory")
        # NaN is written as null, and a raw newline can only come from a msgspec.Raw.
        if b"null" in record or b"\n" in record:
            _refuse_non_json(msgspec.structs.asdict(self), "memory")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: given fields only, unknown ones after the known."""
        value: dict[str, Any] = _decode(_record_json(self))
        return value

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> SolitonMemory:
        """Build from the JSON form; unknown names go to ``extra``.

        Raises ``BadEvent`` when a known field has the wrong type.
        """
        known = {name: record[name] for name in FIELDS if record.get(name) is not None}
        extra = {name: value for name, value in record.items() if name not in FIELD_SET}
        try:
            fields = msgspec.convert(known, Fields)
        except msgspec.ValidationError as error:
            raise BadEvent(f"memory {record.get('id')!r}: {error}") from None
        return cls(**{name: getattr(fields, name) for name in FIELDS}, extra=extra or None)


class Insert(msgspec.Struct, frozen=True, rename={"memory": "Insert"}):
    """The record becomes this one.

    >>> encode_event(Insert(SolitonMemory(id="m1", amplitude=0.5)))
    b'{"Insert":{"id":"m1","amplitude":0.5}}'
    """

    memory: SolitonMemory

    def __post_init__(self) -> None:
        _check_memory(self.memory, "Insert")


class Update(msgspec.Struct, frozen=True, rename={"memory": "Update"}):
    """The given fields replace those of an existing record (all seventeen: an ``Insert``).

    >>> encode_event(Update(SolitonMemory(id="m1", access_count=3)))
    b'{"Update":{"id":"m1","access_count":3}}'
    """

    memory: SolitonMemory

    def __post_init__(self) -> None:
        _check_memory(self.memory, "Update")


def _check_memory(memory: Any, where: str) -> None:
    if not isinstance(memory, SolitonMemory):
        raise BadEvent(f"{where} takes a SolitonMemory; found {type(memory).__name__}")


class Delete(msgspec.Struct, frozen=True, rename={"id": "Delete"}):
    """The record goes.

    >>> encode_event(Delete("m1"))
    b'{"Delete":"m1"}'
    """

    id: str

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise BadEvent(f"Delete needs an id, a string that is not empty; found {self.id!r}")


class Other(msgspec.Struct, frozen=True):
    """Any other JSON value: kept and counted, changes no state.

    >>> encode_event(Other(["free", "form"]))
    b'["free","form"]'
    """

    value: Any


MeshEvent = Insert | Update | Delete | Other

_TAGGED = frozenset({Insert, Update, Delete})


# Encoding: what may be written


def encode_event(event: MeshEvent | Mapping[str, Any]) -> bytes:
    """The compact JSON of an event, checked; plain dicts use the tagged form.

    Raises ``BadEvent`` for a tagged event without a usable id, a known field whose
    value does not fit, NaN or an infinity, a key that is not a string, text that is
    not valid Unicode, or nesting beyond ``MAX_DEPTH``.

    >>> encode_event({"Delete": {"id": "m1"}})
    b'{"Delete":"m1"}'
    """
    if type(event) is dict:
        return _encode_plain(event)
    if isinstance(event, (Insert, Update)):
        memory = event.memory
        if memory.extra is None:
            return _encode(event)
        return b'{"%b":%b}' % (b"Insert" if isinstance(event, Insert) else b"Update", _record_json(memory))
    if isinstance(event, Delete):
        return _to_json(event, "Delete")
    value = event.value if isinstance(event, Other) else event
    if isinstance(value, Mapping):
        return _encode_plain(value if type(value) is dict else dict(value))
    if isinstance(event, Other):
        return _encode_plain(value)
    raise BadEvent(
        f"an event is an Insert, Update, Delete, Other or a dict; found {type(event).__name__}",
        hint="wrap a free-form JSON value as Other(value)",
    )


def encode_decoded(value: Any) -> bytes:
    """As ``encode_event``, for any value that a JSON decoder made: what cannot come of one is not looked for.

    >>> encode_decoded(["free", "form"])
    b'["free","form"]'
    """
    return _encode_plain(value, decoded=True)


def encode_events(events: Sequence[MeshEvent | Mapping[str, Any]]) -> list[bytes]:
    """The JSON of each event, as ``encode_event`` gives it, in less time for many.

    Raises ``BadEvent``, naming the first event that is not valid.
    """
    lines = _encode_alike(events)
    return lines if lines is not None else [_encode_at(index, event) for index, event in enumerate(events)]


def _encode_alike(events: Sequence[Any]) -> list[bytes] | None:
    """Encode what is all tagged objects, or all tagged dicts, in one go; None when it must be looked at singly."""
    kinds = set(map(type, events))
    try:
        if kinds <= _TAGGED:
            if all(type(event) is Delete or event.memory.extra is None for event in events):
                return _lines(events)
        elif kinds == {dict} and set(map(len, events)) == {1}:
            tagged = _convert(events, list[Tagged])
            if all(map(_count_fits, tagged)):
                return _lines(tagged)
    except (msgspec.ValidationError, UnicodeEncodeError):
        pass
    return None


def _lines(events: Sequence[Any]) -> list[bytes]:
    """The JSON of structs; none holds a newline, as JSON escapes those in text."""
    return _encode_lines(events).split(b"\n")[:-1]


def _count_fits(tagged: Tagged) -> bool:
    """Whether the ``access_count`` of a converted event, if there is one, has 64 bits."""
    given = tagged.Insert if tagged.Update is msgspec.UNSET else tagged.Update
    if given is msgspec.UNSET or given.access_count is None:
        return True
    return given.access_count < 1 << 64


def _encode_at(index: int, event: MeshEvent | Mapping[str, Any]) -> bytes:
    """Encode an event of a batch; an error names its place."""
    try:
        return encode_event(event)
    except BadEvent as error:
        raise type(error)(f"event {index} of the batch: {error.message}", hint=error.hint) from None


def _encode_plain(value: Any, *, decoded: bool = False) -> bytes:
    tag = next(iter(value), None) if isinstance(value, dict) else None
    if tag in TAGS and len(value) == 1:
        return _encode_known(value) or _encode_tagged(str(tag), value[tag], decoded=decoded)
    if tag == "Recovered" and len(value) == 1:
        raise BadEvent("Recovered is written by the log itself, never by a caller")
    data = _to_json(value, "event")
    if not decoded:
        _refuse_non_json(value, "event")
    # A tag with other names beside it is no tagged event: readers tell by the first bytes.
    return b"{ " + data[1:] if tag in TAGS or tag == "Recovered" else data


def _encode_known(value: dict[str, Any]) -> bytes | None:
    """A tagged dict of known fields that fit, in one go; None when it must be looked at."""
    try:
        tagged = _convert(value, Tagged)
        return _encode(tagged) if _count_fits(tagged) else None
    except (msgspec.ValidationError, UnicodeEncodeError):
        return None


def _encode_tagged(tag: str, body: Any, *, decoded: bool) -> bytes:
    if tag == "Delete":
        return encode_event(Delete(body["id"] if isinstance(body, dict) and set(body) == {"id"} else body))
    if isinstance(body, SolitonMemory):
        return encode_event(Insert(body) if tag == "Insert" else Update(body))
    return b'{"%b":%b}' % (tag.encode(), _encode_record(body, tag, decoded=decoded))


def _encode_record(body: Any, tag: str, *, decoded: bool) -> bytes:
    """A record given as a dict that is not all known fields: its names looked at one by one."""
    record = _to_json(body, tag)
    _check_record(record, where=tag)
    if not decoded:
        _refuse_non_json(body, tag)
    return record


def _to_json(value: Any, where: str) -> bytes:
    try:
        data = _encode(value)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise BadEvent(f"{where} is not JSON: {error}") from None
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and depth(data) > MAX_DEPTH:
        raise BadEvent(f"{where} is nested deeper than {MAX_DEPTH} levels")
    return data


def _record_json(memory: SolitonMemory) -> bytes:
    """A record's JSON; an ``extra`` is spliced in behind the known fields."""
    data = _to_json(memory, "memory")
    if memory.extra is None:
        return data
    if not isinstance(memory.extra, dict) or FIELD_SET.intersection(memory.extra):
        raise BadEvent(f"memory {memory.id!r}: extra must be a dict of names that are not fields of a memory")
    _refuse_non_json(memory.extra, "extra")
    bare = {name: getattr(memory, name) for name in FIELDS if getattr(memory, name) is not None}
    return _to_json(bare | memory.extra, "memory")


def _check_record(record: bytes, where: str) -> None:
    """Refuse a record whose id or known fields do not fit; unknown fields may be anything."""
    try:
        fields = _lenient_record(record)
    except msgspec.MsgspecError as error:
        raise BadEvent(f"{where}: {error}") from None
    if not fields.id:
        raise BadEvent(f"{where}: the id is empty; expected a string of at least one character")
    if fields.access_count is not None and not fits_u64(fields.access_count):
        raise BadEvent(f"{where} {fields.id!r}: access_count {fields.access_count} is outside 0 .. 2^64-1")


def _refuse_non_json(value: Any, where: str) -> None:
    """Walk a plain value: floats finite, keys strings, nothing but JSON types."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadEvent(f"{where} is {value}, which JSON cannot hold")
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise BadEvent(f"{where} has the key {name!r}; keys must be strings")
            _refuse_non_json(item, f"{where}.{name}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_non_json(item, f"{where}[]")
    elif isinstance(value, msgspec.Struct):
        _refuse_non_json(msgspec.structs.asdict(value), where)
    elif value is not None and not isinstance(value, (str, int)):
        raise BadEvent(f"{where} holds a {type(value).__name__}, which is no JSON type")


class _Lenient(Fields, frozen=True, forbid_unknown_fields=False):
    pass


_lenient_record = msgspec.json.Decoder(_Lenient).decode


# Decoding


def decode_event(raw: bytes) -> MeshEvent:
    """The ``MeshEvent`` of an event's JSON.  Raises ``BadEvent``.

    A known field whose value does not fit its type cannot stand in a
    ``SolitonMemory``: such an event is an ``Other`` with the value as it was read.
    """
    try:
        parsed = parse_event(raw)
        value = parse_json(raw)
    except NotJson as error:
        raise BadEvent(f"not an event: {error}") from None
    if parsed.op == DELETE:
        return Delete(str(parsed.id))
    if parsed.fields is None or FIELD_SET.intersection(parsed.extra or ()):
        return Other(value)
    memory = SolitonMemory.from_dict(next(iter(value.values())))
    return Insert(memory) if parsed.op == INSERT else Update(memory)
