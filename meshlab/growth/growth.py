"""The front of this room: what a store grows by, why, until when, and what to set.

>>> import tempfile, meshlab
>>> store = meshlab.open(tempfile.mkdtemp())
>>> _ = store["ann"].append_many([{"Insert": {"id": "m1", "content": "the sea"}}, {"Delete": "m1"}])
>>> sorted(store.growth().by("op").table["key"].to_pylist())
['delete', 'insert']
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import cached_property, partial

import pyarrow as pa
import pyarrow.compute as pc

from meshlab.bars import progress_bar
from meshlab.errors import MeshlabError
from meshlab.growth.attribution import Attribution, attribute
from meshlab.growth.changes import Changes, change_points
from meshlab.growth.forecast import LIMIT, SHOWN, Forecast, forecast
from meshlab.growth.ledger import ledger_totals
from meshlab.growth.policies import Policy
from meshlab.growth.redundancy import Redundancy, redundancy
from meshlab.growth.simulation import REPLAY, Simulation, simulate
from meshlab.tables.load import Log
from meshlab.tables.totals import (
    FIELD_TOTALS_SCHEMA,
    ID_TOTALS_SCHEMA,
    TOTALS_SCHEMA,
    Totals,
    field_totals,
    id_totals,
    totals,
)
from meshlab.wording import counted, size_text


class Growth:
    """Where the bytes of some users' logs come from, and where they lead.

    Nothing is read before it is asked for, and what was read is kept: make a new one to
    look again.  Users are read one by one, or side by side by an ``executor`` (anything
    with the ``map`` of ``concurrent.futures``); of each only small tables stay.  A user
    who cannot be read ends it, or with ``failed`` is left out and noted there.
    """

    def __init__(
        self,
        logs: Sequence[Log],
        *,
        executor: Executor | None = None,
        progress: bool = True,
        failed: dict[str, MeshlabError] | None = None,
    ) -> None:
        self._logs = list(logs)
        self._executor = executor
        self._failed = failed
        self._progress = progress

    @property
    def totals(self) -> pa.Table:
        """Events and bytes by user, day, hour, op and dialect (``TOTALS_SCHEMA``).

        Those on disk add up to the sizes of the files; those that vacuum deleted stand
        beside them.
        """
        return self._read.table

    @property
    def damage(self) -> int:
        """Number of damaged or missing pieces in the logs."""
        return self._read.damage

    def by(self, key: str = "op") -> Attribution:
        """Bytes and events by ``user``, ``day``, ``hour``, ``op``, ``dialect``, ``id`` or ``field``.

        By ``id`` all events are read, of sealed segments their ids and sizes; for all
        other keys of sealed segments nothing but what stands beside their copies.
        """
        fields = self._fields.table if key == "field" else None
        ids = self._ids.table if key == "id" else None
        return attribute(self.totals, key, fields=fields, ids=ids)

    def changes(self) -> Changes:
        """When somebody's traffic jumped for good: whose, and in which op."""
        return change_points(self.totals)

    def redundancy(self) -> Redundancy:
        """What of the logs the memories no longer need, and what a checkpoint would free."""
        return self._redundancy

    def forecast(self, limit: int = LIMIT, *, days: int = SHOWN) -> Forecast:
        """The bytes of the next ``days`` days, and when the logs reach ``limit`` bytes."""
        return forecast(self.totals, limit=limit, days=days)

    def simulate(
        self, policies: Sequence[Policy] | None = None, *, users: int = 1, recalls: int = 1, replay: float = REPLAY
    ) -> Simulation:
        """What checkpoints by each policy would have written, and left; see ``simulation.simulate``."""
        chosen = None if policies is None else list(policies)
        return simulate(self._logs, chosen, users=users, recalls=recalls, replay=replay, executor=self._executor)

    @cached_property
    def _read(self) -> Totals:
        return self._together(user_totals, TOTALS_SCHEMA)

    @cached_property
    def _fields(self) -> Totals:
        return self._together(field_totals, FIELD_TOTALS_SCHEMA)

    @cached_property
    def _ids(self) -> Totals:
        return self._together(id_totals, ID_TOTALS_SCHEMA)

    @cached_property
    def _redundancy(self) -> Redundancy:
        return redundancy(self._logs, executor=self._executor)

    def _together(self, of_user: Callable[[Log], Totals], schema: pa.Schema) -> Totals:
        """One table of all users."""
        found = list(self._each(of_user))
        tables = [schema.empty_table(), *(one.table for one in found)]
        return Totals(pa.concat_tables(tables).combine_chunks(), sum(one.damage for one in found))

    def _each(self, of_user: Callable[[Log], Totals]) -> Iterator[Totals]:
        run = map if self._executor is None else self._executor.map
        failed = self._failed
        work = of_user if failed is None else partial(_tried, of_user)
        logs = [log for log in self._logs if failed is None or log.uid not in failed]
        with progress_bar("growth", len(logs), " users", shown=self._progress) as bar:
            for log, found in zip(logs, run(work, logs), strict=True):
                bar.update(1)
                if isinstance(found, MeshlabError):
                    assert failed is not None
                    failed[log.uid] = found
                else:
                    yield found

    def __repr__(self) -> str:
        users = counted(len(self._logs), "user")
        if "_read" not in self.__dict__:
            return f"<Growth of {users}, not read yet>"
        size = pc.sum(self.totals["bytes"].filter(pc.invert(self.totals["deleted"]))).as_py() or 0
        told = f", {counted(self.damage, 'damaged or missing piece')}" if self.damage else ""
        return f"<Growth of {users}: {size_text(size)} of logs{told}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>"


def user_totals(log: Log) -> Totals:
    """The totals of one user, with those of deleted segments."""
    found = totals(log)
    return found._replace(table=pa.concat_tables([found.table, ledger_totals(log.root, log.uid)]))


def _tried(of_user: Callable[[Log], Totals], log: Log) -> Totals | MeshlabError:
    try:
        return of_user(log)
    except MeshlabError as error:
        return error
