"""Running the gateway: a listening socket, uvicorn, signals, a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Iterator

import uvicorn

from meshlab.errors import MeshlabError
from meshlab.service.gateway.app import Gateway
from meshlab.service.gateway.protocol import GuardedProtocol, sweep

_BACKLOG = 1024
_GARBAGE = 50_000
"""New objects after which Python looks for garbage in cycles."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes any.  Raises ``MeshlabError``."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)  # type: ignore[arg-type]
    except OSError as error:
        raise MeshlabError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            hint="choose another --port, or end the program that has it",
        ) from None


def is_loopback(listener: socket.socket) -> bool:
    """Whether only programs of this machine can connect."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def serve(gateway: Gateway, listener: socket.socket, logger: logging.Logger) -> None:
    """Serve until SIGTERM or SIGINT; returns when what was under way is answered and the logs are closed."""
    limits = gateway.options.limits
    config = uvicorn.Config(
        gateway,  # type: ignore[arg-type]
        loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(limits.idle),
        timeout_graceful_shutdown=limits.drain,  # type: ignore[arg-type]
    )
    # What is there now stays; of what requests leave behind next to nothing is garbage in a cycle.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    _Server(config, gateway, logger).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server, which ends with exit code 0 when it is told to end."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, logger: logging.Logger) -> None:
        super().__init__(config)
        self._gateway, self._logger = gateway, logger
        self._sweeper: asyncio.Task[None] | None = None
        gateway.connections = lambda: len(self.server_state.connections)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, without raising the signal once more behind the end."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say where."""
        await super().startup(sockets)
        self._sweeper = asyncio.create_task(sweep(self.server_state.connections))
        assert sockets
        host, port = sockets[0].getsockname()[:2]
        self._logger.info("started", extra={"fields": {"host": host, "port": port, "pid": os.getpid()}})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, answer what is under way, close the logs."""
        self._gateway.draining = True
        self._logger.info("draining", extra={"fields": {"connections": len(self.server_state.connections)}})
        await super().shutdown(sockets)
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._logger.info("stopped")
