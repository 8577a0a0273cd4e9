"""Work that is lost with a worker is done again; what kills every worker is given up, and it alone."""

import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import psutil
import pytest

import meshlab
from meshlab.errors import MeshlabError
from meshlab.fleet import crew
from meshlab.fleet.crew import Crew, Lost
from meshlab.fleet.fleet import Fleet

from .conftest import SPLIT

pytestmark = pytest.mark.usefixtures("many_tasks")

DIE = "__import__('os').kill(__import__('os').getpid(), 9)"
"""Work is Python to be evaluated, for a process can import nothing from here."""


def die_once(path):
    """Kill the process that does it, the first time."""
    return f"7 if __import__('os').path.exists({str(path)!r}) else (open({str(path)!r}, 'x'), {DIE})"


@pytest.fixture
def light(monkeypatch):
    """Processes that need not load Arrow and DuckDB."""
    monkeypatch.setattr(crew, "limit_threads", int)


@pytest.mark.usefixtures("light")
def test_work_lost_with_a_worker_is_done_again_in_its_place(tmp_path):
    work = [*map(str, range(6)), die_once(tmp_path / "mark")]
    with Crew(2) as hands:
        assert list(hands.map(eval, work)) == [*range(6), 7]
        assert hands.lost
        with pytest.raises(ZeroDivisionError):
            list(hands.map(eval, ["1", "1/0"]))


@pytest.mark.usefixtures("light")
def test_what_kills_every_worker_is_given_up_alone(monkeypatch):
    monkeypatch.setattr(crew, "TOGETHER", 1)
    monkeypatch.setattr(crew, "ALONE", 1)
    with Crew(2) as hands:
        found = dict(hands.each(eval, [DIE, *map(str, range(6))]))
    assert isinstance(found.pop(DIE), Lost)
    assert found == {str(number): number for number in range(6)}


@pytest.mark.usefixtures("light")
def test_a_given_pool_that_broke_is_replaced(tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool, Crew(pool) as hands:
        assert list(hands.map(eval, ["1", die_once(tmp_path / "mark")])) == [1, 7]


def test_this_process_does_the_work_of_one():
    with Crew(1) as hands:
        assert list(hands.map(eval, ["1", "__import__('os').getpid()"])) == [1, os.getpid()]


@pytest.mark.parametrize("wrong", [0, -1, "four", object()])
def test_no_worker_is_an_error(wrong):
    with pytest.raises(MeshlabError):
        Crew(wrong)


def test_a_worker_killed_in_the_middle_changes_nothing(store, tmp_path):
    """SIGKILL to one of two processes once the first partition is there."""
    out, killed = tmp_path / "out", []

    def kill():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not killed:
            children = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
            if any((out / "parts").glob("*.told")) and children:
                os.kill(children[-1].pid, signal.SIGKILL)
                killed.append(children[-1].pid)
            time.sleep(0.005)

    thread = threading.Thread(target=kill)
    thread.start()
    users = meshlab.open(store).users()[:30]
    run = Fleet(store, 2, split=SPLIT, progress=False).load(users, out=out)
    thread.join()
    assert killed and run.course.lost
    alone = Fleet(store, 1, split=SPLIT, progress=False).load(users)
    assert "bad" in users
    assert run.to_arrow().equals(alone.to_arrow())
    assert run.table("events").to_pylist() == alone.table("events").to_pylist()
    assert not list((out / "parts").glob(".*"))
