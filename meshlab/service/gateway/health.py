"""Whether the gateway should be sent requests: ``/readyz``, and what keeps it from being ready."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from meshlab.errors import MeshlabError, WalPoisoned, WriteFailed
from meshlab.service.survey import free_bytes
from meshlab.wording import counted, size_text

_FULL = (errno.ENOSPC, errno.EDQUOT)


def shortcomings(store: Path, trouble: Mapping[str, MeshlabError], min_free: int, draining: bool) -> list[str]:
    """Why the gateway is not ready, without naming users; empty when it is."""
    reasons = []
    if draining:
        reasons.append("the gateway is ending")
    if trouble:
        causes = sorted({cause_of(error) for error in trouble.values()})
        reasons.append(f"{counted(len(trouble), 'log')} take no appends: {'; '.join(causes)}")
    if lacks_space(store, min_free):
        reasons.append(f"the disk is full: less than {size_text(min_free)} free")
    return reasons


def lacks_space(store: Path, min_free: int) -> bool:
    """Whether there is less free space than there should be; not where nobody can tell."""
    free = free_bytes(store)
    return free is not None and free < min_free


def is_full(error: MeshlabError) -> bool:
    """Whether an error comes from a disk or quota that is used up."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL


def cause_of(error: MeshlabError) -> str:
    """What the operating system said, in its own words: those of an error may name a path or a user."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno is not None:
        return os.strerror(cause.errno)
    return "an earlier write failed" if isinstance(error, WalPoisoned | WriteFailed) else "the log cannot be used"
