"""WalTail: what a log gains, while it gains it.

>>> from meshlab.testing import build_log
>>> import tempfile, meshlab
>>> user = meshlab.open(tempfile.mkdtemp())["ann"]
>>> _ = build_log([[{"Insert": {"id": "a"}}]]).write(user.root)
>>> tail = WalTail(user)
>>> _ = user.append({"Update": {"id": "a", "amplitude": 0.5}})
>>> tail.look()
1
>>> tail
<WalTail of ann: 1 event, 0 rejects>
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

import ipywidgets as widgets
import msgspec

from meshlab.dialects import OPS, Parsed
from meshlab.markup import Wrong, headline, short, table
from meshlab.store import UserStore
from meshlab.times import midnight
from meshlab.wal.chain import ORIGIN
from meshlab.wal.follow import LogFollower
from meshlab.wal.lines import Reject
from meshlab.wal.paths import segment_days, segment_size
from meshlab.wal.reader import settled_ends
from meshlab.widgets.panel import Panel, guarded, shown
from meshlab.wording import counted

POLL = 0.2
"""Seconds between two looks."""

SPAN = 5.0
"""Seconds over which events per second are counted."""

ROWS = 10
"""Events and rejects shown, the newest first."""

_LONGEST = 48


class WalTail(Panel):
    """The events a log gains, how many a second, and in red what is no event.

    ``follow`` goes on until its cell is interrupted.  Only what comes after the tail was
    made is read, and nothing is locked: a service may go on writing.
    """

    def __init__(self, user: UserStore) -> None:
        super().__init__()
        self.user = user
        self.count = 0
        self.rejects: dict[tuple[str, int, str], Reject] = {}
        self._last: deque[Parsed] = deque(maxlen=ROWS)
        self._seen: deque[tuple[float, int]] = deque()
        self._began = time.monotonic()
        self._follower: LogFollower | None = None
        self._awaited = False
        self.rate, self.events, self.damage = shown("rate"), shown("events"), shown("rejects")
        self.ui = widgets.VBox([self.message, self.rate, self.events, self.damage])
        self.look()

    def follow(self, seconds: float | None = None) -> None:
        """Show the tail and keep it up to date, for so long or until the cell is interrupted."""
        from IPython.display import display

        display(self)
        end = None if seconds is None else time.monotonic() + seconds
        try:
            while end is None or time.monotonic() < end:
                time.sleep(POLL)
                self.look()
        except KeyboardInterrupt:
            self.say("stopped with its cell")

    def look(self) -> int:
        """Take what the log has gained; returns how many events that were."""
        before = self.count
        self._take()
        now = time.monotonic()
        self._seen.append((now, self.count - before))
        while self._seen[0][0] < now - SPAN:
            self._seen.popleft()
        self._show(now)
        return self.count - before

    @guarded
    def _take(self) -> None:
        self.user.store.users()  # says when the store has gone
        if not self.user.root.is_dir():
            self._follower, self._awaited = None, True
            self.say(f"{self.user.uid} is not in the store: waiting for its first event")
            return
        self._follower = self._follower or self._from_here()
        if self._follower is None or not self._follower.has_changed():
            self.say()
            return
        gain = self._follower.read()
        if gain is None:
            self._follower = self._from_here()
            self.say("the log changed otherwise than by growing; following from where it ends now")
            return
        self.count += len(gain.events)
        self._last.extend(gain.events[-ROWS:])
        settled = [reject for reject in gain.rejects if reject.offset < gain.ends[reject.segment]]
        self.rejects |= {(reject.segment, reject.offset, reject.kind): reject for reject in settled}
        self._follower.advance(gain)
        self.say()

    def _from_here(self) -> LogFollower | None:
        """Follow from the end of the log; reads the newest segments only.  None while there is no segment."""
        root = self.user.root
        days = segment_days(root) if root.is_dir() else []
        if not days:
            self._awaited = True
            return None
        if self._awaited:  # all there is came since
            self._awaited = False
            return LogFollower(root, {days[0]: 0}, ORIGIN)
        events = self.user.events(columns=["uid"], since=midnight(days[-1]), progress=False)
        ends = {day: segment_size(root, day) for day in days} | settled_ends(events.parts)
        return LogFollower(root, ends, events.end)

    def _show(self, now: float) -> None:
        span = max(min(SPAN, now - self._began), POLL)
        rate = sum(count for _, count in self._seen) / span
        self.rate.value = headline("Tail of", self.user.uid, f"{rate:,.1f} events/s, {counted(self.count, 'event')}")
        self.events.value = table(("op", "id", "given"), _event_rows(self._last))
        told = headline("Rejects", told=f"{len(self.rejects):,}", good=False) if self.rejects else ""
        newest = list(self.rejects.values())[::-1][:ROWS]
        self.damage.value = told + table(("class", "place", "bytes", "reason"), map(_reject_row, newest))

    def __repr__(self) -> str:
        return f"<WalTail of {self.user.uid}: {counted(self.count, 'event')}, {counted(len(self.rejects), 'reject')}>"


def _event_rows(events: Iterator[Parsed] | deque[Parsed]) -> Iterator[list[str]]:
    for event in reversed(list(events)):
        yield [OPS[event.op], short(event.id or "", _LONGEST), _given(event)]


def _given(event: Parsed) -> str:
    """The fields an event gives, in brief."""
    known = {} if event.fields is None else msgspec.structs.asdict(event.fields)
    given = [f"{name} {short(str(value), 24)}" for name, value in known.items() if value is not None and name != "id"]
    return ", ".join([*given, *(f"{name} {short(raw.decode(), 24)}" for name, raw in (event.extra or {}).items())])


def _reject_row(reject: Reject) -> list[object]:
    return [Wrong(reject.kind), f"{reject.segment}:{reject.offset}", reject.nbytes, Wrong(reject.reason)]
