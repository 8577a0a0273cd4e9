"""``df.wal``: what can be asked of a pandas frame of events, as ``events.to_pandas()`` gives it.

``%load_ext meshlab`` makes it known, and so does ``accessor.register()``.

>>> register()
>>> from meshlab.testing import build_log
>>> import tempfile, meshlab
>>> user = meshlab.open(tempfile.mkdtemp())["ann"]
>>> _ = build_log([[{"Insert": {"id": "a"}}], [{"Insert": {"id": "b"}}], [{"Delete": "a"}]]).write(user.root)
>>> frame = user.events().to_pandas()
>>> frame.wal.state(), frame[frame.op != "delete"].wal.state()
(<State of ann: 1 live memory>, <State of ann: 2 live memories>)
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa

from meshlab.errors import MeshlabError
from meshlab.plots.days import plot_days
from meshlab.plots.life import plot_life
from meshlab.plots.live import plot_live
from meshlab.plots.plot import Plot
from meshlab.snapshot.fold import FOLD_COLUMNS, Fold
from meshlab.snapshot.state import State
from meshlab.tables.schema import EVENT_SCHEMA, REJECT_SCHEMA, SEGMENT_SCHEMA

NAME = "wal"


class WalAccessor:
    """A frame of events in log order; what a method needs is in the columns of the frame."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        if "op" not in frame.columns:
            raise AttributeError("df.wal needs a frame of events, as events.to_pandas() gives it")

    def of(self, id: str) -> pd.DataFrame:
        """The events of one memory."""
        return self._frame[self._frame["id"] == id]

    def state(self) -> State:
        """The memories these events leave alive, if there were no others; events of one user, with all columns."""
        uids = self._frame["uid"].unique().tolist() if "uid" in self._frame else []
        if len(uids) > 1:
            raise MeshlabError(
                f"the events are of {len(uids)} users", hint="choose one: df[df.uid == 'ann'].wal.state()"
            )
        self._check_order()
        fold = Fold()
        for batch in self._table(FOLD_COLUMNS).to_batches():
            fold.add(batch)
        table, orphans, counts = fold.finish()
        nothing = {"rejects": REJECT_SCHEMA.empty_table(), "segments": SEGMENT_SCHEMA.empty_table()}
        return State(uids[0] if uids else "", table, orphans=orphans, counts=counts, **nothing)

    def plot_days(self, **options: Any) -> Plot:
        """Events per day, by op: see ``plots.days.plot_days``."""
        return plot_days(self._table(("uid", "op", "effective_ts")), **options)

    def plot_live(self, **options: Any) -> Plot:
        """Live memories over time: see ``plots.live.plot_live``."""
        return plot_live(self._table(("uid", "id", "op", "effective_ts")), **options)

    def plot_life(self, id: str, **options: Any) -> Plot:
        """The life of one memory: see ``plots.life.plot_life``."""
        fields = options.get("fields", ("amplitude", "stability"))
        return plot_life(self._table(("id", "op", "effective_ts", *fields)), id, **options)

    def _table(self, columns: tuple[str, ...]) -> pa.Table:
        """Some columns as Arrow, in their types in a log."""
        missing = [name for name in columns if name not in self._frame.columns]
        if missing:
            raise MeshlabError(f"the frame lacks {', '.join(missing)}", hint="load the events with these columns")
        schema = pa.schema([EVENT_SCHEMA.field(name) for name in columns])
        try:
            return pa.Table.from_pandas(self._frame[list(columns)], schema=schema, preserve_index=False)
        except (pa.ArrowException, TypeError, ValueError) as error:
            told = str(error).splitlines()[0]
            raise MeshlabError(
                f"the frame's columns are not as a log has them: {told}", hint="take those of events.to_pandas()"
            ) from None

    def _check_order(self) -> None:
        """Refuse events that are not in log order, as far as the frame tells."""
        if {"segment", "offset"} <= {*self._frame.columns}:
            places = pd.MultiIndex.from_frame(self._frame[["segment", "offset"]].astype({"segment": str}))
            if not places.is_monotonic_increasing:
                raise MeshlabError(
                    "the events are not in log order", hint="sort them: df.sort_values(['segment', 'offset'])"
                )


def register() -> None:
    """Make ``df.wal`` known to pandas."""
    if not hasattr(pd.DataFrame, NAME):
        pd.api.extensions.register_dataframe_accessor(NAME)(WalAccessor)
