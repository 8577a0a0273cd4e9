"""What checkpoints have written so far, as the manifests that are kept tell."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from meshlab.snapshot.manifest import RECORDS, Layer, Manifest, current, history
from meshlab.wal.paths import SNAPSHOT


class Amplification(NamedTuple):
    """Bytes of layers and manifests ``written`` to fold ``folded`` bytes of log.

    After generation ``since``: what came before it is not known; 0 is the beginning.
    """

    written: int = 0
    folded: int = 0
    since: int = 0

    @property
    def ratio(self) -> float | None:
        """Bytes written for each byte folded; None when none was."""
        return self.written / self.folded if self.folded else None


def amplification(root: Path, uid: str) -> Amplification:
    """What a user's checkpoints and vacuums have written, so far as their manifests are kept.

    A layer that was merged away in the very checkpoint that wrote it is in no manifest;
    of those only what was new is known (``bytes_of_change``), so rare chains of merges
    within one checkpoint go uncounted.  Raises ``SnapshotError`` as ``current`` does.
    """
    found = current(root, uid)
    if not isinstance(found, Manifest):
        return Amplification()
    kept = [(entry.manifest, entry.path) for entry in history(root, uid) if entry.manifest is not None]
    known = [*kept, (found, root / SNAPSHOT)]
    before, path = known.pop(0) if known[0][0].generation != 1 else (Manifest(uid=uid), None)
    written = path.stat().st_size if path is not None and not before.generation else 0
    start = before
    for manifest, path in known:
        written += _written(before, manifest) + path.stat().st_size
        before = manifest
    return Amplification(written, _folded(found) - _folded(start), start.generation)


def _written(before: Manifest, after: Manifest) -> int:
    """Bytes of layers that came between two manifests."""
    fresh = _beyond(after.layers, before.layers)
    if not after.bytes_of_change:  # of a vacuum
        return _nbytes(fresh)
    merged = {layer.kind for layer in _beyond(before.layers, after.layers)}
    if not merged and _nbytes(fresh) != after.bytes_of_change:  # several new layers became one
        merged = {RECORDS}
    return after.bytes_of_change + _nbytes([layer for layer in fresh if layer.kind in merged])


def _beyond(layers: list[Layer], others: list[Layer]) -> list[Layer]:
    names = {layer.name for layer in others}
    return [layer for layer in layers if layer.name not in names]


def _nbytes(layers: list[Layer]) -> int:
    return sum(layer.nbytes for layer in layers)


def _folded(manifest: Manifest) -> int:
    """Bytes of log behind a manifest, deleted segments included."""
    return sum(piece.stop - piece.start for piece in manifest.folded) + sum(gone.nbytes for gone in manifest.retired)
