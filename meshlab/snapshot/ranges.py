"""Log order: which bytes come after what a manifest has folded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from meshlab.errors import SnapshotError
from meshlab.snapshot.manifest import Manifest, Range, check_range
from meshlab.tables.load import Piece
from meshlab.wal.paths import segment_days, segment_size


def folded_after(newest: Manifest, base: Manifest) -> list[Range]:
    """The ranges the newest manifest has folded beyond those of an earlier one, in their order."""
    again = Counter(gone.segment for gone in newest.retired)
    again.subtract(Counter(gone.segment for gone in base.retired))
    # A segment retired since is another file now, even under the same name.
    ends = {day: end for day, end in base.folded_ends.items() if not again[day]}
    beyond = []
    for piece in newest.folded:
        start = max(piece.start, ends.get(piece.segment, 0))
        if start < piece.stop:
            beyond.append(piece._replace(start=start))
    return beyond


def line_at(manifest: Manifest, segment: str, offset: int) -> int:
    """The number of the line that begins where a range of a segment ends, or at its start."""
    return next((p.lines + 1 for p in manifest.folded if (p.segment, p.stop) == (segment, offset)), 1)


def rest(root: Path, manifest: Manifest) -> list[Piece]:
    """What a manifest has not folded, in LSN order; to the end of each file.

    Raises ``SnapshotError`` when a segment is shorter than what was folded of it, or
    differs there.
    """
    last = undeleted(root, manifest) | {piece.segment: piece for piece in sorted(manifest.folded)}
    pieces = []
    for day in segment_days(root):
        piece = last.get(day)
        if piece is None:
            pieces.append(Piece(day))
            continue
        if problem := check_range(root, piece):
            raise SnapshotError(
                f"{root}: {problem}",
                hint="put the segment back from a copy of the store: its bytes were folded and acknowledged",
            )
        if segment_size(root, day) > piece.stop:
            pieces.append(Piece(day, piece.stop, None, piece.lines + 1))
    return pieces


def undeleted(root: Path, manifest: Manifest) -> dict[str, Range]:
    """Retired segments that are still there, by name: a crash came between retiring and deleting."""
    known = {piece.segment for piece in manifest.folded}
    old = (
        Range(gone.segment, 0, gone.nbytes, gone.digest, 0, manifest.effective)
        for gone in manifest.retired
        if gone.segment not in known
    )
    return {piece.segment: piece for piece in old if not check_range(root, piece)}
