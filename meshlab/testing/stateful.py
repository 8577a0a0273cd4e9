"""The state machine of a log for Hypothesis, which finds a short history when one goes wrong.

Hypothesis is no dependency of meshlab, so this module is imported by name::

    from meshlab.testing.stateful import LogStateMachine

    TestLog = LogStateMachine.TestCase
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from meshlab.testing.machine import LogMachine

STEPS = tuple(LogMachine.WEIGHTS)


class LogStateMachine(RuleBasedStateMachine):
    """Every step of ``LogMachine`` in any order, with a look at the end; ``disk`` makes the disk it runs on."""

    disk = staticmethod(lambda: None)

    @initialize(seed=st.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        """An empty log; the seed decides what a step leaves open."""
        self.folder = Path(tempfile.mkdtemp())
        self.machine = LogMachine(self.folder / "u", seed, self.disk())

    @rule(name=st.sampled_from(STEPS))
    def step(self, name: str) -> None:
        """One step."""
        getattr(self.machine, name)()

    @rule()
    def look(self) -> None:
        """Compare with the model."""
        self.machine.check()

    def teardown(self) -> None:
        """Look once more, and clean up."""
        if hasattr(self, "machine"):
            try:
                self.machine.check()
            finally:
                shutil.rmtree(self.folder)
