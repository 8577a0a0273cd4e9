"""A real S3 gateway, started by the tests: ``rclone serve s3`` over a directory."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

KEY, SECRET = "MESHLABTESTSKEY00001", "a-secret-for-the-tests-of-meshlab"
BUCKET = "mesh"


class Gateway:
    """The server: ``folder`` is where its objects stand as files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / BUCKET).mkdir(parents=True)
        self.port = _free_port()
        command = [_rclone(), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--auth-key", f"{KEY},{SECRET}"]
        command += ["--vfs-cache-mode", "off", str(root)]
        self.log = (root.parent / "gateway.log").open("wb")
        settings = {**os.environ, "RCLONE_CONFIG": "/dev/null"}
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=settings)
        self._wait()

    @property
    def folder(self) -> Path:
        """The bucket as a directory."""
        return self.root / BUCKET

    def url(self, prefix: str, port: int | None = None, bucket: str = BUCKET) -> str:
        """The address of a prefix in the bucket."""
        return f"s3://{bucket}/{prefix}?endpoint=http://127.0.0.1:{port or self.port}"

    def close(self) -> None:
        """End the server."""
        self.process.kill()
        self.process.wait()
        self.log.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, "the gateway does not start"
                time.sleep(0.02)


def _rclone() -> str:
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    assert found, "rclone is missing: pip install 'meshlab[dev]'"
    return found


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
