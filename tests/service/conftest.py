"""Stores with users who have something to fold, and programs that stand in for ``meshlab``."""

import sys

import pytest

import meshlab


@pytest.fixture
def make_user(tmp_path):
    """Append a few events to a user of the store at ``tmp_path / "store"``."""
    store = meshlab.open(tmp_path / "store", durability="os")

    def make(uid, events=3, size=20):
        inserts = [{"Insert": {"id": f"m{at}", "content": "x" * size}} for at in range(events)]
        store[uid].append_many(inserts)
        return store[uid]

    yield make
    store.close()


@pytest.fixture
def store(make_user, tmp_path):
    """A store of two users."""
    make_user("ann")
    make_user("bob", events=200)
    return tmp_path / "store"


@pytest.fixture
def program(tmp_path):
    """A program that runs the given Python in place of ``meshlab``; ``uids`` are the users it is given."""

    def write(body):
        path = tmp_path / "program.py"
        path.write_text(f"import json, sys, time\nuids = sys.argv[sys.argv.index('--') + 1 :]\n{body}\n")
        return (sys.executable, str(path))

    return write
