"""``dump`` writes every event as it stands in the log, and what it cannot read it counts."""

import json
import subprocess
import sys

import pytest

from meshlab.testing.log import LogBuilder


def lines_of(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_each_event_has_its_place_time_and_kind(meshlab, store):
    first, *_, last = lines_of(meshlab("--store", store, "dump", "ann"))
    assert first["uid"] == "ann"
    assert first["lsn"].endswith(":0")
    assert (first["seq"], first["op"], first["dialect"], first["key"]) == (1, "insert", "meshlab", None)
    assert first["ts"] == first["effective_ts"]
    assert first["event"]["Insert"]["content"] == "first"
    assert last["event"] == {"Delete": "m2"}


def test_what_is_dumped_bare_appends_to_the_same_state(meshlab, store):
    bare = meshlab("--store", store, "dump", "--bare", "ann").stdout
    assert meshlab("--store", store, "append", "copy", stdin=bare).exit_code == 0
    assert meshlab("--store", store, "dump", "--bare", "copy").stdout == bare


def test_operations_can_be_chosen(meshlab, store):
    result = meshlab("--store", store, "dump", "--op", "update", "--op", "delete")
    assert [row["op"] for row in lines_of(result)] == ["update", "delete"]


@pytest.fixture
def foreign(tmp_path):
    """A store with one line of each dialect and one of none."""
    log = LogBuilder("20250701")
    log.frame([{"Delete": "m1"}], key="k1")
    log.raw(b'{"timestamp":"2025-07-01T08:00:00","event":{"Update":{"id":"m1", "content":"\xc2\x9b31m"}}}\n')
    log.raw(b'{"Delete":{"id":"m1"}}\n[1,2]\n')
    log.raw(b"nonsense\n")
    log.frame([{"Delete": "m1"}])
    root = tmp_path / "foreign" / "ann"
    root.mkdir(parents=True)
    (root / "wal-20250701.log").write_bytes(log.bytes())
    return root.parent


def test_all_dialects_are_read_and_damage_is_exit_code_2(meshlab, foreign):
    result = meshlab("--store", foreign, "dump")
    rows = lines_of(result)
    assert [row["dialect"] for row in rows] == ["meshlab", "gateway", "bare", "other", "meshlab"]
    assert [row["op"] for row in rows] == ["delete", "update", "delete", "other", "delete"]
    assert rows[0]["key"] == "k1"
    assert (rows[2]["seq"], rows[2]["ts"]) == (None, None)
    assert result.exit_code == 2
    assert "1 not-json" in result.stderr


def test_control_characters_in_content_leave_as_escapes(meshlab, foreign):
    result = meshlab("--store", foreign, "dump", "--op", "update")
    assert "\x9b" not in result.stdout
    assert lines_of(result)[0]["event"]["Update"]["content"] == "\x9b31m"


def test_a_torn_end_alone_is_exit_code_0(meshlab, store):
    segment = next((store / "ann").glob("wal-*.log"))
    segment.write_bytes(segment.read_bytes()[:-10])
    result = meshlab("--store", store, "dump")
    assert result.exit_code == 0
    assert len(lines_of(result)) == 3
    assert "1 torn" in result.stderr


def test_following_shows_what_is_appended_once(meshlab, store):
    command = [sys.executable, "-m", "meshlab", "--store", str(store), "dump", "--follow", "ann"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        seen = [json.loads(process.stdout.readline())["seq"] for _ in range(4)]
        for number in range(3):
            meshlab("--store", store, "append", "ann", stdin=f'{{"Delete":"x{number}"}}\n' * 2)
            seen += [json.loads(process.stdout.readline())["seq"] for _ in range(2)]
        process.terminate()
    assert seen == list(range(1, 11))
