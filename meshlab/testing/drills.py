"""A drill: the faults of the kit, tried on a copy of somebody's own store.

>>> import tempfile
>>> from meshlab.testing.builder import build_store
>>> store_copy = Path(tempfile.mkdtemp()) / "copy"
>>> _ = build_store(store_copy, users=1, events=40, days=2)
>>> report = drill(store_copy, rounds=2)
>>> report.holds
True

Each user's directory is copied into a scratch folder in the store (``.meshlab/drill``, gone
afterwards), and the faults happen there: bits are flipped, the log is cut, the power fails
while events are appended and while a checkpoint is made.  The users' own files are only read.
As a command: ``python -m meshlab.testing.drills STORE_COPY``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from meshlab import markup
from meshlab.errors import MeshlabError
from meshlab.replay import replay
from meshlab.snapshot import layers
from meshlab.snapshot.checkpoint import CHECKPOINT_LOCK, checkpoint
from meshlab.snapshot.hashing import state_hash
from meshlab.snapshot.manifest import LAYERS, Manifest, current
from meshlab.tables.events import load_user
from meshlab.testing.files import FailingFiles, PowerCut
from meshlab.testing.forgetful import ForgetfulFiles
from meshlab.testing.reading import has_sum
from meshlab.wal.paths import LOCK, SNAPSHOT, existing_user, segment_days, segment_name, user_ids
from meshlab.wal.verify import verify
from meshlab.wal.writer import Writer
from meshlab.wording import counted, size_text

__all__ = ["DrillReport", "DrillRow", "drill"]

LARGEST = 64 << 20
"""Bytes of a user beyond which the drill leaves him out: every power cut takes a copy of him in memory."""

_HEAD = ("user", "check", "rounds", "failures", "detail")
_LOCKS = (LOCK, CHECKPOINT_LOCK)
_ENDING = 64 << 10
"""Bytes at the end of a log within which it is cut."""


class DrillRow(NamedTuple):
    """One check on one user: how often it was tried, what failed, and what else there is to say."""

    user: str
    check: str
    rounds: int
    failures: list[str]
    detail: str


class DrillReport(NamedTuple):
    """What a drill found; shows itself as a table.

    >>> report = DrillReport(Path("copy"), [DrillRow("ann", "cut", 20, ["at byte 7: an event is lost"], "")])
    >>> report.holds, report.failures
    (False, ['ann, cut: at byte 7: an event is lost'])
    """

    store: Path
    rows: list[DrillRow]

    @property
    def holds(self) -> bool:
        """Whether nothing failed."""
        return not any(row.failures for row in self.rows)

    @property
    def failures(self) -> list[str]:
        """What failed, with user and check."""
        return [f"{row.user}, {row.check}: {failure}" for row in self.rows for failure in row.failures]

    def __str__(self) -> str:
        """The table as text."""
        cells = [_HEAD, *(_cells(row) for row in self.rows)]
        widths = [max(len(str(line[at])) for line in cells) for at in range(len(_HEAD))]
        return "\n".join(
            "  ".join(str(cell).ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells
        )

    def _repr_html_(self) -> str:
        told = "holds" if self.holds else counted(len(self.failures), "failure")
        head = markup.headline("drill", str(self.store), told, good=self.holds)
        table = markup.table(_HEAD, [_cells(row) for row in self.rows[:100]], len(self.rows))
        return head + table + markup.bullets(self.failures[:10], len(self.failures))


def _cells(row: DrillRow) -> tuple[Any, ...]:
    return row.user, row.check, f"{row.rounds:,}", f"{len(row.failures):,}", row.detail


def drill(
    store_copy: str | Path,
    users: Iterable[str] | None = None,
    *,
    rounds: int = 20,
    seed: int = 0,
    largest: int = LARGEST,
) -> DrillReport:
    """Try every fault ``rounds`` times on each user (or those named) of a copy of a store.

    Give it a copy: it needs room for another copy of its largest user, and two in memory.
    Users with more bytes than ``largest`` are left out, and the report says so.
    """
    store = Path(store_copy)
    wanted = sorted(user_ids(store)) if users is None else list(users)
    rows: list[DrillRow] = []
    for uid in wanted:
        root = existing_user(store, uid)
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        if size > largest:
            told = f"left out: {size_text(size)}, more than {size_text(largest)}"
            rows.append(DrillRow(uid, "all", 0, [], told))
            continue
        rows += _User(root, store / ".meshlab" / "drill", rounds, seed).rows()
    return DrillReport(store, rows)


class _User:
    """The checks of one user."""

    def __init__(self, root: Path, scratch: Path, rounds: int, seed: int) -> None:
        self.root, self.uid, self.scratch, self.rounds = root, root.name, scratch, rounds
        self.rng = Random(f"{seed} {root.name}")

    def rows(self) -> list[DrillRow]:
        """One row for each check."""
        checks: dict[str, Callable[[Path, Counter[str]], None]] = {
            "reads the same in a copy": self._copy,
            "a flipped bit is seen or harmless": self._flip,
            "a torn end leaves the rest": self._tear,
            "power cut in an append": self._cut_append,
            "power cut in a checkpoint": self._cut_checkpoint,
        }
        try:
            self.hash = _hash(self.root)
        except MeshlabError as error:
            return [DrillRow(self.uid, "reads", 1, [error.message], "nothing else was tried")]
        return [self._row(name, check, 1 if check == self._copy else self.rounds) for name, check in checks.items()]

    def _row(self, name: str, check: Callable[[Path, Counter[str]], None], rounds: int) -> DrillRow:
        failures: list[str] = []
        notes: Counter[str] = Counter()
        for _ in range(rounds):
            with self._copied() as root:
                try:
                    check(root, notes)
                except (AssertionError, MeshlabError, OSError, ValueError) as error:
                    failures.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        return DrillRow(self.uid, name, rounds, failures, ", ".join(f"{what} {n:,}" for what, n in notes.items()))

    @contextmanager
    def _copied(self) -> Iterator[Path]:
        target = self.scratch / "store" / self.uid
        shutil.rmtree(self.scratch, ignore_errors=True)
        try:
            shutil.copytree(self.root, target, ignore=shutil.ignore_patterns(*_LOCKS))
            layers.forget_verified()
            yield target
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _copy(self, root: Path, notes: Counter[str]) -> None:
        assert _hash(root) == self.hash, "another state"
        damage = len(verify(root).damage) if segment_days(root) else 0
        notes["places of damage, which it had before"] += damage

    def _flip(self, root: Path, notes: Counter[str]) -> None:
        paths = [path for name in ("wal-*.log", SNAPSHOT, f"{LAYERS}/*") for path in sorted(root.glob(name))]
        path = self.rng.choices(paths, [path.stat().st_size for path in paths])[0]
        data, before = bytearray(path.read_bytes()), _rejects(root)
        at = self.rng.randrange(8 * len(data))
        summed = has_sum(path, data, at // 8)
        data[at // 8] ^= 1 << at % 8
        path.write_bytes(data)
        layers.forget_verified()
        try:
            same, told = _hash(root) == self.hash, _rejects(root) != before
        except MeshlabError:
            notes["refused"] += 1
            return
        if not summed:
            notes["in bytes without a sum"] += 1
            return
        notes["told" if told else "harmless"] += 1
        assert same or told, f"bit {at} of {path.name}: a wrong answer without a word"

    def _tear(self, root: Path, notes: Counter[str]) -> None:
        days = segment_days(root)
        if not days:
            return
        path, before = root / segment_name(days[-1]), _events(root)
        size = path.stat().st_size
        cut = self.rng.randint(max(0, size - _ENDING), size)
        with path.open("r+b") as file:
            file.truncate(cut)
        after = _events(root)
        assert after == before[: len(after)], "events before the cut have changed"
        gone = before[len(after) :]
        assert all(day == days[-1] for day, _ in gone), "events of other days are gone"
        _append(root, ForgetfulFiles(), "after the cut")
        notes["with an event lost that was cut"] += bool(gone)
        assert len(_events(root)) > len(after), "what was appended then is not there"

    def _cut_append(self, root: Path, notes: Counter[str]) -> None:
        disk, kept = ForgetfulFiles(), _events(root)
        files = FailingFiles(disk, "any", self.rng.randint(1, 12), error=PowerCut(), forever=True)
        acknowledged = 0
        with suppress(PowerCut):
            for number in range(2):
                _append(root, files, f"drill-{number}")
                acknowledged += 1
        disk.crash(root.parent, rng=self.rng, keep_torn=True, holes=True)
        found = _events(root)
        assert found[: len(kept)] == kept, "events from before are gone"
        assert len(found) >= len(kept) + acknowledged, "an acknowledged event is gone"
        notes["cut in the middle"] += bool(files.hits)

    def _cut_checkpoint(self, root: Path, notes: Counter[str]) -> None:
        found = current(root, self.uid)
        if segment_days(root) and verify(root).damage:
            notes["left out, for a checkpoint stops at damage"] += 1
            return
        disk, upgrade = ForgetfulFiles(), isinstance(found, Path)
        if isinstance(found, Manifest):
            _append(root, disk, "something to fold")
        wanted = _hash(root)
        files = FailingFiles(disk, "any", self.rng.randint(1, 60), error=PowerCut(), forever=True)
        with suppress(PowerCut):
            checkpoint(root, self.uid, upgrade=upgrade, files=files, progress=False)
        disk.crash(root.parent, rng=self.rng, keep_torn=True)
        assert _hash(root) == wanted, "another state after the cut"
        checkpoint(root, self.uid, upgrade=isinstance(current(root, self.uid), Path), files=disk, progress=False)
        disk.crash(root.parent)
        assert _hash(root) == wanted, "another state after the next checkpoint"
        notes["cut in the middle"] += bool(files.hits)


def _hash(root: Path) -> str:
    return state_hash(replay(root, root.name, progress=False).to_arrow()).hexdigest()


def _rejects(root: Path) -> int:
    return len(verify(root).rejects) if segment_days(root) else 0


def _events(root: Path) -> list[tuple[str, int]]:
    """The place of every event but those the log writes itself."""
    columns = ("segment", "offset", "op", "raw")
    rows = load_user(root, root.name, columns=columns, progress=False).to_pylist() if segment_days(root) else []
    return [(row["segment"], row["offset"]) for row in rows if not str(row.get("raw")).startswith('{"Recovered":')]


def _append(root: Path, files: Any, word: str) -> None:
    writer = Writer(root, files=files)
    writer.append({"drill": word})
    writer.close()


def main() -> int:
    """Drill a copy of a store and print the table."""
    parser = argparse.ArgumentParser(prog="python -m meshlab.testing.drills", description="faults on a copy of a store")
    parser.add_argument("store_copy", type=Path)
    parser.add_argument(
        "--rounds", type=int, default=20, help="how often each fault is tried on each user (default: 20)"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        report = drill(options.store_copy, rounds=options.rounds, seed=options.seed)
    except MeshlabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("\n".join([str(report), *report.failures]) + "\n")
    return 0 if report.holds else 2


if __name__ == "__main__":
    sys.exit(main())
