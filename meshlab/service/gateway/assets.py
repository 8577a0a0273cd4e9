"""The bridge for browsers, as the gateway serves it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from meshlab.service.gateway.answers import Answer
from meshlab.service.gateway.exchange import Exchange

FOLDER = Path(__file__).parents[1] / "bridge"
BRIDGE = {
    "/mesh-bridge.js": b"text/javascript; charset=utf-8",
    "/mesh-bridge.d.ts": b"application/typescript; charset=utf-8",
}
"""Where its files are found, and their types."""


async def bridge_answer(exchange: Exchange) -> Answer:
    """One of the files, by the path of the request."""
    path = exchange.scope["path"]
    return Answer(200, _content(path), BRIDGE[path])


@lru_cache
def _content(path: str) -> bytes:
    return (FOLDER / path.removeprefix("/")).read_bytes()
