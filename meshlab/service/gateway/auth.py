"""Tokens: who may do what.

The token file is TOML and holds hashes only, so that reading it gives nobody access:

    [[token]]
    name = "web"
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    users = ["ann", "bob"]        # or ["*"], everybody
    rights = ["append", "read"]   # of append, read, checkpoint, metrics

The digest of what a client presents is hashed once more with a secret of this process
before it is looked up: how long the look-up takes tells nothing about any token.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from meshlab.errors import MeshlabError, NotFound, storage_errors
from meshlab.service.gateway.refusals import Forbidden, Unauthorized
from meshlab.wal.paths import check_uid

APPEND, READ, CHECKPOINT, METRICS = RIGHTS = ("append", "read", "checkpoint", "metrics")
EVERYBODY = "*"
_LOOK_EVERY = 1.0
"""Seconds between two looks at the token file."""


class BadTokenFile(MeshlabError):
    """A token file that cannot be used."""

    default_hint = "see docs/gateway.md for its form; the tokens read before stay in force"


class Grant(NamedTuple):
    """What a token stands for; ``users`` None means everybody."""

    name: str
    users: frozenset[str] | None
    rights: frozenset[str]

    def check(self, uid: str, right: str) -> None:
        """Refuse what is not granted, in the same words whether the user exists or not."""
        if right not in self.rights or (self.users is not None and uid not in self.users):
            raise Forbidden(f"this token has no right to {right} for this user")

    def check_right(self, right: str) -> None:
        """Refuse what concerns no single user."""
        if right not in self.rights:
            raise Forbidden(f"this token has no right to {right}")


OPEN = Grant("", None, frozenset(RIGHTS))
"""What everybody has where there is no token file."""


class Tokens:
    """The grants of a token file, read anew when it changes; without a file everything is allowed.

    A file that went takes all tokens with it.  One that became unreadable or wrong is an
    error in the log, and the tokens read before stay in force.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        steady: Callable[[], float],
        complain: Callable[[MeshlabError], None] = lambda error: None,
    ) -> None:
        self._path = path
        self._steady, self._complain = steady, complain
        self._secret = secrets.token_bytes(32)
        self._grants: dict[bytes, Grant] = {}
        self._seen: tuple[int, int, int] | None = None
        self._looked = steady()
        if path is not None:
            self._seen = _mark(path)
            self._grants = self._read(path)

    @property
    def is_open(self) -> bool:
        """Whether everything is allowed to everybody."""
        return self._path is None

    def grant(self, authorization: str | None) -> Grant:
        """What an ``Authorization`` header stands for.  Raises ``Unauthorized``."""
        if self._path is None:
            return OPEN
        self._look_again(self._path)
        scheme, _, token = (authorization or "").partition(" ")
        found = self._grants.get(self._digest(hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()))
        if found is None or scheme.lower() != "bearer":
            raise Unauthorized("no token, or not one this gateway knows")
        return found

    def _digest(self, sha256: bytes) -> bytes:
        return hmac.digest(self._secret, sha256, "sha256")

    def _look_again(self, path: Path) -> None:
        now = self._steady()
        if now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        seen = _mark(path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._grants = self._read(path)
        except NotFound as error:
            self._grants = {}
            self._complain(error)
        except MeshlabError as error:
            self._complain(error)

    def _read(self, path: Path) -> dict[bytes, Grant]:
        with storage_errors("read", path):
            text = path.read_bytes()
        try:
            entries = tomllib.loads(text.decode())["token"]
            return {self._digest(bytes.fromhex(entry["sha256"])): _grant(entry) for entry in entries}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            detail = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            raise BadTokenFile(f"{path} is no token file: {detail}") from None


def _grant(entry: dict[str, Any]) -> Grant:
    for name in ("users", "rights"):
        if not isinstance(entry[name], list) or not all(isinstance(one, str) for one in entry[name]):
            raise ValueError(f'{name} must be a list of texts, such as ["ann"]')
    if len(entry["sha256"]) != 64:
        raise ValueError(f"sha256 has {len(entry['sha256'])} digits, expected 64")
    unknown = set(entry) - {"name", "sha256", "users", "rights"} or set(entry["rights"]) - set(RIGHTS)
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    users = entry["users"]
    everybody = users == [EVERYBODY]
    return Grant(
        str(entry.get("name", "")),
        None if everybody else frozenset(check_uid(uid) for uid in users),
        frozenset(entry["rights"]),
    )


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
