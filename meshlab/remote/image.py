"""An image: what a user's directory consisted of at one push, and where its bytes stand in the bucket.

The bytes of an image are ``MESHIMAG``, the version of the format (one byte) and a
MessagePack map.  Its key ends in their SHA-256, so an image that was changed is none.

>>> key = ImageKey("ann", 7, "0" * 16, "ab" * 4, "cd" * 32)
>>> str(key)[:43], parse_image_key(str(key)) == key
('images/ann/00000007-0000000000000000-ababab', True)

Who can write into the bucket can put anything there under a key that fits.  So what an
image says is believed no further than that it names files a push puts, and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import msgspec

from meshlab.errors import RemoteDamaged
from meshlab.snapshot.manifest import HISTORY, LAYERS, RETAIN_DAYS, Accepted, Range
from meshlab.wal.chain import LONG_AGO, Cursor
from meshlab.wal.frame import NO_SUM
from meshlab.wal.paths import SNAPSHOT, UID, segment_day

MAGIC, VERSION = b"MESHIMAG", 1
BLOCK = 8 << 20
"""Bytes of one object at most: what a request carries, and what is held in memory for it."""

NO_PARENT = "0" * 16
IMAGES, DATA, MARKS = "images", "data", "remote"
_LINK = re.compile(rf"{IMAGES}/({UID})/link-([0-9a-f]{{16}})-([0-9a-f]{{16}})", re.ASCII)
_KEY = re.compile(rf"{IMAGES}/({UID})/(\d{{8,12}})-([0-9a-f]{{16}})-([0-9a-f]{{8}})-([0-9a-f]{{64}})", re.ASCII)
LARGEST_NUMBER = 10**12 - 1
"""Of an image: one a second for thirty thousand years."""

_OTHERS = re.compile(rf"{SNAPSHOT}|{HISTORY}/\d{{8}}\.(bin|pin)|{LAYERS}/[0-9a-f]{{64}}\.(parquet|arrow)", re.ASCII)
LAST_MOMENT = 253_402_300_799_999_999
"""The last moment that can be written (µs): the end of the year 9999."""


class ImageKey(NamedTuple):
    """The name of an image: its user and number, the one it follows (16 digits), who pushed it, its SHA-256."""

    uid: str
    number: int
    parent: str
    machine: str
    digest: str

    def __str__(self) -> str:
        return f"{images_prefix(self.uid)}{self.number:08d}-{self.parent}-{self.machine}-{self.digest}"

    @property
    def short(self) -> str:
        """What later images call it, and people too."""
        return self.digest[:16]


class Block(NamedTuple):
    """Bytes ``start`` to ``stop`` of a file, and their SHA-256."""

    start: int
    stop: int
    digest: bytes

    @property
    def nbytes(self) -> int:
        """How many they are."""
        return self.stop - self.start


class StoredFile(NamedTuple):
    """A file of a user: its name, the name its blocks stand under, and the blocks, without gaps.

    ``ending`` is the MD5 of the last 4 KiB of a segment, as in a folded range.
    """

    name: str
    home: str
    blocks: list[Block]
    ending: bytes = b""

    @property
    def nbytes(self) -> int:
        """Its size."""
        return self.blocks[-1].stop if self.blocks else 0

    @property
    def day(self) -> str | None:
        """The day of a segment, None of other files."""
        return segment_day(self.name)

    def as_range(self) -> Range:
        """A segment as a range that ``check_range`` compares with a file."""
        return Range(self.day or "", 0, self.nbytes, self.ending, 0, LONG_AGO)


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """What one push left in the bucket.

    ``number``         one above those of the images it follows
    ``parents``        SHA-256 of the images it follows and of all they followed besides the first: heads no more
    ``looked_at``      when the ends of the log were noted, by the clock of the machine (µs)
    ``seq, sum, effective``  the last frame in it, and the largest effective time (µs)
    ``generation``     of the snapshot in force, -1 without one; ``snapshot`` is its SHA-256
    ``state_hash``     of that snapshot
    ``accepted``       damage that somebody has accepted when it was pushed
    """

    uid: str
    machine: str
    number: int = 1
    parents: list[str] = []
    looked_at: int = 0
    tool: str = ""
    files: list[StoredFile] = []
    seq: int = 0
    sum: bytes = NO_SUM
    effective: int = LONG_AGO
    generation: int = -1
    snapshot: str = ""
    state_hash: str = ""
    records: int = 0
    retain_days: int = RETAIN_DAYS
    accepted: list[Accepted] = []

    @property
    def segments(self) -> dict[str, StoredFile]:
        """The segments by their day, oldest first."""
        return {day: file for file in sorted(self.files) if (day := file.day)}

    @property
    def by_name(self) -> dict[str, StoredFile]:
        """All files by their name."""
        return {file.name: file for file in self.files}

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(file.nbytes for file in self.files)

    @property
    def end(self) -> Cursor:
        """Where the log stands."""
        return Cursor(self.seq, self.sum, self.effective)

    def blocks(self) -> dict[str, Block]:
        """Every block it needs, by key."""
        return {block_key(self.uid, file.home, block): block for file in self.files for block in file.blocks}


# Keys


def images_prefix(uid: str = "") -> str:
    """Where the images of a user stand, or of all."""
    return f"{IMAGES}/{uid}/" if uid else f"{IMAGES}/"


def data_prefix(uid: str) -> str:
    """Where the blocks of a user stand."""
    return f"{DATA}/{uid}/"


def block_key(uid: str, home: str, block: Block) -> str:
    """Where a block stands.

    >>> block_key("ann", "wal-20250707.log", Block(0, 5, bytes(32)))[:35]
    'data/ann/wal-20250707.log/0-5-00000'
    """
    return f"{data_prefix(uid)}{home}/{block.start}-{block.stop}-{block.digest.hex()}"


def parse_image_key(key: str) -> ImageKey | None:
    """The parts of a key, None when it is not that of an image."""
    match = _KEY.fullmatch(key)
    return ImageKey(match[1], int(match[2]), *match.groups()[2:]) if match else None


def link_key(uid: str, follower: str, followed: str) -> str:
    """Where it stands that an image follows another, those between being gone; both by 16 digits."""
    return f"{images_prefix(uid)}link-{follower}-{followed}"


def parse_link_key(key: str) -> tuple[str, str, str] | None:
    """User, follower and followed of such a key, None when it is none: no image follows itself.

    >>> parse_link_key(link_key("ann", "0" * 16, "1" * 16))
    ('ann', '0000000000000000', '1111111111111111')
    """
    match = _LINK.fullmatch(key)
    return (match[1], match[2], match[3]) if match and match[2] != match[3] else None


def home_of(name: str, generation: int) -> str:
    """The name the blocks of a file stand under: a snapshot keeps its own when it goes into ``history/``.

    >>> home_of("snapshot.bin", 7), home_of("wal-20250707.log", 7)
    ('history/00000007.bin', 'wal-20250707.log')
    """
    return f"{HISTORY}/{max(generation, 0):08d}.bin" if name == SNAPSHOT else name


def is_file(name: str) -> bool:
    """Whether a push puts a file of that name, below the directory of a user.

    >>> [is_file(name) for name in ("snapshot.bin", "history/00000007.pin", "wal-20250707.log", "../wal-20250707.log")]
    [True, True, True, False]
    """
    return segment_day(name) is not None or _OTHERS.fullmatch(name) is not None


def is_layer(name: str) -> bool:
    """Whether a file is a layer, which its name has the SHA-256 of."""
    return name.startswith(f"{LAYERS}/")


def layer_digest(name: str) -> str:
    """The SHA-256 in the name of a layer."""
    return Path(name).stem


# Bytes


def pack(image: Image) -> bytes:
    """The bytes of an image."""
    body: bytes = msgpack.packb(msgspec.to_builtins(image, builtin_types=(bytes,)))
    return MAGIC + bytes([VERSION]) + body


def key_of(image: Image, data: bytes) -> ImageKey:
    """The key of an image whose bytes are ``data``."""
    return ImageKey(*_names_of(image), hashlib.sha256(data).hexdigest())


def _names_of(image: Image) -> tuple[str, int, str, str]:
    """What a key has besides the SHA-256."""
    return image.uid, image.number, image.parents[0][:16] if image.parents else NO_PARENT, image.machine


def unpack(key: ImageKey, data: bytes) -> Image:
    """The image in the bytes of an object.

    Raises ``RemoteDamaged`` when they are not those of its key, or name what no push puts.
    """
    if hashlib.sha256(data).hexdigest() != key.digest:
        raise RemoteDamaged(f"{key}: expected {len(data)} bytes of that SHA-256, found others: they were changed")
    head = len(MAGIC) + 1
    if data[: head - 1] != MAGIC or data[head - 1] > VERSION:
        raise RemoteDamaged(f"{key}: expected an image of version {VERSION} or older, found {data[:head]!r}")
    try:
        found: Any = msgspec.convert(msgpack.unpackb(data[head:]), Image, builtin_types=(bytes,))
    except (msgspec.MsgspecError, msgpack.UnpackException, ValueError) as error:
        raise RemoteDamaged(f"{key}: cannot be read: {error}") from None
    assert isinstance(found, Image)
    if (told := _names_of(found)) != key[:-1]:
        raise RemoteDamaged(f"{key}: expected an image of {key[:-1]}, found one of {_shown(str(told))}")
    if wrong := next(_wrong_in(found), None):
        raise RemoteDamaged(f"{key}: {wrong}", hint=_FOREIGN)
    return found


_FOREIGN = "no push puts such an image: find out who else writes into the bucket; nothing was restored from it"


def _wrong_in(image: Image) -> Iterator[str]:
    """What no push puts into an image."""
    names = set[str]()
    for file in image.files:
        if not is_file(file.name):
            yield f"expected names of files that a push puts, found {_shown(file.name)}"
        elif file.name in names:
            yield f"{file.name}: expected it once, found it again"
        elif file.home != home_of(file.name, image.generation):
            yield f"{file.name}: expected its blocks under its own name, found them under {_shown(file.home)}"
        elif place := _gap_in(file.blocks):
            yield f"{file.name}: expected blocks of 1 to {BLOCK} bytes from 0 on without gaps, found {place}"
        names.add(file.name)
    if image.retain_days < 0:
        yield f"retain_days: expected days, found {image.retain_days}"
    if not 0 <= image.looked_at <= LAST_MOMENT:
        yield f"looked_at: expected microseconds since 1970, found {image.looked_at}"


def _gap_in(blocks: list[Block]) -> str:
    """Where blocks are not one behind the other; empty when they are."""
    end = 0
    for start, stop, digest in blocks:
        if start != end or not 0 < stop - start <= BLOCK or len(digest) != _DIGEST:
            return f"bytes {start} to {stop} behind {end}, under {len(digest)} bytes of SHA-256"
        end = stop
    return ""


_DIGEST = hashlib.sha256().digest_size
_LONG = 100


def _shown(name: str) -> str:
    return repr(name) if len(name) < _LONG else f"{name[:_LONG]!r}…"
