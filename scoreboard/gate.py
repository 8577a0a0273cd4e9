"""A gateway as a process of its own, and a client that sends what it is told, byte for byte."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Queue

import meshlab

PACKAGE = Path(meshlab.__file__).parent.parent
EVENT = {"Insert": {"id": "m1", "amplitude": 0.5}}


class Gate:
    """``meshlab serve`` on a free port, or the one given; its log as ``lines``."""

    def __init__(self, store, *options, port=0, program=("-m", "meshlab")):
        self.store = Path(store)
        command = [sys.executable, *program, "--store", str(store), "serve", "--port", str(port), *options]
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
        self.lines = []
        self._started = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = self._started.get(timeout=60)
        assert self.port, f"no start: {self.lines}"
        self.url = f"http://127.0.0.1:{self.port}"

    def _read(self):
        for line in self.process.stderr:
            text = line.decode()
            self.lines.append(json.loads(text) if text.startswith("{") else text)
            if text.startswith('{"ts"') and self.lines[-1]["event"] == "started":
                self._started.put(self.lines[-1]["port"])
        self._started.put(None)

    def said(self, event):
        return [line for line in self.lines if isinstance(line, dict) and line["event"] == event]

    def ask(self, method, path, body=None, headers=None, timeout=30):
        """One request on a connection of its own; returns status, parsed body and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            data = answer.read()
            kind = answer.headers.get("content-type", "")
            return answer.status, json.loads(data) if kind == "application/json" else data, answer.headers
        finally:
            connection.close()

    def append(self, uid, event=EVENT, *, key=None, token=None):
        headers = {"Idempotency-Key": key} if key else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self.ask("POST", "/api/mesh/wal", json.dumps({"userId": uid, "event": event}), headers)[:2]

    def batch(self, lines, headers=None):
        body = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
        return self.ask("POST", "/api/mesh/wal/batch", body, headers)[:2]

    def raw(self, data, *, timeout=5.0, pieces=()):
        """Send bytes, then pieces with a pause before each; returns what comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            try:
                connection.sendall(data)
                for pause, piece in pieces:
                    time.sleep(pause)
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it was cut off: what it was told can still be read
            return self.drained(connection)

    @staticmethod
    def drained(connection):
        parts = []
        try:
            while part := connection.recv(65_536):
                parts.append(part)
        except ConnectionError:
            pass
        return b"".join(parts)

    def events(self, uid):
        """The JSON of what the log holds, in order."""
        return [json.loads(row["raw"]) for row in self.rows(uid) if "raw" in row]

    def rows(self, uid):
        with meshlab.open(self.store) as store:
            columns = ("segment", "offset", "seq", "op", "id", "key", "raw")
            return store[uid].events(columns=columns, progress=False).to_pylist()

    def stop(self, number=signal.SIGTERM, timeout=30):
        """End it by a signal; returns its exit code when all it said has been read."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def memory(self):
        """Resident bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        self._reader.join(30)
        self.process.stderr.close()


def request(body, *headers, method="POST", path="/api/mesh/wal", length=None):
    """The bytes of a request."""
    head = [f"{method} {path} HTTP/1.1".encode(), b"Host: 127.0.0.1", *headers]
    if length is not False:
        head.append(b"Content-Length: %d" % (len(body) if length is None else length))
    return b"\r\n".join(head) + b"\r\n\r\n" + body
