"""How much a checkpoint or vacuum may take from the services that append beside it."""

from __future__ import annotations

import os
from contextlib import suppress

NICE = 10
"""Priority of the processes that do it (0 is that of others, 19 the lowest)."""


def give_way() -> None:
    """Lower this process, and all threads it starts, behind the services that append meanwhile; few threads."""
    import pyarrow as pa

    from meshlab.tables.connection import borrow

    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    pa.set_cpu_count(1)
    borrow().execute("set threads = 1")
