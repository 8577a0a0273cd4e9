"""The machine in words: what the numbers depend on, without names or paths."""

from __future__ import annotations

import hashlib
import os
import platform
import sqlite3
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

LIBRARIES = ("meshlab", "pyarrow", "duckdb", "polars", "pandas", "numpy", "msgspec", "orjson", "uvicorn", "fastapi")


def describe(folder: Path) -> dict[str, str]:
    """Processor, memory, system, versions, and the disk under ``folder``."""
    return {
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": ", ".join(f"{name} {_version(name)}" for name in LIBRARIES),
        "SQLite": sqlite3.sqlite_version,
        "disk": f"{_file_system(folder)}; write of 400 bytes + fdatasync: {_sync_micros(folder):.0f} µs (median)",
        "limits": _limits(folder),
        "load before": _load(),
    }


def _limits(folder: Path) -> str:
    """What nothing on this machine can beat."""
    digests = " and ".join(f"{name.upper()} {_digest_speed(name):.0f} MB/s" for name in ("md5", "sha256"))
    memory, disk = (
        f"copy in memory {_copy_speed():.1f} GB/s",
        f"write and sync of 256 MB {_write_speed(folder):.0f} MB/s",
    )
    return f"{memory}; {digests} on one core; {disk}"


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f} processes waiting or running (average of one minute)"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown model"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown model")


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(from source)" if name == "meshlab" else "not installed"


def _file_system(folder: Path) -> str:
    """The type of the file system a folder is on, as Linux tells it."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "file system unknown"
    resolved = folder.resolve()
    over = [mount for mount in mounts if resolved.is_relative_to(mount[1])]
    return max(over, key=lambda mount: len(mount[1]))[2] if over else "file system unknown"


def _copy_speed() -> float:
    """GB/s of one core."""
    source = np.ones(32 << 20, np.int64)
    target = np.empty_like(source)
    return source.nbytes / 1e9 / min(_seconds(lambda: np.copyto(target, source)) for _ in range(5))


def _digest_speed(name: str) -> float:
    """MB/s of one core."""
    data = bytes(64 << 20)
    return len(data) / 1e6 / min(_seconds(lambda: hashlib.new(name, data)) for _ in range(3))


def _write_speed(folder: Path) -> float:
    """MB/s of a file written in one go and synced, the median of three."""
    path, data = folder / "write-probe", os.urandom(1 << 20) * 256

    def write() -> None:
        with open(path, "wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())

    try:
        return len(data) / 1e6 / statistics.median(_seconds(write) for _ in range(3))
    finally:
        path.unlink(missing_ok=True)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _sync_micros(folder: Path) -> float:
    """What one durable append costs at the least on this disk, in µs."""
    path = folder / "sync-probe"
    sync = getattr(os, "fdatasync", os.fsync)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    samples = []
    try:
        for _ in range(300):
            start = time.perf_counter()
            os.write(fd, b"x" * 400)
            sync(fd)
            samples.append(time.perf_counter() - start)
    finally:
        os.close(fd)
        path.unlink()
    return statistics.median(samples) * 1e6
