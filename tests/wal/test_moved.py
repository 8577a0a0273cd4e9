"""The directory of a user is moved while a writer has its log open: what is acknowledged then is in the new one."""

import shutil
from contextlib import closing

import pytest

from meshlab.testing.log import build_log
from meshlab.times import midnight
from meshlab.wal.verify import verify
from meshlab.wal.writer import Writer

NOON = midnight("20250707") + 43_200_000_000


@pytest.mark.parametrize("lock", ["without the lock", "with the lock"])
@pytest.mark.parametrize("appends", [1, 3])
def test_after_another_directory_took_its_place_nothing_goes_into_the_old_one(tmp_path, lock, appends):
    root, aside, copy = tmp_path / "ann", tmp_path / "aside", tmp_path / "copy"
    build_log([[{"Insert": {"id": f"m{at}"}}] for at in range(3)], day="20250707").write(root)
    with closing(Writer(root, clock=lambda: NOON)) as writer:
        for number in range(appends):
            writer.append({"Insert": {"id": f"before {number}"}})
        left = shutil.ignore_patterns("*.lock") if lock == "without the lock" else None
        shutil.copytree(root, copy, ignore=left)
        root.rename(aside)
        copy.rename(root)
        old = (aside / "wal-20250707.log").read_bytes()
        receipt = writer.append({"Insert": {"id": "after"}})
        writer.append({"Insert": {"id": "and again"}})
    assert receipt.last_seq == 4 + appends
    assert (aside / "wal-20250707.log").read_bytes() == old
    found = verify(root)
    assert (found.events, found.damage) == (5 + appends, [])
