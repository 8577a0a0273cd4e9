"""Gateways for tests: one for all tests of a module that leave it as it is, a new one elsewhere."""

import contextlib

import pytest

from scoreboard.gate import Gate


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    """A gateway that tests of one module share; each test takes users of its own."""
    with Gate(tmp_path_factory.mktemp("gate") / "store") as one:
        yield one


@pytest.fixture
def start(tmp_path):
    """Start gateways over the store of this test."""
    with contextlib.ExitStack() as running:
        yield lambda *options, port=0: running.enter_context(Gate(tmp_path / "store", *options, port=port))
