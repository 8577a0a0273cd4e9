"""A whole log read row by row, with the conservation law checked each time.

>>> import tempfile
>>> from meshlab.testing.log import build_log
>>> log = build_log([[{"Delete": "m1"}], [{"Delete": "m2"}]])
>>> reading = read_log(log.write(Path(tempfile.mkdtemp())))
>>> reading.payloads, reading.classes
([b'{"Delete":"m1"}', b'{"Delete":"m2"}'], [])
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from meshlab.dialects import OPS
from meshlab.wal.lines import DIALECTS, Block, Reject
from meshlab.wal.paths import SNAPSHOT, segment_days, segment_name
from meshlab.wal.reader import CHUNK, ORIGIN, Cursor, Part, resolve, scan_segment

_MAGIC = b"MESHSNAP"


class Row(NamedTuple):
    """One event as the reader gives it."""

    segment: str
    offset: int
    nbytes: int
    line: int
    seq: int
    op: str
    dialect: str
    payload: bytes
    key: bytes | None
    effective: int


class Reading(NamedTuple):
    """A whole log: events in log order, final rejects, what each segment added, the end."""

    rows: list[Row]
    rejects: list[Reject]
    parts: list[Part]
    end: Cursor

    @property
    def payloads(self) -> list[bytes]:
        """The JSON of every event."""
        return [row.payload for row in self.rows]

    @property
    def acknowledged(self) -> list[bytes]:
        """What callers appended: all but what the log wrote itself."""
        return [row.payload for row in self.rows if not row.payload.startswith(b'{"Recovered":')]

    @property
    def classes(self) -> list[str]:
        """The class of every reject and finding."""
        return [reject.kind for reject in self.rejects]

    @property
    def bad(self) -> list[Reject]:
        """Rejects that hold bytes."""
        return [reject for reject in self.rejects if reject.nbytes]

    @property
    def findings(self) -> list[str]:
        """The classes of what holds no bytes."""
        return [reject.kind for reject in self.rejects if not reject.nbytes]


def read_log(root: Path, *, chunk: int = CHUNK, check: bool = True) -> Reading:
    """Read every segment of a user; with ``check``, see that events, rejects and blanks tile each file.

    >>> import tempfile
    >>> from meshlab.testing import build_log
    >>> log = build_log([[{"Delete": "a"}], [{"Delete": "b"}]])
    >>> log.raw(b'{"Delete":')
    >>> reading = read_log(log.write(Path(tempfile.mkdtemp())))
    >>> reading.payloads, reading.classes
    ([b'{"Delete":"a"}', b'{"Delete":"b"}'], ['torn'])
    """
    rows: list[Row] = []
    parts: list[Part] = []
    cursor = ORIGIN
    days = segment_days(root)
    for day in days:
        scan = scan_segment(root, day, cursor, newest=day == days[-1], chunk=chunk)
        seen = len(rows)
        for block in scan:
            rows += block_rows(block)
        cursor = scan.end
        parts.append(scan.part)
        if check:
            check_conservation((root / segment_name(day)).read_bytes(), rows[seen:], scan.part)
    return Reading(rows, resolve(parts), parts, cursor)


def block_rows(block: Block) -> list[Row]:
    """The rows of one block of a reader."""
    data = bytes(block.data)
    return [
        Row(
            block.segment,
            block.base + int(block.start[row]),
            int(block.nbytes[row]),
            int(block.line[row]),
            int(block.seq[row]),
            OPS[block.op[row]],
            DIALECTS[block.dialect[row]],
            data[block.event_start[row] : block.event_stop[row]],
            data[block.key_start[row] : block.key_stop[row]] if block.key_start[row] >= 0 else None,
            int(block.effective[row]),
        )
        for row in range(len(block.start))
    ]


def check_conservation(data: bytes, rows: list[Row], part: Part) -> None:
    """Events, rejects and blanks tile the file; the counts add up."""
    tally = part.tally
    assert tally.bytes == len(data)
    assert tally.event_bytes + tally.reject_bytes + tally.blank_bytes + tally.open_tail_bytes == len(data)
    assert tally.events + tally.rejects + tally.blanks == tally.lines + tally.pieces
    assert (tally.events, tally.rejects) == (len(rows), sum(reject.nbytes > 0 for reject in part.rejects))
    closed = data[: len(data) - tally.open_tail_bytes]
    assert tally.lines == closed.count(b"\n") + (not closed.endswith(b"\n") and closed != b"")
    spans = sorted(
        [(row.offset, row.nbytes) for row in rows] + [(r.offset, r.nbytes) for r in part.rejects if r.nbytes]
    )
    at = blank = 0
    for offset, nbytes in [*spans, (len(closed), 0)]:
        assert offset >= at, f"bytes {offset}..{at} were given out twice"
        assert not data[at:offset].strip(), f"bytes {at}..{offset} are missing"
        blank += offset - at
        at = offset + nbytes
    assert blank == tally.blank_bytes
    for reject in part.rejects:
        assert data[reject.offset : reject.offset + reject.nbytes].startswith(reject.raw)


def has_sum(path: Path, data: bytes | bytearray, at: int) -> bool:
    """Whether a sum covers a byte of a log, manifest or layer, so that a change of it must be seen.

    Of what older programs have written none does: bare and gateway lines, bincode maps.

    >>> log = b'{"Delete":"a"}\\n{"timestamp":"2025-07-01T00:00:00Z","event":1,"seq":1}\\n'
    >>> has_sum(Path("wal-20250701.log"), log, 5), has_sum(Path("wal-20250701.log"), log, 30)
    (False, True)
    """
    if path.name == SNAPSHOT:
        return data.startswith(_MAGIC)
    if path.suffix != ".log":
        return True
    stop = data.find(b"\n", at)
    return b'"seq":' in data[data.rfind(b"\n", 0, at) + 1 : len(data) if stop < 0 else stop]
