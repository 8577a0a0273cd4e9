"""The elements of one big JSON list or object, one after the other, in bounded memory.

Only quotes, brackets and commas are looked at here, a window of the file at a time and
each once: where an element ends.  What it says is for a strict decoder, which sees
every byte.

>>> import io, tempfile
>>> path = Path(tempfile.mkdtemp()) / "list.json"
>>> _ = path.write_bytes(b'[ {"id": "a,]"}, 7 ]')
>>> [(element.offset, element.data) for element in elements(path)]
[(2, b'{"id": "a,]"}'), (17, b'7')]
>>> [element.data for element in list_under("b", path, io.BytesIO(b'{"a": [1], "b": [2, 3]}'))]
[b'2', b'3']
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from meshlab.errors import DamageFound, storage_errors
from meshlab.jsontext import parse_json
from meshlab.migrate.sources.source import MEND
from meshlab.wal.files import open_regular

WINDOW = 8 << 20
"""Bytes read at once."""

LARGEST = 1 << 30
"""Bytes of one element."""

CLOSERS = {b"[": b"]", b"{": b"}"}

_MEMBERS = 64
"""Members of an object in which a list is looked for."""

_AHEAD = 4096
_WHITE = b" \t\r\n"
_BLANKS = re.compile(rb"[ \t\r\n]*+")
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


def _untold(nbytes: int) -> None:
    """Progress that nobody wants to know."""


def opener(path: Path) -> bytes:
    """``[`` or ``{``, whichever a file begins with.  Raises ``DamageFound`` for anything else."""
    with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
        head = file.read(WINDOW)
    first = head.lstrip(_WHITE)[:1]
    if first not in CLOSERS:
        at = len(head) - len(head.lstrip(_WHITE))
        raise damage(path, at, "expected a JSON list or object", f"{head[at : at + 8]!r}")
    return first


def elements(path: Path, progress: Callable[[int], Any] = _untold) -> Iterator[Element]:
    """The elements of the list or object that a file is; ``progress`` is told bytes.

    Raises ``DamageFound`` with the byte offset for a file that is cut, or has anything
    behind its end; ``StorageError`` and ``NotFound``.
    """
    closer = CLOSERS[opener(path)]
    with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
        text = _Text(path, file, progress, WINDOW, LARGEST)
        text.peek()
        text.at += 1
        yield from _split(text, closer)
        _check_end(text)


def list_under(
    name: str, path: Path, file: BufferedIOBase, progress: Callable[[int], Any] = _untold, *, largest: int = LARGEST
) -> Iterator[Element]:
    """The elements of the list under ``name`` in the object that a stream is; ``path`` is for errors only.

    ``largest`` bounds the bytes of one element.  Raises ``DamageFound`` as ``elements``
    does, and when there is no such list; ``NotJson`` for what stands beside it.
    """
    text = _Text(path, file, progress, WINDOW >> 3, largest)
    if text.peek() != b"{":
        raise text.damage(text.at, "expected a JSON object", f"{text.data[text.at : text.at + 8]!r}")
    text.at += 1
    wanted = re.compile(rb'"%b"[ \t\r\n]*+:[ \t\r\n]*+\[' % re.escape(name.encode()))
    found = False
    for number in range(_MEMBERS):
        text.peek()
        head = wanted.match(text.ahead(), text.at)
        if head is not None and found:
            raise text.damage(text.at, f"expected one {name!r}", "a second one")
        if head is None:
            end = _pass_over(text, number)
        else:
            found, text.at = True, head.end()
            yield from _split(text, b"]")
            end = text.peek()
            text.at += 1
        if end != b",":
            break
    if end != b"}":
        raise text.damage(text.at - 1, f"expected '}}' behind at most {_MEMBERS} members", repr(end.decode("latin-1")))
    _check_end(text)
    if not found:
        raise text.damage(0, f"expected a list under {name!r}", "none")


def _pass_over(text: _Text, number: int) -> bytes:
    """Go behind one member of an object; returns the character that ends it."""
    member = next(_split(text, b"}"), None)
    if member is not None:
        parse_json(b"{%b}" % member.data)
    elif number:
        raise text.damage(text.at - 1, "expected a value", "'}'")
    return text.data[text.at - 1 : text.at]


class _Text:
    """A JSON text of which a part is in memory: ``data[at:]`` is what has not been used yet."""

    def __init__(
        self, path: Path, file: BufferedIOBase, progress: Callable[[int], Any], window: int, largest: int
    ) -> None:
        self.path, self.file, self.progress = path, file, progress
        self.window, self.largest = window, largest
        self.data, self.base, self.at = b"", 0, 0

    def more(self) -> bool:
        """Read on and let go of what has been used; False at the end of the file."""
        rest = self.data[self.at :]
        if len(rest) > self.largest:
            raise self.too_large(self.at)
        got = self.file.read(max(self.window, len(rest)))
        self.progress(len(got))
        self.data, self.base, self.at = rest + got, self.base + self.at, 0
        return bool(got)

    def peek(self) -> bytes:
        """Go to the next byte that is no white space, and return it; nothing at the end of the file."""
        while True:
            found = _BLANKS.match(self.data, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.data):
                return self.data[self.at : self.at + 1]
            if not self.more():
                return b""

    def ahead(self) -> bytes:
        """The bytes in memory: some thousands behind ``at``, or all there are."""
        while len(self.data) - self.at < _AHEAD and self.more():
            pass
        return self.data

    def element(self, end: int, number: int) -> Element:
        """What lies between ``at`` and ``end``; ``at`` is behind ``end`` then."""
        start, self.at = self.at, end + 1
        text = self.data[start:end].lstrip(_WHITE)
        offset = self.base + end - len(text)
        text = text.rstrip(_WHITE)
        if not text:
            found = f"{self.data[end : end + 1].decode()!r}"
            raise damage(self.path, self.base + end, "expected a value", found, number)
        if len(text) > self.largest:
            raise self.too_large(start)
        return Element(number, offset, text)

    def too_large(self, at: int) -> DamageFound:
        return self.damage(at, f"expected at most {self.largest} bytes of one element", "more")

    def damage(self, at: int, expected: str, found: str) -> DamageFound:
        return damage(self.path, self.base + at, expected, found)


def _split(text: _Text, closer: bytes) -> Iterator[Element]:
    """The elements from where a text stands up to a closing bracket, behind which it stands at the end."""
    ends, number, seen = _Ends(), 0, text.at
    while True:
        block = text.data[seen : seen + text.window]
        if not block:
            seen -= text.at
            if not text.more():
                at = len(text.data)
                raise text.damage(at, f"expected {closer.decode()!r}", "the end of the file: it is cut")
            continue
        places, closed = ends.of(block)
        for place in places:
            if closed and place == places[-1] and not number and not text.data[text.at : seen + place].strip(_WHITE):
                break  # nothing between the brackets
            yield text.element(seen + int(place), number)
            number += 1
        if closed:
            _check_closer(text, seen + int(places[-1]), closer)
            return
        seen += len(block)


class _Ends:
    """Where elements end, in blocks that follow one another."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = False

    def of(self, block: bytes) -> tuple[Any, bool]:
        """Places in the next block; and whether the last one ends the whole."""
        # Escapes are blotted out from the left, so that every quote left opens or ends a string.
        bare = b"." + block[1:] if self._escaped else block
        bare = bare.replace(b"\\\\", b"..").replace(b'\\"', b"..")
        self._escaped = bare.endswith(b"\\")
        codes = np.frombuffer(bare, np.uint8)
        quotes = np.flatnonzero(codes == 0x22)
        places = np.flatnonzero(_SPECIAL[codes])
        places = places[(np.searchsorted(quotes, places) + self._in_string) % 2 == 0]
        self._in_string ^= bool(len(quotes) % 2)
        steps = _STEPS[codes[places]]
        depth = np.cumsum(steps, dtype=np.int64) + self._depth
        self._depth = int(depth[-1]) if len(depth) else self._depth
        below = np.flatnonzero(depth < 0)[:1]
        stop = int(below[0]) if len(below) else len(places)
        ends = places[:stop][(steps[:stop] == 0) & (depth[:stop] == 0)]
        return np.concatenate([ends, places[below]]), bool(len(below))


def _check_closer(text: _Text, at: int, closer: bytes) -> None:
    """Refuse a bracket of the wrong kind; a text stands behind the right one then."""
    found = text.data[at : at + 1]
    if found != closer:
        raise text.damage(at, f"expected {closer.decode()!r}", f"{found.decode()!r}")
    text.at = at + 1


def _check_end(text: _Text) -> None:
    """Refuse anything but white space."""
    if text.peek():
        raise text.damage(text.at, "expected the end of the file", f"{text.data[text.at : text.at + 8]!r}")


def damage(path: Path, offset: int, expected: str, found: str, number: int | None = None) -> DamageFound:
    """The error about a place in a JSON file; ``number`` counts elements from 0."""
    where = f"{path}: byte {offset}" + ("" if number is None else f", record {number + 1}")
    return DamageFound(f"{where}: {expected}, found {found}", hint=MEND)
