"""The samples: a small realistic store, and one folder for each named disaster.

    python -m meshlab.testing.samples data/samples

writes ``store/``, ``scoped/``, ``exports/`` and ``damaged/`` (and the README that describes them).  Each
``damaged/<name>/`` is a store of one user, ``ada``, with a ``truth.json`` that says
what a right reader finds.  The truth follows from how the damage is done here and from
the rules of docs/format.md; no reader was asked.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from meshlab.errors import InternalError, NotFound
from meshlab.testing.builder import build_store
from meshlab.testing.log import LogBuilder
from meshlab.testing.older import build_exports, build_scoped
from meshlab.testing.traffic import Mix, Traffic
from meshlab.times import format_time, midnight
from meshlab.wal.frame import Frame

UID = "ada"
DAYS = ("20250701", "20250702", "20250703")
FIRST, MIDDLE, LAST = DAYS
LONG = 5_000_000
"""Characters of the content of the long line."""

HOUR = 3_600_000_000
_FRAMES_A_DAY = 14


class Truth(NamedTuple):
    """What a right reader finds.

    ``acknowledged`` events were reported as written; ``readable`` ones are returned.
    ``rejects`` counts rows with bytes by class, ``findings`` rows of 0 bytes.
    ``damage`` is whether strict work must stop (a torn tail alone is none).
    """

    acknowledged: int
    readable: int
    rejects: dict[str, int]
    findings: dict[str, int]
    damage: bool


class Scene:
    """Three sound days of one user, before the disaster.

    ``frames`` lists the frames of each day in order; ``acknowledged`` counts their
    events and the lines of other programs.
    """

    def __init__(self, seed: int, *, batches: bool = True, foreign: bool = True) -> None:
        self.log = LogBuilder(FIRST)
        self.frames: dict[str, list[Frame]] = {day: [] for day in DAYS}
        self.acknowledged = 0
        self.traffic = Traffic(seed, Mix(), late_share=0.0)
        for day in DAYS:
            for number in range(_FRAMES_A_DAY):
                self.frame(day, number, 3 if batches and number % 5 == 3 else 1)
                if foreign and number in (4, 9):
                    self.line(foreign_line(day, number))

    def frame(self, day: str, number: int, count: int = 1) -> Frame:
        """Append a frame of ``count`` events at the day's hour ``number``."""
        time = format_time(midnight(day) + number * HOUR)
        made = self.log.frame([self.traffic.event(time) for _ in range(count)], day=day, time=time)
        self.frames[day].append(made)
        self.acknowledged += count
        return made

    def line(self, data: bytes, events: int = 1) -> None:
        """Append a line of another program that holds so many events."""
        self.log.raw(data)
        self.acknowledged += events

    def edit(self, day: str, change: Callable[[bytes], bytes]) -> None:
        """Put a day's changed bytes in place."""
        self.log.replace(day, change(self.log.bytes(day)))

    def exchange(self, day: str, old: bytes, new: bytes) -> None:
        """Put ``new`` in the one place of a day where ``old`` stands."""
        if self.log.bytes(day).count(old) != 1:
            raise InternalError(f"the bytes to exchange do not stand exactly once in {day}")
        self.edit(day, lambda data: data.replace(old, new))

    def truth(
        self,
        lost: int = 0,
        *,
        rejects: dict[str, int] | None = None,
        findings: dict[str, int] | None = None,
        damage: bool = True,
    ) -> Truth:
        """The truth when ``lost`` of the acknowledged events cannot be read."""
        return Truth(self.acknowledged, self.acknowledged - lost, rejects or {}, findings or {}, damage)


def foreign_line(day: str, number: int) -> bytes:
    """A line by a program without frames: even numbers the Rust module, odd ones the gateway."""
    if number % 2 == 0:
        return f'{{"Insert":{{"id":"bare-{day}-{number}","amplitude":0.5,"content":"by the Rust module"}}}}\n'.encode()
    time = f"{day[:4]}-{day[4:6]}-{day[6:]}T{number:02d}:30:00.137Z"
    return f'{{"timestamp":"{time}","event":{{"type":"page_view","path":"/memories/{number}"}}}}\n'.encode()


def torn_tail(scene: Scene) -> Truth:
    """A power cut left one and a half lines of the last frame, a batch of three not yet acknowledged."""
    batch = scene.frame(LAST, _FRAMES_A_DAY, 3).data
    first, second, _ = batch.splitlines(keepends=True)
    kept = len(first) + len(second) // 2
    scene.edit(LAST, lambda data: data[: len(data) - len(batch) + kept])
    scene.acknowledged -= 3
    return scene.truth(rejects={"torn": 2}, damage=False)


def no_newline(scene: Scene) -> Truth:
    """The last line is whole but its newline did not reach the disk."""
    scene.edit(LAST, lambda data: data[:-1])
    return scene.truth(damage=False)


def fused_lines(scene: Scene) -> Truth:
    """Programs without a lock wrote into each other's lines.

    Two bare lines whose newlines came late; a frame between the halves of a bare line;
    a frame that lost its newline, with a bare line behind it.
    """
    scene.line(_bare("fused-1") + _bare("fused-2") + b"\n\n", events=2)
    torn = _bare("fused-3")
    scene.line(torn[:40])
    scene.frame(LAST, _FRAMES_A_DAY)
    scene.log.raw(torn[40:] + b"\n")
    scene.frame(LAST, _FRAMES_A_DAY + 1)
    scene.edit(LAST, lambda data: data[:-1])
    scene.line(b'{"Delete":"fused-1"}\n')
    scene.frame(LAST, _FRAMES_A_DAY + 2)
    return scene.truth(1, rejects={"fused": 1, "not-json": 1}, findings={"fused": 3})


def nul_run(scene: Scene) -> Truth:
    """Three frames of the second day are NULs, and NULs stand behind the end of the last."""
    lost = b"".join(frame.data for frame in scene.frames[MIDDLE][5:8])
    scene.exchange(MIDDLE, lost, bytes(len(lost) - 1) + b"\n")
    scene.edit(LAST, lambda data: data + bytes(512))
    return scene.truth(3, rejects={"nul-run": 1, "torn": 1}, findings={"chain-gap": 1})


def bit_flip(scene: Scene) -> Truth:
    """One bit of an amplitude of the second day is flipped; the line is still JSON."""
    frame = next(
        frame.data for frame in scene.frames[MIDDLE][4:] if b'"Update":' in frame.data and frame.data.count(b"\n") == 1
    )
    at = frame.index(b'"amplitude":') + 15
    flipped = frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]
    scene.exchange(MIDDLE, frame, flipped)
    return scene.truth(1, rejects={"bad-sum": 1}, findings={"chain-gap": 1})


def crlf_and_blanks(scene: Scene) -> Truth:
    """An editor saved the second day with CRLF, and somebody left blank lines."""
    blanks = (b"", b"   ", b"\t", b"")

    def spoil(data: bytes) -> bytes:
        lines = data.splitlines()
        for number, blank in enumerate(blanks):
            lines.insert(3 * (number + 1), blank)
        return b"\r\n".join(lines) + b"\r\n\n"

    scene.edit(MIDDLE, spoil)
    return scene.truth(damage=False)


def dropped_frame(scene: Scene) -> Truth:
    """One frame of the second day is gone without a trace but the numbers of its neighbours."""
    gone = scene.frames[MIDDLE][6].data
    scene.exchange(MIDDLE, gone, b"")
    return scene.truth(1, findings={"chain-gap": 1})


def repeated_frame(scene: Scene) -> Truth:
    """Two frames of the second day stand there twice, as after a careless restore."""
    twice = b"".join(frame.data for frame in scene.frames[MIDDLE][5:7])
    scene.exchange(MIDDLE, twice, twice + twice)
    return scene.truth(rejects={"duplicate-frame": 2})


def missing_day(scene: Scene) -> Truth:
    """The second day's file is gone."""
    lost = sum(frame.last_seq - frame.first_seq + 1 for frame in scene.frames[MIDDLE])
    scene.log.replace(MIDDLE, None)
    return scene.truth(lost, findings={"chain-gap": 1})


def not_utf8(scene: Scene) -> Truth:
    """Two lines by other programs: one in Latin-1, one cut inside an emoji by a filter."""
    scene.line('{"Insert":{"id":"latin","content":"café"}}\n'.encode("latin-1"))
    text = '{"timestamp":"2025-07-03T20:00:00Z","event":{"type":"note","text":"🙂"}}\n'.encode()
    scene.line(text.replace("🙂".encode(), "🙂".encode()[:2]))
    scene.frame(LAST, 21)
    return scene.truth(2, rejects={"not-utf8": 2})


def long_line(scene: Scene) -> Truth:
    """A sound event of 5 MB, and an upload of 5 MB that was pasted into the log and is no JSON."""
    time = "2025-07-03T21:00:00.000000Z"
    scene.log.frame([{"Insert": {"id": "long", "content": "all work and no play " * (LONG // 21)}}], time=time)
    scene.acknowledged += 1
    scene.log.raw(b'{"upload":"' + b"QUJD" * (LONG // 4) + b"\n")
    scene.frame(LAST, 22)
    return scene.truth(rejects={"not-json": 1})


class Disaster(NamedTuple):
    """How a disaster is made: what it does to which scene, and whether it is too big for git."""

    strike: Callable[[Scene], Truth]
    batches: bool = True
    foreign: bool = True
    big: bool = False


# The places of frames that are picked by number hold single events (see Scene).
DISASTERS = {
    "torn-tail": Disaster(torn_tail),
    "no-newline": Disaster(no_newline),
    "fused-lines": Disaster(fused_lines),
    "nul-run": Disaster(nul_run),
    "bit-flip": Disaster(bit_flip),
    "crlf-and-blanks": Disaster(crlf_and_blanks, batches=False),
    "dropped-frame": Disaster(dropped_frame),
    "repeated-frame": Disaster(repeated_frame),
    "missing-day": Disaster(missing_day, foreign=False),
    "not-utf8": Disaster(not_utf8),
    "long-line": Disaster(long_line, big=True),
}
"""Named disasters, in the order of the README."""


def build_disaster(name: str, target: str | os.PathLike[str], *, seed: int = 1) -> Truth:
    """Write one damaged store (user ``ada``, three days) into ``target``; returns the truth.

    >>> build_disaster("bit-flip", tempfile.mkdtemp()).rejects
    {'bad-sum': 1}
    """
    if name not in DISASTERS:
        raise NotFound(f"there is no disaster {name!r}", hint=f"choose one of {', '.join(DISASTERS)}")
    disaster = DISASTERS[name]
    scene = Scene(seed, batches=disaster.batches, foreign=disaster.foreign)
    truth = disaster.strike(scene)
    root = Path(target)
    scene.log.write(root / UID)
    (root / "truth.json").write_text(json.dumps(truth._asdict(), indent=2) + "\n")
    return truth


def build_samples(target: str | os.PathLike[str], *, big: bool = True) -> Path:
    """Write ``store/``, ``scoped/``, ``exports/``, ``damaged/`` and the files beside them into ``target``.

    Existing files of those names are replaced, nothing is deleted.  ``big=False``
    leaves out the disasters too big for git.
    """
    root = Path(target)
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        build_store(fresh / "store", users=6, days=10, events=2200, seed=1)
        build_scoped(fresh / "scoped")
        build_exports(fresh / "exports")
        for name, disaster in DISASTERS.items():
            if big or not disaster.big:
                build_disaster(name, fresh / "damaged" / name)
        (fresh / "README.md").write_text(_readme(), encoding="utf-8")
        (fresh / ".gitattributes").write_text("* -text\n")
        (fresh / "damaged" / ".gitignore").write_text(
            "".join(f"/{name}/\n" for name, disaster in DISASTERS.items() if disaster.big)
        )
        shutil.copytree(fresh, root, dirs_exist_ok=True)
    return root


def _bare(memory_id: str) -> bytes:
    return f'{{"Insert":{{"id":"{memory_id}","amplitude":0.25,"content":"two writers at once"}}}}'.encode()


def _readme() -> str:
    rows = "\n".join(f"| `{name}` | {_told(disaster)} |" for name, disaster in DISASTERS.items())
    return _README.replace("ROWS", rows)


def _told(disaster: Disaster) -> str:
    told = " ".join((disaster.strike.__doc__ or "").split())
    return f"{told} (built on demand: over 2 MB)" if disaster.big else told


_README = """\
# Samples

`store/`, `scoped/`, `exports/` and `damaged/` are built, the same bytes every time, by

    python -m meshlab.testing.samples data/samples

- `store/`: six users over ten days. 60 % of the events are recalls, partial updates of
  amplitude, stability, last_accessed and access_count; some come too late for a memory
  that was just deleted.
- `phase1/`: three users as the Rust module left them: a bincode `snapshot.bin` each and
  days of bare event lines. `mesh_snapshot.bin` is the older layout, one file for one user.
- `gateway/`: one day of the HTTP gateway, by its JavaScript and its Python route.
- `scoped/`: the logs of two meshes. `ada` was set aside twice and is torn at its end: her
  concepts are known by their names, and one update is about an id nobody knows. `bela`
  gives ids; the first of her entries stand in a checkpoint alone, and one has a NaN.
- `exports/`: memories as JSON, a list (`ada`, with a NaN, an unknown field and a memory
  that lacks one) and a map (`bela`); `settings.json` is no export.
- `damaged/`: stores of one user, `ada`, three days each, with one disaster each.

| `damaged/` | what is wrong |
| --- | --- |
ROWS

`truth.json` beside each damaged user says what a right reader finds: events that were
`acknowledged` and those still `readable`; `rejects` (bytes that are no event) and
`findings` (rows of 0 bytes: a gap in the chain, a fused line of which something was
saved) by class; and whether it is `damage`, at which strict work stops.
"""

if __name__ == "__main__":
    built = build_samples(sys.argv[1] if len(sys.argv) > 1 else "data/samples")
    sys.stdout.write(f"built {built}\n")
