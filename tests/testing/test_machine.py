"""The state machine of a log: what it does is real, and a disk or reader that is broken is found out."""

from functools import partial

import pytest
from hypothesis import settings

from meshlab.errors import MeshlabError
from meshlab.testing import ForgetfulFiles
from meshlab.testing.machine import LogMachine, Model
from meshlab.testing.stateful import LogStateMachine
from scoreboard.twins import NoDirectorySync, NoFileSync, no_log_sums

FAULTS = (AssertionError, MeshlabError, OSError)


class TestLog(LogStateMachine.TestCase):
    """Hypothesis chooses the steps."""

    settings = settings(max_examples=6, stateful_step_count=12, deadline=None)


def broken(root, disk, seeds=range(20)):
    """Whether some history finds the disk out."""
    for seed in seeds:
        try:
            LogMachine(root / str(seed) / "u", seed, disk()).run(30)
        except FAULTS:
            return True
    return False


@pytest.mark.parametrize("disk", [NoFileSync, NoDirectorySync])
def test_a_disk_that_does_not_sync_is_found_out(tmp_path, disk):
    assert broken(tmp_path, disk)


def test_a_sound_disk_is_not(tmp_path):
    assert not broken(tmp_path, ForgetfulFiles, range(2))


def test_a_reader_without_sums_is_found_out_by_flipped_bits(tmp_path):
    def flip_many(root, seed):
        machine = LogMachine(root, seed)
        machine.batch()
        machine.batch()
        for _ in range(60):
            machine.flip()

    flip_many(tmp_path / "sound" / "u", 3)
    with no_log_sums(), pytest.raises(AssertionError, match="a wrong answer"):
        flip_many(tmp_path / "broken" / "u", 3)


def test_every_step_can_come_first(tmp_path):
    for name in LogMachine.WEIGHTS:
        machine = LogMachine(tmp_path / name / "u")
        getattr(machine, name)()
        machine.check()


def test_one_seed_is_one_history(tmp_path):
    def story(folder):
        machine = LogMachine(folder / "u", 11)
        machine.run(30)
        return machine.model.state(), dict(machine.done)

    assert story(tmp_path / "one") == story(tmp_path / "two")


def test_the_model_applies_what_comes_late_to_a_folded_day_last():
    model = Model()
    insert = partial(lambda id, **fields: {"Insert": {"id": id, **fields}}, "a")
    model.add("20250702", [insert(mode="Dark")])
    model.checkpoint()
    model.add("20250701", [insert(mode="Bright"), {"Update": {"id": "nobody", "mode": "Dark"}}])
    assert model.state() == [{"id": "a", "mode": "Bright"}]
    model.add("20250702", [{"Delete": "a"}])
    assert model.state() == []


def test_a_bit_of_a_line_without_a_sum_may_change_unseen_and_is_no_failure(tmp_path):
    machine = LogMachine(tmp_path / "u", 520957988)  # flips a letter in a line that a program without sums wrote
    machine.run(50)
    machine.check()
