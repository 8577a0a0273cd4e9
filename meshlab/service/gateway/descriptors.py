"""Files a process may have open, shared out to connections and logs before they run out.

Without descriptors no connection is taken and every log fails.  So the limit is raised as
far as the system lets it, and what it then allows bounds both.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import NamedTuple

PER_LOG = 3
"""A log has its segment open, ``wal.lock``, and the memory map of that."""

MOST_LOGS = 1024
_RESERVE = 96
"""For sockets that listen, reads, checkpoints, and what a commit opens for a moment."""


class Shares(NamedTuple):
    """How many connections and logs may be open."""

    connections: int
    logs: int


def take_shares(connections: int) -> Shares:
    """Raise the limit of open files if it is too low, and share out what there is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _RESERVE + connections + PER_LOG * MOST_LOGS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        aim = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (aim, hard))
            soft = aim
    return shares(wanted if soft == resource.RLIM_INFINITY else soft, connections)


def shares(files: int, connections: int) -> Shares:
    """Share out so many open files: half of them at most to connections, the rest to logs.

    >>> shares(4168, 1000), shares(256, 1000)
    (Shares(connections=1000, logs=1024), Shares(connections=80, logs=26))
    """
    free = max(files - _RESERVE, 8)
    connections = min(connections, free // 2)
    return Shares(connections, max(1, min(MOST_LOGS, (free - connections) // PER_LOG)))
