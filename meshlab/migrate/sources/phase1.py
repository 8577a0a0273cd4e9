"""A phase-1 user: a bincode ``snapshot.bin`` and days of event lines behind it.

The state is the map with the log folded over it.  Most records of a large map are not
in the log: they go from the map straight into the result.  Memory holds the records
that the log speaks of without long contents; those that the log brings wait in a
temporary file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import DamageFound, storage_errors
from meshlab.migrate.sources.maps import SMALLEST_MAP, give_map_back, glance_at_map, move_in
from meshlab.migrate.sources.notes import Notes
from meshlab.migrate.sources.source import LeftOver, Source
from meshlab.migrate.sources.texts import kept_apart, with_contents
from meshlab.snapshot.bincode import read_bincode
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.snapshot.contents import Contents, encode_batch
from meshlab.snapshot.fold import FOLD_COLUMNS, Fold
from meshlab.tables.events import Events, load_user
from meshlab.tables.load import Piece
from meshlab.tables.schema import RECORD_SCHEMA
from meshlab.wal.files import Files, open_regular
from meshlab.wal.paths import SNAPSHOT, segment_day, segment_name, segment_size
from meshlab.wal.recovery import find_torn
from meshlab.wal.sink import SyncedFile
from meshlab.wording import counted

_SHOWN = 5
_STEP = 4 << 20
_FOLDED = 64 << 20
"""Arrow bytes of events folded at once."""

_CONTENT = RECORD_SCHEMA.get_field_index("content")


@dataclass(frozen=True)
class Phase1Source(Source):
    """A directory of a phase-1 store; ``base`` is the directory itself."""

    kind: ClassVar[str] = "phase1"

    @property
    def map(self) -> Path | None:
        """The bincode map, if there is one."""
        return next((path for path in self.paths if path.name == SNAPSHOT), None)

    @property
    def days(self) -> list[str]:
        """The days of the log, oldest first."""
        return sorted(day for path in self.paths if (day := segment_day(path.name)) is not None)

    def _records(self, notes: Notes, progress: bool) -> Iterator[pa.RecordBatch]:
        held = self._held(self._touched_ids(progress), progress)
        fold, events = Fold(held, step_bytes=_FOLDED), self._events(FOLD_COLUMNS, progress)
        with kept_apart() as texts:
            for batch in events.to_batches():
                fold.add(texts.add(batch))
            self._check(events, notes)
            state, orphans, counts = fold.finish()
            _tell(notes, orphans, counts.others)
            del fold
            yield from self._merged(state, held["id"].combine_chunks(), texts.contents(), progress)

    def _events(self, columns: Sequence[str], progress: bool) -> Events:
        pieces = [Piece(day, 0, segment_size(self.base, day)) for day in self.days]
        return load_user(self.base, self.uid, pieces, columns=columns, progress=progress)

    def _touched_ids(self, progress: bool) -> pa.Array:
        """The ids that the log speaks of, each once."""
        ids = [pa.array([], pa.string())]
        if self.map is not None:  # over nothing, everything is from the log
            events = self._events(("id",), progress)
            ids += [pc.unique(batch["id"]) for batch in events.to_batches()]
        return pc.unique(pa.chunked_array(ids)).drop_null()

    def _held(self, touched: pa.Array, progress: bool) -> pa.Table:
        """The records of the map that the log speaks of, with codes for contents."""
        tables = [RECORD_SCHEMA.empty_table()]
        if self.map is not None and len(touched):
            for batch in read_bincode(self.map, progress=progress):
                some = batch.filter(pc.is_in(batch["id"], touched))
                tables.append(pa.table(encode_batch(some)[0]))
        return pa.concat_tables(tables)

    def _merged(self, state: pa.Table, ids: pa.Array, contents: Contents, progress: bool) -> Iterator[pa.RecordBatch]:
        """The records of the map as they are, but those that the log speaks of, ``ids``, as the fold left them."""
        if self.map is not None:
            for batch in read_bincode(self.map, progress=progress):
                spoken_of = pc.is_in(batch["id"], ids)
                yield batch.filter(pc.invert(spoken_of))
                old = batch.filter(spoken_of)
                if old.num_rows:
                    yield from _renewed(old, state.filter(pc.is_in(state["id"], old["id"])), contents)
        yield from with_contents(state.filter(pc.invert(pc.is_in(state["id"], ids))), contents)

    def _check(self, events: Events, notes: Notes) -> None:
        """Raise ``DamageFound`` for damage in the log that nobody has accepted."""
        damage = []
        for reject in events.rejects.to_pylist():
            place = f"{segment_name(reject['segment'])}:{reject['offset']}"
            told = f"{place} (line {reject['line']}): {reject['class']}, {reject['reason']}"
            if reject["class"] == "torn":
                notes.add(f"{told}: {counted(reject['nbytes'], 'byte')} left out")
            elif place in self.accept:
                notes.add(f"{told}: {counted(reject['nbytes'], 'byte')} left out, as accepted")
            else:
                damage.append((place, told))
        if damage:
            places = [place for place, _ in damage]
            raise DamageFound(_describe(self.base, damage), hint=self._hint(places), places=places)

    def _hint(self, places: Sequence[str]) -> str:
        options = " ".join(f"--accept {self.uid}/{place}" for place in places[:_SHOWN])
        return f"to migrate without those bytes, for good, make the plan with {options}"

    def glance(self) -> None:
        if self.map is not None:
            glance_at_map(self.map)

    def build(self, root: Path, inputs: Sequence[Path], files: Files, clock: Callable[[], int]) -> None:
        """The copies become the user's map and log, and a checkpoint with upgrade makes generation 1 of them."""
        for day in reversed(self.days):
            if _cut_torn_tail(inputs[0].parent, day, files):
                break
        held = [path for path in inputs if path.stat().st_size]  # nobody folds a segment without a byte
        move_in(root, {path: path.name for path in held}, files)
        checkpoint(root, self.uid, upgrade=True, accept=self.accept, progress=False, files=files, clock=clock)

    def give_back(self, root: Path, folder: Path, files: Files) -> list[LeftOver]:
        """A map of the memories that have all seventeen fields, and no log: the old one would undo deletions."""
        return give_map_back(root, self.uid, folder / SNAPSHOT, files)

    def smallest(self) -> dict[str, bytes]:
        last = {segment_name(day): b'{"Insert":{"id":"m2"}}\n' for day in self.days[-1:]}
        return last if self.map is None else {SNAPSHOT: SMALLEST_MAP, **last}

    def operations(self) -> list[str]:
        parts = [SNAPSHOT] * (self.map is not None)
        parts += [f"{counted(len(self.days), 'day')} of log"] * bool(self.days)
        steps = [
            f"copy {' and '.join(parts)} of user {self.uid}",
            "checkpoint with upgrade: map and log into layers, generation 1; the log stays readable",
        ]
        return steps + [f"leave out damage at {place}, as accepted" for place in self.accept]

    def misnamed(self) -> str | None:
        for path in self.paths:
            if path.parent != self.base or (path.name != SNAPSHOT and segment_day(path.name) is None):
                return f"expected {SNAPSHOT} and wal-YYYYMMDD.log in {self.base}, found {path}"
        return None


def _renewed(old: pa.RecordBatch, now: pa.Table, contents: Contents) -> Iterator[pa.RecordBatch]:
    """What a fold made of some records of a map: contents that stayed are theirs, the others came with the log."""
    codes = encode_batch(old)[0]["content"]
    for batch in now.to_batches():
        was = pc.index_in(batch["id"], old["id"])
        stayed = pc.fill_null(pc.equal(batch["content"], codes.take(was)), False)
        new = with_contents(pa.table(batch.filter(pc.invert(stayed))), contents)
        kept = batch.filter(stayed)
        yield kept.set_column(_CONTENT, "content", old["content"].take(was.filter(stayed)))
        yield from new


def _cut_torn_tail(folder: Path, day: str, files: Files) -> int:
    """Make a segment anew without the unfinished write at its end, which a checkpoint would leave to the next writer.

    Returns the bytes it has then.
    """
    path = folder / segment_name(day)
    torn = find_torn(folder, day)
    if torn is None:
        return path.stat().st_size
    whole = path.with_name(f"{path.name}.whole")
    with storage_errors("write", whole):
        with open(path, "rb", opener=open_regular) as file, SyncedFile(whole, files) as sink:
            for start in range(0, torn.offset, _STEP):
                sink.write(file.read(min(_STEP, torn.offset - start)))
        files.rename(whole, path)
    return torn.offset


def _describe(root: Path, damage: Sequence[tuple[str, str]]) -> str:
    more = f" and {len(damage) - _SHOWN} more" if len(damage) > _SHOWN else ""
    count = counted(len(damage), "damaged place")
    return f"{root}: {count}: {'; '.join(told for _, told in damage[:_SHOWN])}{more}"


def _tell(notes: Notes, orphans: pa.Table, others: int) -> None:
    for orphan in orphans.to_pylist():
        place = f"{segment_name(orphan['segment'])}:{orphan['offset']}"
        notes.count("updates of memories that do not live, which change nothing", f"{orphan['id']} ({place})")
    if others:
        told = "event of the log changes" if others == 1 else "events of the log change"
        notes.add(f"{others:,} {told} no memory; the new layout keeps {'it' if others == 1 else 'them'} in the log")
