"""Servers to measure over HTTP: meshlab's gateway, and what one would write in its place."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PATH = "/api/mesh/wal"


@contextlib.contextmanager
def gateway(folder: Path) -> Iterator[int]:
    """``meshlab serve`` as it is, without a limit on a user's rate; gives its port."""
    port = _free_port()
    command = [sys.executable, "-m", "meshlab", "--store", str(folder), "serve", "--port", str(port), "--rate", "none"]
    with _running(command, port, folder.with_suffix(".log")):
        yield port


@contextlib.contextmanager
def contender(name: str, folder: Path) -> Iterator[int]:
    """One of the applications of ``benchmarks.web`` in uvicorn, its access log off; gives its port."""
    port = _free_port()
    options = ["--port", str(port), "--no-access-log", "--log-level", "error"]
    command = [sys.executable, "-m", "uvicorn", f"benchmarks.web:{name}", "--factory", *options]
    os.makedirs(folder, exist_ok=True)
    with _running(command, port, folder.with_suffix(".log"), {"BENCH_FOLDER": str(folder)}):
        yield port


@contextlib.contextmanager
def _running(command: list[str], port: int, log: Path, more: dict[str, str] | None = None) -> Iterator[None]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **(more or {})}
    with (
        open(log, "wb") as said,
        subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=said, stderr=said) as process,
    ):
        try:
            _wait_for(port, process)
            yield
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"no server on port {port}: {' '.join(map(str, process.args))}")  # type: ignore[arg-type]
