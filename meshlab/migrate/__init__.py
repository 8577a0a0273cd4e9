"""Move users from older layouts into a store: plan, rehearse, apply, verify, roll back, finish.

>>> from meshlab import migrate
>>> plan = migrate.make_plan("data/samples/phase1/mesh_snapshot.bin", store="mesh_store", user="ann")  # doctest: +SKIP
>>> migrate.rehearse(plan).verdict  # doctest: +SKIP
'passed: 122 records of 1 user are in the new layout as they were in the old one'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlab.migrate.ending import FinishReport, finish
    from meshlab.migrate.execution import ApplyReport, apply
    from meshlab.migrate.plan import Plan, read_plan
    from meshlab.migrate.proof import VerifyReport, verify
    from meshlab.migrate.rehearsal import Rehearsal, rehearse
    from meshlab.migrate.rollback import RollbackReport, roll_back
    from meshlab.migrate.sources.source import Found
    from meshlab.migrate.survey import inspect, make_plan

_HOMES = {
    "ending": ("FinishReport", "finish"),
    "execution": ("ApplyReport", "apply"),
    "plan": ("Plan", "read_plan"),
    "proof": ("VerifyReport", "verify"),
    "rehearsal": ("Rehearsal", "rehearse"),
    "rollback": ("RollbackReport", "roll_back"),
    "sources.source": ("Found",),
    "survey": ("inspect", "make_plan"),
}

__all__ = [
    "ApplyReport",
    "FinishReport",
    "Found",
    "Plan",
    "Rehearsal",
    "RollbackReport",
    "VerifyReport",
    "apply",
    "finish",
    "inspect",
    "make_plan",
    "read_plan",
    "rehearse",
    "roll_back",
    "verify",
]

_home_of = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that importing the package stays cheap."""
    if name not in _home_of:
        raise AttributeError(f"module 'meshlab.migrate' has no attribute {name!r}")
    value = getattr(import_module(f"meshlab.migrate.{_home_of[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
