"""Magics for notebooks: ``%load_ext meshlab``, then ``%wal`` and ``%%wal_sql``.

They do what the methods of a store do.  The store is the one named with ``-s``, a
variable or a path; else the variable ``store``; else ``$MESH_STORE`` or ``./mesh_store``.
"""

from __future__ import annotations

from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from meshlab import accessor
from meshlab.errors import MeshlabError
from meshlab.store import Store
from meshlab.store import open as open_store
from meshlab.tables.sql import Result
from meshlab.wal.paths import existing_user, segment_days, segment_size


@magics_class
class WalMagics(Magics):
    """``%wal`` looks at a store, ``%%wal_sql`` asks it."""

    @magic_arguments()
    @argument("what", choices=("ls", "stats", "verify", "windows"), help="what to tell")
    @argument("uids", nargs="*", metavar="UID", help="users; all when none is named")
    @argument("-s", "--store", help="a variable that holds a store, or the path of one")
    @line_magic
    def wal(self, text: str) -> Any:
        """Tell of the users of a store, as a pandas frame: what they are, hold, or can be restored to."""
        return _politely(lambda: self._wal(parse_argstring(self.wal, text)))

    @magic_arguments()
    @argument("name", nargs="?", help="the variable the result goes to")
    @argument("-s", "--store", help="a variable that holds a store, or the path of one")
    @argument("-u", "--user", action="append", metavar="UID", help="only this user (may be repeated)")
    @cell_magic
    def wal_sql(self, text: str, query: str) -> Result:
        """Run the cell as DuckDB SQL over events, rejects and segments; the result is shown, and has a name."""
        return _politely(lambda: self._sql(parse_argstring(self.wal_sql, text), query))

    @property
    def _names(self) -> dict[str, Any]:
        """The variables of the notebook."""
        assert self.shell is not None
        names: dict[str, Any] = self.shell.user_ns
        return names

    def _wal(self, given: Any) -> Any:
        import pandas as pd

        store = self._store(given.store)
        uids = given.uids or store.users()
        rows = [row for uid in uids for row in _ROWS[given.what](store, uid)]
        return pd.DataFrame(rows).set_index("uid") if rows else pd.DataFrame()

    def _sql(self, given: Any, query: str) -> Result:
        result = self._store(given.store).sql(query, users=given.user, progress=False)
        if given.name:
            if not given.name.isidentifier():
                raise UsageError(f"{given.name!r} is no name for a variable")
            self._names[given.name] = result
        return result

    def _store(self, named: str | None) -> Store:
        found = self._names.get(named or "store")
        if isinstance(found, Store):
            return found
        return open_store(named)


def _ls(store: Store, uid: str) -> list[dict[str, Any]]:
    root = existing_user(store.path, uid)
    days = segment_days(root)
    ends = {"first_day": days[0], "last_day": days[-1]} if days else {}
    return [{"uid": uid, "days": len(days), **ends, "bytes": sum(segment_size(root, day) for day in days)}]


def _stats(store: Store, uid: str) -> list[dict[str, Any]]:
    return [{"uid": uid, **store[uid].stats(progress=False)}]


def _verify(store: Store, uid: str) -> list[dict[str, Any]]:
    found = store[uid].verify(progress=False)
    counts = {"bytes": found.bytes, "events": found.events, "rejects": len(found.rejects), "damage": len(found.damage)}
    return [{"uid": uid, "days": len(found.tallies), **counts}]


def _windows(store: Store, uid: str) -> list[dict[str, Any]]:
    return [{"uid": uid, **window._asdict()} for window in store[uid].windows()]


_ROWS = {"ls": _ls, "stats": _stats, "verify": _verify, "windows": _windows}


def _politely(work: Any) -> Any:
    """What the work gives; a user's mistake is two lines, not a traceback."""
    try:
        return work()
    except MeshlabError as error:
        raise UsageError(f"{error.message}\nhint: {error.hint}") from None


def load(shell: InteractiveShell) -> None:
    """Make the magics and ``df.wal`` known."""
    shell.register_magics(WalMagics)
    accessor.register()
