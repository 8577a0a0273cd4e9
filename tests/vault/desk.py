"""A vault on a desk of its own: a user with our clock, and what its log says."""

from __future__ import annotations

from pathlib import Path

import msgspec

import meshlab
from meshlab.times import DAY, midnight
from meshlab.vault import SolitonVault
from meshlab.wal.files import Files
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import Writer

PACKAGE = Path(meshlab.__file__).parent.parent
TODAY = "20250707"
NOON = midnight(TODAY) + DAY // 2


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now=NOON):
        self.now = now

    def __call__(self):
        return self.now


class Unsynced(Files):
    """Real files without the syncs: for tests that lose no power."""

    def sync(self, fd):
        pass

    def sync_directory(self, path):
        pass


def user_at(path, clock, files=None):
    """A user of a store whose clock is ours."""
    store = meshlab.open(path / "store")
    store._writers["ann"] = Writer(path / "store" / "ann", clock=clock, files=files or Unsynced())
    return store["ann"]


def open_vault(user, clock, **options):
    return SolitonVault(user, clock=clock, **options)


def log_of(user, day=TODAY):
    return user.root / segment_name(day)


def add_bytes(user, data, day=TODAY):
    with log_of(user, day).open("ab") as file:
        file.write(data)


def exact(memories):
    """Bytes that tell -0.0 from 0.0, 1 from 1.0 and one order of names from another."""
    return [msgspec.json.encode(memory) for memory in memories]


def assert_agrees(vault):
    """The vault holds what the log means."""
    state = vault.user.state(progress=False)
    expected = state.to_pylist()
    assert exact(vault) == exact(expected)
    assert len(vault) == len(expected)
    assert all(vault.get(memory["id"]) == memory and memory["id"] in vault for memory in expected)


def reject_places(user):
    return [f"{segment_name(r['segment'])}:{r['offset']}" for r in user.state(progress=False).rejects.to_pylist()]
