"""Magics for notebooks: ``%load_ext meshlab``, then ``%wal`` and ``%%wal_sql``.

They do what the methods of a store do.  The store is the one named with ``-s``, a
variable or a path; else the variable ``store``; else ``$MESH_STORE`` or ``./mesh_store``.
"""

from __future__ import annotations

import os
import sys
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from meshlab.plan import Window


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
        return self._wal(_parsed(self.wal, text))

    @magic_arguments()
    @argument("name", nargs="?", help="the variable the result goes to")
    @argument("-s", "--store", help="a variable that holds a store, or the path of one")
    @argument("-u", "--user", action="append", metavar="UID", help="only this user (may be repeated)")
    @cell_magic
    def wal_sql(self, text: str, query: str) -> Result:
        """Run the cell as DuckDB SQL over events, rejects and segments; the result is shown, and has a name."""
        return self._sql(_parsed(self.wal_sql, text), query)

    @property
    def _names(self) -> dict[str, Any]:
        """The variables of the notebook."""
        assert self.shell is not None
        names: dict[str, Any] = self.shell.user_ns
        return names

    def _wal(self, given: Any) -> Any:
        import pandas as pd

        store = self._store(given.store)
        uids = given.uids or _politely(store.users)
        rows, unread = [], []
        for uid in uids:
            try:
                rows += _ROWS[given.what](store, uid)
            except (MeshlabError, OSError) as error:
                unread.append(error)
        if unread and not rows:
            raise _usage(unread[0])
        sys.stderr.write("".join(f"{one}\n" for one in unread))
        return pd.DataFrame(rows).set_index("uid") if rows else pd.DataFrame()

    def _sql(self, given: Any, query: str) -> Result:
        if given.name and (not given.name.isidentifier() or iskeyword(given.name)):
            raise UsageError(f"{given.name!r} is no name for a variable")
        store = self._store(given.store)
        if given.name and isinstance(self._names.get(given.name), Store):
            raise UsageError(f"the variable {given.name} holds a store: choose another name for the result")
        result: Result = _politely(lambda: store.sql(query, users=given.user, progress=False))
        if given.name:
            self._names[given.name] = result
        return result

    def _store(self, named: str | None) -> Store:
        """The store a variable holds, or the path in it; else a path; else the default."""
        found = self._names.get(named or "store")
        if isinstance(found, Store):
            return found
        if isinstance(found, str | os.PathLike):
            return open_store(found)
        if found is not None and not Path(named or "").is_dir():
            raise UsageError(f"the variable {named or 'store'} holds no store: name one with -s, a variable or a path")
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
    return [{"uid": uid, **_window(window)} for window in store[uid].windows()]


def _window(window: Window) -> dict[str, Any]:
    """A window with its ends in words."""
    return {
        "start": "the beginning" if window.start is None else window.start.isoformat(),
        "end": "now" if window.end is None else window.end.isoformat(),
        "source": window.source,
        "generations": ", ".join(map(str, window.generations)),
        "hole_before": window.hole_before or "",
        "hole_after": window.hole_after or "",
    }


_ROWS = {"ls": _ls, "stats": _stats, "verify": _verify, "windows": _windows}


def _parsed(magic: Any, text: str) -> Any:
    """The arguments of a magic."""
    try:
        return parse_argstring(magic, text)
    except ValueError as error:  # a quotation without an end
        raise UsageError(f"{text!r}: {error}") from None


def _politely(work: Any) -> Any:
    """What the work gives; a user's mistake is two lines, not a traceback."""
    try:
        return work()
    except (MeshlabError, OSError) as error:
        raise _usage(error) from None


def _usage(error: MeshlabError | OSError) -> UsageError:
    hint = f"\nhint: {error.hint}" if isinstance(error, MeshlabError) else ""
    return UsageError(f"{error.message if isinstance(error, MeshlabError) else error}{hint}")


def load(shell: InteractiveShell) -> None:
    """Make the magics and ``df.wal`` known."""
    shell.register_magics(WalMagics)
    accessor.register()
