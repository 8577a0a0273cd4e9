"""A real Prometheus scrapes a running gateway, and promtool has nothing to say about what it reads."""

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

from scoreboard.gate import PACKAGE

from .test_tokens import FILE, OPS, SCRAPE

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
pytestmark = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="prometheus is not installed: the gateway is not scraped"
)
CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: meshlab
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""


@pytest.fixture
def prometheus(tmp_path):
    """Start a Prometheus for one target; returns a function that asks it."""
    running = []

    def start(gate, token):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = tmp_path / "prometheus.yml"
        config.write_text(
            CONFIG.format(rules=PACKAGE / "docs" / "monitoring" / "alerts.yml", token=token, port=gate.port)
        )
        options = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}", "--log.level=error",
                   f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
        running.append(subprocess.Popen([PROMETHEUS, *options], stderr=subprocess.DEVNULL))

        def ask(path, **query):
            url = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]

        return ask

    yield start
    for process in running:
        process.kill()
        process.wait()


def until(ask, query, holds):
    deadline = time.monotonic() + 30
    while True:
        try:
            found = ask("query", query=query)["result"]
            if holds(found):
                return found
        except OSError:
            pass
        assert time.monotonic() < deadline, f"{query} was never as expected"
        time.sleep(0.1)


def test_prometheus_scrapes_it_and_its_queries_find_what_was_done(start, prometheus, tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(FILE)
    gate = start("--tokens", str(path))
    for _ in range(3):
        assert gate.append("ann", token=OPS)[0] == 200
    gate.append("bob")
    text = gate.ask("GET", "/metrics", None, {"Authorization": f"Bearer {SCRAPE}"})[1]
    run = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True)
    assert (run.returncode, run.stderr) == (0, b"")
    ask = prometheus(gate, SCRAPE)
    until(ask, "up", lambda found: found and found[0]["value"][1] == "1")
    (appends,) = until(ask, "meshlab_appends_total", lambda found: found)
    assert appends["value"][1] == "3"
    (refused,) = ask("query", query='meshlab_rejects_total{class="unauthorized"}')["result"]
    assert refused["value"][1] == "1"
    assert ask("query", query="meshlab_ready")["result"][0]["value"][1] == "1"
    assert len(ask("rules")["groups"][0]["rules"]) > 5
    gate.stop()
    until(ask, "up", lambda found: found and found[0]["value"][1] == "0")
