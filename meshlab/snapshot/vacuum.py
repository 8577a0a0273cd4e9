"""Vacuum: what no moment that must stay restorable needs is sealed or deleted.

Only here is anything of the log, of layers or of earlier snapshots ever deleted.  A
segment is first *retired*: its totals go to a ledger layer, and a new manifest says
that it was folded and is gone.  Only then is the file removed; a crash in between
leaves a file that readers know for the old one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import MeshlabError, StorageError, storage_errors
from meshlab.snapshot.base import verified_path
from meshlab.snapshot.checkpoint import abandon, commit, keep, locked, tool, wal_lock
from meshlab.snapshot.contents import digests_in, read_texts, write_texts
from meshlab.snapshot.layers import LayerFolder, newest_rows, read_records, write_plain
from meshlab.snapshot.manifest import (
    CONTENTS,
    HISTORY,
    LAYERS,
    LEDGER,
    RECORDS,
    Entry,
    Layer,
    Manifest,
    Range,
    Retired,
    check_range,
    current,
    digest_of,
    history,
    layer_path,
    next_generation,
)
from meshlab.snapshot.pins import pinned
from meshlab.snapshot.ranges import folded_after, rest, undeleted
from meshlab.tables.events import load_user
from meshlab.tables.load import Piece
from meshlab.tables.seal import seal
from meshlab.tables.sealed import description_path, sealed_path
from meshlab.times import DAY, SECOND, day_of, midnight
from meshlab.wal.chain import LONG_AGO
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.frame import NO_SUM
from meshlab.wal.paths import SNAPSHOT, segment_days, segment_name, segment_size
from meshlab.wal.recovery import last_frame
from meshlab.wal.writer import wall_clock
from meshlab.wording import counted, size_text

YOUNG = 15 * 60 * SECOND
"""Files a manifest younger than this refers to stay: somebody may be about to open them (µs)."""


class Fate(NamedTuple):
    """What becomes of one file: its name, bytes, whether it goes, and why or why not."""

    name: str
    nbytes: int
    goes: bool
    reason: str


class VacuumReport(NamedTuple):
    """What a vacuum did, or would do: see ``Fate``.

    Moments from ``cutoff`` (µs) on stay restorable.  ``events`` and ``event_bytes`` are
    the totals of the deleted segments that went to the ledger.
    """

    uid: str
    generation: int
    cutoff: int
    segments: list[Fate]
    layers: list[Fate]
    history: list[Fate]
    events: int
    event_bytes: int
    applied: bool

    @property
    def bytes_freed(self) -> int:
        """Bytes of all that goes."""
        return sum(fate.nbytes for fate in (*self.segments, *self.layers, *self.history) if fate.goes)

    def __repr__(self) -> str:
        fates = [fate for fate in (*self.segments, *self.layers, *self.history) if fate.goes]
        told = "deleted" if self.applied else "would be deleted"
        return f"<VacuumReport of {self.uid}: {counted(len(fates), 'file')}, {size_text(self.bytes_freed)} {told}>"


def vacuum(
    root: Path,
    uid: str,
    *,
    apply: bool = False,
    files: Files = REAL_FILES,
    clock: Callable[[], int] = wall_clock,
) -> VacuumReport:
    """Delete what the retention of a user no longer needs; without ``apply`` only say what.

    Raises ``CheckpointBusy``, ``SnapshotError``, ``StorageError``.
    """
    with locked(root, files):
        manifest = current(root, uid)
        if not isinstance(manifest, Manifest) or not manifest.generation:
            return _nothing(root, uid)
        plan = _Plan(root, uid, manifest, clock())
        fates = plan.segments()
        report = VacuumReport(
            uid, manifest.generation, plan.cutoff, fates, plan.layers(), plan.history(), 0, 0, applied=False
        )
        if not apply:
            return report
        with suppress(StorageError):  # a cache: a full disk must not keep a vacuum from making room
            seal(root, uid, files=files)
        report = _retire(plan, report, files, clock)
        _delete(plan, report, files)
        return report._replace(applied=True)


def _nothing(root: Path, uid: str) -> VacuumReport:
    fates = [Fate(segment_name(d), segment_size(root, d), False, "no checkpoint yet") for d in segment_days(root)]
    return VacuumReport(uid, 0, LONG_AGO, fates, [], [], 0, 0, applied=False)


class _Plan:
    """What the window needs: moments from ``cutoff`` on, by the manifests that lead to them."""

    def __init__(self, root: Path, uid: str, manifest: Manifest, now: int) -> None:
        self.root, self.uid, self.manifest, self.now = root, uid, manifest, now
        self.cutoff = min(now, manifest.effective) - manifest.retain_days * DAY
        self.entries = history(root, uid)
        self.pinned = pinned(root)
        self.base = self._base()
        self.days = segment_days(root)
        self.left = undeleted(root, manifest)
        self.framed = next((d for d in reversed(self.days) if last_frame(root / segment_name(d))[0] is not None), None)
        self.needed: set[str] = set()
        if self.base is not None:
            self.needed = {piece.segment for piece in folded_after(manifest, self.base)}
            self.needed |= {piece.segment for piece in rest(root, manifest)}

    def _base(self) -> Manifest | None:
        """The newest manifest whose moment is not after the cutoff and whose layers are what their names say.

        Without a snapshot in force that is whole, nothing is: the log may be all there is.
        """
        if not self.is_whole(self.manifest):
            return None
        known = [*self.earlier(), self.manifest]
        old = [one for one in known if one.generation and one.effective <= self.cutoff]
        return next((one for one in reversed(old) if self.is_whole(one)), None)

    def is_whole(self, manifest: Manifest) -> bool:
        """Whether all layers of records and contents of a manifest are there, byte for byte."""
        try:
            for layer in (*manifest.of_kind(RECORDS), *manifest.of_kind(CONTENTS)):
                verified_path(self.root, layer)
        except MeshlabError:
            return False
        return True

    def kept(self) -> list[Manifest]:
        """The manifests that stay, oldest first."""
        return [one for one in self.earlier() if self.is_wanted(one) or one.generation in self.pinned] + [self.manifest]

    def earlier(self) -> list[Manifest]:
        """The manifests in ``history/`` that can be read, oldest first."""
        return [entry.manifest for entry in self.entries if entry.manifest is not None]

    def is_wanted(self, manifest: Manifest) -> bool:
        """Whether a moment of the window is restored from an earlier manifest."""
        return self.base is None or manifest.generation >= self.base.generation

    def segments(self) -> list[Fate]:
        sizes = {day: segment_size(self.root, day) for day in self.days}
        return [Fate(segment_name(day), size, *self._fate(day, size)) for day, size in sizes.items()]

    def _fate(self, day: str, size: int) -> tuple[bool, str]:
        today = max(day_of(self.now), self.days[-1])
        if day in self.left:
            if size != self.left[day].stop:
                return False, "retired before, and bytes were added since: run a checkpoint"
            return True, "retired before; a crash kept it from being deleted"
        if day == self.days[-1]:
            return False, "the newest segment"
        if day >= day_of(midnight(today) - DAY):
            return False, "of today or yesterday"
        if day == self.framed:
            return False, "the newest that holds a frame"
        piece = _folded(self.manifest, day)
        if piece is None or piece.stop < size:
            return False, "not folded to its end: run a checkpoint"
        if problem := check_range(self.root, piece):
            return False, problem
        if not self.is_whole(self.manifest):
            return False, "the layers that stand for it are missing or damaged"
        if self.base is None:
            return False, f"no checkpoint is older than the retention of {self.manifest.retain_days} days"
        if day in self.needed:
            return False, f"moments of the last {self.manifest.retain_days} days need it"
        return True, f"folded, and no moment of the last {self.manifest.retain_days} days needs it"

    def history(self) -> list[Fate]:
        return [self._history_fate(entry) for entry in self.entries]

    def _history_fate(self, entry: Entry) -> Fate:
        size = entry.path.stat().st_size
        if entry.manifest is None:
            reason = entry.problem or "the snapshot of phase 1: delete it by hand when it is no longer wanted"
            return Fate(entry.path.name, size, False, reason)
        if self.is_wanted(entry.manifest):
            return Fate(entry.path.name, size, False, "a moment of the window is restored from it")
        if entry.generation in self.pinned:
            return Fate(entry.path.name, size, False, f"pinned: {self.pinned[entry.generation]}")
        if entry.manifest.created_at > self.now - YOUNG:
            return Fate(entry.path.name, size, False, "younger than 15 minutes")
        return Fate(entry.path.name, size, True, "before the window")

    def layers(self) -> list[Fate]:
        """Layers no manifest refers to that stays or is young."""
        wanted = [one for one in self.earlier() if self.is_wanted(one) or one.created_at > self.now - YOUNG]
        named, held = self._named([*wanted, self.manifest]), self._named(self.kept())
        unread = any(entry.problem for entry in self.entries) or not self.is_whole(self.manifest)
        fates = []
        for path in sorted((self.root / LAYERS).glob("[0-9a-f]*")):
            size = path.stat().st_size
            if path.name in named:
                fates.append(Fate(path.name, size, False, "a snapshot refers to it"))
            elif path.name in held:
                fates.append(Fate(path.name, size, False, "a pinned snapshot refers to it"))
            elif unread:
                fates.append(Fate(path.name, size, False, "a snapshot that cannot be read may refer to it"))
            else:
                fates.append(Fate(path.name, size, True, "no snapshot that stays refers to it"))
        return fates

    def _named(self, manifests: list[Manifest]) -> set[str]:
        """The files of all layers of some manifests."""
        return {layer_path(self.root, layer).name for one in manifests for layer in one.layers}


def _folded(manifest: Manifest, day: str) -> Range | None:
    """The last range folded of a segment."""
    return max((piece for piece in manifest.folded if piece.segment == day), default=None)


# Retiring and deleting


def _retire(plan: _Plan, report: VacuumReport, files: Files, clock: Callable[[], int]) -> VacuumReport:
    """Write the ledger of the segments that go, shrink contents, and put a manifest in force that says so."""
    before = plan.manifest
    days = [day for day in plan.days if _goes(report, day) and day not in plan.left]
    folder = LayerFolder(plan.root, files)
    folder.prepare()
    try:
        layers, events, nbytes = list(before.layers), 0, 0
        if days:
            totals = _totals(plan.root, before, days)
            events, nbytes = pc.sum(totals["events"]).as_py() or 0, pc.sum(totals["bytes"]).as_py() or 0
            layers += _added(folder.add(LEDGER, lambda sink: write_plain(sink, totals)))
        layers = _shrunk(plan, layers, folder)
        if layers == before.layers and not days:
            return report
        gone = [_retired(plan.root, before, day) for day in days]
        after = msgspec.structs.replace(
            before,
            generation=next_generation(plan.root, before),
            parent=digest_of(plan.root / SNAPSHOT),
            folded=[piece for piece in before.folded if piece.segment not in days],
            retired=before.retired + gone,
            accepted=[place for place in before.accepted if place.segment not in days],
            layers=layers,
            created_at=clock(),
            tool=tool(),
            bytes_of_change=0,
        )
        keep(plan.root, before.generation, files)
        commit(plan.root, after, files)
    except BaseException:
        abandon(plan.root, plan.uid, folder, files)
        raise
    return report._replace(generation=after.generation, events=events, event_bytes=nbytes)


def _goes(report: VacuumReport, day: str) -> bool:
    return any(fate.goes for fate in report.segments if fate.name == segment_name(day))


def _added(layer: Layer | None) -> list[Layer]:
    return [] if layer is None else [layer]


def _totals(root: Path, manifest: Manifest, days: list[str]) -> pa.Table:
    """Events and bytes that were folded from some segments, by day, hour, op and dialect."""
    columns = ("segment", "effective_ts", "op", "dialect", "nbytes")
    pieces = [Piece(one.segment, one.start, one.stop) for one in manifest.folded if one.segment in days]
    table = load_user(root, manifest.uid, pieces, columns=columns, progress=False).to_arrow()
    hour = pc.hour(table["effective_ts"])
    names = [table[name].cast(pa.string()) for name in ("segment", "op", "dialect")]
    plain = pa.table([*names, hour, table["nbytes"]], names=["day", "op", "dialect", "hour", "bytes"])
    grouped = plain.group_by(["day", "hour", "op", "dialect"]).aggregate([("bytes", "count"), ("bytes", "sum")])
    renamed = grouped.select(["day", "hour", "op", "dialect", "bytes_count", "bytes_sum"])
    return renamed.rename_columns(["day", "hour", "op", "dialect", "events", "bytes"]).sort_by(
        [("day", "ascending"), ("hour", "ascending"), ("op", "ascending"), ("dialect", "ascending")]
    )


def _retired(root: Path, manifest: Manifest, day: str) -> Retired:
    piece = _folded(manifest, day)
    assert piece is not None
    tail, _ = last_frame(root / segment_name(day))
    seq, total = (tail.seq, tail.sum) if tail is not None else (0, NO_SUM)
    return Retired(day, piece.stop, seq, total, piece.digest, piece.effective)


def _shrunk(plan: _Plan, layers: list[Layer], folder: LayerFolder) -> list[Layer]:
    """Layers of contents of which over half are referred to by no manifest that stays, written anew without those."""
    held = [layer for layer in layers if layer.kind == CONTENTS]
    if not held:
        return layers
    used = _digests_used(plan)
    for layer in held:
        texts = read_texts([verified_path(plan.root, layer)])
        wanted = texts.filter(pc.is_in(texts["digest"], used))
        if 2 * wanted.num_rows < texts.num_rows:
            place = layers.index(layer)
            layers = [*layers[:place], *_added(_as_layer(folder, wanted)), *layers[place + 1 :]]
    return layers


def _as_layer(folder: LayerFolder, texts: pa.Table) -> Layer | None:
    return folder.add(CONTENTS, lambda sink: (write_texts(sink, texts), "", ""))


def _digests_used(plan: _Plan) -> pa.Array:
    """The contents that the manifests which stay refer to, at least.

    Of the oldest one the records that live count, and of the layers that came after it
    every row: what was replaced before the oldest is referred to by none of them.
    """
    oldest, *later = [one for one in plan.kept()[:-1] if plan.is_whole(one)] + [plan.manifest]
    known = oldest.of_kind(RECORDS)
    new = {layer.name: layer for one in later for layer in one.of_kind(RECORDS) if layer not in known}
    tables = [_codes(plan.root, layer) for layer in new.values()]
    if known:
        tables.append(newest_rows([_codes(plan.root, layer) for layer in known], drop_gone=True))
    found = [digests_in(chunk).drop_null() for table in tables for chunk in table["content"].chunks]
    return pc.unique(pa.chunked_array(found, pa.binary(32)))


def _codes(root: Path, layer: Layer) -> pa.Table:
    return read_records(verified_path(root, layer), ["id", "content", "gone"])


def _delete(plan: _Plan, report: VacuumReport, files: Files) -> None:
    """Remove the files that go; segments under ``wal.lock``, and only as they were folded."""
    manifest = current(plan.root, plan.uid)
    assert isinstance(manifest, Manifest)
    sizes = {gone.segment: gone.nbytes for gone in manifest.retired}
    with wal_lock(plan.root, files):
        for day in undeleted(plan.root, manifest):
            if segment_size(plan.root, day) == sizes[day]:
                _unlink(plan.root / segment_name(day), files)
    for day in sizes:
        if not (plan.root / segment_name(day)).exists():
            _unlink(sealed_path(plan.root, day), files)
            _unlink(description_path(plan.root, day), files)
    with storage_errors("sync", plan.root):
        files.sync_directory(plan.root)
    # A layer that a killed vacuum left, and that went, may be what this one has made again.
    named = {layer_path(plan.root, layer).name for layer in manifest.layers}
    _delete_named(plan.root / HISTORY, report.history, files)
    _delete_named(plan.root / LAYERS, [fate for fate in report.layers if fate.name not in named], files)


def _delete_named(folder: Path, fates: list[Fate], files: Files) -> None:
    doomed = [folder / fate.name for fate in fates if fate.goes]
    for path in doomed:
        _unlink(path, files)
    if doomed:
        with storage_errors("sync", folder):
            files.sync_directory(folder)


def _unlink(path: Path, files: Files) -> None:
    """Remove a file, if it is there."""
    with storage_errors("delete", path), suppress(FileNotFoundError):
        files.unlink(path)
