"""Threads, processes and forks at one memory; kill -9 loses no acknowledged call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

import meshlab

from .desk import PACKAGE, assert_agrees, open_vault

RECALL = """
import sys, threading, meshlab
vault, count = meshlab.open(sys.argv[1])["ann"].vault(), int(sys.argv[2])
def work():
    for _ in range(count):
        vault.recall("m1")
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""

KILLED = """
import json, os, random, signal, sys, meshlab
import meshlab.vault, meshlab.replay, pyarrow.compute, tqdm.auto
rng, acked = random.Random(20250707), {}
def use(pipe):
    vault = meshlab.open(sys.argv[1])["ann"].vault()
    for id, count in acked.items():
        found = vault.get(id)
        assert found is not None and found["access_count"] >= count, (id, count, found)
    while True:
        id = vault.store_memory("c", "x" * rng.randrange(1, 2000))
        os.write(pipe, f"{id} 0\\n".encode())
        for _ in range(rng.randrange(5)):
            id = rng.choice([memory["id"] for memory in vault])
            os.write(pipe, f"{id} {vault.recall(id)['access_count']}\\n".encode())
for round in range(int(sys.argv[2])):
    out, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        try:
            use(pipe)
        except BaseException as error:
            os.write(2, repr(error).encode())
        os._exit(1)
    os.close(pipe)
    lines = open(out)
    said = [lines.readline() for _ in range(rng.randrange(1, 15))]
    os.kill(child, signal.SIGKILL)
    said += lines.readlines()
    lines.close()
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the child failed"
    for line in said:
        if line.endswith("\\n"):
            id, count = line.split()
            acked[id] = max(acked.get(id, 0), int(count))
print(json.dumps(acked))
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )


def test_two_processes_of_four_threads_recall_one_memory_and_no_recall_is_lost(tmp_path):
    each = 20
    user = meshlab.open(tmp_path / "store")["ann"]
    vault = user.vault()
    vault.store_memory("c", "x", 0.25, id="m1")
    processes = [start(RECALL, tmp_path / "store", each) for _ in range(2)]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    amplitude, stability = 0.5, 0.8
    for _ in range(8 * each):
        amplitude, stability = min(1.01 * amplitude, 2.0), min(1.005 * stability, 1.0)
    memory = vault.get("m1")
    assert (memory["access_count"], memory["amplitude"], memory["stability"]) == (8 * each, amplitude, stability)
    assert_agrees(vault)


def test_every_acknowledged_call_survives_kill_9(tmp_path):
    rounds = 10
    process = start(KILLED, tmp_path / "store", rounds)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    acked = json.loads(out)
    vault = meshlab.open(tmp_path / "store")["ann"].vault()
    assert acked and all(vault.get(id)["access_count"] >= count for id, count in acked.items())
    assert_agrees(vault)
    print(f"kills: {rounds} (seed 20250707), memories acknowledged: {len(acked)}, stored: {len(vault)}")


def test_readers_never_see_half_a_change(user, vault, clock):
    vault.store_memory("c", "0", id="m1", position=0.0)
    other = open_vault(user, clock)
    stop, seen, failures = threading.Event(), set(), []

    def read(one):
        try:
            while not stop.is_set():
                for memory in (one.get("m1"), next(iter(one)), one.by_concept("c")[0]):
                    assert memory["content"] == str(int(memory["position"])) == str(memory["extra"]["deep"][0])
                    assert memory["emotional_signature"]["valence"] == memory["position"]
                    seen.add(memory["content"])
        except Exception as error:
            failures.append(error)

    def change(one, first):
        for number in range(first, 120, 2):
            one.update("m1", **fields(number))

    def fields(number):
        signature = {"valence": float(number)}
        extra = {"extra": {"deep": [number]}}
        return {"content": str(number), "position": number, "emotional_signature": signature, "extra": extra}

    vault.update("m1", **fields(0))
    readers = [threading.Thread(target=read, args=(one,)) for one in (vault, other)]
    writers = [threading.Thread(target=change, args=pair) for pair in ((vault, 0), (other, 1))]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join(60)
    stop.set()
    for thread in readers:
        thread.join(60)
    assert failures == []
    assert len(seen) > 1
    assert_agrees(other)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_a_mutex_of_its_own(user, vault):
    vault.store_memory("c", "x", id="m1")
    with vault._mutex:  # as another thread of the parent may hold it
        child = os.fork()
        if child == 0:
            try:
                os._exit(int(vault.recall("m1")["access_count"] != 1))
            except BaseException:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
    assert vault.recall("m1")["access_count"] == 2
