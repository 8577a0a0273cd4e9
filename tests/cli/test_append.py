"""``append`` acknowledges what is durable, and stops at the first line that is no event."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from meshlab.cli import main

GOOD = '{"Insert":{"id":"m1","amplitude":0.5}}\n'


@pytest.fixture
def append(tmp_path):
    def run(stdin, *options, uid="ann"):
        arguments = ["--store", str(tmp_path / "store"), "append", uid, *options]
        return CliRunner().invoke(main, arguments, input=stdin)

    return run


@pytest.fixture
def logged(tmp_path):
    """The events in the log of ann."""

    def read():
        result = CliRunner().invoke(main, ["--store", str(tmp_path / "store"), "dump", "--bare", "ann"])
        assert result.exit_code == 0, result.stderr
        return result.stdout.splitlines()

    return read


def acknowledged(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_each_line_is_acknowledged_with_its_place(append, tmp_path):
    result = append(GOOD + '{"Delete":"m1"}\n' + '"a note"')
    assert result.exit_code == 0, result.stderr
    acks = acknowledged(result)
    assert [(ack["line"], ack["seq"]) for ack in acks] == [(1, 1), (2, 2), (3, 3)]
    segment = next((tmp_path / "store" / "ann").glob("wal-*.log")).read_bytes()
    for ack, part in zip(acks, [b'"Insert"', b'"Delete"', b'"a note"'], strict=True):
        offset = int(ack["lsn"].split(":")[1])
        assert part in segment[offset : offset + ack["nbytes"]]


def test_seq_goes_on_from_run_to_run(append):
    append(GOOD)
    assert acknowledged(append(GOOD))[0]["seq"] == 2


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{not json", "not JSON"),
        ('{"Insert":{"amplitude":1}}', "id"),
        ('{"Insert":{"id":""}}', "id is empty"),
        ('{"Insert":{"id":"m1","amplitude":"loud"}}', "amplitude"),
        ('{"Update":{"id":"m1","amplitude":NaN}}', "not JSON"),
        ('{"Delete":7}', "Delete"),
        ('{"Recovered":{}}', "Recovered"),
        ("[" * 300 + "]" * 300, "256"),
        (b'"\xff"', "not JSON"),
        ('"\\ud800"', "not JSON"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_bad_line_is_named_and_everything_before_it_is_in_the_log(batch, bad, reason, append, logged):
    bad = bad if isinstance(bad, bytes) else bad.encode()
    result = append(GOOD.encode() * 3 + b"\n" + bad + b"\n" + GOOD.encode(), "--batch", batch)
    assert result.exit_code == 1
    first, hint = result.stderr.splitlines()
    assert first.startswith("meshlab: error: line 5 of stdin: ")
    assert reason in first
    assert "append from it on" in hint
    assert sum(ack["lines"] for ack in acknowledged(result)) == 3
    assert logged() == [GOOD.strip()] * 3


def test_a_batch_is_one_frame(append, tmp_path):
    result = append(GOOD * 5, "--batch", 2)
    assert [(ack["line"], ack["seq"], ack["last_seq"]) for ack in acknowledged(result)] == [
        (1, 1, 2),
        (3, 3, 4),
        (5, 5, 5),
    ]
    segment = next((tmp_path / "store" / "ann").glob("wal-*.log")).read_text()
    assert segment.count('"sum":') == 3


def test_a_key_puts_all_lines_in_one_frame_or_none(append, tmp_path):
    refused = append(GOOD * 2 + "{", "--key", "order-7")
    assert refused.exit_code == 1
    assert "nothing was appended" in refused.stderr
    assert not (tmp_path / "store").exists()
    assert [ack["lines"] for ack in acknowledged(append(GOOD * 2, "--key", "order-7"))] == [2]
    segment = next((tmp_path / "store" / "ann").glob("wal-*.log")).read_text()
    assert segment.count('"key":"order-7"') == 2


def test_a_key_with_a_space_is_refused(append, tmp_path):
    result = append(GOOD, "--key", "order 7")
    assert result.exit_code == 1
    assert "key 'order 7' is not allowed" in result.stderr
    assert not (tmp_path / "store").exists()


def test_no_input_is_fine_and_creates_nothing(append, tmp_path):
    result = append("\n \r\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_windows_line_ends_are_no_part_of_the_event(append, logged):
    append(GOOD.replace("\n", "\r\n"))
    assert logged() == [GOOD.strip()]


def test_an_acknowledgement_comes_before_the_next_line_is_sent(tmp_path):
    command = [sys.executable, "-m", "meshlab", "--store", str(tmp_path), "append", "ann"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for seq in (1, 2):
            process.stdin.write(GOOD.encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["seq"] == seq
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_a_reader_that_goes_away_ends_the_command_quietly(tmp_path):
    command = [sys.executable, "-m", "meshlab", "--store", str(tmp_path), "append", "ann"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        process.stdout = None
        _, stderr = process.communicate(GOOD.encode() * 3, timeout=60)
    assert (process.returncode, stderr) == (141, b"")
