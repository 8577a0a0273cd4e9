"""Which browsers' pages may speak to the gateway: its own, and those of origins named.

A page of another site can send a POST to a service on the loopback without asking, and
with a name of its own that resolves to 127.0.0.1 even read the answer.  So a foreign
``Origin`` is refused, and without tokens a foreign ``Host`` too.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from meshlab.service.gateway.exchange import Exchange
from meshlab.service.gateway.refusals import Forbidden

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*A-Z]+", re.ASCII)
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


def check_origin(exchange: Exchange, origins: Collection[str], hosts: Collection[str] | None) -> None:
    """Refuse pages of other origins; ``hosts`` are names it may be called by, None for any.  Raises ``Forbidden``."""
    headers = exchange.headers
    host = headers.get(b"host", b"")
    if hosts is not None and host:
        name = host_name(host.decode("latin-1"))
        if name not in LOOPBACK and name not in hosts:
            raise Forbidden("without tokens the gateway answers to no such host name", hint="use 127.0.0.1")
    origin = headers.get(b"origin")
    if origin is not None and origin.decode("latin-1") not in origins and origin.partition(b"://")[2] != host:
        raise Forbidden("pages of this origin may not use the gateway", hint="'meshlab serve --cors ORIGIN' names one")


@lru_cache(256)
def host_name(host: str) -> str:
    """The name in a ``Host`` header, without the port.

    >>> host_name("LOCALHOST:8080"), host_name("[::1]:80"), host_name("[::1]")
    ('localhost', '[::1]', '[::1]')
    """
    name, colon, port = host.lower().rpartition(":")
    return name if colon and (port.isdigit() or not port) else host.lower()


def is_origin(text: str) -> bool:
    """Whether a browser could send this as an ``Origin``.

    >>> [is_origin(text) for text in ("https://app.example:8443", "https://app.example/", "*", "app.example")]
    [True, False, False, False]
    """
    return _ORIGIN.fullmatch(text) is not None
