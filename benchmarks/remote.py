"""Object store: many small users pushed twice, and one large user beside a bare client.

Both against ``rclone serve s3`` on this machine, which the benchmark starts.  The bare
client puts the same files as they are, one request each, as many at once as we do; it
checks, hashes and notes nothing.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.inputs import SEED, Inputs
from benchmarks.measure import Figure, interleave, tell
from benchmarks.report import SPEED, Bound, Row, seconds
from meshlab.remote.remote import Remote, Report
from meshlab.remote.s3 import S3Bucket, parse_url
from meshlab.remote.transfer import CONNECTIONS
from meshlab.testing.builder import BENCHMARK_UID, build_benchmark_log, build_store

USERS = 10_000
VARIANTS = 20
LARGE = 2_300_000
"""Events of the large user at a million events in the log: 1 GB."""

AGAIN_FLOOR = Bound(0.01, most=True)
SPEED_FLOOR = Bound(0.7)
_KEY, _SECRET, _BUCKET = "MESHLABBENCHKEY00001", "a-secret-for-the-benchmarks-of-meshlab", "bench"


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    folder = inputs.scratch("remote")
    users = max(100, USERS * inputs.events // 1_000_000)
    with gateway(folder / "gateway") as url:
        return [*_many_users(folder / "many", users, url), *_one_user(folder / "one", inputs, url, rounds)]


@contextmanager
def gateway(root: Path) -> Iterator[str]:
    """A real S3 server; yields the address of its bucket, with the keys in the environment."""
    (root / _BUCKET).mkdir(parents=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    program = Path(sys.executable).with_name("rclone")
    command = [str(program), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{_KEY},{_SECRET}"]
    environment = {**os.environ, "RCLONE_CONFIG": os.devnull}
    with subprocess.Popen([*command, str(root)], env=environment, stderr=subprocess.DEVNULL) as server:
        os.environ.update({"AWS_ACCESS_KEY_ID": _KEY, "AWS_SECRET_ACCESS_KEY": _SECRET})
        try:
            _wait_for(port)
            yield f"s3://{_BUCKET}/{{prefix}}?endpoint=http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


# Many small users


def _many_users(folder: Path, count: int, url: str) -> list[Row]:
    build_users(folder, count)
    remote = Remote(folder, url.format(prefix="many"))
    first, second = (_push(remote, count) for _ in range(2))
    return [
        Row(
            f"first push of {count:,} small users",
            f"{first.seconds:.1f} s, {first.traffic.requests:,} requests",
            f"{first.traffic.bytes_put / 1e6:,.0f} MB",
            first.traffic.requests / count,
            "{:.2f} requests/user",
        ),
        Row(
            f"second push of {count:,} small users, nothing new",
            f"{second.seconds:.2f} s, {second.traffic.requests:,} requests",
            "-",
            second.traffic.requests / count,
            "{:.4f} requests/user",
            AGAIN_FLOOR,
        ),
    ]


def build_users(store: Path, count: int) -> None:
    """Many users with three days of a few events each: a few real ones, and copies of them under other names."""
    build_store(store, events=VARIANTS * 30, users=VARIANTS, days=3, seed=SEED)
    known = sorted(path for path in store.iterdir() if path.is_dir())
    for number in range(count - len(known)):
        shutil.copytree(known[number % len(known)], store / f"user-{number:05d}")
    tell(f"  {count:,} users built")


def _push(remote: Remote, count: int) -> Report[object]:
    report = remote.push(progress=False)
    failed = [user for user in report.users if user.error]
    if failed or len(report.users) != count:
        raise SystemExit(f"{len(failed)} of {len(report.users)} users failed: {failed[:1]}")
    tell(f"  push: {report.seconds:.2f} s, {report.traffic}")
    return report  # type: ignore[return-value]


# One large user


def _one_user(folder: Path, inputs: Inputs, url: str, rounds: int) -> list[Row]:
    build_benchmark_log(folder, int(LARGE * inputs.events / 1_000_000), SEED)
    root = folder / BENCHMARK_UID
    files = sorted(root.glob("wal-*.log"))
    nbytes = sum(path.stat().st_size for path in files)
    turn = iter(range(1000))
    found = interleave(
        {
            "meshlab": lambda: _ours(folder, url.format(prefix=f"ours{next(turn)}")),
            "bare client, one put": lambda: _bare(files, url.format(prefix=f"whole{next(turn)}"), nbytes),
            "bare client, 8 MiB each": lambda: _bare(files, url.format(prefix=f"parts{next(turn)}"), 8 << 20),
        },
        rounds,
    )
    ours = found.pop("meshlab")
    best = min(found, key=lambda name: found[name].median)
    return [
        Row(
            f"push of one user of {nbytes / 1e6:,.0f} MB, checked and synced",
            _told(ours, nbytes),
            f"{name} {_told(theirs, nbytes)}",
            theirs.median / ours.median,
            SPEED,
            SPEED_FLOOR if name == best else None,
        )
        for name, theirs in found.items()
    ]


def _told(took: Figure, nbytes: int) -> str:
    return f"{seconds(took)}, {nbytes / 1e6 / took.median:,.0f} MB/s"


def _ours(folder: Path, url: str) -> float:
    shutil.rmtree(folder / ".meshlab", ignore_errors=True)
    return _push(Remote(folder, url), 1).seconds


def _bare(files: list[Path], url: str, size: int) -> float:
    """Put some files with the client alone, in pieces of one size."""
    bucket = S3Bucket(url, seconds=600.0)
    pieces = [(path, at) for path in files for at in range(0, path.stat().st_size, size)]
    started = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda one: bucket._store.put(*_object(bucket, *one, size), use_multipart=False), pieces))
    return time.perf_counter() - started


def _object(bucket: S3Bucket, path: Path, at: int, size: int) -> tuple[str, bytes]:
    with open(path, "rb") as file:
        file.seek(at)
        return f"{parse_url(bucket.url).prefix}{path.name}/{at}", file.read(size)
