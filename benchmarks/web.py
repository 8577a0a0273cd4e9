"""What one would write in the gateway's place, in FastAPI: into SQLite, or the way of phase 1."""

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.servers import PATH
from benchmarks.sqlite import open_log


class Post(BaseModel):
    """The body of a request."""

    userId: str
    event: Any


def sqlite_async() -> FastAPI:
    """One connection with ``synchronous=FULL``, used by the event loop itself."""
    app, connection = FastAPI(), open_log(_folder() / "log.db")

    @app.post(PATH)
    async def append(post: Post) -> dict[str, Any]:
        return {"success": True, "seq": _insert(connection, post)}

    return app


def sqlite_threads() -> FastAPI:
    """One connection with ``synchronous=FULL`` for all threads of FastAPI, under a lock."""
    app, connection, mutex = FastAPI(), open_log(_folder() / "log.db"), threading.Lock()

    @app.post(PATH)
    def append(post: Post) -> dict[str, Any]:
        with mutex:
            return {"success": True, "seq": _insert(connection, post)}

    return app


def phase1() -> FastAPI:
    """Open the user's file of the day, append a line, close it; never a sync."""
    app, folder = FastAPI(), _folder()

    @app.post(PATH)
    async def append(post: Post) -> dict[str, Any]:
        now = datetime.now(UTC)
        user = folder / post.userId
        user.mkdir(parents=True, exist_ok=True)
        with open(user / f"wal-{now:%Y%m%d}.log", "a", encoding="utf-8") as file:
            file.write(json.dumps({"timestamp": now.isoformat(), "event": post.event}) + "\n")
        return {"success": True}

    return app


def _folder() -> Path:
    return Path(os.environ["BENCH_FOLDER"])


def _insert(connection: Any, post: Post) -> int:
    row = (post.userId, msgspec.json.encode(post.event).decode())
    return int(connection.execute("insert into log (op, record) values (?, ?)", row).lastrowid)
