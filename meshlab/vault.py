"""Soliton memories over a log: store, recall, update, seal, delete, and look.

Every change is an event in the log first and in memory after.  Threads and processes may
all use vaults of one user: a change is computed with ``wal.lock`` held, when what others
appended has been taken in, so two recalls at the same time count twice.

>>> import tempfile
>>> from meshlab.store import open
>>> vault = open(tempfile.mkdtemp())["ann"].vault()
>>> id = vault.store_memory("concept:sea", "the smell of salt", 0.81)
>>> vault.recall(id)["amplitude"]
0.909
>>> [memory["content"] for memory in vault.by_concept("concept:sea")]
['the smell of salt']
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from meshlab.dialects import parse_event
from meshlab.errors import BadEvent, DamageFound, NotFound
from meshlab.events import Delete, Insert, MeshEvent, SolitonMemory, Update, encode_event
from meshlab.phase1 import append_to_wal
from meshlab.records import (
    CONTENT_TYPES,
    FIELD_SET,
    MODES,
    VAULT_STATUSES,
    ComfortMetrics,
    EmotionalSignature,
)
from meshlab.snapshot.memories import Memories, Memory, folded
from meshlab.times import format_time
from meshlab.wal.chain import ORIGIN
from meshlab.wal.follow import LogFollower
from meshlab.wal.paths import segment_name
from meshlab.wal.recovery import LogEnd
from meshlab.wal.writer import wall_clock

if TYPE_CHECKING:
    from meshlab.store import UserStore

MAX_AMPLITUDE = 2.0
MAX_IMPORTANCE = MAX_AMPLITUDE**2
"""A new memory has the square root of its importance for an amplitude."""

_MOST_RECALLS = (1 << 64) - 1
_CHOICES = {"content_type": CONTENT_TYPES, "vault_status": VAULT_STATUSES, "mode": MODES}
_CALM = {"valence": 0.0, "arousal": 0.0, "dominance": 0.0, "trauma_indicators": []}
_COMFORT = {"energy": 1.0, "stress": 0.0, "flux": 0.0, "perturbation": 0.0}


# What a memory is when it is new, and after a recall


def new_memory(
    concept_id: str,
    content: str,
    importance: float = 1.0,
    *,
    id: str,
    now: int,
    content_type: str = "Conversation",
    emotional_signature: EmotionalSignature | Mapping[str, Any] | None = None,
    comfort_metrics: ComfortMetrics | Mapping[str, Any] | None = None,
    position: float = 0.0,
    mode: str = "Bright",
    vault_status: str = "Active",
    extra: Mapping[str, Any] | None = None,
) -> SolitonMemory:
    """A memory as it is stored: all seventeen fields given.

    Its amplitude is the root of its importance (0 to 4), its width one over the root of
    the number of characters, its phase the place of its concept on the circle.  Of the
    nested fields, what is not given is zero (``energy``: 1).  Raises ``BadEvent``.
    """
    _check_text("concept_id", concept_id)
    _check_text("content", content)
    time = format_time(now)
    fields = {
        "id": id,
        "concept_id": concept_id,
        "phase_tag": phase_of(concept_id),
        "amplitude": math.sqrt(_checked_importance(importance)),
        "frequency": 1.0,
        "width": 1.0 / math.sqrt(len(content)),
        "position": position,
        "stability": 0.8,
        "creation_time": time,
        "last_accessed": time,
        "access_count": 0,
        "content": content,
        "content_type": content_type,
        "emotional_signature": _CALM | _plain(emotional_signature, "emotional_signature"),
        "vault_status": vault_status,
        "mode": mode,
        "comfort_metrics": _COMFORT | _plain(comfort_metrics, "comfort_metrics"),
    }
    return _checked(fields, extra)


def phase_of(concept_id: str) -> float:
    """The phase of a concept: 0 to 2π, from the first four bytes of its MD5.

    >>> round(phase_of("concept:sea"), 6)
    3.997664
    """
    digest = hashlib.md5(concept_id.encode(), usedforsecurity=False).digest()
    return 2.0 * math.pi * int.from_bytes(digest[:4], "big") / (2**32 - 1)


def recalled(memory: Memory, now: int) -> Memory:
    """The fields that a recall changes; an amplitude or stability that is no number stays as it is."""
    changes: Memory = {"id": memory["id"]}
    if isinstance(memory.get("amplitude"), float):
        changes["amplitude"] = min(1.01 * memory["amplitude"], MAX_AMPLITUDE)
    if isinstance(memory.get("stability"), float):
        changes["stability"] = min(1.005 * memory["stability"], 1.0)
    count = memory.get("access_count")
    changes["last_accessed"] = format_time(now)
    changes["access_count"] = min(count + 1, _MOST_RECALLS) if type(count) is int and count >= 0 else 1
    return changes


def _checked(fields: Mapping[str, Any], extra: Mapping[str, Any] | None) -> SolitonMemory:
    """The fields as a memory.  Raises ``BadEvent`` for a value that does not fit or that nobody knows."""
    for name, known in _CHOICES.items():
        if name in fields and fields[name] not in known:
            raise BadEvent(f"{name} is {fields[name]!r}; expected one of {', '.join(known)}")
    if extra is not None and (not isinstance(extra, Mapping) or FIELD_SET.intersection(extra)):
        raise BadEvent("extra must be a dict of names that are not fields of a memory")
    return SolitonMemory.from_dict({**fields, **(extra or {})})


def _checked_importance(importance: float) -> float:
    if isinstance(importance, bool) or not isinstance(importance, (int, float)):
        raise BadEvent(f"importance is a {type(importance).__name__}; expected a number")
    if not 0 <= importance <= MAX_IMPORTANCE:
        raise BadEvent(f"importance is {importance}; expected 0 to {MAX_IMPORTANCE:g}")
    return importance


def _check_text(name: str, text: str) -> None:
    if not isinstance(text, str):
        raise BadEvent(f"{name} is a {type(text).__name__}; expected text")
    if not text:
        raise BadEvent(f"{name} is empty; expected at least one character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadEvent(f"{name} is not valid Unicode") from None


def _plain(value: Any, name: str) -> Memory:
    """The given parts of a nested field."""
    if isinstance(value, (EmotionalSignature, ComfortMetrics)):
        value = msgspec.structs.asdict(value)
    if value is not None and not isinstance(value, Mapping):
        raise BadEvent(f"{name} is a {type(value).__name__}; expected a dict")
    return {part: item for part, item in (value or {}).items() if item is not None}


def _own(value: Any) -> Any:
    """A copy that shares nothing that can be changed."""
    if type(value) is dict:
        return {name: _own(item) for name, item in value.items()}
    return [_own(item) for item in value] if type(value) is list else value


class SolitonVault:
    """The memories of one user, to read and to change, from any thread.

    A change returns when it is as durable as the store promises.  It sees every change
    before it in the log, by whatever vault or program.  A read first takes in what the
    log has gained, up to its last whole frame, which costs a look at the sizes of its
    files and no lock: it may show changes that are in the log and not yet synced.
    Memories are handed out as dicts in the JSON form, which are the caller's own.

    Strict: opening raises ``DamageFound``, naming every place, when the log is damaged,
    and so does any later call that meets new damage, until the places are accepted:
    ``accept=["wal-20250707.log:1234"]``.

    A user who is not there has no memories; the first change creates what is missing.

    >>> import meshlab, tempfile
    >>> vault = SolitonVault(meshlab.open(tempfile.mkdtemp())["ann"])
    >>> vault.store_memory("sea", "The tide came in at six.", id="m1")
    'm1'
    >>> vault.update("m1", position=0.25)["position"], "m1" in vault, len(vault)
    (0.25, True, 1)
    """

    def __init__(self, user: UserStore, *, accept: Collection[str] = (), clock: Callable[[], int] = wall_clock) -> None:
        self.user = user
        self._accepted: set[str] = set()
        self._clock = clock
        self._mutex = threading.Lock()
        self._pid = os.getpid()
        self.accept(accept)
        self._open()

    # Reading

    def get(self, id: str) -> Memory | None:
        """A memory, or None when no such memory lives."""
        return _own(self._current().get(id)) if isinstance(id, str) else None

    def by_concept(self, concept_id: str) -> list[Memory]:
        """The memories of a concept, sorted by id."""
        return [_own(memory) for memory in self._select(concept_id)] if isinstance(concept_id, str) else []

    def __iter__(self) -> Iterator[Memory]:
        """All memories as of now, sorted by id; changes made meanwhile are not seen."""
        return map(_own, self._select(None))

    def __len__(self) -> int:
        return len(self._current())

    def __contains__(self, id: object) -> bool:
        """Whether a memory with this id lives."""
        return isinstance(id, str) and self._current().get(id) is not None

    def refresh(self) -> None:
        """Take in what was appended since; reads do so by themselves, but for segments of earlier days."""
        with self._lock():
            self._catch_up()

    def accept(self, places: Collection[str]) -> None:
        """Go on without the damaged bytes at these places, as ``DamageFound`` names them."""
        for place in [places] if isinstance(places, str) else places:
            if not isinstance(place, str) or not _PLACE.fullmatch(place):
                raise BadEvent(f"{place!r} is no place of damage", hint="places look like wal-20250707.log:1234")
            self._accepted.add(place)

    # Changing

    def store_memory(
        self, concept_id: str, content: str, importance: float = 1.0, *, id: str | None = None, **details: Any
    ) -> str:
        """Store a new memory; returns its id, a random UUID unless it is given.

        ``details`` are those of ``new_memory``.  Raises ``BadEvent`` for values that do
        not fit and for an id that lives already; nothing is written then.
        """
        memory = new_memory(
            concept_id, content, importance, id=str(uuid4()) if id is None else id, now=self._clock(), **details
        )

        def insert(before: Memory | None) -> MeshEvent:
            if before is not None:
                raise BadEvent(f"memory {memory.id!r} lives already", hint="update it, or delete it first")
            return Insert(memory)

        self._change(memory.id, insert)
        return memory.id

    def recall(self, id: str) -> Memory:
        """Recall a memory, which strengthens it; returns it as it is then.  Raises ``NotFound``."""
        return self._update(id, lambda memory: SolitonMemory.from_dict(recalled(memory, self._clock())))

    def update(self, id: str, *, extra: Mapping[str, Any] | None = None, **fields: Any) -> Memory:
        """Replace some fields of a memory; returns it as it is then.

        ``extra`` replaces unknown fields.  Raises ``BadEvent`` for a name or value that
        does not fit, None included (a field cannot be taken back), ``NotFound``.
        """
        unknown = sorted(fields.keys() - FIELD_SET)
        if unknown:
            raise BadEvent(
                f"{', '.join(unknown)}: no field of a memory", hint="unknown fields are given as extra={...}"
            )
        missing = sorted(name for name, value in fields.items() if value is None)
        if missing:
            raise BadEvent(f"{', '.join(missing)}: None means 'not given'")
        if not fields and not extra:
            raise BadEvent("nothing to update")
        _checked({**fields, "id": id}, extra)

        def change(memory: Memory) -> SolitonMemory:
            # An update that gives all fields replaces the record: keep what it does not know.
            kept = (
                {name: memory[name] for name in memory.keys() - FIELD_SET} if len(fields) == len(FIELD_SET) - 1 else {}
            )
            return _checked({**fields, "id": id}, {**kept, **(extra or {})})

        return self._update(id, change)

    def seal(self, id: str) -> Memory:
        """Set the status of an active memory to ``UserSealed``; returns the memory."""
        return self._set_status(id, "UserSealed")

    def unseal(self, id: str) -> Memory:
        """Set the status of a sealed memory to ``Active``; returns the memory."""
        return self._set_status(id, "Active")

    def delete(self, id: str) -> None:
        """Delete a memory.  Raises ``NotFound``."""
        self._change(id, lambda before: Delete(self._living(id, before)["id"]))

    def __repr__(self) -> str:
        count = len(self._memories)
        return f"<SolitonVault of {self.user.uid}: {count:,} {'memory' if count == 1 else 'memories'}>"

    def _set_status(self, id: str, status: str) -> Memory:
        def change(memory: Memory) -> SolitonMemory:
            found = memory.get("vault_status")
            if found not in (None, "Active", "UserSealed"):
                raise BadEvent(f"memory {id!r} is {found}: not the user's to seal", hint="use update(vault_status=...)")
            return SolitonMemory(id=id, vault_status=status)

        return self._update(id, change)

    def _update(self, id: str, change: Callable[[Memory], SolitonMemory]) -> Memory:
        memory = self._change(id, lambda before: Update(change(self._living(id, before))))
        assert memory is not None
        return memory

    def _living(self, id: str, memory: Memory | None) -> Memory:
        if memory is None:
            raise NotFound(f"user {self.user.uid!r} has no memory {id!r}", hint="it was deleted, or never stored")
        return memory

    def _change(self, id: str, event_for: Callable[[Memory | None], MeshEvent]) -> Memory | None:
        """Append the event for a memory as it is under the lock; returns what it makes of it."""
        after: list[Memory | None] = []

        def compute(_: LogEnd) -> Sequence[MeshEvent]:
            with self._lock():
                self._catch_up()
                before = self._memories.get(id) if isinstance(id, str) else None
            event = event_for(before)
            after.append(folded(before, parse_event(encode_event(event))))
            return [event]

        self._current()  # so that little is left to take in while others wait for the lock
        self.user.store._writer(self.user.uid).append_computed(compute)
        return _own(after[-1])

    # Following the log

    def _current(self) -> Memories:
        if self._log.has_changed():
            self.refresh()
        return self._memories

    def _select(self, concept_id: str | None) -> Iterator[Memory]:
        self._current()
        with self._lock():
            return self._memories.select(concept_id)

    def _lock(self) -> threading.Lock:
        """The mutex; a forked child starts with one of its own, and with the log."""
        if self._pid != os.getpid():
            self._pid, self._mutex = os.getpid(), threading.Lock()
            self._open()
        return self._mutex

    def _catch_up(self) -> None:
        if not self._log.has_changed(older=True):
            return
        gain = self._log.read()
        if gain is None:
            self._open()
            return
        self._refuse([(r.segment, r.offset, r.line, r.kind, r.reason) for r in gain.rejects])
        for event in gain.events:
            self._memories.apply(event)
        self._log.advance(gain)

    def _open(self) -> None:
        """Read everything: the snapshot, and what the log has beyond it."""
        root = self.user.root
        if not root.is_dir():
            self._memories, self._log = Memories(None), LogFollower(root, {}, ORIGIN)
            return
        state = self.user.state(progress=False)
        names = ("segment", "offset", "line", "class", "reason")
        columns = (state.rejects[name].to_pylist() for name in names)
        self._refuse(list(zip(*columns, strict=True)))
        self._memories, self._log = Memories(state), LogFollower(root, state.ends, state.end)

    def _refuse(self, rejects: list[tuple[Any, ...]]) -> None:
        """Raise ``DamageFound`` for rejects that are damage nobody has accepted."""
        damage = [(f"{segment_name(r[0])}:{r[1]}", *r[2:]) for r in rejects if r[3] != "torn"]
        refused = [found for found in damage if found[0] not in self._accepted]
        if refused:
            shown = "; ".join(f"{place} (line {line}): {kind}, {why}" for place, line, kind, why in refused[:_SHOWN])
            more = f" and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
            raise DamageFound(
                f"{self.user.root}: {len(refused)} damaged places: {shown}{more}",
                hint=f"look at them with 'meshlab verify'; to go on without them: accept={[f[0] for f in refused]}",
            )


_PLACE = re.compile(r"wal-\d{8}\.log:\d{1,18}", re.ASCII)
_SHOWN = 5


def store_memory(uid: str, concept_id: str, content: str, importance: float = 1.0, **details: Any) -> str:
    """Store a new memory of a user in the default store; returns its id, a random UUID.

    ``details`` are those of ``new_memory``.  A new id changes nothing that is there, so
    nothing is read: this is as fast as an append.  Raises ``BadEvent``, before anything
    is written.

    >>> import tempfile
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, MESH_STORE=tempfile.mkdtemp()):
    ...     id = store_memory("ann", "sea", "The tide came in at six.", importance=0.49)
    >>> len(id)
    36
    """
    memory = new_memory(concept_id, content, importance, id=str(uuid4()), now=wall_clock(), **details)
    append_to_wal(uid, Insert(memory))
    return memory.id
