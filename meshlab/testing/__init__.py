"""The kit our tests and our users' tests use.

Faults
    ``ForgetfulFiles``       a disk that keeps only what was synced
    ``FailingFiles``         fails the nth operation of a kind; ``PowerCut`` stops a writer dead
    ``RecordingFiles``       the order of operations; ``AttemptedFiles`` of those that failed too
    ``UnsyncedFiles``        real files without the syncs, for tests that lose no power
Data
    ``LogBuilder`` ``build_log``   logs made by hand, frame by frame
    ``build_store``          realistic stores of any size from a seed
    ``build_benchmark_log``  the log the benchmarks read
Checks
    ``read_log``             a whole log row by row, its bytes accounted for
    ``LogMachine`` ``Model`` a log as a state machine beside a dict that says what it means
    ``drill``                all faults on a copy of your own store, as a table

Three modules are imported by name: ``meshlab.testing.samples`` makes the samples, a
small store and one folder for each named disaster, and is a command as well;
``meshlab.testing.strategies`` has Hypothesis strategies for memories and events, and
``meshlab.testing.stateful`` drives the state machine by Hypothesis (which is no
dependency of meshlab).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from meshlab.testing.builder import BuiltStore, build_benchmark_log, build_store
from meshlab.testing.files import (
    AttemptedFiles,
    FailingFiles,
    Operation,
    PowerCut,
    RecordingFiles,
    UnsyncedFiles,
    WrappedFiles,
)
from meshlab.testing.forgetful import ForgetfulFiles
from meshlab.testing.log import LogBuilder, build_log
from meshlab.testing.reading import read_log

if TYPE_CHECKING:
    from meshlab.testing.drills import DrillReport, drill
    from meshlab.testing.machine import LogMachine, Model

__all__ = [
    "AttemptedFiles",
    "BuiltStore",
    "DrillReport",
    "FailingFiles",
    "ForgetfulFiles",
    "LogBuilder",
    "LogMachine",
    "Model",
    "Operation",
    "PowerCut",
    "RecordingFiles",
    "UnsyncedFiles",
    "WrappedFiles",
    "build_benchmark_log",
    "build_log",
    "build_store",
    "drill",
    "read_log",
]

_LATE = {"DrillReport": "drills", "drill": "drills", "LogMachine": "machine", "Model": "machine"}
"""Names that need the table libraries, which the rest of the kit does without: loaded on first use."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'meshlab.testing' has no attribute {name!r}")
    value = getattr(import_module(f"meshlab.testing.{_LATE[name]}"), name)
    globals()[name] = value
    return value
