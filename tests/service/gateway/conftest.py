"""Gateways for tests: one for all tests of a module that leave it as it is, a new one elsewhere."""

import asyncio
import contextlib

import pytest

from meshlab.service.gateway.admission import Admission, Limits
from meshlab.service.gateway.lanes import Lanes
from meshlab.store import Store
from scoreboard.gate import Gate

from .disk import Disk, Watch


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


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def run(tmp_path, disk):
    """Run a coroutine function that is given lanes over a store."""

    def run(work, **limits):
        async def main():
            admission = Admission(Limits(**{"rate": None, **limits}), lambda: 0.0)
            lanes = Lanes(Store(tmp_path / "store", files=disk), admission, Watch())
            lanes.admission, lanes.watch = admission, lanes._watch
            try:
                await work(lanes)
            finally:
                disk.gate.set()
                await asyncio.wait_for(lanes.drain(), 60)
            assert (admission.events, admission.nbytes) == (0, 0)

        asyncio.run(main())

    return run
