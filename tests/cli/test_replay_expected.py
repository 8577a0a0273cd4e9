"""``meshlab replay`` on the bytes of phase 1 gives the records phase 1 expected, floats bit for bit."""

import json
import struct
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PHASE1 = TESTS.parent / "data" / "samples" / "phase1"
EXPECTED = json.loads((TESTS / "data" / "phase1-expected.json").read_text(encoding="utf-8"))


def bits(value):
    """The value with floats as their bits and integers as themselves: equal means the same to the last bit."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items()}
    if isinstance(value, list):
        return [bits(item) for item in value]
    return value


def test_the_expected_users_are_the_users_of_the_store(meshlab):
    result = meshlab("--store", PHASE1, "stats", "--format", "json")
    assert sorted(row["uid"] for row in json.loads(result.stdout)) == sorted(EXPECTED)


@pytest.mark.parametrize("uid", sorted(EXPECTED))
def test_replay_as_json_equals_the_expected_records(uid, meshlab):
    result = meshlab("--store", PHASE1, "replay", uid, "--format", "json")
    assert result.exit_code == 0, result.stderr
    records = json.loads(result.stdout)
    assert len(records) == len(EXPECTED[uid]) > 0
    assert bits({record["id"]: record for record in records}) == bits(EXPECTED[uid])
    assert result.stderr == ""


@pytest.mark.parametrize("uid", sorted(EXPECTED))
def test_a_real_process_writes_the_same_records(uid, meshlab_process):
    result = meshlab_process("--store", PHASE1, "replay", uid, "--format", "json")
    assert result.returncode == 0, result.stderr.decode()
    assert bits({record["id"]: record for record in json.loads(result.stdout)}) == bits(EXPECTED[uid])
