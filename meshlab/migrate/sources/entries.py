"""The entries of a scoped log: one JSON object a line, in rotated files, checkpoints and the current file.

    <id>.wal.<unix seconds>    set aside at each checkpoint
    <id>.checkpoint[.gz]       what the log had gained since the checkpoint before it
    <id>.wal                   the current file

A checkpoint is no state: its entries stand in a file that was set aside as well, unless
that file is lost.  So the history is the files set aside by their times, the entries of
the checkpoint that stand nowhere else, and the current file.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Collection, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from meshlab.errors import DamageFound, storage_errors
from meshlab.jsontext import NotJson, parse_json
from meshlab.migrate.sources.elements import list_under
from meshlab.migrate.sources.jsonrecords import without_tokens
from meshlab.migrate.sources.notes import Notes
from meshlab.wal.files import open_regular
from meshlab.wal.frame import MAX_FRAME

LONGEST = MAX_FRAME
"""Bytes of the longest line."""

MOST = 1 << 30
"""Bytes of a checkpoint, unpacked: it is only what a log gained since the one before."""

VALUES = 1 << 21
"""Values in one entry: each takes some hundred bytes of memory, and only three of the file."""

_TEXTS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_FAMILY = re.compile(r"(?P<stem>.+?)\.(?:wal|wal\.(?P<rotated>\d{1,18})|checkpoint|checkpoint\.gz)", re.ASCII)
_TOKENS = "entries with tokens of Python that are no JSON (NaN, Infinity), kept as texts"
_CHECKSUMS = "checksums of a kind nobody knows, not compared"


class Entry(NamedTuple):
    """One entry and where it stands; ``time`` is in unix seconds, None when it is no number."""

    file: str
    line: int
    offset: int
    sequence: int
    time: float | None
    operation: str
    data: Any

    @property
    def place(self) -> str:
        """File and byte offset."""
        return f"{self.file}:{self.offset}"


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    sequence: int
    timestamp: Any
    operation: str
    data: Any
    checksum: Any = None


def family_of(name: str) -> str | None:
    """The id of the scoped log that a file name belongs to, or None.

    >>> family_of("ada.wal.1751875200"), family_of("ada.checkpoint.gz"), family_of("wal-20250707.log")
    ('ada', 'ada', None)
    """
    match = _FAMILY.fullmatch(name)
    return None if match is None else match["stem"]


class Entries:
    """The entries of one user's scoped log, in their order; iterate as often as wanted.

    Memory holds an entry at a time, and of those in checkpoints a digest of 16 bytes each.
    ``accept`` names lines, and checkpoints as ``<file>:0``, that an operator lets go.
    """

    def __init__(self, uid: str, paths: Collection[Path], accept: Collection[str], notes: Notes | None = None) -> None:
        self._uid = uid
        self._rotated = sorted((path for path in paths if _seconds(path) is not None), key=_by_time)
        self._checkpoints = sorted(path for path in paths if ".checkpoint" in path.name and _seconds(path) is None)
        self._current = [path for path in paths if path.name.endswith(".wal")]
        self._accept = accept
        self._notes = Notes() if notes is None else notes

    def __iter__(self) -> Iterator[Entry]:
        """Raises ``DamageFound`` naming file, line and offset of what is no entry."""
        first = True
        for entry in self._all():
            if first and entry.sequence > 1:
                self._notes.add(f"the history begins late: the first entry has the sequence {entry.sequence}")
            first = False
            yield entry

    def _all(self) -> Iterator[Entry]:
        apart, sound = self._in_checkpoints()
        for path in self._rotated:
            for entry in self._lines(path, self._notes):
                if apart:
                    apart.discard(_digest(entry))
                yield entry
        for path in self._current if apart else ():  # a program that died may not have set it aside
            for entry in self._lines(path, Notes()):
                apart.discard(_digest(entry))
        if apart:
            self._notes.add(f"{len(apart):,} entries stand in a checkpoint only: the file set aside with it is lost")
        for path in sound if apart else ():
            for entry in self._unpacked(path, Notes()):
                if (digest := _digest(entry)) in apart:
                    apart.discard(digest)
                    yield entry
        for path in self._current:
            yield from self._lines(path, self._notes)

    def _in_checkpoints(self) -> tuple[set[bytes], list[Path]]:
        """Digests of the entries in checkpoints, and those checkpoints that are none of the accepted damage."""
        digests, sound = set[bytes](), []
        for path in self._checkpoints:
            try:
                digests |= {_digest(entry) for entry in self._unpacked(path, self._notes)}
                sound.append(path)
            except NotJson as error:
                self._refuse(path, 0, f"expected a checkpoint of a scoped log, found: {error}", self._notes)
        return digests, sound

    def _lines(self, path: Path, notes: Notes) -> Iterator[Entry]:
        number = offset = 0
        with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
            while line := file.readline(LONGEST + 1):
                number += 1
                size = len(line)
                while len(line) > LONGEST and not line.endswith(b"\n") and (more := file.readline(LONGEST)):
                    size += len(more)
                    line = line[:LONGEST] + more[-1:]
                entry = self._read(path, number, offset, line, notes) if line.strip() else None
                offset += size
                if entry is not None:
                    yield entry

    def _read(self, path: Path, number: int, offset: int, line: bytes, notes: Notes) -> Entry | None:
        """The entry of a line; None for one that is accepted as lost, or torn."""
        try:
            if len(line) > LONGEST:
                raise NotJson(f"longer than {LONGEST} bytes")
            clean = without_tokens(line)
            written = _written(clean)
        except (NotJson, msgspec.ValidationError) as error:
            if not line.endswith(b"\n") and path in self._current and isinstance(error, NotJson):
                notes.add(f"{path.name}:{offset} (line {number}): an unfinished write of {len(line)} bytes, left out")
                return None
            self._refuse(path, offset, f"line {number}: expected an entry, found: {error}", notes)
            return None
        if written.checksum is not None:
            notes.count(_CHECKSUMS, f"{path.name}:{offset}")
        if clean != line:
            notes.count(_TOKENS, f"{path.name}:{offset}")
        return _entry(path, number, offset, written)

    def _unpacked(self, path: Path, notes: Notes) -> Iterator[Entry]:
        """The entries of a checkpoint.  Raises ``NotJson``, at the end perhaps, for a file that is none."""
        try:
            for number, data in enumerate(_written_in(path), 1):
                written = _written(without_tokens(data))
                if written.checksum is not None:
                    notes.count(_CHECKSUMS, f"{path.name} entry {number}")
                yield _entry(path, number, 0, written)
        except DamageFound as error:
            raise NotJson(error.message.removeprefix(f"{path}: ")) from None
        except (msgspec.ValidationError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise NotJson(str(error)) from None

    def _refuse(self, path: Path, offset: int, what: str, notes: Notes) -> None:
        """Raise ``DamageFound``, unless the damage has been accepted."""
        place = f"{path.name}:{offset}"
        if place not in self._accept:
            raise DamageFound(
                f"{path}: byte {offset}, {what}",
                hint=f"to migrate without it, for good, make the plan with --accept {self._uid}/{place}",
                places=[place],
            )
        notes.add(f"{place}: left out, as accepted: {what}")


def _written(raw: bytes) -> _Written:
    """The entry that JSON stands for.  Raises ``NotJson``, ``msgspec.ValidationError``."""
    if _marks(raw) > VALUES and _marks(_TEXTS.sub(b"", raw)) > VALUES:
        raise NotJson(f"more than {VALUES} values")
    return msgspec.convert(parse_json(raw), _Written)


def _marks(raw: bytes) -> int:
    """Commas and opening brackets: as many as there are values, or about so."""
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def _entry(path: Path, number: int, offset: int, written: _Written) -> Entry:
    time = _seconds_of(written.timestamp)
    return Entry(path.name, number, offset, written.sequence, time, written.operation, written.data)


def _seconds_of(timestamp: Any) -> float | None:
    if isinstance(timestamp, bool) or not isinstance(timestamp, (int, float)):
        return None
    try:
        return float(timestamp)
    except OverflowError:  # a whole number beyond all floats
        return None


def _digest(entry: Entry) -> bytes:
    """What tells entries apart, wherever they stand."""
    told = (entry.sequence, entry.time, entry.operation, entry.data)
    return blake2b(msgspec.json.encode(told, order="deterministic"), digest_size=16).digest()


def _seconds(path: Path) -> int | None:
    match = _FAMILY.fullmatch(path.name)
    return int(match["rotated"]) if match is not None and match["rotated"] else None


def _by_time(path: Path) -> tuple[int, str]:
    return _seconds(path) or 0, path.name


def _written_in(path: Path) -> Iterator[bytes]:
    """The JSON of the entries in a checkpoint."""
    unpacked = 0

    def count(nbytes: int) -> None:
        nonlocal unpacked
        unpacked += nbytes
        if unpacked > MOST:
            raise NotJson(f"more than {MOST} bytes when unpacked")

    with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if packed else file
        for element in list_under("entries", path, stream, count, largest=LONGEST):
            yield element.data
