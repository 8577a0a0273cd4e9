"""Prove: restore from the bucket alone, replay, and compare.

Two things are compared, as far as they are at hand: the records of the newest
checkpoint, read back and hashed anew, with the state hash its manifest has had since it
was made; and the whole state with that of the original at the same place of the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from meshlab.errors import MeshlabError, RemoteDamaged, RemoteError, RemoteRefused, StorageError
from meshlab.plan import Plan, Planner
from meshlab.remote.image import Image, home_of
from meshlab.remote.line import Head
from meshlab.remote.notes import Notes, Proof
from meshlab.remote.pull import Puller, whole
from meshlab.remote.scratch import scratch_folder
from meshlab.remote.windows import choose_head
from meshlab.replay import follow, replay, steadily
from meshlab.snapshot.base import Base
from meshlab.snapshot.hashing import StateHash, row_hashes, state_hash
from meshlab.snapshot.manifest import Manifest, check_range, current, digest_of
from meshlab.timeline import Start
from meshlab.wal.paths import SNAPSHOT, segment_size
from meshlab.wal.writer import wall_clock

PROVED, FAILED, INCONCLUSIVE = "proved", "failed", "inconclusive"


class ProvedUser(msgspec.Struct, frozen=True, kw_only=True):
    """How the proof for one user went: ``proved``, ``failed`` or ``inconclusive``, and why.

    ``compared`` names what the restored user was compared with; ``state_hash`` and
    ``records`` are of the restored state.
    """

    uid: str
    outcome: str
    reason: str = ""
    hint: str = ""
    image: str = ""
    compared: list[str] = []
    state_hash: str = ""
    records: int = 0
    bytes: int = 0
    seconds: float = 0.0


class Prover:
    """Proves users of one bucket, beside the store they come from, if that is at hand."""

    def __init__(self, puller: Puller, notes: Notes | None = None, *, clock: Callable[[], int] = wall_clock) -> None:
        self.puller, self.notes, self.clock = puller, notes, clock

    def prove(self, uid: str) -> ProvedUser:
        """The proof for one user; whatever is wrong is in the result."""
        started = time.monotonic()
        try:
            done = self._prove(uid)
        except MeshlabError as error:
            unknown = isinstance(error, (RemoteError, StorageError)) and not isinstance(error, RemoteDamaged)
            outcome = INCONCLUSIVE if unknown else FAILED
            done = ProvedUser(uid=uid, outcome=outcome, reason=error.message, hint=error.hint)
        except OSError as error:
            done = ProvedUser(uid=uid, outcome=INCONCLUSIVE, reason=f"{uid}: {error}", hint=StorageError.default_hint)
        return msgspec.structs.replace(self._noted(done), seconds=time.monotonic() - started)

    def _noted(self, done: ProvedUser) -> ProvedUser:
        """Note how a proof went; what keeps that from being noted is told beside it, and changes no outcome."""
        if self.notes is None:
            return done
        before, now = self.notes.proof(done.uid), self.clock()
        proved_at = now if done.outcome == PROVED else before.proved_at if before is not None else 0
        try:
            self.notes.proved(done.uid, Proof(done.outcome, now, done.image, done.reason, proved_at))
        except (MeshlabError, OSError) as error:
            reason = "; ".join(filter(None, [done.reason, f"it could not be noted: {error}"]))
            hint = done.hint or (error.hint if isinstance(error, MeshlabError) else StorageError.default_hint)
            return msgspec.structs.replace(done, reason=reason, hint=hint)
        return done

    def _prove(self, uid: str) -> ProvedUser:
        head, _ = choose_head(self.puller.bucket, uid, self.puller.image, self.puller.listed.get(uid))
        with scratch_folder(self.puller.store) as folder:
            root = folder / uid
            try:
                self.puller.restore(root, whole(head.image))
            except RemoteRefused as error:  # although the image could be read
                raise RemoteDamaged(error.message, hint="the object is in the bucket and does not come out") from error
            return self._compare(head, root)

    def _compare(self, head: Head, root: Path) -> ProvedUser:
        """Hold the restored user against everything that is known of it."""
        uid, image = head.key.uid, head.image
        state = replay(root, uid, progress=False)
        found, wrong, compared = state_hash(state.to_arrow()), [], []
        for name, compare in (("checkpoint", _checkpoint), ("log", _log)):
            if problem := compare(root, image):
                wrong.append(problem)
            elif problem is not None:
                compared.append(name)
        expected = self._original(head, root)
        if expected is not None:
            compared.append("original")
            if expected != found:
                wrong.append(
                    f"the original has state hash {expected.hexdigest()}, the restored user {found.hexdigest()}"
                )
        enough = {"checkpoint", "original"} & set(compared)
        return ProvedUser(
            uid=uid,
            outcome=FAILED if wrong else PROVED if enough else INCONCLUSIVE,
            reason="; ".join(wrong) if wrong else "" if enough else _NOTHING_TO_COMPARE,
            hint=_KEEP if wrong else "",
            image=head.key.short,
            compared=compared,
            state_hash=found.hexdigest(),
            records=len(state),
            bytes=image.nbytes,
        )

    def _original(self, head: Head, root: Path) -> StateHash | None:
        """The state hash of the original where the image ends; None when it is not at hand any more."""
        original = self.puller.store / head.key.uid
        if not original.is_dir():
            return None
        try:
            return steadily(original, lambda: _state_there(original, root, head.image))
        except MeshlabError:
            return None


_NOTHING_TO_COMPARE = "there is no checkpoint in it, and the original is not at hand"
_KEEP = "do not delete the original; push it to another prefix, and look into this one"


def _checkpoint(root: Path, image: Image) -> str | None:
    """What is wrong with the records of the newest checkpoint; None when there is none."""
    found = current(root, image.uid)
    if not isinstance(found, Manifest) or not found.generation:
        return None
    total, records = StateHash(), 0
    for batch in Base.open(root, found).batches():
        total, records = total.add(row_hashes(batch)), records + batch.num_rows
    if (total.hexdigest(), records) != (found.state_hash, found.records):
        return f"checkpoint {found.generation} says {found.state_hash}, its layers come to {total.hexdigest()}"
    return ""


def _log(root: Path, image: Image) -> str | None:
    """What is wrong with the ends of the segments; None when there is no log."""
    problems = [problem for file in image.segments.values() if (problem := check_range(root, file.as_range()))]
    return "; ".join(problems) if image.segments else None


def _state_there(original: Path, root: Path, image: Image) -> StateHash | None:
    """The state of the original behind the bytes an image has of its log, from the same checkpoint."""
    start = _same_start(original, image)
    if start is None:
        return None
    pieces = []
    for piece in Planner(root, image.uid).plan(None).pieces:
        stop = segment_size(root, piece.segment) if piece.stop is None else piece.stop
        if check_range(original, image.segments[piece.segment].as_range()):
            return None
        pieces.append(piece._replace(stop=stop))
    state = follow(original, image.uid, Plan(start, tuple(pieces)), progress=False)
    return state_hash(state.to_arrow())


def _same_start(original: Path, image: Image) -> Start | None:
    """What the image's newest checkpoint is among those of the original."""
    for start in reversed(Planner(original, image.uid).line.starts):
        if start.problem or start.generation != max(image.generation, 0):
            continue
        if image.generation < 1 or image.snapshot in _digests(original, start):
            return start
    return None


def _digests(original: Path, start: Start) -> set[str]:
    """The SHA-256 of the files that may hold the manifest of a start."""
    assert start.manifest is not None
    names = (SNAPSHOT, home_of(SNAPSHOT, start.generation))
    return {digest_of(original / name) for name in names}
