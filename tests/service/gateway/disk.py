"""A disk that waits and fails when told to, and somebody who watches lanes over it."""

import threading

import meshlab
from meshlab.wal.files import Files


class Disk(Files):
    """A disk whose syncs wait for ``gate``, are counted, and fail when told to."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.syncs = 0
        self.error = None

    def sync(self, fd):
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        super().sync(fd)
        self.syncs += 1


class Watch:
    def __init__(self):
        self.commits = []
        self.failures = []
        self.joins = 0

    def joined(self, count):
        self.joins += count

    def committed(self, batch, frames):
        self.commits.append((len(batch), frames))

    def failed(self, uid, error):
        self.failures.append((uid, error))


def events(tmp_path, uid="ann"):
    """The ids a user's events are about, in log order."""
    with meshlab.open(tmp_path / "store") as store:
        return [row["id"] for row in store[uid].events(progress=False).to_pylist()]
