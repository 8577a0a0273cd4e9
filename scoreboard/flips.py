"""Single bits flipped in the log, the manifest or the layers: seen, or without effect; never a wrong answer."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from meshlab.errors import MeshlabError
from meshlab.events import Delete, Insert, SolitonMemory, Update
from meshlab.replay import replay
from meshlab.snapshot import layers
from meshlab.testing import LogBuilder
from meshlab.testing.reading import read_log
from meshlab.wal.paths import SNAPSHOT, segment_name
from scoreboard.row import Task
from scoreboard.stories import LONG, Shop, insert, update
from scoreboard.twins import either, no_layer_sums, no_log_sums, no_manifest_sum


def small_log() -> LogBuilder:
    """Three segments: single frames, a batch, a key, text that is not ASCII."""
    log = LogBuilder("20250701")
    log.frame([Insert(SolitonMemory(id="a", amplitude=0.25, content="J*é"))])
    log.frame([Delete("x"), Update(SolitonMemory(id="a", access_count=7))])
    log.frame([Update(SolitonMemory(id="a", stability=1.0))], day="20250702", key="k-1")
    log.frame([{"note": [1, "two"]}])
    log.frame([Delete("a")], day="20250703")
    return log


def flip(path: Path, bit: int) -> None:
    """Flip one bit of a file where it is; the second time undoes the first."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def chosen_bits(size: int, count: int, rng: Random) -> Any:
    """``count`` bits of so many bytes: each once before any comes twice."""
    left = count
    while left > 0:
        yield from rng.sample(range(8 * size), min(left, 8 * size))
        left -= 8 * size


def log_flips(task: Task) -> None:
    """Every flip leaves a reject or a finding, and invents no event."""
    outcome, rng, log = task.outcome, Random(task.seed), small_log()
    root = log.write(task.folder / "u")
    original = {(row.seq, row.payload) for row in read_log(root).rows}
    sizes = {day: len(log.bytes(day)) for day in log.days()}
    with either(task.broken, no_log_sums):
        for day, size in sizes.items():
            path = root / segment_name(day)
            share = task.count * size // sum(sizes.values())
            for bit in chosen_bits(size, share, rng):
                flip(path, bit)
                with outcome.round(f"bit {bit} of {day}"):
                    found = read_log(root, check=bit % 16 == 0)
                    events = {(row.seq, row.payload) for row in found.rows}
                    assert found.rejects, "not seen"
                    assert events <= original, f"invented {events - original}"
                    outcome.notes["with an event lost, and told"] += events != original
                flip(path, bit)


def checkpointed(folder: Path) -> Path:
    """A user with layers of records and contents, and some log behind them."""
    shop = Shop(folder / "u")
    for day in range(3):
        names = [f"m{day}{number}" for number in range(6)]
        shop.append(*(insert(name, LONG + name, amplitude=number / 7) for number, name in enumerate(names)))
        shop.append(update(names[0], stability=day / 3), {"Delete": names[1]})
        shop.checkpoint()
        shop.later()
    shop.append(update("m00", content=LONG * 2), insert("last"))
    shop.close()
    return shop.root


def answer(root: Path) -> Any:
    """The state as a process that has just started reads it."""
    layers.forget_verified()
    return replay(root, "u", progress=False).to_arrow()


def file_flips(task: Task, paths: list[Path], root: Path, twin: Any) -> None:
    """Every flip is an error, or the answer is the right one."""
    outcome, rng, right = task.outcome, Random(task.seed), answer(root)
    total = sum(path.stat().st_size for path in paths)
    with either(task.broken, twin):
        for path in paths:
            size = path.stat().st_size
            for bit in chosen_bits(size, max(1, task.count * size // total), rng):
                flip(path, bit)
                with outcome.round(f"bit {bit} of {path.name}"):
                    try:
                        same = answer(root).equals(right)
                    except (MeshlabError, ValueError, OSError):
                        outcome.notes["refused"] += 1
                    else:
                        outcome.notes["right all the same"] += same
                        assert same, "a wrong answer without a word"
                flip(path, bit)


def manifest_flips(task: Task) -> None:
    """Bits of ``snapshot.bin``."""
    root = checkpointed(task.folder)
    file_flips(task, [root / SNAPSHOT], root, no_manifest_sum)


def layer_flips(task: Task) -> None:
    """Bits of all layers, of records and of contents."""
    root = checkpointed(task.folder)
    file_flips(task, sorted((root / "layers").iterdir()), root, no_layer_sums)
