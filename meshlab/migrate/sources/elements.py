"""The elements of one big JSON list or object, one after the other, in bounded memory.

Only quotes, brackets and commas are looked at here, a window of the file at a time:
where an element ends.  What it says is for a strict decoder, which sees every byte.

>>> import tempfile
>>> path = Path(tempfile.mkdtemp()) / "list.json"
>>> _ = path.write_bytes(b'[ {"id": "a,]"}, 7 ]')
>>> [(element.offset, element.data) for element in elements(path)]
[(2, b'{"id": "a,]"}'), (17, b'7')]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from meshlab.errors import DamageFound, storage_errors
from meshlab.wal.files import open_regular

WINDOW = 8 << 20
"""Bytes read at once."""

LARGEST = 1 << 30
"""Bytes of one element."""

CLOSERS = {b"[": b"]", b"{": b"}"}
HINT = "mend the file or take it from a copy, then make the plan anew"

_WHITE = b" \t\r\n"
_STEPS = np.zeros(256, np.int8)
_STEPS[[0x5B, 0x7B]] = 1
_STEPS[[0x5D, 0x7D]] = -1
_SPECIAL = _STEPS != 0
_SPECIAL[0x2C] = True


class Element(NamedTuple):
    """One element of a list, or one ``"name": value`` of an object: its place in the file and its bytes."""

    number: int
    offset: int
    data: bytes


def opener(path: Path) -> bytes:
    """``[`` or ``{``, whichever a file begins with.  Raises ``DamageFound`` for anything else."""
    with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
        head = file.read(WINDOW)
    first = head.lstrip(_WHITE)[:1]
    if first not in CLOSERS:
        at = len(head) - len(head.lstrip(_WHITE))
        raise damage(path, at, "expected a JSON list or object", f"{head[at : at + 8]!r}")
    return first


def elements(path: Path, progress: Callable[[int], Any] = lambda nbytes: None) -> Iterator[Element]:
    """The elements of the list or object that a file is; ``progress`` is told bytes.

    Raises ``DamageFound`` with the byte offset for a file that is cut, or has anything
    behind its end; ``StorageError`` and ``NotFound``.
    """
    closer = CLOSERS[opener(path)]
    with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
        yield from _split(path, file, closer, progress)


def _split(path: Path, file: BinaryIO, closer: bytes, progress: Callable[[int], Any]) -> Iterator[Element]:
    data, base, number = file.read(WINDOW), 0, 0
    start = len(data) - len(data.lstrip(_WHITE)) + 1
    progress(len(data))
    while True:
        ends, closed = _ends(data, start)
        for end in ends:
            if closed and end == ends[-1] and not number and not data[start:end].strip(_WHITE):
                break  # nothing between the brackets
            yield _element(path, data, start, end, base, number)
            start, number = end + 1, number + 1
        if closed:
            _check_end(path, file, data, ends[-1], base, closer)
            return
        more = file.read(max(WINDOW, len(data) - start))
        progress(len(more))
        if not more:
            raise damage(path, base + len(data), f"expected {closer.decode()!r}", "the end of the file: it is cut")
        if len(data) - start > LARGEST:
            raise damage(path, base + start, f"expected at most {LARGEST} bytes of one element", "more")
        data, base, start = data[start:] + more, base + start, 0


def _ends(data: bytes, start: int) -> tuple[list[int], bool]:
    """Where elements end, the first beginning at ``start``; and whether the last ends the whole."""
    # Escapes are blotted out from the left, so that every quote left opens or ends a string.
    bare = data[start:].replace(b"\\\\", b"..").replace(b'\\"', b"..")
    codes = np.frombuffer(bare, np.uint8)
    quotes = np.flatnonzero(codes == 0x22)
    places = np.flatnonzero(_SPECIAL[codes])
    places = places[np.searchsorted(quotes, places) % 2 == 0]
    steps = _STEPS[codes[places]]
    depth = np.cumsum(steps, dtype=np.int64)
    below = np.flatnonzero(depth < 0)
    stop = int(below[0]) if len(below) else len(places)
    ends = places[:stop][(steps[:stop] == 0) & (depth[:stop] == 0)] + start
    if len(below):
        return [*ends.tolist(), int(places[stop]) + start], True
    return ends.tolist(), False


def _element(path: Path, data: bytes, start: int, end: int, base: int, number: int) -> Element:
    text = data[start:end].lstrip(_WHITE)
    offset = base + end - len(text)
    text = text.rstrip(_WHITE)
    if not text:
        raise damage(path, base + end, "expected a value", f"{data[end : end + 1].decode()!r}", number)
    return Element(number, offset, text)


def _check_end(path: Path, file: BinaryIO, data: bytes, at: int, base: int, closer: bytes) -> None:
    """Refuse a bracket of the wrong kind, and anything behind the right one but white space."""
    if data[at : at + 1] != closer:
        raise damage(path, base + at, f"expected {closer.decode()!r}", f"{data[at : at + 1].decode()!r}")
    behind, at = data[at + 1 :], base + at + 1
    while behind:
        rest = behind.lstrip(_WHITE)
        if rest:
            raise damage(path, at + len(behind) - len(rest), "expected the end of the file", f"{rest[:8]!r}")
        at += len(behind)
        behind = file.read(WINDOW)


def damage(path: Path, offset: int, expected: str, found: str, number: int | None = None) -> DamageFound:
    """The error about a place in a JSON file; ``number`` counts elements from 0."""
    where = f"{path}: byte {offset}" + ("" if number is None else f", record {number + 1}")
    return DamageFound(f"{where}: {expected}, found {found}", hint=HINT)
