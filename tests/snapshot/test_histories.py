"""Random histories: appends, late foreign lines, checkpoints, vacuums, crashes and reopenings come to one state."""

import pytest

from meshlab.testing.machine import LogMachine

SHARDS = 6
HISTORIES = 8
"""In each shard, of ``STEPS`` steps each; ``python -m scoreboard --only histories`` takes 100,000."""

STEPS = 40


@pytest.mark.parametrize("shard", range(SHARDS))
def test_folding_at_once_equals_folding_through_checkpoints_vacuums_and_reopenings(shard, tmp_path):
    done = {}
    for seed in range(shard, HISTORIES * SHARDS, SHARDS):
        machine = LogMachine(tmp_path / str(seed) / "u", seed)
        machine.run(STEPS)
        machine.check()
        for name, count in machine.done.items():
            done[name] = done.get(name, 0) + count
        done["segments deleted"] = done.get("segments deleted", 0) + machine.deleted
    print(f"every {SHARDS}th seed from {shard}: {done}")
    assert done["checkpoint"] > 3


def test_vacuums_of_the_histories_do_delete(tmp_path):
    machine = LogMachine(tmp_path / "u", 5)
    for _ in range(6):
        machine.batch()
        machine.checkpoint()
        machine.now += 3 * 86_400_000_000
        machine.append()
        machine.vacuum()
        machine.check()
    assert machine.deleted
