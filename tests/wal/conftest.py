"""Fixtures of the log: a reader that checks what it reads, and files without syncs."""

from __future__ import annotations

import pytest

from meshlab.testing import UnsyncedFiles
from meshlab.testing.reading import read_log


@pytest.fixture(name="read_log")
def _read_log():
    return read_log


@pytest.fixture(name="fast_files")
def _fast_files():
    return UnsyncedFiles()
