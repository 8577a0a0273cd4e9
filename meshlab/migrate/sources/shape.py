"""What a file is by its first bytes, whatever it is called."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from meshlab.errors import storage_errors
from meshlab.snapshot.bincode import MAGIC
from meshlab.wal.files import open_regular

_HEAD = 64 << 10
_WHITE = b" \t\r\n"
_ENTRY_NAMES = frozenset({b"sequence", b"timestamp", b"operation", b"data", b"checksum"})
_CHECKPOINT_NAMES = frozenset({b"scope", b"scope_id", b"sequence", b"timestamp", b"entries"})
_FIRST_MEMBER = re.compile(rb'\{[ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*(.)', re.DOTALL)


class Shape(Enum):
    """Kinds of content; the values are what a person calls them."""

    EMPTY = "an empty file"
    MANIFEST = "a snapshot of the new layout"
    MAP = "a bincode map"
    EXPORT = "a JSON export"
    ENTRIES = "a scoped log"
    GZIP = "a gzip file"
    UNKNOWN = "of no known form"


class Looked(NamedTuple):
    """The shape of a file and, for one of no known form, what stands at its beginning."""

    shape: Shape
    found: str = ""


def shape_of(path: Path) -> Looked:
    """Look at the first 64 KiB of a regular file.  Raises ``StorageError``, ``NotFound``."""
    with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
        return _shape(file.read(_HEAD))


def _shape(head: bytes) -> Looked:
    """The shape that a beginning stands for.

    >>> _shape(b'[{"id":"m1"}]').shape.value, _shape(bytes(8)).shape.value
    ('a JSON export', 'a bincode map')
    """
    if not head:
        return Looked(Shape.EMPTY)
    if head.startswith(MAGIC):
        return Looked(Shape.MANIFEST)
    if head.startswith(b"\x1f\x8b"):
        return Looked(Shape.GZIP)
    if b"\0" in head[:8]:  # the count of a map; no text holds a NUL
        return Looked(Shape.MAP)
    text = head.lstrip(_WHITE)
    if text.startswith(b"["):
        return _list_shape(text[1:].lstrip(_WHITE))
    if text.startswith(b"{"):
        return _object_shape(text)
    return Looked(Shape.UNKNOWN, f"bytes {head[:8]!r}, neither a count of records nor JSON")


def _list_shape(text: bytes) -> Looked:
    if text[:1] in (b"{", b"]"):
        return Looked(Shape.EXPORT)
    return Looked(Shape.UNKNOWN, f"a JSON list of something else than records: {text[:20]!r}")


def _object_shape(text: bytes) -> Looked:
    if text[1:].lstrip(_WHITE).startswith(b"}"):
        return Looked(Shape.EXPORT)
    first = _FIRST_MEMBER.match(text)
    if first is None:
        return Looked(Shape.UNKNOWN, f"a JSON object cut short or without a name: {text[:20]!r}")
    name, value = first[1], first[2]
    if name in _ENTRY_NAMES and (value != b"{" or name == b"data"):
        return Looked(Shape.ENTRIES)
    if value == b"{":
        return Looked(Shape.EXPORT)
    if name in _CHECKPOINT_NAMES:
        return Looked(Shape.UNKNOWN, "the checkpoint of a scoped log; it is read along with its <id>.wal")
    shown = name[:40].decode(errors="replace")
    return Looked(Shape.UNKNOWN, f"a JSON object that is no map from id to record: {shown!r} is no object")
