"""``meshlab dump``: events as JSON lines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click

from meshlab.cli.findings import report
from meshlab.cli.output import Settings, finish, flush, to_json, write_json_line
from meshlab.dialects import OPS
from meshlab.errors import storage_errors
from meshlab.times import format_time
from meshlab.wal.chain import resumed
from meshlab.wal.lines import DIALECTS, NO_TIME, Block
from meshlab.wal.paths import existing_user, segment_days, segment_name, store_root, user_ids
from meshlab.wal.reader import ORIGIN, Cursor, SegmentScan, resolve, scan_segment
from meshlab.wal.verify import last_gone

POLL = 0.2
"""Seconds between two looks at a log that is followed."""


@click.command("dump")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@click.option("--op", "ops", type=click.Choice(OPS), multiple=True, help="Only these operations (may be repeated).")
@click.option("--bare", is_flag=True, help="The events alone, as 'meshlab append' takes them.")
@click.option("--follow", is_flag=True, help="Go on with what is appended, until interrupted.")
@click.pass_obj
def command(settings: Settings, uids: tuple[str, ...], ops: tuple[str, ...], bare: bool, follow: bool) -> None:
    """Write events as JSON, one object per line.

    They are those of UIDs, of all users when none is named.  Each has uid, lsn, seq,
    ts, effective_ts, op, dialect, key and, last, the event as it stands in the log.  Exit
    code 2: there is damage in the logs.

    \b
      meshlab dump ann --op insert --follow
      meshlab dump ann --bare | meshlab --store copy append ann
    """
    store = store_root(settings.store)
    logs = [Log(existing_user(store, uid), ops or OPS, bare) for uid in uids or user_ids(store)]
    for log in logs:
        log.write_new()
    while follow:
        time.sleep(POLL)
        for log in logs:
            log.write_new()
    finish(damage=report(kind for log in logs for kind in log.reject_kinds()))


class Log:
    """One user's log and how far it has been written out."""

    def __init__(self, root: Path, ops: tuple[str, ...], bare: bool) -> None:
        from meshlab.timeline import deleted_segments

        self.root = root
        self.ops = {OPS.index(op) for op in ops}
        self.bare = bare
        self.gone = deleted_segments(root, root.name)
        self.scans: dict[str, SegmentScan] = {}
        self.seen: dict[str, tuple[int, int]] = {}  # segment -> size, offset behind its last event

    def write_new(self) -> None:
        """Write the events that were not there at the last call."""
        cursor = ORIGIN
        days = segment_days(self.root)
        for day in days:
            path = self.root / segment_name(day)
            with storage_errors("read", path):
                size = path.stat().st_size
            if self.seen.get(day, (-1, 0))[0] != size:
                before = resumed(cursor, last_gone(self.gone, day))
                self._write_segment(day, size, before, newest=day == days[-1])
            cursor = self.scans[day].end
        flush()

    def reject_kinds(self) -> Iterator[str]:
        """The final class of every reject met."""
        return (reject.kind for reject in resolve([self.scans[day].part for day in sorted(self.scans)]))

    def _write_segment(self, day: str, size: int, cursor: Cursor, *, newest: bool) -> None:
        scan = scan_segment(self.root, day, cursor, newest=newest)
        done = self.seen.get(day, (0, 0))[1]
        for block in scan:
            for row, offset in enumerate((block.start + block.base).tolist()):
                if offset >= done and int(block.op[row]) in self.ops:
                    self._write_event(block, row, offset)
        if scan.last_event >= 0:
            done = scan.last_event + 1
        self.seen[day], self.scans[day] = (size, done), scan

    def _write_event(self, block: Block, row: int, offset: int) -> None:
        event = _slice(block, block.event_start[row], block.event_stop[row])
        if not self.bare:
            write_json_line(_envelope(self.root.name, block, row, offset) + event + b"}")
        elif not event.startswith(b'{"Recovered":'):
            write_json_line(event)


def _envelope(uid: str, block: Block, row: int, offset: int) -> bytes:
    time_given, key_start = int(block.time[row]), int(block.key_start[row])
    head = {
        "uid": uid,
        "lsn": f"{block.segment}:{offset}",
        "seq": int(block.seq[row]) or None,
        "ts": None if time_given == NO_TIME else format_time(time_given),
        "effective_ts": format_time(int(block.effective[row])),
        "op": OPS[block.op[row]],
        "dialect": DIALECTS[block.dialect[row]],
        "key": _slice(block, key_start, block.key_stop[row]).decode() if key_start >= 0 else None,
    }
    return to_json(head)[:-1] + b',"event":'


def _slice(block: Block, start: int, stop: int) -> bytes:
    return block.data[start:stop].tobytes()
