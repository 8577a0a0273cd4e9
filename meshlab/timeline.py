"""The log of a user as a line of steps, and what a replay can start from.

Steps stand in log order, cut where checkpoints ended: what they folded, in their order,
then all the rest.  Steps that were deleted, or are not what was folded, stay in the line
and say why they cannot be read.  Each checkpoint that is kept, the phase-1 map and the
empty beginning are *starts*: each stands somewhere in the line.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import MeshlabError, SnapshotError, storage_errors
from meshlab.snapshot.base import Base, verified_path
from meshlab.snapshot.bincode import read_bincode
from meshlab.snapshot.manifest import (
    CONTENTS,
    RECORDS,
    Entry,
    Manifest,
    Range,
    check_range,
    current,
    digest_of,
    history,
    in_force,
)
from meshlab.snapshot.ranges import undeleted
from meshlab.tables.load import Log, Piece
from meshlab.tables.schema import RECORD_SCHEMA
from meshlab.wal.chain import LONG_AGO, ORIGIN, Cursor
from meshlab.wal.paths import segment_days, segment_name, segment_size
from meshlab.wal.verify import last_gone

BEGINNING = "the beginning of the log"
MAP = "the phase-1 snapshot"


class Step(NamedTuple):
    """A piece of the log; ``folded`` as a checkpoint remembers it, None when none has folded it.

    ``first`` and ``end`` are the effective times of its first event and behind it, None
    where nobody knows.  ``gone`` says why it cannot be read although nobody has looked.
    """

    piece: Piece
    folded: Range | None = None
    first: int | None = None
    end: int | None = None
    gone: str = ""


class Start:
    """Something a replay starts from: ``place`` is the first step behind it, ``since`` its moment (µs)."""

    def __init__(self, root: Path, name: str, place: int, manifest: Manifest | None, path: Path | None = None) -> None:
        self.root, self.name, self.place = root, name, place
        self.manifest, self.path = manifest, path

    @property
    def generation(self) -> int:
        """The number of the checkpoint; 0 for what was there before the first one."""
        return self.manifest.generation if self.manifest is not None and self.path is None else 0

    @property
    def cursor(self) -> Cursor:
        """Where the log stands."""
        if self.manifest is None or self.path is not None:
            return ORIGIN
        return Cursor(self.manifest.seq, self.manifest.sum, self.manifest.effective)

    @cached_property
    def since(self) -> int:
        """The earliest moment that can be restored from here (µs)."""
        if self.manifest is None:
            assert self.path is not None
            return newest_access(self.path)
        if self.path is not None:
            return self.manifest.base_time
        return max(self.manifest.effective, self.manifest.base_time)

    @cached_property
    def problem(self) -> str:
        """Why nothing can be restored from here; empty when it can.  Reads the layers, once per process."""
        try:
            if self.path is not None:
                with storage_errors("read", self.path):
                    os.stat(self.path)
                assert self.since is not None
            elif self.manifest is not None:
                for layer in (*self.manifest.of_kind(RECORDS), *self.manifest.of_kind(CONTENTS)):
                    verified_path(self.root, layer)
        except MeshlabError as error:
            return error.message
        return ""

    def base(self) -> Base | None:
        """The layers here, opened; None when there are none."""
        manifest = None if self.path is not None else self.manifest
        return Base.open(self.root, manifest) if manifest is not None and manifest.layers else None

    def table(self, *, progress: bool = True) -> pa.Table | None:
        """The records here; None when there are none."""
        if self.path is not None:
            return pa.Table.from_batches(read_bincode(self.path, progress=progress), RECORD_SCHEMA)
        base = self.base()
        return None if base is None else base.state()


def newest_access(path: Path) -> int:
    """The newest ``last_accessed`` in a phase-1 map (µs); reads it all."""
    moments = (
        pc.max(batch["last_accessed_ts"].cast(pa.int64())).as_py() for batch in read_bincode(path, progress=False)
    )
    return max((moment for moment in moments if moment is not None), default=LONG_AGO)


class Timeline:
    """The steps of a user's log, and what a replay can start from, oldest first.

    ``broken`` says why the snapshot in force cannot be trusted; the timeline is then
    made of the earlier ones.  With ``past`` False only the newest start is known.
    """

    def __init__(self, root: Path, uid: str, *, past: bool = True) -> None:
        self.root, self.uid = root, uid
        self.broken: SnapshotError | None = None
        found: Manifest | Path | None = None
        try:
            found = current(root, uid)
        except SnapshotError as error:
            self.broken = error
        self.entries = history(root, uid) if past or self.broken else []
        self._problems: dict[int, str] = {}
        self.manifests = _manifests(found, self.entries)
        self.newest = self.manifests[-1] if self.manifests else Manifest(uid=uid)
        self.steps: list[Step] = []
        self._covered: dict[tuple[str, int], tuple[int, int]] = {}
        self._again = _incarnations(root, self.newest)
        self.starts = self._make_starts(found)
        self.steps += list(self._rest())

    # The line of steps

    def _make_starts(self, found: Manifest | Path | None) -> list[Start]:
        starts = []
        for manifest in self.manifests:
            self.steps += list(self._folded_by(manifest))
            name = f"checkpoint {manifest.generation}" if manifest.generation else BEGINNING
            starts.append(Start(self.root, name, len(self.steps), manifest))
        maps = [entry.path for entry in self.entries if entry.generation == 0 and not (entry.manifest or entry.problem)]
        if isinstance(found, Path):
            starts.insert(0, Start(self.root, MAP, 0, None, found))
        elif maps:
            starts.insert(0, Start(self.root, MAP, 0, self.manifests[0] if self.manifests else None, maps[0]))
        elif not starts and not self.entries:
            starts.append(Start(self.root, BEGINNING, 0, Manifest(uid=self.uid)))
        return starts

    def _folded_by(self, manifest: Manifest) -> Iterator[Step]:
        """What a checkpoint has folded beyond those before it, in its order."""
        again: Counter[str] = Counter()
        for gone in manifest.retired:
            key = gone.segment, again[gone.segment]
            again[gone.segment] += 1
            if self._covered.get(key, (0, 0))[0] < gone.nbytes:
                yield self._step(Range(gone.segment, 0, gone.nbytes, gone.digest, 0, LONG_AGO), key[1])
        for piece in manifest.folded:
            if self._covered.get((piece.segment, again[piece.segment]), (0, 0))[0] < piece.stop:
                yield self._step(piece, again[piece.segment])

    def _step(self, folded: Range, incarnation: int) -> Step:
        key = folded.segment, incarnation
        covered, lines = self._covered.get(key, (0, 0))
        self._covered[key] = folded.stop, folded.lines
        start = max(folded.start, covered)
        known = start == folded.part and folded.first != LONG_AGO
        piece = Piece(folded.segment, start, folded.stop, lines + 1)
        gone = f"{segment_name(folded.segment)} was deleted by vacuum" if incarnation < self._again[key[0]] else ""
        end = None if folded.effective == LONG_AGO else folded.effective
        return Step(piece, folded, folded.first if known else None, end, gone)

    def _rest(self) -> Iterator[Step]:
        """What no checkpoint has folded, in LSN order, to the end of each file."""
        for day in segment_days(self.root):
            end, lines = self._covered.get((day, self._again[day]), (0, 0))
            last = next((s.folded for s in reversed(self.steps) if s.piece.segment == day and not s.gone), None)
            problem = self.look_at(last) if last is not None else ""
            if problem or segment_size(self.root, day) > end:
                yield Step(Piece(day, end, None, lines + 1), gone=problem)

    # What can be read

    def problem(self, index: int) -> str:
        """Why a step cannot be read; empty when it can.  Looks at the segment, once."""
        step = self.steps[index]
        if step.gone or step.folded is None:
            return step.gone
        if index not in self._problems:
            self._problems[index] = self.look_at(step.folded)
        return self._problems[index]

    def look_at(self, folded: Range) -> str:
        """Why the bytes of a folded range are not what was folded; empty when they are."""
        return check_range(self.root, folded)

    def pieces(self, start: Start, stop: int | None = None) -> tuple[Piece, ...]:
        """What is to be read behind a start, up to a step."""
        return joined(step.piece for step in self.steps[start.place : stop])

    def missing(self, start: Start, stop: int | None = None) -> int | None:
        """The first step behind a start, and before ``stop``, that cannot be read."""
        stop = len(self.steps) if stop is None else min(stop, len(self.steps))
        return next((index for index in range(start.place, stop) if self.problem(index)), None)


def _manifests(found: Manifest | Path | None, entries: Sequence[Entry]) -> list[Manifest]:
    """The manifests that led to the one in force, oldest first; without one, all that can be read.

    Others were left when an older snapshot was put back: they know another log order.
    """
    known = {entry.generation: entry.manifest for entry in entries if entry.manifest is not None}
    if not isinstance(found, Manifest):
        return [known[generation] for generation in sorted(known)]
    line, named = [found], {digest_of(entry.path): entry.manifest for entry in entries}
    while (before := named.get(line[-1].parent)) is not None and before.generation < line[-1].generation:
        line.append(before)
    # Where the chain is broken, a manifest in between being unreadable, the older ones are believed.
    oldest = line[-1]
    if oldest.parent and oldest.generation:
        line += [known[number] for number in sorted(known, reverse=True) if number < oldest.generation]
    return line[::-1]


def _incarnations(root: Path, newest: Manifest) -> Counter[str]:
    """How often each segment was deleted by vacuum; a file that a crash kept from it does not count."""
    again = Counter(gone.segment for gone in newest.retired)
    again.subtract(undeleted(root, newest).keys())
    return again


def joined(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The pieces, those made one that follow each other in one segment."""
    found: list[Piece] = []
    for piece in pieces:
        goes_on = bool(found) and (found[-1].segment, found[-1].stop) == (piece.segment, piece.start)
        if goes_on and piece.floor == LONG_AGO:
            found[-1] = found[-1]._replace(stop=piece.stop)
        else:
            found.append(piece)
    return tuple(found)


def log_of(root: Path, uid: str) -> Log:
    """The log of a user as it is, in log order; where segments were deleted by vacuum, it goes on behind them.

    Segments that are shorter than what was folded of them, or differ, are read as they are.
    """
    for _ in range(_ATTEMPTS):
        before = in_force(root)
        log = _log_of(root, uid)
        if in_force(root) == before:  # else a vacuum may have come between manifest and segments
            break
    return log


_ATTEMPTS = 5


def _log_of(root: Path, uid: str) -> Log:
    try:
        found = current(root, uid)
    except SnapshotError:
        return Log(root, uid)
    if not isinstance(found, Manifest) or not (found.folded or found.retired):
        return Log(root, uid)
    timeline = Timeline(root, uid, past=False)
    days = segment_days(root)
    odd = {step.piece.segment for index, step in enumerate(timeline.steps) if timeline.problem(index)}
    pieces = dict.fromkeys(
        Piece(day) if day in odd else piece for piece in _floored(timeline, found) if (day := piece.segment) in days
    )
    gone = _deleted(found, days)
    before = {day: last_gone(gone, day) for day in days}
    floor = max((one.effective for one in found.retired if not days or one.segment < days[0]), default=LONG_AGO)
    order = [piece._replace(after=before[piece.segment]) for piece in joined(pieces)]
    return Log(root, uid, order, ORIGIN._replace(effective=floor))


def _floored(timeline: Timeline, manifest: Manifest) -> Iterator[Piece]:
    """The pieces that may be there; those behind a deleted segment know the effective time it ended with."""
    moments = sorted(gone.effective for gone in manifest.retired)
    before = LONG_AGO
    for step in timeline.steps:
        if step.gone and step.folded is not None:
            continue
        first = manifest.effective if step.folded is None else step.first if step.first is not None else before
        passed = [moment for moment in moments if before < moment <= first]
        yield step.piece._replace(floor=passed[-1]) if passed else step.piece
        before = max(before, first if step.end is None else step.end)


def deleted_segments(root: Path, uid: str) -> dict[str, tuple[int, bytes]]:
    """The segments of a user that vacuum deleted, with the last frame each held."""
    try:
        found = current(root, uid)
    except SnapshotError:
        return {}
    return _deleted(found, segment_days(root)) if isinstance(found, Manifest) else {}


def _deleted(manifest: Manifest, days: Sequence[str]) -> dict[str, tuple[int, bytes]]:
    return {gone.segment: (gone.seq, gone.sum) for gone in manifest.retired if gone.segment not in days and gone.seq}
