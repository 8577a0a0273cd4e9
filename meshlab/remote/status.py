"""Status: how the bucket stands to the store, user by user, and what is not in it yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from meshlab.errors import MeshlabError
from meshlab.remote.image import Image
from meshlab.remote.line import Head, Images, true_heads
from meshlab.remote.notes import Notes
from meshlab.remote.patience import PatientBucket
from meshlab.times import SECOND, midnight
from meshlab.wal.paths import segment_days, segment_size
from meshlab.wal.writer import wall_clock


class Lag(msgspec.Struct, frozen=True):
    """What losing the local disk would lose: bytes of the log, and for how long at most they have been waiting."""

    bytes: int
    seconds: float


class StandingUser(msgspec.Struct, frozen=True, kw_only=True):
    """One user in the bucket.

    ``heads`` is more than one when machines disagree.  ``image`` is the newest head,
    ``looked_at`` (µs) until when it has everything, ``lag_bytes`` and ``lag_seconds`` what it
    has not (None: the user is not in the store).  ``proved_at`` (µs, 0: never) is of the
    last proof made from here, ``proof`` how the last one went.
    """

    uid: str
    images: int = 0
    heads: list[str] = []
    image: str = ""
    number: int = 0
    machine: str = ""
    looked_at: int = 0
    seq: int = 0
    generation: int = -1
    bytes: int = 0
    lag_bytes: int | None = None
    lag_seconds: float | None = None
    proof: str = ""
    proved_at: int = 0
    error: str = ""
    hint: str = ""


def lag_of(root: Path, image: Image | None, now: int) -> Lag:
    """What the log of a user has beyond an image, by names and sizes; ``now`` is in µs.

    A segment that is not in the image counts whole.  What waits came after the image was
    made, so it has not waited longer than that; without one, not longer than since the first day.
    """
    known = {} if image is None else {day: file.nbytes for day, file in image.segments.items()}
    days = segment_days(root)
    waiting = sum(max(0, segment_size(root, day) - known.get(day, 0)) for day in days)
    since = image.looked_at if image is not None else midnight(days[0]) if days else 0
    return Lag(waiting, max(0, now - since) / SECOND if waiting and since else 0.0)


class Watcher:
    """Answers for the users of one bucket and one store."""

    def __init__(
        self, bucket: PatientBucket, store: Path, notes: Notes | None, *, clock: Callable[[], int] = wall_clock
    ) -> None:
        self.bucket, self.store, self.notes, self.clock = bucket, store, notes, clock

    def standing(self, uid: str, images: Images) -> StandingUser:
        """How one user stands, of whom these images are listed."""
        proof = self.notes.proof(uid) if self.notes is not None else None
        told = StandingUser(uid=uid, images=len(images.keys))
        if proof is not None:
            told = msgspec.structs.replace(told, proof=proof.outcome, proved_at=proof.proved_at)
        try:
            return self._with_heads(told, images)
        except MeshlabError as error:
            return msgspec.structs.replace(told, error=error.message, hint=error.hint)

    def _with_heads(self, told: StandingUser, images: Images) -> StandingUser:
        note = self.notes.note(told.uid) if self.notes is not None else None
        known = Head(note.image_key, note.image) if note is not None else None
        found = true_heads(self.bucket, images, known)
        ours = next((head for head in found if known is not None and head.key == known.key), None)
        newest = ours or max(found, key=lambda head: head.key, default=None)
        root = self.store / told.uid
        if root.is_dir():
            lag = lag_of(root, None if newest is None else newest.image, self.clock())
            told = msgspec.structs.replace(told, lag_bytes=lag.bytes, lag_seconds=lag.seconds)
        if newest is None:
            return told
        return msgspec.structs.replace(
            told,
            heads=[head.key.short for head in found],
            image=newest.key.short,
            number=newest.key.number,
            machine=newest.key.machine,
            looked_at=newest.image.looked_at,
            seq=newest.image.seq,
            generation=newest.image.generation,
            bytes=newest.image.nbytes,
        )
