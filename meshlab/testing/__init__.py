"""The kit our tests and our users' tests use.

Faults
    ``ForgetfulFiles``   a disk that keeps only what was synced
    ``FailingFiles``     fails the nth operation of a kind; ``PowerCut`` stops a writer dead
    ``RecordingFiles``   the order of operations

``meshlab.testing.strategies`` has Hypothesis strategies for memories and events; it
is imported by name, because Hypothesis is no dependency of meshlab.
"""

from meshlab.testing.files import FailingFiles, Operation, PowerCut, RecordingFiles, WrappedFiles
from meshlab.testing.forgetful import ForgetfulFiles

__all__ = [
    "FailingFiles",
    "ForgetfulFiles",
    "Operation",
    "PowerCut",
    "RecordingFiles",
    "WrappedFiles",
]
