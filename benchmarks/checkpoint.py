"""Checkpoints of a million records with about 1 GB of content, 1 % of them touched between two."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import meshlab
from benchmarks.inputs import Inputs
from benchmarks.measure import figure, tell
from benchmarks.report import SPEED, TIME, Bound, Row, seconds
from benchmarks.verify import peak_memory
from meshlab.service.priority import give_way
from meshlab.store import UserStore

UID = "big"
TOUCHED = 0.01
STEPS = 100
BATCH = 2000
WORDS = 156
"""Words of a content: about a kilobyte."""

PEAK = 1500
_MIB = 1 << 20


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    folder = inputs.scratch("checkpoint")
    store = meshlab.open(folder / "store", durability="os")
    user, ids = store[UID], build(store[UID], inputs.events)
    first = _in_child("first", store.path)
    anew = _in_child("anew", store.path)
    steps = _in_child("steps", store.path, ids)
    rows = _written(steps, anew) + _memory(first, steps)
    rows += _beside(user, ids, folder)
    return rows + _restored(user, rounds)


def build(user: UserStore, count: int) -> list[str]:
    """Append inserts; returns the ids."""
    source = random.Random(7)
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(2, 9))) for _ in range(4000)]
    ids = [f"{source.getrandbits(128):032x}" for _ in range(count)]
    for low in range(0, count, BATCH):
        user.append_many([{"Insert": _record(id, source, words)} for id in ids[low : low + BATCH]])
    (user.root.parent / f"{UID}.ids").write_text(json.dumps(ids), encoding="utf-8")
    return ids


def _record(id: str, source: random.Random, words: list[str]) -> dict[str, Any]:
    stamp = f"2026-01-01T10:{source.randrange(60):02d}:{source.randrange(60):02d}.{source.randrange(10**6):06d}Z"
    return {
        "id": id,
        "concept_id": f"concept:{source.randrange(1000)}",
        "phase_tag": source.random(),
        "amplitude": source.random(),
        "frequency": 1.0,
        "width": source.random(),
        "position": source.random(),
        "stability": 0.8,
        "creation_time": stamp,
        "last_accessed": stamp,
        "access_count": 0,
        "content": " ".join(source.choices(words, k=WORDS)),
        "content_type": "Conversation",
        "emotional_signature": {"valence": source.random(), "arousal": 0.1, "dominance": 0.5, "trauma_indicators": []},
        "vault_status": "Active",
        "mode": "Bright",
        "comfort_metrics": {"energy": source.random(), "stress": 0.1, "flux": 0.2, "perturbation": 0.0},
    }


def touch(user: UserStore, ids: list[str], number: int) -> None:
    """Recall 1 % of the memories, chosen at random."""
    source = random.Random(number)
    some = source.sample(ids, max(1, int(len(ids) * TOUCHED)))
    for low in range(0, len(some), BATCH):
        user.append_many([_recall(id, source, number) for id in some[low : low + BATCH]])


def _recall(id: str, source: random.Random, number: int) -> dict[str, Any]:
    body = {"id": id, "amplitude": source.random(), "stability": source.random(), "access_count": number + 1}
    return {"Update": body | {"last_accessed": f"2026-01-02T10:00:00.{number:06d}Z"}}


# Processes of their own: each tells its figures and its peak of memory


def _in_child(what: str, store: Path, ids: list[str] | None = None) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.checkpoint", what, os.fspath(store)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    tell(f"  {what}: { ({name: value for name, value in told.items() if not isinstance(value, list)}) }")
    return told


def _child(what: str, store: Path) -> dict[str, Any]:
    user = meshlab.open(store, durability="os")[UID]
    told = {"first": _first, "anew": _anew, "steps": _steps}[what](user)
    return told | {"peak": peak_memory() / _MIB}


def _first(user: UserStore) -> dict[str, Any]:
    report = user.checkpoint(progress=False)
    return {"seconds": report.seconds, "bytes": report.bytes_written}


def _anew(user: UserStore) -> dict[str, Any]:
    """The whole state once more, as the first checkpoint of a copy: what a full rewrite costs."""
    state = user.state(progress=False).to_arrow()
    folder = user.root.parent / ".anew"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    start = time.perf_counter()
    nbytes = write_whole(folder, state)
    elapsed = time.perf_counter() - start
    shutil.rmtree(folder)
    return {"seconds": elapsed, "bytes": nbytes}


def write_whole(folder: Path, state: Any) -> int:
    """Write a state as layers, with the very code a checkpoint uses; returns the bytes."""
    from meshlab.snapshot.layers import LayerFolder
    from meshlab.snapshot.manifest import Manifest
    from meshlab.snapshot.stack import Stack
    from meshlab.wal.files import REAL_FILES

    layers = LayerFolder(folder, REAL_FILES)
    layers.prepare()
    stack = Stack(folder, Manifest(uid=UID), layers)
    stack.add_map(state.to_batches(max_chunksize=16_384))
    return layers.nbytes


def _steps(user: UserStore) -> dict[str, Any]:
    ids = json.loads((user.root.parent / f"{UID}.ids").read_text(encoding="utf-8"))
    elapsed, changed, merged = [], [], []
    for number in range(STEPS):
        touch(user, ids, number)
        report = user.checkpoint(progress=False)
        elapsed.append(report.seconds)
        changed.append(report.bytes_of_change)
        merged.append(report.bytes_merged)
    return {"seconds": elapsed, "changed": changed, "merged": merged}


# Rows


def _written(steps: dict[str, Any], anew: dict[str, Any]) -> list[Row]:
    plain = [i for i, nbytes in enumerate(steps["merged"]) if not nbytes]
    times = figure([steps["seconds"][index] for index in plain[1:]])
    sizes = figure([steps["changed"][index] for index in plain])
    whole = f"{anew['bytes'] / 1e6:,.0f} MB"
    total = sum(steps["changed"]) + sum(steps["merged"])
    work = "checkpoint of 1 % touched"
    return [
        Row(
            f"{work}: bytes",
            f"{sizes.median / 1e6:.2f} MB",
            f"the whole snapshot {whole}",
            sizes.median / anew["bytes"] * 100,
            "{:.2f} % of the bytes",
            Bound(2.0, most=True),
        ),
        Row(
            f"{work}: time",
            seconds(times),
            f"write the whole snapshot {anew['seconds']:.1f} s",
            times.median / anew["seconds"] * 100,
            "{:.1f} % of the time",
            Bound(10.0, most=True),
        ),
        Row(
            f"{STEPS} such checkpoints: all bytes written, merges included",
            f"{total / 1e6:,.0f} MB",
            f"bytes of change {sum(steps['changed']) / 1e6:,.0f} MB",
            total / sum(steps["changed"]),
            "{:.2f}x the bytes",
            Bound(6.0, most=True),
        ),
    ]


def _memory(first: dict[str, Any], steps: dict[str, Any]) -> list[Row]:
    bound, shape = Bound(PEAK, most=True), "{:,.0f} MiB"
    return [
        Row("peak memory, first checkpoint", f"{first['seconds']:.1f} s", "-", first["peak"], shape, bound),
        Row(f"peak memory, {STEPS} checkpoints of 1 %", "-", "-", steps["peak"], shape, bound),
    ]


def _beside(user: UserStore, ids: list[str], folder: Path) -> list[Row]:
    """Durable appends to another log of the same disk, idle and while checkpoints run in another process."""
    other = meshlab.open(folder / "store")["beside"]
    idle = _latencies(other, lambda: None, 5.0)
    place = os.fspath(user.root.parent)
    touch(user, ids, STEPS)
    one = [sys.executable, "-m", "meshlab", "--store", place, "checkpoint", UID, "--format", "json"]
    with subprocess.Popen(one, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        busy = _latencies(other, child.poll, 60.0)
    merge = [sys.executable, "-m", "benchmarks.checkpoint", "merge", place]
    with subprocess.Popen(merge, stdout=subprocess.DEVNULL) as child:
        merging = _latencies(other, child.poll, 120.0)
    p99 = [sorted(samples)[int(len(samples) * 0.99)] for samples in (idle, busy, merging)]
    tell(f"  p99 idle, beside a delta, beside a merge: {p99}")
    return [
        Row(
            "append beside a checkpoint of 1 %, p99",
            f"{p99[1] * 1e3:.2f} ms",
            f"idle {p99[0] * 1e3:.2f} ms",
            p99[1] / p99[0],
            TIME,
            Bound(4.0, most=True),
        ),
        Row(
            "append beside a merge of all layers, p99",
            f"{p99[2] * 1e3:.2f} ms",
            f"idle {p99[0] * 1e3:.2f} ms",
            p99[2] * 1e3,
            "{:.1f} ms",
            Bound(30.0, most=True),
        ),
    ]


def _latencies(user: UserStore, ended: Any, most: float) -> list[float]:
    """Seconds of each append until ``ended`` gives something, or for some seconds."""
    event = {"Update": {"id": "m1", "amplitude": 0.5}}
    samples, start = [], time.perf_counter()
    while ended() is None and time.perf_counter() - start < most:
        before = time.perf_counter()
        user.append(event)
        samples.append(time.perf_counter() - before)
    return samples


def _merge(user: UserStore) -> None:
    """Merge all layers of records into one, as the end of a doubling does."""
    from meshlab.snapshot.layers import LayerFolder, write_records
    from meshlab.snapshot.layers import merge_records as merged
    from meshlab.snapshot.manifest import RECORDS, Manifest, current, layer_path
    from meshlab.wal.files import REAL_FILES

    manifest = current(user.root, user.uid)
    assert isinstance(manifest, Manifest)
    paths = [layer_path(user.root, layer) for layer in manifest.of_kind(RECORDS)]
    folder = LayerFolder(user.root, REAL_FILES, ".merge")
    folder.prepare()
    folder.add(RECORDS, lambda sink: write_records(sink, merged(paths, drop_gone=True)))
    folder.discard()


def _restored(user: UserStore, rounds: int) -> list[Row]:
    """A state from the newest checkpoint and a day of log, beside a replay of everything, and of moments."""
    source = random.Random(3)
    windows = user.windows()
    ids = json.loads((user.root.parent / f"{UID}.ids").read_text(encoding="utf-8"))
    touch(user, ids, STEPS + 1)
    folds = [piece.effective for entry in _manifests(user) for piece in entry.folded[-1:]]
    moments = [source.choice(folds) for _ in range(rounds)]
    everything = user.root.parent / "everything"
    shutil.rmtree(everything, ignore_errors=True)
    everything.mkdir()
    for path in user.root.glob("wal-*.log"):
        os.link(path, everything / path.name)
    whole = meshlab.open(user.root.parent)["everything"]
    timings: dict[str, list[float]] = {"checkpoint": [], "everything": [], "moment": []}
    for moment in moments:
        for name, work in {
            "checkpoint": lambda: user.state(progress=False),
            "everything": lambda: whole.state(progress=False),
            "moment": lambda moment=moment: user.state(moment, progress=False),
        }.items():
            start = time.perf_counter()
            result = work()
            timings[name].append(time.perf_counter() - start)
            del result
            tell(f"  state, {name}: {timings[name][-1]:.2f}")
    figures = {name: figure(values) for name, values in timings.items()}
    tell(f"  windows: {len(windows)}")
    return [
        Row(
            "state() from a checkpoint and a day of log",
            seconds(figures["checkpoint"]),
            f"replay of everything {seconds(figures['everything'])}",
            figures["everything"].median / figures["checkpoint"].median,
            SPEED,
            Bound(5.0),
        ),
        Row(
            "state(at=...) of any moment in the window",
            seconds(figures["moment"]),
            f"state() {seconds(figures['checkpoint'])}",
            figures["moment"].median / figures["checkpoint"].median,
            TIME,
            Bound(2.0, most=True),
        ),
    ]


def _manifests(user: UserStore) -> list[Any]:
    from meshlab.snapshot.manifest import history

    return [entry.manifest for entry in history(user.root, user.uid) if entry.manifest and entry.manifest.folded]


if __name__ == "__main__":
    task, place = sys.argv[1], Path(sys.argv[2])
    if task == "merge":
        give_way()
        _merge(meshlab.open(place)[UID])
    else:
        print(json.dumps(_child(task, place)))
