"""Many users: two workers beside one on a store of a million events, and ten thousand small users.

A worker is a process with one thread, so two of them have twice of everything; pools are
started before the clock.  The store has eight users of very different size over two
weeks, as ``build_store`` makes them, and large ones are read by segment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.inputs import SEED, Inputs
from benchmarks.measure import interleave, tell, timed
from benchmarks.report import SPEED, Bound, Row, seconds
from meshlab.fleet.crew import limit_threads
from meshlab.fleet.fleet import Fleet
from meshlab.store import Store
from meshlab.testing.builder import build_store

USERS, DAYS = 8, 14
SPLIT = 16 << 20
FLOOR = Bound(1.6)

MANY, FEWER, VARIANTS, CHECKPOINTED = 10_000, 1_000, 20, 100
BOUNDED = Bound(1.5, most=True)
MEGABYTES = "{:,.0f} MB"

_PROGRAM = """
import json, resource, sys, time
from benchmarks.verify import peak_memory
from meshlab.fleet.fleet import Fleet
if __name__ == "__main__":
    store, users = sys.argv[1], int(sys.argv[2])
    fleet, told = Fleet(store, 2, progress=False), {}
    started = time.perf_counter()
    uids = fleet.users()[:users]
    told["list"] = time.perf_counter() - started
    for name in ("stats", "growth"):
        started = time.perf_counter()
        run = getattr(fleet, name)(uids)
        if name == "growth":
            told["op"] = run.by("op").bytes
        told[name] = time.perf_counter() - started
        told["failed"] = run.failed.num_rows
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({**told, "driver": peak_memory(), "worker": worker}))
"""


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    return [*_two_beside_one(inputs, rounds), *_many(inputs)]


def _two_beside_one(inputs: Inputs, rounds: int) -> list[Row]:
    store = inputs.folder / f"fleet-{inputs.events}"
    if not store.is_dir():
        tell(f"building a store of {inputs.events:,} events (once)")
        partial_store = store.with_name(store.name + ".partial")
        shutil.rmtree(partial_store, ignore_errors=True)
        build_store(partial_store, users=USERS, days=DAYS, events=inputs.events, seed=SEED)
        os.rename(partial_store, store)
    rows = []
    with _workers(1) as one, _workers(2) as two:
        for job in ("verify", "load"):
            work = {pool: partial(_events, store, job, pool, inputs) for pool in (one, two)}
            contenders = {"one": timed(work[one]), "two": timed(work[two])}
            figures = interleave(contenders, rounds)
            ratio = figures["one"].median / figures["two"].median
            name = f"fleet: {job} {inputs.events:,} events of {USERS} users, two workers"
            rows.append(
                Row(name, seconds(figures["two"]), f"one worker {seconds(figures['one'])}", ratio, SPEED, FLOOR)
            )
    return rows


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each, which have done something already."""
    with ProcessPoolExecutor(count, get_context("spawn"), limit_threads, (1,)) as pool:
        list(pool.map(_warm, range(4 * count)))
        yield pool


def _warm(number: int) -> None:
    import meshlab.fleet.work  # noqa: F401 - what a worker needs


def _events(store: Path, job: str, pool: ProcessPoolExecutor, inputs: Inputs) -> None:
    run = getattr(Fleet(store, pool, split=SPLIT, progress=False), job)(out=inputs.scratch("fleet") / "out")
    found = sum(run.to_arrow()["events"].to_pylist())
    if found != inputs.events or run.failed.num_rows:
        raise SystemExit(f"fleet: {job} found {found} events, expected {inputs.events}; {run.failed.to_pylist()}")


# Ten thousand users


def _many(inputs: Inputs) -> list[Row]:
    store = inputs.scratch("fleet-many") / "store"
    nbytes = _build_many(store)
    few, many = _look_at(store, FEWER), _look_at(store, MANY)
    if many["failed"] or many["op"] != nbytes:
        raise SystemExit(f"fleet: {many['op']} bytes are attributed, the files have {nbytes}; {many['failed']} failed")
    rows = [
        Row(
            f"fleet: {MANY:,} users, {work}, two processes",
            f"{many[key]:,.2f} s",
            f"{FEWER:,} users {few[key]:,.2f} s",
            many[key] / few[key],
            "{:.2f}x the time",
        )
        for key, work in (("list", "list"), ("stats", "stats"), ("growth", "growth, sealed"))
    ]
    for key, who in (("driver", "the process that asks"), ("worker", "the largest worker")):
        shown = MEGABYTES.format(many[key] / 1e6)
        instead = f"{FEWER:,} users {MEGABYTES.format(few[key] / 1e6)}"
        name = f"fleet: {MANY:,} users, peak memory of {who}"
        rows.append(Row(name, shown, instead, many[key] / few[key], "{:.2f}x the memory", BOUNDED))
    return rows


def _look_at(store: Path, users: int) -> dict[str, float]:
    tell(f"  {users:,} users")
    command = [sys.executable, "-c", _PROGRAM, str(store), str(users)]
    told: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    tell(f"  {told}")
    return told


def _build_many(store: Path) -> int:
    """Users of three days, two of them sealed, by hard links to a few; some have checkpoints of their own."""
    tell(f"building {MANY:,} users")
    variants = store.with_name("variants")
    build_store(variants, users=VARIANTS, days=3, events=40 * VARIANTS, seed=SEED)
    made = Store(variants)
    for uid in made:
        made[uid].seal()
    store.mkdir()
    uids = made.users()
    for number in range(MANY):
        shutil.copytree(variants / uids[number % VARIANTS], store / f"u{number:05d}", copy_function=os.link)
    Fleet(store, 2, progress=False).checkpoint([f"u{number:05d}" for number in range(CHECKPOINTED)])
    return sum(path.stat().st_size for path in store.glob("*/wal-*.log"))
