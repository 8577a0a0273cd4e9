"""GrowthDashboard: what a store is full of, until when, and what a policy would have done, for the users chosen.

>>> from meshlab.testing import build_log
>>> import tempfile, meshlab
>>> store = meshlab.open(tempfile.mkdtemp())
>>> _ = build_log([[{"Insert": {"id": "a"}}], [{"Delete": "a"}]], per_day=1).write(store["ann"].root)
>>> GrowthDashboard(store)
<GrowthDashboard of 1 user: 271 B in 2 days>
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.errors import MeshlabError
from meshlab.growth.attribution import attribute
from meshlab.growth.forecast import LIMIT, forecast
from meshlab.growth.policies import Policy, candidates
from meshlab.growth.simulation import simulate
from meshlab.growth.sizes import Sizes, measured, records_of
from meshlab.growth.trace import Trace, trace
from meshlab.markup import headline
from meshlab.plots.plot import Plot
from meshlab.store import Store
from meshlab.tables.load import Log
from meshlab.tables.totals import FIELD_TOTALS_SCHEMA, TOTALS_SCHEMA, field_totals
from meshlab.timeline import log_of
from meshlab.wal.paths import existing_user, segment_days, segment_size
from meshlab.widgets.panel import Panel, guarded, line, picture, put, shown
from meshlab.wording import counted, size_text, span_text

KEYS = ("op", "user", "day", "hour", "dialect", "field")
"""What bytes can be put down to here."""

AGES = (1, 3, 6, 12, 24, 48, 96, 168, 336)
"""Hours of a policy's age."""

CHOSEN = 20
"""Users chosen at first: of more, those with the largest logs."""

_LEAST, _MOST = 4.0, 12.0
"""Powers of ten of the sizes a slider has."""


class GrowthDashboard(Panel):
    """Pick users: whose bytes these are, when a limit is reached, what checkpoints would have written.

    The days chosen are those whose bytes are put down to something; forecast and
    simulation take all.  What was read of a user is kept; ``read`` reads it again.  The
    sliders of the policy run the simulation over all events of the users chosen, who are
    at first the ``CHOSEN`` with the largest logs.  Nothing is written.
    """

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self._busy = False
        self._make_controls()
        self.read()

    def _make_controls(self) -> None:
        wide: dict[str, Any] = {"layout": {"width": "100%"}, "continuous_update": False}
        self.users = widgets.SelectMultiple(description="users", rows=6)
        self.who = shown("users")
        self.days = widgets.SelectionRangeSlider(description="days", options=["-"], **wide)
        self.by = widgets.Dropdown(description="by", options=KEYS)
        sizes: dict[str, Any] = {"base": 10, "min": _LEAST, "max": _MOST, "step": 0.1, "readout_format": ".2s"}
        self.limit = widgets.FloatLogSlider(description="limit, B", value=LIMIT, **sizes, **wide)
        self.bytes = widgets.FloatLogSlider(description="log, B", value=64e6, **sizes, **wide)
        ages = [(span_text(3600 * hours), hours) for hours in AGES]
        self.age = widgets.SelectionSlider(description="age", options=ages, value=24, **wide)
        self.told = {name: shown(name) for name in ("attribution", "forecast", "simulation")}
        self.figures = {name: picture() for name in self.told}
        self.again = widgets.Button(icon="refresh", tooltip="read the store again", layout={"width": "40px"})
        self.again.on_click(lambda _: self.read())
        for control, answer in (
            (self.users, self._on_users),
            (self.days, self._on_days),
            (self.by, self._on_by),
            (self.limit, self._on_limit),
            (self.bytes, self._on_policy),
            (self.age, self._on_policy),
        ):
            control.observe(answer, "value")
        most = {"width": "100%", "padding": "0 2em 0 0"}
        self.ui = widgets.VBox(
            [
                widgets.HBox([self.again, self.message]),
                widgets.HBox([self.users, widgets.VBox([self.who, self.days, self.by], layout=most)]),
                *self._part("attribution"),
                self.limit,
                *self._part("forecast"),
                self.bytes,
                self.age,
                *self._part("simulation"),
            ]
        )

    def _part(self, name: str) -> tuple[Any, Any]:
        return self.told[name], self.figures[name]

    @guarded
    def read(self) -> None:
        """Read the store anew, and choose its largest users."""
        self.say()
        self._unread: dict[str, str] = {}
        self._totals: dict[str, pa.Table] = {}
        self._fields: dict[str, pa.Table] = {}
        self._traces: dict[str, Trace] = {}
        self._sizes: Sizes | None = None
        self._clear(*self.told)
        uids = self.store.users()
        with self._held():
            self.users.options = uids
            self.users.value = _largest(self.store, uids)
        self._draw_all()
        self._tell()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Let no control answer while several are set."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    # What controls call

    def _on_users(self, _: Any) -> None:
        self._answer(self._draw_all)

    def _on_days(self, _: Any) -> None:
        self._answer(self._draw_attribution)

    def _on_by(self, _: Any) -> None:
        self._answer(self._draw_attribution)

    def _on_limit(self, _: Any) -> None:
        self._answer(self._draw_forecast)

    def _on_policy(self, _: Any) -> None:
        self._answer(self._draw_simulation)

    @guarded
    def _answer(self, *drawings: Callable[[], None]) -> None:
        if not self._busy:
            self.say()
            self.store.users()  # says when the store has gone
            for draw in drawings:
                draw()
            self._tell()

    def _tell(self) -> None:
        """Say which of the users chosen cannot be read, and whether there is nothing to show."""
        told = [f"{uid}: {self._unread[uid]}" for uid in self.users.value if uid in self._unread]
        if not self.users.value:
            told.append("choose a user" if self.users.options else "the store has no users")
        elif not told and not self._chosen().num_rows:
            told.append("there are no events in the logs of the users chosen")
        self.say(*told)

    def _clear(self, *names: str) -> None:
        """Show nothing where what was shown is true no more."""
        for name in names:
            self.told[name].value = ""
            put(self.figures[name], b"")

    # Reading

    def _log(self, uid: str) -> Log:
        return log_of(existing_user(self.store.path, uid), uid)

    def _of_users(self, known: dict[str, Any], read: Callable[[str], Any]) -> list[Any]:
        """What is known of the users chosen, read where it is not yet; without those that cannot be read."""
        for uid in self.users.value:
            if uid not in known and uid not in self._unread:
                try:
                    known[uid] = read(uid)
                except (MeshlabError, OSError) as error:
                    self._unread[uid] = str(error)
        return [known[uid] for uid in self.users.value if uid in known]

    def _chosen(self) -> pa.Table:
        """The totals of the users chosen."""
        tables = self._of_users(self._totals, lambda uid: self.store[uid].growth(progress=False).totals)
        return pa.concat_tables([TOTALS_SCHEMA.empty_table(), *tables])

    def _of_days(self, table: pa.Table) -> pa.Table:
        first, last = self.days.value
        return table.filter(pc.and_(pc.greater_equal(table["day"], first), pc.less_equal(table["day"], last)))

    # Drawing

    def _draw_all(self) -> None:
        self.who.value = line(f"{len(self.users.value):,} of {counted(len(self.users.options), 'user')} chosen")
        totals = self._chosen()
        self._offer(sorted(pc.unique(totals["day"]).to_pylist()) or ["no day"])
        if not totals.num_rows:
            self._clear(*self.told)
            return
        for draw in (self._draw_attribution, self._draw_forecast, self._draw_simulation):
            draw()

    def _offer(self, days: list[str]) -> None:
        """Let days be chosen; those that are stay, when they are among them."""
        before, chosen = self.days.options, self.days.value
        kept = chosen != (before[0], before[-1]) and {*chosen} <= {*days}
        with self._held():
            self.days.options = days
            self.days.value = chosen if chosen and kept else (days[0], days[-1])

    def _draw_attribution(self) -> None:
        fields = None
        if self.by.value == "field":
            tables = self._of_users(self._fields, lambda uid: field_totals(self._log(uid)).table)
            fields = self._of_days(pa.concat_tables([FIELD_TOTALS_SCHEMA.empty_table(), *tables]))
        found = attribute(self._of_days(self._chosen()), self.by.value, fields=fields)
        self._show("attribution", f"By {self.by.value}", size_text(found.bytes), found.plot())

    def _draw_forecast(self) -> None:
        found = forecast(self._chosen(), limit=_round(self.limit.value))
        told = [sentence for sentence in found.sentences if sentence not in found.notes]  # which are in the figure
        self._show("forecast", "Forecast", "; ".join(told), found.plot())

    def _draw_simulation(self) -> None:
        traces = self._of_users(self._traces, lambda uid: trace(self._log(uid)))
        policy = Policy(bytes=_round(self.bytes.value), age=3600.0 * self.age.value)
        largest = max(traces, key=len, default=None)
        if self._sizes is None and largest is not None and len(largest):
            self._sizes = measured(records_of(self._log(largest.uid)))
        extent = (int(largest.ends[-1]), len(largest)) if largest is not None and len(largest) else (0, 0)
        others = [one for one in candidates(*extent) if one != policy]
        found = simulate(traces, [policy, *others], sizes=self._sizes)
        row = found.table.slice(0, 1).to_pylist()[0]
        told = (
            f"{policy} checkpoints {row['checkpoints_per_day']:.2g} times a day and writes "
            f"{size_text(row['written_bytes'])}, peak WAL {size_text(row['peak_wal_bytes'])}, "
            f"worst replay {span_text(row['worst_replay_seconds'])}"
        )
        self._show("simulation", "Policy", told, found.plot(policy))
        self.told["simulation"].value += line(found.recommendation)

    def _show(self, name: str, what: str, told: str, plot: Plot) -> None:
        png = plot.to_png()
        self.told[name].value = headline(what, told=told)
        put(self.figures[name], png)

    def to_png(self) -> bytes | None:
        """What the bytes are put down to."""
        return self.figures["attribution"].value or None

    def __repr__(self) -> str:
        totals = [self._totals[uid] for uid in self.users.value if uid in self._totals]
        nbytes = sum(pc.sum(table["bytes"]).as_py() or 0 for table in totals)
        days = counted(len({day for table in totals for day in table["day"].to_pylist()}), "day")
        return f"<GrowthDashboard of {counted(len(totals), 'user')}: {size_text(nbytes)} in {days}>"


def _largest(store: Store, uids: list[str]) -> list[str]:
    """The users with the largest logs, in their order."""
    if len(uids) <= CHOSEN:
        return uids
    sizes = {uid: sum(segment_size(store.path / uid, day) for day in segment_days(store.path / uid)) for uid in uids}
    kept = set(sorted(uids, key=lambda uid: -sizes[uid])[:CHOSEN])
    return [uid for uid in uids if uid in kept]


def _round(size: float) -> int:
    """A size as people say it, with two digits."""
    return round(float(f"{size:.2g}"))
