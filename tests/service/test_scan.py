"""A scan tells what no checkpoint has folded, from names and sizes alone."""

import errno
import os
import time

import pytest

from meshlab.errors import NotFound
from meshlab.service.scan import Scanner
from meshlab.snapshot.manifest import HISTORY, Manifest, Range, Retired, pack
from meshlab.times import SECOND, midnight
from meshlab.wal.frame import NO_SUM

DAY = 86_400.0
NOON = midnight("20250710") / SECOND + DAY / 2


@pytest.fixture
def root(tmp_path):
    """The directory of a user with three days of log, last changed at noon of their days."""
    root = tmp_path / "store" / "ann"
    root.mkdir(parents=True)
    for day, size in (("20250708", 300), ("20250709", 200), ("20250710", 100)):
        write(root, day, size)
    return root


def write(root, day, size):
    path = root / f"wal-{day}.log"
    path.write_bytes(b"x" * size)
    noon = midnight(day) / SECOND + DAY / 2
    os.utime(path, (noon, noon))


def fold(root, ends, created=NOON, lines=10, **fields):
    folded = [Range(day, 0, stop, b"0" * 16, lines, 0) for day, stop in ends.items()]
    manifest = Manifest(uid=root.name, generation=1, folded=folded, created_at=int(created * SECOND), **fields)
    (root / "snapshot.bin").write_bytes(pack(manifest))
    return manifest


def scan(root, now=NOON):
    (found,) = Scanner(root.parent).scan(now)
    return found


def test_without_a_checkpoint_all_of_the_log_is_unfolded(root):
    log = scan(root).backlog
    assert (log.uid, log.unfolded, log.closed, log.manifest) == ("ann", 600, 500, 0)
    assert log.oldest == midnight("20250708") / SECOND


def test_what_is_folded_is_not_counted(root):
    fold(root, {"20250708": 300, "20250709": 150, "20250710": 40})
    log = scan(root).backlog
    assert (log.unfolded, log.closed) == (50 + 60, 50)
    assert log.manifest == (root / "snapshot.bin").stat().st_size


def test_a_user_with_everything_folded_has_no_backlog_and_no_age(root):
    fold(root, {"20250708": 300, "20250709": 200, "20250710": 100})
    assert scan(root).backlog[1:4] == (0, 0, None)


def test_bytes_behind_a_fold_are_seen(root):
    fold(root, {"20250708": 300, "20250709": 200, "20250710": 100})
    write(root, "20250708", 350)
    assert scan(root).backlog[1:3] == (50, 50)


def test_the_oldest_unfolded_byte_is_no_older_than_the_checkpoint_before_it(root):
    created = NOON - 3_600
    fold(root, {"20250708": 300, "20250709": 200, "20250710": 40}, created=created)
    assert scan(root).backlog.oldest == created


def test_the_oldest_unfolded_byte_is_no_younger_than_the_file(root):
    fold(root, {"20250708": 300, "20250709": 100, "20250710": 100}, created=NOON)
    assert scan(root).backlog.oldest == midnight("20250709") / SECOND + DAY / 2


def test_bytes_per_event_are_those_of_the_lines_folded(root):
    fold(root, {"20250708": 300, "20250709": 150}, lines=3)
    assert scan(root).backlog.event_bytes == 450 / 6


def test_a_segment_shorter_than_what_was_folded_is_a_problem(root):
    fold(root, {"20250708": 301})
    found = scan(root)
    assert "20250708 has 300 bytes, but 301 of it were folded" in found.problem
    assert found.backlog.unfolded == 0


def test_a_folded_segment_that_vacuum_deleted_is_no_problem(root):
    fold(root, {"20250601": 10_000, "20250708": 300})
    assert scan(root).problem == ""
    assert scan(root).backlog.unfolded == 300


def test_a_snapshot_of_phase_1_is_left_to_a_person(root):
    (root / "snapshot.bin").write_bytes(b"\0" * 8)
    assert "--upgrade" in scan(root).problem


def test_a_damaged_snapshot_is_a_problem(root):
    fold(root, {"20250708": 300})
    path = root / "snapshot.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert "the file is cut" in scan(root).problem


def test_checkpoints_without_their_manifest_are_a_problem(root):
    (root / HISTORY).mkdir()
    (root / HISTORY / "00000001.bin").touch()
    assert "snapshot.bin" in scan(root).problem


def test_a_manifest_is_read_again_when_it_was_replaced(root):
    scanner = Scanner(root.parent)
    fold(root, {"20250708": 300})
    assert [found.backlog.unfolded for found in scanner.scan(NOON)] == [300]
    (root / "snapshot.bin").unlink()
    fold(root, {"20250708": 300, "20250709": 200})
    assert [found.backlog.unfolded for found in scanner.scan(NOON)] == [100]


def test_a_manifest_is_read_once_while_it_stays(root, monkeypatch):
    from meshlab.service import scan

    reads = []
    fold(root, {"20250708": 300})
    monkeypatch.setattr(scan, "current", lambda *args, read=scan.current: reads.append(args) or read(*args))
    scanner = Scanner(root.parent)
    for _ in range(3):
        assert [found.problem for found in scanner.scan(NOON)] == [""]
    assert len(reads) == 1


def test_old_folded_segments_are_worth_a_vacuum(root):
    fold(root, {"20250708": 300}, retain_days=14)
    assert not scan(root).vacuum
    assert scan(root, now=NOON + 20 * DAY).vacuum


def test_a_segment_that_an_interrupted_vacuum_left_is_not_unfolded_and_worth_another(root):
    fold(root, {"20250709": 200, "20250710": 100}, retired=[Retired("20250708", 300, 0, NO_SUM, b"0" * 16)])
    found = scan(root)
    assert (found.backlog.unfolded, found.vacuum) == (0, True)
    write(root, "20250708", 299)
    assert scan(root).backlog.unfolded == 299


def test_a_user_who_goes_while_the_scan_runs_is_passed_over(root, tmp_path):
    (tmp_path / "store" / "bob").mkdir()
    found = Scanner(root.parent).scan(NOON)
    assert next(found).backlog.uid == "ann"
    (tmp_path / "store" / "bob").rmdir()
    assert list(found) == []


def test_a_user_that_cannot_be_read_is_a_problem_and_stops_nobody(root, tmp_path, monkeypatch):
    def scandir(path, real=os.scandir):
        if os.path.basename(path) == "bob":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    (tmp_path / "store" / "bob").mkdir()
    monkeypatch.setattr(os, "scandir", scandir)
    ann, refused = Scanner(root.parent).scan(NOON)
    assert ann.backlog.unfolded == 600
    assert "Permission denied" in refused.problem


def test_what_is_no_user_is_not_looked_at(root, tmp_path):
    (tmp_path / "store" / ".meshlab").mkdir()
    (tmp_path / "store" / "notes.txt").touch()
    (tmp_path / "store" / "link").symlink_to(root)
    assert [found.backlog.uid for found in Scanner(root.parent).scan(NOON)] == ["ann"]


def test_a_link_or_a_directory_in_place_of_a_segment_is_not_counted(root):
    (root / "wal-20250711.log").symlink_to(root / "wal-20250708.log")
    (root / "wal-20250712.log").mkdir()
    assert scan(root).backlog.unfolded == 600


def test_a_store_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(NotFound):
        list(Scanner(tmp_path / "nowhere").scan(NOON))


def test_a_round_over_many_users_takes_no_time_to_speak_of(tmp_path):
    users = 1_000
    for at in range(users):
        root = tmp_path / "store" / f"user{at:04d}"
        root.mkdir(parents=True)
        for day in ("20250708", "20250709", "20250710"):
            (root / f"wal-{day}.log").write_bytes(b"x")
        fold(root, {"20250708": 1, "20250709": 1})
    scanner = Scanner(tmp_path / "store")
    assert sum(found.backlog.unfolded for found in scanner.scan(NOON)) == users
    began = time.process_time()
    assert sum(1 for _ in scanner.scan(NOON)) == users
    assert time.process_time() - began < 1.0
