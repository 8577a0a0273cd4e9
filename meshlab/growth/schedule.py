"""When a policy checkpoints a user: the moments at which one of its limits is exceeded."""

from __future__ import annotations

from typing import Any

import numpy as np

from meshlab.growth.material import Material
from meshlab.growth.policies import Policy
from meshlab.times import SECOND


def schedule(policy: Policy, material: Material) -> Any:
    """The number of events before each checkpoint, ascending.

    A limit is exceeded by an event, which is folded with the others; or by the clock
    between two events, when the oldest that is not folded comes of age.  What nothing
    exceeds at the end of the trace stays in the log.
    """
    found = material.trace
    count, stops = len(found), []
    age = None if policy.age is None else int(policy.age * SECOND)
    stop = 0
    while stop < count:
        dues = []
        if policy.bytes is not None:
            dues.append(_first_above(found.ends, found.ends[stop] + int(policy.bytes)))
        if policy.events is not None:
            dues.append(stop + int(policy.events) + 1)
        if policy.replay is not None:
            dues.append(_first_above(material.seconds, material.seconds[stop] + policy.replay))
        if age is not None:
            passed = int(found.time.searchsorted(found.time[stop] + age, side="right"))
            dues.append(passed if passed < count else count + 1)
        stop = min(dues, default=count + 1)
        if stop <= count:
            stops.append(stop)
    return np.array(stops, np.int64)


def _first_above(ends: Any, limit: float) -> int:
    """Events that have to come to exceed a limit of the array's own type; more than there are when they do not."""
    return int(ends.searchsorted(limit, side="right"))
