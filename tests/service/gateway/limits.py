"""A disk that is full for one process: no file of it may grow any more."""

import contextlib
import resource


@contextlib.contextmanager
def full_disk(pid):
    """While this lasts, what the process writes to files fails as on a full disk (EFBIG instead of ENOSPC)."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
