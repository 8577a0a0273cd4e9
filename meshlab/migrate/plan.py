"""The plan of a migration: what is to be done for whom, what it takes, and what stands in the way."""

from __future__ import annotations

import msgspec

from meshlab.migrate.source import Problem


class Input(msgspec.Struct, frozen=True):
    """One file a plan is about: its absolute path, bytes, and SHA-256 (64 hex digits)."""

    path: str
    size: int
    sha256: str


class PlannedUser(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done for one user.

    ``records`` live in the source and have ``state_hash`` together; ``bytes_to_write``
    and ``seconds`` are estimated, ``notes`` are for people.
    """

    uid: str
    kind: str
    base: str
    inputs: list[Input]
    operations: list[str]
    records: int
    state_hash: str
    bytes_to_write: int
    seconds: float
    notes: list[str] = []


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a migration would do.  ``id`` is the SHA-256 of everything else in it (64 hex digits)."""

    id: str = ""
    format: int = 1
    created_at: str
    tool: str
    source: str
    store: str
    accept: dict[str, list[str]] = {}
    """Damage an operator has accepted, by uid, as ``wal-20250707.log:1234``."""
    users: list[PlannedUser] = []
    problems: list[Problem] = []
    left: list[Problem] = []
    """Files of the source that the plan does not take."""
    bytes_to_write: int = 0
    free_needed: int = 0
    free: int = 0
    seconds: float = 0.0
