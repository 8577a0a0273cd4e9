"""The bridge in Chromium: offline, 503, a killed server, a reload, a closed page. Every event once."""

import importlib.util
import shutil
import time

import pytest

from .limits import full_disk

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the bridge is not run in a browser"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="playwright is not installed: no browser is driven"
    ),
]
LOAD = """async (options) => {
  const { MeshBridge, configure, logEventToWal } = await import("/mesh-bridge.js");
  window.bridge = configure({ pause: 50, longest: 200, delay: 5, ...options });
  window.log = logEventToWal;
  window.written = [];
  window.send = (from, count) => {
    for (let at = from; at < from + count; at += 1) log("ann", { at }).then((one) => written.push(one.seq));
  };
}"""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser):
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture
def opened(context):
    """A page of the gateway's own origin with the bridge loaded."""

    def opened(gate, page=None, **options):
        page = page or context.new_page()
        page.goto(f"{gate.url}/healthz")
        page.evaluate(LOAD, options)
        return page

    return opened


def wait_for(page, what):
    page.wait_for_function(what, timeout=20_000, polling=20)


def wait_until(holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ats(gate):
    return [event["at"] for event in gate.events("ann")]


def test_a_page_logs_events_and_hears_where_they_stand(start, opened):
    gate = start()
    page = opened(gate)
    page.evaluate("send(0, 50)")
    wait_for(page, "written.length === 50")
    assert ats(gate) == list(range(50))
    assert page.evaluate("localStorage.length") == 0


def test_offline_events_wait_and_go_when_the_line_is_back(start, opened, context):
    gate = start()
    page = opened(gate)
    page.evaluate("send(0, 3)")
    wait_for(page, "written.length === 3")
    context.set_offline(True)
    page.evaluate("send(3, 10)")
    page.wait_for_timeout(150)
    assert page.evaluate("[bridge.pending, localStorage.length]") == [10, 10]
    context.set_offline(False)
    wait_for(page, "written.length === 13")
    assert ats(gate) == list(range(13))


def test_a_full_disk_and_a_killed_server_are_outlived_across_a_reload(start, opened):
    gate = start()
    page = opened(gate)
    page.evaluate("send(0, 5)")
    wait_for(page, "written.length === 5")
    with full_disk(gate.process.pid):
        page.evaluate("send(5, 5)")
        wait_until(lambda: gate.said("log failed"))
        page.wait_for_timeout(50)
        assert page.evaluate("bridge.pending") == 5
    wait_for(page, "written.length === 10")
    gate.process.kill()
    gate.process.wait()
    page.evaluate("send(10, 20)")
    page.wait_for_timeout(150)
    assert page.evaluate("bridge.pending") == 20
    gate = start(port=gate.port)
    page.evaluate("bridge.close()")
    opened(gate, page)
    wait_for(page, "bridge.pending === 0")
    assert ats(gate) == list(range(30))


def test_a_page_that_is_left_hands_its_events_to_the_browser_and_a_reload_doubles_none(start, opened):
    gate = start()
    page = opened(gate, delay=60_000)
    page.evaluate("send(0, 20)")
    page.goto("about:blank")
    wait_until(lambda: gate.said("request") and gate.said("request")[-1]["path"].endswith("/batch"))
    assert ats(gate) == list(range(20))
    opened(gate, page)
    wait_for(page, "bridge.pending === 0")
    assert page.evaluate("localStorage.length") == 0
    assert ats(gate) == list(range(20))


def test_two_tabs_lose_and_double_nothing_when_one_is_closed(start, opened, context):
    gate = start()
    one, two = opened(gate, delay=60_000), context.new_page()
    one.evaluate("send(0, 20)")
    opened(gate, two)
    two.evaluate("send(100, 20)")
    wait_for(two, "bridge.pending === 0")
    one.evaluate("send(20, 20)")
    one.close(run_before_unload=True)
    wait_until(lambda: len(gate.events("ann")) == 60)
    opened(gate, two)
    wait_for(two, "bridge.pending === 0")
    assert two.evaluate("localStorage.length") == 0
    assert [at for at in ats(gate) if at < 100] == list(range(40))
    assert [at for at in ats(gate) if at >= 100] == list(range(100, 120))


def test_a_closed_page_with_a_token_uses_a_request_that_outlives_it(start, opened, tmp_path):
    from .test_tokens import FILE, WEB

    path = tmp_path / "tokens.toml"
    path.write_text(FILE)
    gate = start("--tokens", str(path))
    page = opened(gate, delay=60_000, token=WEB)
    page.evaluate("send(0, 5)")
    page.goto("about:blank")
    wait_until(lambda: [line for line in gate.said("request") if line["token"] == "web" and line["status"] == 200])
    assert ats(gate) == list(range(5))


def test_a_page_of_another_origin_gets_in_only_when_it_was_named(start, opened):
    gate = start()
    body = """async (url) => {
      const { MeshBridge } = await import("/mesh-bridge.js");
      const bridge = new MeshBridge({ url, storage: null, pause: 20, longest: 50 });
      return Promise.race([bridge.log("ann", { at: 0 }).then(() => "written"),
                           new Promise((go) => setTimeout(() => go("refused"), 400))]);
    }"""
    page = opened(gate)
    assert page.evaluate(body, f"http://localhost:{gate.port}") == "refused"
    assert not (gate.store / "ann").exists()
    named = start("--cors", gate.url)
    assert page.evaluate(body, named.url) == "written"
