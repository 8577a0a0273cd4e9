"""docs/crash.md is true: the steps happen in the order it tells, and recovery says what its table says."""

import re
from pathlib import Path

import pytest

import meshlab
from meshlab.errors import NotFound
from meshlab.events import Delete
from meshlab.tables.seal import seal
from meshlab.testing import FailingFiles, ForgetfulFiles, RecordingFiles, build_log
from meshlab.times import DAY, midnight
from meshlab.wal.frame import read_frame
from meshlab.wal.repair import repair
from meshlab.wal.writer import Writer

STORY = (Path(__file__).resolve().parents[1] / "docs" / "crash.md").read_text(encoding="utf-8")
NOON = midnight("20250701") + DAY // 2
FRAME = [{"Delete": "m1"}]


@pytest.fixture
def files():
    return RecordingFiles(ForgetfulFiles())


def steps(files):
    """What was done since the last call, as 'operation name'; the name of a segment is its day."""
    done = [f"{step.name} {step.path.name.removeprefix('wal-').removesuffix('.log')}" for step in files.operations]
    files.operations.clear()
    return [step for step in done if not step.startswith("close")]


def ending_put_in_front(root, tail):
    """What a fresh writer writes in front of its frame when the log ends in ``tail``."""
    log = build_log([FRAME])
    log.raw(tail)
    log.write(root)
    before = len(log.bytes())
    Writer(root, clock=lambda: NOON).append(Delete("m2"))
    data = (root / "wal-20250701.log").read_bytes()
    assert data.startswith(log.bytes())
    lines = data[before:].splitlines(keepends=True)
    assert read_frame(lines[-1]) is not None
    return b"".join(lines[:-1])


def test_a_first_append_makes_writes_syncs_and_names_in_this_order(tmp_path, files):
    Writer(tmp_path / "store" / "ann", files=files, clock=lambda: NOON).append(Delete("m1"))
    made, written, named = (
        ["mkdir store", "mkdir ann", "open wal.lock"],
        "write 20250701",
        f"sync_directory {tmp_path.name}",
    )
    done = steps(files)
    assert done[:3] == made
    assert done[3:7] == ["pwrite wal.lock", "open 20250701", written, "sync 20250701"]
    assert list(dict.fromkeys(done[7:])) == ["sync_directory ann", "sync_directory store", named]


def test_a_further_append_is_one_write_and_one_sync(tmp_path, files):
    writer = Writer(tmp_path / "ann", files=files, clock=lambda: NOON)
    writer.append(Delete("m1"))
    steps(files)
    writer.append_many([Delete("m2"), Delete("m3")])
    assert steps(files) == ["write 20250701", "sync 20250701"]


def test_a_vault_writes_once_and_syncs_once_and_not_at_all_when_it_refuses(tmp_path, files):
    user = meshlab.open(tmp_path)["ann"]
    user.store._writers["ann"] = Writer(user.root, files=files, clock=lambda: NOON)
    vault = user.vault()
    vault.store_memory("concept", "content", id="m1")
    steps(files)
    vault.recall("m1")
    assert steps(files) == ["write 20250701", "sync 20250701"]
    with pytest.raises(NotFound):
        vault.recall("m2")
    assert steps(files) == []


def test_durability_os_ends_with_the_write(tmp_path, files):
    Writer(tmp_path / "ann", files=files, clock=lambda: NOON, durability="os").append(Delete("m1"))
    assert steps(files)[-1] == "write 20250701"


def test_a_rotation_syncs_the_old_day_before_the_new_one_begins(tmp_path, files):
    clock = iter([NOON, NOON + DAY]).__next__
    writer = Writer(tmp_path / "ann", files=files, clock=clock)
    writer.append(Delete("m1"))
    steps(files)
    writer.append(Delete("m2"))
    done = steps(files)
    assert done[:4] == ["sync 20250701", "open 20250702", "write 20250702", "sync 20250702"]
    assert done[4] == "sync_directory ann"


def test_healing_writes_the_same_bytes_syncs_and_only_then_appends(tmp_path):
    writer = Writer(tmp_path / "ann", files=FailingFiles(ForgetfulFiles(), "sync", 2), clock=lambda: NOON)
    writer.append(Delete("m1"))
    with pytest.raises(OSError):
        writer.append(Delete("m2"))
    files = RecordingFiles()
    Writer(tmp_path / "ann", files=files, clock=lambda: NOON).append(Delete("m3"))
    assert steps(files)[:6] == [
        "open wal.lock",
        "open 20250701",
        "pwrite 20250701",
        "sync 20250701",
        "open 20250701",
        "write 20250701",
    ]


@pytest.mark.parametrize(
    ("tail", "front"),
    [
        (b"", b""),
        (b'{"Delete":"m7"}\n', b""),
        (b'{"Delete":"m7"}', b"\n"),
        (b"a line of something else\n", b""),
        (b'{"timestamp":"2025-07-01T00:00:09.000000Z","event":{"Del', b'\n{"timestamp":..."Recovered"'),
    ],
    ids=["whole", "whole foreign line", "no newline", "damage", "unfinished"],
)
def test_recovery_puts_in_front_what_the_table_says(tmp_path, tail, front):
    found = ending_put_in_front(tmp_path, tail)
    if b"Recovered" in front:
        assert found.startswith(b"\n")
        assert read_frame(found[1:]) is not None
        assert b'"event":{"Recovered":{"segment":"20250701","offset":' in found
    else:
        assert found == front


def test_sealing_syncs_its_source_first_and_its_directory_last(tmp_path):
    root = build_log([FRAME, FRAME], per_day=1).write(tmp_path / "ann")
    files = RecordingFiles()
    seal(root, "ann", files=files)
    done = steps(files)
    assert done[:2] == ["open 20250701", "sync 20250701"]
    assert done[-1] == "sync_directory sealed"
    left = sorted(path.name for path in (root / "sealed").iterdir())
    assert left == ["wal-20250701.parquet", "wal-20250701.seal"]


def test_a_repair_that_was_killed_leaves_a_folder_that_the_next_one_replaces(tmp_path):
    root = build_log([FRAME]).write(tmp_path / "ann")
    (tmp_path / "copy.unfinished").mkdir()
    (tmp_path / "copy.unfinished" / "half").touch()
    repair(root, tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ann", "copy"]
    assert not (tmp_path / "copy" / "half").exists()


@pytest.mark.parametrize("title", re.findall(r"^## (.*)$", STORY, re.MULTILINE)[3:])
def test_every_operation_has_steps_and_a_commit_point(title):
    part = STORY.split(f"\n## {title}\n")[1].split("\n## ")[0]
    assert "| step | after a crash here |" in part
    assert "**commit point**" in part
