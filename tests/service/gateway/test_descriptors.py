"""More users at once than files may be open: they are told to come back, and nothing stays broken."""

import time

import pytest

from meshlab.service.gateway.descriptors import PER_LOG, shares
from scoreboard.gate import Gate

FEW = 200
LIMITED = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (%d, %d)); "
    "sys.argv[0] = 'meshlab'; from meshlab.__main__ import run; run()"
) % (FEW, FEW)


@pytest.mark.parametrize("files", [64, 128, 256, 1024, 4096, 1 << 20])
def test_connections_and_logs_fit_into_the_files_that_may_be_open(files):
    connections, logs = shares(files, 1000)
    assert 0 < connections <= 1000
    assert logs > 0
    assert connections + PER_LOG * logs <= max(files - 64, 8)


def test_a_batch_of_many_users_with_few_files_is_answered_and_written_in_the_end(tmp_path):
    with Gate(tmp_path / "store", program=("-c", LIMITED)) as gate:
        assert gate.said("few files may be open")
        left = [f"u{number}" for number in range(400)]
        deadline = time.monotonic() + 50
        while left:
            assert time.monotonic() < deadline
            status, said = gate.batch([{"userId": uid, "event": 1, "key": "k"} for uid in left])
            assert status in (200, 207)
            assert {one["status"] for one in said["results"]} <= {200, 503}
            assert all(one["retryAfter"] for one in said["results"] if one["status"] == 503)
            left = [uid for uid, one in zip(left, said["results"], strict=True) if one["status"] != 200]
        assert gate.ask("GET", "/readyz")[0] == 200
        assert not gate.said("log failed")
        assert gate.append("u7", "again")[0] == gate.append("one-more")[0] == 200
        assert gate.events("u7") == [1, "again"]
