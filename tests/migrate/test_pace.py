"""The pace of a migration: a rate for all together, and a file that makes everybody wait."""

from __future__ import annotations

import os
import threading
import time

import pytest

from meshlab.errors import MeshlabError
from meshlab.migrate.pace import Bar, Pace, PacedFiles
from meshlab.testing import RecordingFiles


def timed(*paces):
    """Seconds until each has spent 3 times 100 bytes, at the same time."""
    threads = [threading.Thread(target=lambda pace=pace: [pace.spend(100) for _ in range(3)]) for pace in paces]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started


def test_bytes_are_let_through_at_the_rate():
    assert timed(Pace(rate=1000)) >= 0.2
    assert timed(Pace()) < 0.2


def test_those_who_share_a_rate_get_it_together(tmp_path):
    shared = tmp_path / "rate"
    assert timed(Pace(rate=1000, shared=shared), Pace(rate=1000, shared=shared)) >= 0.5


def test_a_time_saved_up_is_not_spent_at_once(tmp_path):
    pace = Pace(rate=1000, shared=tmp_path / "rate")
    pace.spend(100)
    time.sleep(0.3)
    assert timed(pace) >= 0.2


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_that_lets_nothing_through_is_refused(rate):
    with pytest.raises(MeshlabError, match="nothing through"):
        Pace(rate=rate)


def test_the_pause_holds_what_changes_something_and_nothing_else(tmp_path):
    pause = tmp_path / "pause"
    inner = RecordingFiles()
    files = PacedFiles(inner, Pace(pause=pause))
    fd = files.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    pause.touch()
    thread = threading.Thread(target=lambda: files.write(fd, b"late"))
    thread.start()
    files.sync(fd)
    files.sync_directory(tmp_path)
    time.sleep(0.3)
    assert "write" not in inner.names()
    pause.unlink()
    thread.join(10)
    files.pwrite(fd, b"L", 0)
    files.close(fd)
    files.mkdir(tmp_path / "folder")
    files.link(tmp_path / "file", tmp_path / "other")
    files.rename(tmp_path / "other", tmp_path / "third")
    files.unlink(tmp_path / "third")
    names = ["open", "sync", "sync_directory", "write", "pwrite", "close", "mkdir", "link", "rename", "unlink"]
    assert inner.names() == names
    assert (tmp_path / "file").read_bytes() == b"Late"
    assert files.pace.spent == 5


def test_a_bar_counts_each_user_for_what_the_plan_expects():
    users = [type("User", (), {"uid": uid, "bytes_to_write": 100})() for uid in ("ann", "bo")]
    with Bar(users, progress=False) as bar:
        count = bar.counter(users[0])
        count(70)
        count(70)
        bar.done(users[0])
        bar.counter(users[1])(10)
        bar.done(users[1])
        assert bar._spent == {"ann": 100, "bo": 100}
