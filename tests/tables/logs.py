"""Logs the tests of the tables read: several days, all ops, foreign lines, damage."""

from __future__ import annotations

from pathlib import Path

from meshlab.testing import LogBuilder
from meshlab.times import midnight

DAYS = ("20250707", "20250708", "20250709")
HOUR = 3_600_000_000


def mixed_log(root: Path) -> Path:
    """Three days: inserts, updates, deletes, keys, foreign lines, blank lines and two rejects."""
    log = LogBuilder(DAYS[0])
    for number, day in enumerate(DAYS):
        for hour in range(6):
            fields = {"amplitude": hour / 7, "access_count": hour, "theme": "dark"} if hour % 2 else {"mode": "Dark"}
            events = [
                {"Insert": {"id": f"m{number}-{hour}", "content": "é" * hour}},
                {"Update": {"id": "m0-0"} | fields},
            ]
            log.frame(events, day=day, time=midnight(day) + hour * HOUR, key=f"key-{hour}" if hour == 3 else None)
        log.frame([{"Delete": f"memory-{number}"}, {"free": [1, "x"]}])
        log.raw(b'{"Update":{"id":"m0-0","width":2}}\r\n\n  \n')
        log.raw(
            b'{"timestamp":"%b-%b-%bT23:00:00","event":{"Delete":{"id":"m0-1"}}}\n'
            % (day[:4].encode(), day[4:6].encode(), day[6:].encode())
        )
    log.raw(b"this is no JSON\n", day=DAYS[1])
    log.raw(b'{"Insert":{"id":"m9","amplitude":1e999}}\n', day=DAYS[1])
    return log.write(root)
