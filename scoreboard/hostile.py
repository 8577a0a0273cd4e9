"""Requests no client should send, from a seed."""

import gzip
import json
import random

from scoreboard.gate import request

GOOD = json.dumps({"userId": "good", "event": {"Insert": {"id": "m1", "amplitude": 0.5, "content": "café"}}}).encode()
WAL = b"POST /api/mesh/wal HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BATCH = "/api/mesh/wal/batch"
DEEP = 20_000


def hostile(count, seed):
    """``(kind, bytes)`` of so many requests, each kind in turn."""
    rng = random.Random(seed)
    kinds = list(KINDS.items())
    for number in range(count):
        kind, make = kinds[number % len(kinds)]
        yield kind, make(rng)


def _mutated(rng):
    body = bytearray(GOOD)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(body))
        choice = rng.randrange(3)
        if choice == 0:
            body[at] = rng.randrange(256)
        elif choice == 1:
            del body[at : at + rng.randrange(1, 9)]
        else:
            body[at:at] = rng.randbytes(rng.randrange(1, 9))
        body = body or bytearray(b"x")
    return request(bytes(body))


def _mangled(rng):
    """A good request with a few bytes of its head or body changed."""
    data = bytearray(request(GOOD))
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _deep(rng):
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    shut = closing * DEEP if rng.random() < 0.7 else b""
    event = opening * DEEP + b"1" + shut
    return request(b'{"userId":"deep","event":%b}' % event, path=rng.choice(["/api/mesh/wal", BATCH]))


def _number(rng):
    value = rng.choice(
        [b"9" * 6000, b"1e999", b"-1e999", b"1" + b"0" * 400, b"NaN", b"-Infinity", b"0x10", b"1.", b"-"]
    )
    field = rng.choice([b"%b", b'{"Insert":{"id":"m","access_count":%b}}', b'{"Update":{"id":"m","amplitude":%b}}'])
    return request(b'{"userId":"number","event":%b}' % (field % value))


def _length(rng):
    return rng.choice(
        [
            request(GOOD, length=len(GOOD) - rng.randrange(1, 40)),
            request(GOOD, length=len(GOOD) + rng.randrange(1, 4000)),
            request(GOOD, b"Content-Length: %d" % (len(GOOD) + 1)),
            request(GOOD, b"Content-Length: %d" % len(GOOD)),
            request(GOOD, b"Transfer-Encoding: chunked"),
            request(b"", b"Content-Length: -1", length=False),
            request(b"", b"Content-Length: 1e3", length=False),
            request(b"", b"Content-Length: " + b"9" * 40, length=False),
            request(b"", b"Content-Length: 99999999", length=False),
            request(b"0" * 50, b"Transfer-Encoding: chunked", length=False),
            request(b"FFFFFFFFFFFFFFFF\r\nx", b"Transfer-Encoding: chunked", length=False),
            request(b"5\r\nabc", b"Transfer-Encoding: chunked", length=False),
            request(b"1;" + b"x" * 5000 + b"\r\n{\r\n0\r\n\r\n", b"Transfer-Encoding: chunked", length=False),
            request(b"1\r\n{\r\n0\r\nAuthorization: x\r\n\r\n", b"Transfer-Encoding: chunked", length=False),
            request(b"", b"Transfer-Encoding: gzip, chunked", length=False),
        ]
    )


def _encoding(rng):
    text = GOOD.decode()
    return rng.choice(
        [
            request(text.encode("utf-16")),
            request(text.encode("utf-32-le")),
            request(text.encode("latin-1"), b"Content-Type: application/json; charset=latin-1"),
            request(b"\xef\xbb\xbf" + GOOD),
            request(gzip.compress(GOOD), b"Content-Encoding: gzip"),
            request(gzip.compress(b"0" * 10_000_000), b"Content-Encoding: gzip"),
            request(GOOD, b"Content-Encoding: br"),
            request(GOOD.replace(b"caf", b"\\ud800")),
            request(GOOD.replace(b"caf", b"\xc0\x80")),
            request(b'{"userId":"n","event":"\x00"}'),
            request(GOOD, b"Idempotency-Key: \xff\xfe"),
            request(GOOD, b"Idempotency-Key: " + b"k" * 65),
            request(GOOD, b"Idempotency-Key:"),
        ]
    )


UIDS = [
    *[
        "../" * 9 + "etc/passwd",
        "..",
        ".",
        "/",
        "a/../b",
        "C:\\x",
        "a\x00b",
        "\u202e",
        "",
        " ",
        "a" * 10_000,
        ".meshlab",
    ],
    *["good/wal-20250707.log", "~", "%2e%2e", "\n", "..\\..", "con:", "\ud83d\ude00", "GOOD"],
]


def _uid(rng):
    return request(json.dumps({"userId": rng.choice(UIDS), "event": 1}).encode())


def _pretty(rng):
    event = {"list": ["one\ntwo", {"three": None}], "n": rng.random()}
    return request(json.dumps({"userId": "pretty", "event": event}, indent=rng.randrange(1, 9)).encode())


SHAPES = [
    *[[], {}, None, 1, "x", [GOOD.decode()], {"userId": "a"}, {"event": 1}, {"userId": 1, "event": 1}],
    {"userId": ["a"], "event": 1},
    {"userId": "a", "event": 1, "key": {}},
    {"userId": "a", "event": {"Recovered": {"segment": "20250707"}}},
    {"userId": "a", "event": {"Insert": None}},
    {"userId": "a", "event": {"Delete": ""}},
]


def _shape(rng):
    path = rng.choice(["/api/mesh/wal", BATCH, "/api/mesh/checkpoint"])
    return request(json.dumps(rng.choice(SHAPES)).encode(), path=path)


def _lines(rng):
    lines = [rng.choice([GOOD, b"", b"{", rng.randbytes(30), b"\x00" * 9, GOOD[:-3]]) for _ in range(30)]
    return request(rng.choice([b"\n", b"\r\n", b"\r", b"\x0b"]).join(lines), path=BATCH)


def _head(rng):
    return rng.choice(
        [
            rng.randbytes(rng.randrange(1, 400)),
            b"GET / HTTP/0.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            WAL + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nnull",
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
            WAL + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
            WAL + b"".join(b"X-%d: y\r\n" % at for at in range(5000)) + b"\r\n",
            WAL + b"X\x00: y\r\n\r\n",
            WAL + b"X : y\r\n\r\n",
            WAL + b" folded: y\r\n\r\n",
            WAL.replace(b"\r\n", b"\n") + b"\n",
            b"post /api/mesh/wal HTTP/1.1\r\n\r\n",
            b"POST /api/mesh/wal HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nnull",
            b"POST /api/mesh/wal?x=1 HTTP/1.1\r\nContent-Length: 4\r\n\r\nnull",
            b"POST /api//mesh/wal HTTP/1.1\r\nContent-Length: 4\r\n\r\nnull",
            b"GET /%00%ff%2e%2e/ HTTP/1.1\r\n\r\n",
            b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
            b"GET /api/mesh/state?userId=%00&%ff=%zz HTTP/1.1\r\n\r\n",
            b"GET /api/mesh/state?" + b"a=b&" * 4000 + b" HTTP/1.1\r\n\r\n",
            b"\r\n" * 2000,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            request(GOOD) + rng.randbytes(60),
            request(b"null") * 40,
        ]
    )


KINDS = {
    "broken JSON": _mutated,
    "mangled": _mangled,
    "deep": _deep,
    "number": _number,
    "length": _length,
    "encoding": _encoding,
    "uid": _uid,
    "pretty": _pretty,
    "shape": _shape,
    "lines": _lines,
    "head": _head,
}
