"""What this machine remembers of a bucket, in ``<store>/.meshlab/remote/``: all of it may be lost.

    machine                   eight hexadecimal digits that tell machines apart for people
    <mark>/notes/<uid>        the image this machine last pushed or followed, and the prints of the files then
    <mark>/begun/<uid>        keys of larger blocks that a push has put and no image names yet
    <mark>/proofs/<uid>       how the last proof went

``<mark>`` tells buckets apart.  A note is believed only when its digest holds.  Without
notes a push lists the images and reads the heads; nothing else is different.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from meshlab.errors import storage_errors
from meshlab.remote.image import Image, ImageKey, parse_image_key, unpack
from meshlab.remote.local import Print
from meshlab.wal.paths import PRIVATE

REMOTE = "remote"
TRUSTED_SECONDS = 12 * 3600.0
"""For how long a block that was put and not named yet is taken for there: half of what retention waits."""

WORTH_NOTING = 256 << 10
"""Bytes of a block from which on it is noted: putting a smaller one again costs as little."""

_SUM = 32
S = TypeVar("S", bound=msgspec.Struct)


class Note(msgspec.Struct, frozen=True):
    """What was true when a user was last pushed: key and bytes of the image, prints of the files, other heads."""

    key: str
    data: bytes
    prints: dict[str, Print]
    forks: list[str] = []

    @property
    def image_key(self) -> ImageKey:
        """The key in parts."""
        key = parse_image_key(self.key)
        assert key is not None
        return key

    @property
    def image(self) -> Image:
        """The image."""
        return unpack(self.image_key, self.data)


class Proof(msgspec.Struct, frozen=True):
    """How a proof went: ``outcome`` is ``proved``, ``failed`` or ``inconclusive``; ``at`` is µs since 1970."""

    outcome: str
    at: int
    image: str
    reason: str = ""
    proved_at: int = 0


def remote_folder(store: Path) -> Path:
    """Where everything about buckets stands in a store."""
    return store / PRIVATE / REMOTE


def machine_id(store: Path) -> str:
    """The name of this machine in images, made when it is first asked for.  Raises ``StorageError``."""
    path = remote_folder(store) / "machine"
    with storage_errors("write", path):
        for _ in range(2):
            with suppress(FileNotFoundError):
                text = path.read_text(encoding="ascii", errors="replace").strip()
                if len(text) == 8 and not set(text) - set("0123456789abcdef"):
                    return text
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, secrets.token_hex(4).encode() + b"\n")
    return path.read_text(encoding="ascii").strip()


class Notes:
    """The notes on one bucket."""

    def __init__(self, store: Path, mark: str) -> None:
        self._folder = remote_folder(store) / mark
        self._mutex = threading.Lock()
        self._made: set[str] = set()

    def note(self, uid: str) -> Note | None:
        """What is remembered of a user; None when nothing is, or it cannot be believed."""
        note = _load(self._folder / "notes" / uid, Note)
        return note if note is not None and parse_image_key(note.key) is not None else None

    def remember(self, uid: str, note: Note) -> None:
        """Replace what is remembered of a user, and forget the blocks it was about to name."""
        self._save("notes", uid, note)
        with suppress(FileNotFoundError):
            os.unlink(self._folder / "begun" / uid)

    def forget(self, uid: str) -> None:
        """Remember nothing of a user: what was noted is not what the bucket holds."""
        with suppress(FileNotFoundError):
            os.unlink(self._folder / "notes" / uid)

    def begun(self, uid: str) -> set[str]:
        """Keys of blocks that were put lately and that no image names yet."""
        try:
            lines = (self._folder / "begun" / uid).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return set()
        now = time.time()
        pairs = [line.split(" ", 1) for line in lines if " " in line]
        return {key for moment, key in pairs if moment.isdigit() and 0 <= now - int(moment) < TRUSTED_SECONDS}

    def begin(self, uid: str, key: str) -> None:
        """Note that a block was put."""
        path = self._folder / "begun" / uid
        with self._mutex, storage_errors("write", path):
            self._make("begun")
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{int(time.time())} {key}\n")

    def proof(self, uid: str) -> Proof | None:
        """How the last proof of a user went."""
        return _load(self._folder / "proofs" / uid, Proof)

    def proved(self, uid: str, proof: Proof) -> None:
        """Note how a proof went."""
        self._save("proofs", uid, proof)

    def _save(self, folder: str, uid: str, value: msgspec.Struct) -> None:
        path = self._folder / folder / uid
        data = msgspec.msgpack.encode(value)
        with storage_errors("write", path):
            self._make(folder)
            _write(path, data + hashlib.sha256(data).digest())

    def _make(self, folder: str) -> None:
        if folder not in self._made:
            (self._folder / folder).mkdir(parents=True, exist_ok=True)
            self._made.add(folder)


def _load(path: Path, kind: type[S]) -> S | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data[:-_SUM]).digest() != data[-_SUM:]:
        return None
    try:
        return msgspec.msgpack.decode(data[:-_SUM], type=kind)
    except msgspec.MsgspecError:
        return None


def _write(path: Path, data: bytes) -> None:
    """Replace a file.  It is not synced: after a loss of power it may be gone or cut, and is then not believed."""
    temporary: Any = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
