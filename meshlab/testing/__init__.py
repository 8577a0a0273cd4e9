"""The kit our tests and our users' tests use.

Faults
    ``ForgetfulFiles``       a disk that keeps only what was synced
    ``FailingFiles``         fails the nth operation of a kind; ``PowerCut`` stops a writer dead
    ``RecordingFiles``       the order of operations
Data
    ``LogBuilder`` ``build_log``   logs made by hand, frame by frame
    ``build_store``          realistic stores of any size from a seed
    ``build_benchmark_log``  the log the benchmarks read

Two modules are imported by name: ``meshlab.testing.samples`` makes the samples, a
small store and one folder for each named disaster, and is a command as well;
``meshlab.testing.strategies`` has Hypothesis strategies for memories and events
(Hypothesis is no dependency of meshlab).
"""

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

__all__ = [
    "AttemptedFiles",
    "BuiltStore",
    "FailingFiles",
    "ForgetfulFiles",
    "LogBuilder",
    "Operation",
    "PowerCut",
    "RecordingFiles",
    "UnsyncedFiles",
    "WrappedFiles",
    "build_benchmark_log",
    "build_log",
    "build_store",
]
