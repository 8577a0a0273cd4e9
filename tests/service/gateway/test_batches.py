"""Batches: more lines than may wait, users who are slow, and the order of each."""

import asyncio
import errno
import json
import threading

import pytest

from meshlab.service.gateway import appends as module
from meshlab.service.gateway.appends import Appends
from meshlab.service.gateway.auth import Tokens
from meshlab.service.gateway.exchange import Exchange
from meshlab.service.metrics import Metrics

from .disk import events


@pytest.fixture
def run(run):
    """Run a coroutine function that is given a function that sends batches, and lanes."""

    def run_batches(work, **limits):
        async def main(lanes):
            appends = Appends(lanes, lanes.admission, Tokens(None, steady=lambda: 0.0), Metrics(), "store")

            async def send(lines):
                body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)

                async def receive():
                    return {"type": "http.request", "body": body}

                exchange = Exchange({"headers": []}, receive, 0.0)
                try:
                    answer = await appends.batch(exchange)
                finally:
                    exchange.give_back(lanes.admission)
                return [one["status"] for one in json.loads(answer.body)["results"]]

            await work(send, lanes)

        run(main, **limits)

    return run_batches


def posts(*numbers, uid="ann"):
    return [{"userId": uid, "event": {"Delete": f"m{number}"}} for number in numbers]


def test_a_batch_of_more_lines_than_may_wait_is_written_bit_by_bit(run, tmp_path):
    async def work(send, lanes):
        assert await send(posts(*range(500))) == [200] * 500

    run(work, waiting=40)
    assert events(tmp_path) == [f"m{number}" for number in range(500)]


def test_a_user_whose_log_is_slow_leaves_room_for_the_others(run, disk, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    sync, gate = disk.sync, threading.Event()

    async def work(send, lanes):
        await asyncio.gather(send(posts(0)), send(posts(0, uid="bob")))
        slow = lanes._store._writers["ann"]._fd
        disk.sync = lambda fd: (gate.wait(30) if fd == slow else None, sync(fd))
        slow_ones = [asyncio.create_task(send(posts(*range(20)))) for _ in range(10)]
        await asyncio.sleep(0.3)
        for number in range(20):
            assert await send(posts(number, uid="bob")) == [200]
        gate.set()
        told = [status for statuses in await asyncio.gather(*slow_ones) for status in statuses]
        assert {200, 503} == set(told)

    run(work, waiting=40, waiting_bytes=40_000)


def test_lines_behind_one_that_failed_are_not_written_though_the_log_was_mended_meanwhile(
    run, tmp_path, disk, monkeypatch
):
    monkeypatch.setattr(module, "_BREATH", 1)
    breathe = asyncio.sleep

    async def work(send, lanes):
        async def mend(_):
            """Let what was submitted fail, and mend the log before the next line."""
            while lanes._lanes["ann"].busy:
                await breathe(0.001)
            disk.error = None
            await lanes.mend()
            assert lanes.trouble == {}

        disk.error = OSError(errno.EIO, "Input/output error")
        monkeypatch.setattr(module.asyncio, "sleep", mend)
        try:
            assert await send(posts(0, 1, 2)) == [503] * 3
        finally:
            monkeypatch.setattr(module.asyncio, "sleep", breathe)
        assert await send(posts(3)) == [200]

    run(work)
    assert events(tmp_path) == ["m0", "m3"]  # that of the first was unknown


def test_others_get_a_turn_in_a_batch_of_long_lines_too(run, monkeypatch):
    turns = []
    breathe = asyncio.sleep

    async def count(seconds):
        turns.append(seconds)
        await breathe(0)

    async def work(send, lanes):
        monkeypatch.setattr(module.asyncio, "sleep", count)
        try:
            assert await send([{"userId": "ann", "event": "x" * 100_000}] * 30) == [200] * 30
        finally:
            monkeypatch.setattr(module.asyncio, "sleep", breathe)
        assert len(turns) == 10

    run(work)
