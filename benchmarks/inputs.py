"""What is measured on: built once from a seed, kept under the bench folder."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

import meshlab
from benchmarks.measure import tell
from meshlab.events import MeshEvent, decode_event
from meshlab.store import Store, UserStore
from meshlab.testing import builder, traffic
from meshlab.testing.builder import BENCHMARK_DAY, BENCHMARK_UID, build_benchmark_log
from meshlab.times import DAY, midnight
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import Writer

SEALED_UID = "sealed"
SEED = 1
_HOUR = 3_600_000_000


def clock_in(day: str) -> Callable[[], int]:
    """A clock that stands at noon of a day, so that no run crosses midnight."""
    noon = midnight(day) + 12 * _HOUR
    return lambda: noon


@dataclass(frozen=True)
class Inputs:
    """The store with the log of a number of events, and a folder to write in."""

    folder: Path
    events: int

    @property
    def store(self) -> Store:
        return meshlab.open(self.folder / f"log-{self.events}-{_build_version()}")

    @property
    def log(self) -> Path:
        """The segment that every loader reads."""
        return self.store.path / BENCHMARK_UID / segment_name(BENCHMARK_DAY)

    @property
    def user(self) -> UserStore:
        """The user whose one segment is the log, unsealed."""
        return self.store[BENCHMARK_UID]

    @property
    def sealed_user(self) -> UserStore:
        """The same log with a sealed copy, and one event of the next day behind it."""
        return self.store[SEALED_UID]

    @property
    def mebibytes(self) -> float:
        return self.log.stat().st_size / (1 << 20)

    def scratch(self, name: str) -> Path:
        """An empty folder on the disk of the log."""
        path = self.folder / "scratch" / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def remove_scratch(self) -> None:
        shutil.rmtree(self.folder / "scratch", ignore_errors=True)

    def build(self) -> None:
        """Build what is not there yet; a build that was interrupted leaves nothing that counts."""
        target = self.store.path
        if not target.is_dir():
            tell(f"building a log of {self.events:,} events (once)")
            partial = target.with_name(target.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            build_benchmark_log(partial, self.events, SEED)
            os.rename(partial, target)
        if not self.sealed_user.root.is_dir():
            self._link_sealed()
        # A sealed copy of an older format is made anew.
        self.sealed_user.seal()

    def _link_sealed(self) -> None:
        """The log under a second user, by a hard link, and one more event: a newest segment is never sealed."""
        partial = self.store.path / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        os.link(self.log, partial / self.log.name)
        writer = Writer(partial, clock=lambda: midnight(BENCHMARK_DAY) + DAY + _HOUR)
        writer.append(sample_events(1)[0])
        writer.close()
        os.rename(partial, self.sealed_user.root)

    def warm(self) -> None:
        """Bring the log and its sealed copy into the page cache."""
        for path in sorted(self.store.path.rglob("wal-*")):
            with open(path, "rb", buffering=0) as file:
                while file.read(1 << 24):
                    pass


def _build_version() -> str:
    """Changes with the code that builds logs, so that an old log is never taken for a new one."""
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in (builder, traffic))
    return hashlib.sha256(sources).hexdigest()[:8]


def sample_events(count: int) -> list[MeshEvent]:
    """Events to append, of the kinds the log holds, as objects."""
    return [decode_event(event) for event in _event_bytes(count)]


def sample_dicts(count: int) -> list[dict[str, Any]]:
    """The same events as plain dicts."""
    return [msgspec.json.decode(event) for event in _event_bytes(count)]


def _event_bytes(count: int) -> list[bytes]:
    source = traffic.Traffic(SEED, traffic.Mix(0.63, 0.07, 0.0), sentences=(1, 2), late_share=0.0)
    stamps = traffic.stamps(traffic.moments(count, BENCHMARK_DAY, 1, SEED))
    return [source.event(stamp) for stamp in islice(stamps, count)]
