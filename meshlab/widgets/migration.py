"""MigrationRehearsal: a migration by buttons, in the only order in which they are safe.

>>> MigrationRehearsal("data/samples/no such folder")
<MigrationRehearsal: no plan>
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from meshlab.errors import MeshlabError
from meshlab.markup import headline, safe, table
from meshlab.migrate import (
    ApplyReport,
    Plan,
    Rehearsal,
    RollbackReport,
    apply,
    make_plan,
    read_plan,
    rehearse,
    roll_back,
)
from meshlab.migrate.journal import MOVED, Journal, place_of
from meshlab.migrate.report import plan_summary, rehearsal_summary
from meshlab.plots.migration import plot_migration
from meshlab.wal.files import REAL_FILES
from meshlab.wal.writer import wall_clock
from meshlab.widgets.panel import Panel, guarded, shown
from meshlab.wording import counted

PLANNED, FAILED, PASSED, APPLIED, BACK = "planned", "rehearsal failed", "rehearsal passed", "applied", "rolled back"
"""Where a migration stands."""


class MigrationRehearsal(Panel):
    """Plan, rehearse, apply, go back.

    ``source`` is a plan, or old files as ``migrate.make_plan`` takes them, with ``store``,
    ``user`` and ``users``.  Apply waits for a rehearsal that passed and for the name of the
    store, typed; old files are only read.  The picture is that of the rehearsal.
    """

    def __init__(
        self,
        source: Plan | str | os.PathLike[str] | None = None,
        *,
        store: str | os.PathLike[str] | None = None,
        user: str | None = None,
        users: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.plan: Plan | None = None
        self.rehearsal: Rehearsal | None = None
        self.stage = ""
        self._make_controls()
        self._plan(source, store, user, users)
        self._allow()

    def _make_controls(self) -> None:
        self.told, self.verdict, self.outcome = shown("plan"), shown("verdict"), shown("outcome")
        self.rehearse = widgets.Button(description="Rehearse", icon="play", button_style="primary")
        self.bar = widgets.IntProgress(min=0, max=100, layout={"visibility": "hidden"})
        self.doing = widgets.HTML()
        self.word = widgets.Text(continuous_update=True, placeholder="the name of the store", layout={"width": "16em"})
        self.apply = widgets.Button(description="Apply", icon="check", button_style="warning")
        self.back = widgets.Button(description="Roll back", icon="undo")
        self.rehearse.on_click(lambda _: self._on_rehearse())
        self.apply.on_click(lambda _: self._on_apply())
        self.back.on_click(lambda _: self._on_back())
        self.word.observe(lambda _: self._allow(), "value")
        steps = widgets.HBox([self.rehearse, self.bar, self.doing])
        moves = widgets.HBox([self.word, self.apply, self.back])
        self.ui = widgets.VBox([self.message, self.told, steps, self.verdict, moves, self.outcome])

    @guarded
    def _plan(self, source: Any, store: Any, user: Any, users: Any) -> None:
        known = isinstance(source, Plan)
        made = source if known else make_plan(source, store, user=user, users=users, progress=self._progress)
        applied = carried_out(made)
        self.plan, self.stage = applied or made, APPLIED if applied else PLANNED
        self.told.value = plan_summary(self.plan)
        if applied:
            self.outcome.value = headline("Apply", told="done before: it can be rolled back")
        self.word.placeholder = f"type {self._name} to apply"

    @property
    def _name(self) -> str:
        return Path(self.plan.store).name if self.plan is not None else ""

    def _allow(self, busy: bool = False) -> None:
        """Let only be pressed what may be."""
        ready = self.plan is not None and not self.plan.problems and bool(self.plan.users)
        self.rehearse.disabled = busy or not ready or self.stage == APPLIED
        self.word.disabled = busy or self.stage != PASSED
        self.apply.disabled = busy or self.stage != PASSED or self.word.value.strip() != self._name
        self.back.disabled = busy or self.stage != APPLIED
        self.bar.layout.visibility = "visible" if busy else "hidden"
        self.doing.value = "" if not busy else self.doing.value

    def _progress(self, what: str, done: int, total: int) -> None:
        percent = 100 * done // total if total else 100
        if (percent, safe(what)) != (self.bar.value, self.doing.value):
            self.bar.value, self.doing.value = percent, safe(what)

    # What buttons call

    def _on_rehearse(self) -> None:
        if not self.rehearse.disabled:
            self._run(self._do_rehearse)

    def _on_apply(self) -> None:
        if not self.apply.disabled:
            self._run(self._do_apply)

    def _on_back(self) -> None:
        if not self.back.disabled:
            self._run(self._do_roll_back)

    def _run(self, work: Any) -> None:
        """Do something with nothing else to be pressed meanwhile."""
        self.say()
        self._allow(busy=True)
        try:
            guarded(lambda _: work())(self)
        finally:
            self._allow()

    def _do_rehearse(self) -> None:
        assert self.plan is not None
        self.stage, self.rehearsal, self.outcome.value = PLANNED, None, ""
        self.verdict.value = ""
        self.rehearsal = rehearse(self.plan, progress=self._progress)
        self.stage = PASSED if self.rehearsal.passed else FAILED
        self.verdict.value = rehearsal_summary(self.rehearsal)

    def _do_apply(self) -> None:
        assert self.plan is not None
        self.word.value = ""
        report = apply(self.plan, rehearsal=self.rehearsal, progress=self._progress)
        moved = [user for user in report.users if user not in report.failed]
        self.stage = APPLIED if moved else self.stage
        self._show("Apply", report, ("uid", "status", "records", "error"))
        self.say(*(f"{user.uid}: {user.error} ({user.hint})" for user in report.failed))

    def _do_roll_back(self) -> None:
        assert self.plan is not None
        report = roll_back(self.plan, progress=self._progress)
        self.stage = APPLIED if report.failed else BACK
        self._show("Roll back", report, ("uid", "status", "originals", "events_since", "left_over", "error"))
        told = [f"{user.uid}: {user.error or user.warning}" for user in report.users if user.error or user.warning]
        gone = [user.uid for user in report.users if user.status == "untouched"]
        if gone:
            told.append(f"no longer in the store, so nothing came back from it: {', '.join(gone)}")
        self.say(*told)

    def _show(self, what: str, report: ApplyReport | RollbackReport, names: tuple[str, ...]) -> None:
        rows = [[getattr(user, name) for name in names] for user in report.users]
        told = f"{counted(len(rows), 'user')}, {len(report.failed)} failed"
        self.outcome.value = headline(what, told=told, good=not report.failed) + table(names, rows)

    def to_png(self) -> bytes | None:
        """Bytes and seconds of the rehearsal."""
        return None if self.rehearsal is None else plot_migration(self.rehearsal).to_png()

    def __repr__(self) -> str:
        if self.plan is None:
            return "<MigrationRehearsal: no plan>"
        return f"<MigrationRehearsal of {counted(len(self.plan.users), 'user')}: {self.stage}>"


def carried_out(plan: Plan) -> Plan | None:
    """The plan by which the users of this one are in the store already, if one was applied."""
    uids = {user.uid for user in plan.users}
    for path in sorted(place_of(plan.store, plan.id).common.glob("*/plan.json")):
        with suppress(MeshlabError):
            earlier = read_plan(path)
            if {user.uid for user in earlier.users} == uids and _stands(earlier):
                return earlier
    return None


def _stands(plan: Plan) -> bool:
    """Whether a user of a plan was moved into the store and not taken back."""
    journal = Journal(place_of(plan.store, plan.id), REAL_FILES, wall_clock)
    steps = (journal.standing(user.uid) for user in plan.users)
    return any(step is not None and step.step == MOVED for step in steps)
