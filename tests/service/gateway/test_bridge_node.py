"""The bridge in node, against a gateway that is killed, full and away: every event is in the log, once, in order."""

import json
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

import meshlab

from .limits import full_disk

NODE = shutil.which("node")
BRIDGE = Path(meshlab.__file__).parent / "service" / "bridge" / "mesh-bridge.js"
HEAD = """
import { MeshBridge, configure, logEventToWal } from %s;
import { createInterface } from "node:readline";
const url = process.argv[1];
const say = (what) => console.log(JSON.stringify(what));
const quick = { url, pause: 20, longest: 100, delay: 5, timeout: 2000 };
class Storage {
  constructor(items = []) { this.items = new Map(items); }
  get length() { return this.items.size; }
  key(at) { return [...this.items.keys()][at] ?? null; }
  getItem(name) { return this.items.get(name) ?? null; }
  setItem(name, value) { this.items.set(name, value); }
  removeItem(name) { this.items.delete(name); }
}
"""
FAKE = """
const asked = [];
let answer = (lines) => written(lines);
const written = (lines) => Response.json({ results: lines.map((_, at) => (
  { line: at + 1, success: true, status: 200, seq: at + 1, lsn: "", duplicate: false })) });
const refused = (status, more) => Response.json({ success: false, error: "no", kind: "No", ...more }, { status });
globalThis.fetch = async (url, { body, headers }) => {
  const text = await new Response(body).text();
  const lines = text ? text.split("\\n").map((line) => JSON.parse(line)) : [];
  asked.push({ events: lines.map((line) => line.event), headers });
  return answer(lines);
};
const page = new EventTarget();
globalThis.addEventListener = page.addEventListener.bind(page);
globalThis.removeEventListener = page.removeEventListener.bind(page);
const fire = (name) => page.dispatchEvent(new Event(name));
const after = (milliseconds) => new Promise((go) => setTimeout(go, milliseconds));
"""
"""A gateway that answers what it is told to, and a page, both within node."""
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed: the bridge is not run in it")


class Node:
    """A node process that runs the bridge and says what comes of it, one JSON value per line."""

    def __init__(self, url, body):
        code = HEAD % json.dumps(BRIDGE.as_uri()) + textwrap.dedent(body)
        command = [NODE, "--input-type=module", "-e", code, url]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def hear(self):
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def tell(self, text=""):
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def test_one_event_resolves_to_where_it_stands(gate):
    body = 'configure(quick); say(await logEventToWal("ann", { Delete: "m1" })); process.exit(0);'
    with Node(gate.url, body) as node:
        said = node.hear()
    assert (said["seq"], said["duplicate"]) == (1, False)
    (row,) = gate.rows("ann")
    assert said["lsn"] == f"{row['segment']}:{row['offset']}"
    assert re.fullmatch("[0-9a-f]{32}", row["key"])


def test_a_page_over_plain_http_has_keys_too(gate):
    body = """
    Object.defineProperty(crypto, "randomUUID", { value: undefined });
    say((await new MeshBridge(quick).log("plain", 1)).seq); process.exit(0);
    """
    with Node(gate.url, body) as node:
        assert node.hear() == 1


def test_many_events_go_in_few_requests_and_in_order(gate):
    body = """
    const bridge = new MeshBridge(quick);
    const all = Array.from({ length: 500 }, (_, at) => bridge.log(at % 2 ? "odd" : "even", at));
    say((await Promise.all(all)).length); say(bridge.pending); process.exit(0);
    """
    before = len(gate.said("request"))
    with Node(gate.url, body) as node:
        assert (node.hear(), node.hear()) == (500, 0)
    assert gate.events("even") == list(range(0, 500, 2))
    assert gate.events("odd") == list(range(1, 500, 2))
    assert len(gate.said("request")) - before < 10


def test_a_refused_event_rejects_and_those_around_it_are_written(gate):
    body = """
    const bridge = new MeshBridge(quick);
    const tried = [bridge.log("r", 1), bridge.log("../r", 2), bridge.log("r", { Insert: {} }), bridge.log("r", 3)];
    const told = ({ status, reason }) => [status, reason?.status ?? 0, reason?.kind ?? ""];
    for (const one of await Promise.allSettled(tried)) say(told(one));
    for (const wrong of [undefined, () => 1]) say(await bridge.log("r", wrong).catch((error) => error.name));
    process.exit(0);
    """
    with Node(gate.url, body) as node:
        assert [node.hear() for _ in range(4)] == [
            ["fulfilled", 0, ""],
            ["rejected", 400, "BadUserId"],
            ["rejected", 400, "BadEvent"],
            ["fulfilled", 0, ""],
        ]
        assert [node.hear(), node.hear()] == ["TypeError", "TypeError"]
    assert gate.events("r") == [1, 3]


def test_a_batch_over_the_limit_of_the_gateway_goes_line_by_line(start):
    gate = start("--batch", "2kB", "--body", "1kB")
    body = """
    const bridge = new MeshBridge(quick);
    const all = [1, 2, 3, 4].map((at) => bridge.log("ann", String(at).repeat(900)));
    const large = bridge.log("ann", "x".repeat(5000)).catch((error) => error.status);
    say((await Promise.all(all)).length); say(await large); process.exit(0);
    """
    with Node(gate.url, body) as node:
        assert (node.hear(), node.hear()) == (4, 413)
    assert [event[0] for event in gate.events("ann")] == ["1", "2", "3", "4"]


def test_a_user_who_is_told_to_wait_keeps_nobody_else_waiting(start):
    gate = start("--rate", "100")
    body = """
    const bridge = new MeshBridge(quick);
    const many = Array.from({ length: 300 }, (_, at) => bridge.log("hasty", at));
    await bridge.log("calm", 0); say(bridge.pending);
    await Promise.all(many); say(bridge.pending); process.exit(0);
    """
    with Node(gate.url, body) as node:
        assert node.hear() >= 100
        assert node.hear() == 0
    assert gate.events("hasty") == list(range(300))
    assert gate.events("calm") == [0]


STORM = """
const bridge = new MeshBridge({ ...quick, batch: 7 });
let written = 0, duplicates = 0, retries = 0;
const one = (at) => bridge.log("ann", { at }).then(({ duplicate }) => { written += 1; duplicates += duplicate; });
const all = [];
const input = createInterface({ input: process.stdin });
for await (const line of input) {
  if (line === "end") break;
  for (let step = 0; step < 20; step += 1) all.push(one(all.length));
  while (line === "wait" && bridge.pending) await new Promise((go) => setTimeout(go, 10));
  say({ written, pending: bridge.pending });
}
await Promise.all(all);
say({ written, duplicates, total: all.length });
process.exit(0);
"""


def finished(node, gate):
    node.tell("end")
    end = node.hear()
    assert end["written"] == end["total"]
    assert [event["at"] for event in gate.events("ann")] == list(range(end["total"]))
    return end


def test_a_server_that_is_killed_and_comes_back_loses_and_doubles_nothing(start):
    gate = start()
    with Node(gate.url, STORM) as node:
        node.tell("wait")
        node.hear()
        for _ in range(3):
            node.tell()
            node.hear()
            gate.process.kill()
            gate.process.wait()
            node.tell()
            assert node.hear()["pending"] >= 20
            gate = start(port=gate.port)
            node.tell("wait")
            node.hear()
        assert finished(node, gate)["total"] == 200


def test_a_full_disk_is_waited_for(start):
    gate = start()
    with Node(gate.url, STORM) as node:
        node.tell("wait")
        node.hear()
        with full_disk(gate.process.pid):
            node.tell()
            node.hear()
            while not gate.said("log failed"):
                node.tell()
                assert node.hear()["pending"] > 0
            assert gate.ask("GET", "/readyz")[0] == 503
        finished(node, gate)
    assert any(line["status"] == 207 for line in gate.said("request"))


def test_what_waits_survives_the_end_of_the_process(start):
    gate = start()
    gate.stop()
    body = """
    const storage = new Storage();
    const bridge = new MeshBridge({ ...quick, storage });
    for (let at = 0; at < 30; at += 1) bridge.log("ann", at);
    say([...storage.items]); process.exit(0);
    """
    with Node(gate.url, body) as node:
        items = node.hear()
    assert len(items) == 30
    gate = start(port=gate.port)
    body = f"""
    const storage = new Storage({json.dumps(items)});
    const bridge = new MeshBridge({{ ...quick, storage }});
    say(bridge.pending);
    await bridge.log("ann", 30);
    say([bridge.pending, storage.length]); process.exit(0);
    """
    with Node(gate.url, body) as node:
        assert node.hear() == 30
        assert node.hear() == [0, 0]
    assert gate.events("ann") == list(range(31))


def heard(body):
    """What a script with a false gateway says."""
    with Node("http://mesh.invalid", FAKE + textwrap.dedent(body) + "process.exit(0);") as node:
        return [json.loads(line) for line in node.process.stdout] or node.process.stderr.read()


def test_online_sends_nothing_when_nothing_waits_and_never_before_it_may():
    body = """
    const bridge = new MeshBridge(quick);
    fire("online"); await after(50);
    say(asked.length);
    answer = () => refused(503, { retryAfter: 0.4 });
    const one = bridge.log("ann", 1);
    await after(50);
    answer = written;
    fire("online"); await bridge.flush(); await after(50);
    say([asked.length, bridge.pending]);
    await one;
    say(asked.map(({ events }) => events));
    """
    assert heard(body) == [0, [1, 1], [[1], [], [1]]]


def test_online_does_not_wait_for_a_pause_of_the_bridge_itself():
    body = """
    const bridge = new MeshBridge({ ...quick, pause: 60_000, longest: 60_000 });
    answer = () => { throw new TypeError("offline"); };
    const one = bridge.log("ann", 1);
    await after(50);
    answer = written;
    fire("online"); await one;
    say(asked.map(({ events }) => events));
    """
    assert heard(body) == [[[1], [], [1]]]


def test_what_a_proxy_says_of_a_time_is_heeded():
    body = """
    answer = () => new Response("<h1>later</h1>", { status: 503, headers: { "Retry-After": "0.4" } });
    const bridge = new MeshBridge(quick);
    const one = bridge.log("ann", 1);
    await after(200);
    say(asked.length); answer = written; await one; say(asked.length);
    """
    assert heard(body) == [1, 3]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_gateway_that_takes_no_request_at_all_is_asked_less_and_less_and_nothing_is_lost(status):
    body = f"""
    answer = () => refused({status});
    const reasons = [];
    const bridge = new MeshBridge({{ ...quick, onRetry: ({{ status, kind }}) => reasons.push([status, kind]) }});
    const one = bridge.log("ann", 1);
    await after(500);
    say([asked.length > 3 && asked.length < 14, bridge.pending]); say(reasons[0]);
    answer = written; say((await one).seq);
    """
    assert heard(body) == [[True, 1], [status, "No"], 1]


CLOCK = """
const hour = 3_600_000, real = Date.now;
let shift = 0;
Date.now = () => real() + shift;
const storage = new Storage();
const kept = { ...quick, storage };
"""


def test_what_a_left_page_sent_is_not_sent_again_when_its_key_may_be_forgotten():
    body = """
    const left = new MeshBridge({ ...kept, token: "t", delay: 60_000 });
    left.log("ann", "sent").catch(() => {});
    const before = storage.items.size && [...storage.items.values()][0].length;
    fire("pagehide"); await after(10);
    left.log("ann", "never sent").catch(() => {});
    say([...storage.items.values()][0].length - before);
    left.close();
    shift = 25 * hour;
    const next = new MeshBridge(kept);
    say([next.pending, next.unknown.map(({ userId, event, sent }) => [userId, event, Date.now() - sent >= 25 * hour])]);
    await next.flush();
    say(asked.map(({ events }) => events));
    const third = new MeshBridge(kept);
    say([third.pending, third.unknown.length, storage.length]);
    third.forget(third.unknown[0].key);
    say([third.unknown.length, storage.length]);
    """
    assert heard(CLOCK + body) == [
        0,
        [1, [["ann", "sent", True]]],
        [["sent"], ["never sent"]],
        [0, 1, 1],
        [0, 0],
    ]


def test_what_a_left_page_sent_is_sent_again_while_its_key_is_known():
    body = """
    const left = new MeshBridge({ ...kept, token: "t", delay: 60_000 });
    left.log("ann", "sent").catch(() => {});
    fire("pagehide"); await after(10);
    left.close();
    shift = 22 * hour;
    await new MeshBridge(kept).flush();
    say(asked.map(({ events }) => events)); say(storage.length);
    """
    assert heard(CLOCK + body) == [[["sent"], ["sent"]], 0]


@pytest.mark.parametrize("storage", ["storage", "null"])
def test_after_a_long_sleep_an_unanswered_event_is_not_sent_again_and_its_promise_says_so(storage):
    body = f"""
    answer = () => {{ throw new TypeError("gone"); }};
    const bridge = new MeshBridge({{ ...kept, storage: {storage}, pause: 300, longest: 300 }});
    const one = bridge.log("ann", "sent");
    await after(50);
    const two = bridge.log("ann", "not sent");
    shift = 25 * hour; answer = written;
    say(await one.catch(({{ name, code, key }}) => [name, code, key === bridge.unknown[0].key]));
    await two;
    say([bridge.pending, bridge.unknown.map(({{ event }}) => event), asked.map(({{ events }}) => events)]);
    """
    assert heard(CLOCK + body) == [
        ["OutcomeUnknown", "unknown-outcome", True],
        [0, ["sent"], [["sent"], [], ["not sent"]]],
    ]


def test_an_event_that_was_never_sent_waits_for_any_time_and_is_sent_once():
    body = """
    new MeshBridge({ ...kept, delay: 60_000 }).log("ann", "old");
    shift = 100 * hour;
    const bridge = new MeshBridge(kept);
    await bridge.flush(); await bridge.flush();
    say([asked.map(({ events }) => events), bridge.unknown, storage.length]);
    """
    assert heard(CLOCK + body) == [[[["old"]], [], 0]]


@pytest.mark.parametrize("online", [True, False])
def test_what_is_logged_while_the_gateway_is_away_does_not_count_as_sent(online):
    body = f"""
    Object.defineProperty(globalThis, "navigator", {{ value: {{ onLine: {json.dumps(online)} }} }});
    answer = () => refused(503);
    const bridge = new MeshBridge({{ ...kept, token: "t" }});
    if (navigator.onLine) bridge.log("ann", "first").catch(() => {{}});
    await after(50);
    bridge.log("ann", "second").catch(() => {{}});
    await after(200); fire("pagehide"); await after(20);
    say(asked.length > 2 && asked.slice(1).every(({{ events }}) => !events.length));
    bridge.close(); answer = written; shift = 25 * hour;
    const next = new MeshBridge(kept);
    await next.flush(); await next.flush();
    say([next.unknown.map(({{ event }}) => event), asked.flatMap(({{ events }}) => events).at(-1), storage.length]);
    """
    first = ["first"] if online else []
    assert heard(CLOCK + body) == [True, [first, "second", len(first)]]


def test_the_last_chance_of_an_event_in_memory_is_taken():
    body = """
    answer = () => refused(503);
    const bridge = new MeshBridge({ ...quick, token: "t", pause: 60_000 });
    bridge.log("ann", 1);
    await after(50); fire("pagehide"); await after(20);
    say(asked.map(({ events }) => events));
    """
    assert heard(body) == [[[1], [1]]]


def test_what_is_unknown_counts_among_what_may_wait():
    body = """
    answer = () => { throw new TypeError("gone"); };
    const bridge = new MeshBridge({ ...kept, limit: 1, pause: 60_000 });
    const one = bridge.log("ann", 1);
    await after(50); shift = 25 * hour; say(bridge.unknown.length);
    await one.catch(() => {});
    say(await bridge.log("ann", 2).catch(({ message }) => message));
    """
    assert heard(CLOCK + body) == [1, "1 events wait to be written"]


def test_what_is_too_large_for_a_beacon_does_not_count_as_sent():
    body = """
    const left = new MeshBridge({ ...kept, token: "t", delay: 60_000 });
    left.log("ann", "x".repeat(70_000)).catch(() => {});
    fire("pagehide"); await after(10);
    left.close();
    shift = 25 * hour;
    await new MeshBridge(kept).flush();
    say(asked.map(({ events }) => events[0].length));
    """
    assert heard(CLOCK + body) == [[70_000]]


def test_two_pages_over_one_storage_lose_and_double_nothing(start):
    gate = start()
    body = """
    const storage = new Storage();
    const kept = { ...quick, storage, batch: 7 };
    const log = (bridge, page, from) => Array.from({ length: 30 }, (_, at) => bridge.log("ann", [page, from + at]));
    const one = new MeshBridge({ ...kept, delay: 60_000 });
    const all = log(one, "one", 0);
    const two = new MeshBridge(kept);
    say(two.pending);
    all.push(...log(two, "two", 0), ...log(one, "one", 30));
    await Promise.all([one.flush(), two.flush()]);
    say((await Promise.all(all)).length);
    say([one.pending, two.pending, storage.length]);
    process.exit(0);
    """
    with Node(gate.url, body) as node:
        assert [node.hear() for _ in range(3)] == [30, 90, [0, 0, 0]]
    events = gate.events("ann")
    assert [at for page, at in events if page == "one"] == list(range(60))
    assert [at for page, at in events if page == "two"] == list(range(30))


@pytest.mark.parametrize("hours", [22, 25])
def test_a_page_that_slept_while_another_sent_its_event_doubles_nothing(hours):
    body = f"""
    const asleep = new MeshBridge({{ ...kept, delay: 60_000 }});
    const one = asleep.log("ann", 1), two = asleep.log("ann", 2);
    storage.removeItem([...storage.items.keys()][1]);
    await new MeshBridge(kept).flush();
    say([asked.map(({{ events }}) => events), storage.length]);
    shift = {hours} * hour;
    await asleep.flush();
    for (const event of [one, two]) say(await event.then(() => "written", ({{ code }}) => code));
    say([asked.length, asleep.unknown.map(({{ sent }}) => Math.round((Date.now() - sent) / hour))]);
    """
    end = ["written", "written", [2, []]] if hours < 23 else ["unknown-outcome", "unknown-outcome", [1, [25, 25]]]
    assert heard(CLOCK + body) == [[[[1]], 0], *end]


def test_what_one_page_sent_in_vain_the_other_does_not_send_a_day_later():
    body = """
    answer = () => { throw new TypeError("gone"); };
    const one = new MeshBridge({ ...kept, delay: 60_000 });
    const first = one.log("ann", 1);
    const two = new MeshBridge({ ...kept, pause: 60_000, longest: 60_000 });
    await two.flush();
    answer = written; shift = 25 * hour;
    await one.flush();
    say(await first.catch(({ code }) => code));
    say([asked.flatMap(({ events }) => events), one.unknown.length, two.unknown.length]);
    one.forget(one.unknown[0].key); two.forget(two.unknown[0].key);
    say([storage.length, new MeshBridge(kept).unknown.length]);
    """
    assert heard(CLOCK + body) == ["unknown-outcome", [[1], 1, 1], [0, 0]]


def test_nothing_is_sent_until_there_is_a_token():
    body = """
    let token = null, reasons = 0;
    const bridge = new MeshBridge({ ...quick, pause: 60_000, longest: 60_000,
                                    token: () => token, onRetry: () => { reasons += 1; } });
    const one = bridge.log("ann", 1);
    await after(50);
    fire("pagehide");
    say([asked.length, reasons, bridge.pending]);
    token = "secret"; bridge.flush(); await one;
    say(asked.map(({ headers }) => headers.Authorization));
    """
    assert heard(body) == [[0, 1, 1], ["Bearer secret", "Bearer secret"]]


def test_a_page_that_is_left_takes_the_last_token_when_the_next_needs_time():
    body = """
    const bridge = new MeshBridge({ ...quick, delay: 100, token: async () => "secret" });
    bridge.log("ann", 1);
    fire("pagehide");
    say(asked.length);
    await bridge.flush();
    const two = bridge.log("ann", 2);
    fire("pagehide"); await after(10);
    say(asked.map(({ headers }) => headers.Authorization));
    await two;
    """
    assert heard(body) == [0, ["Bearer secret", "Bearer secret"]]


def test_closing_leaves_no_promise_open_and_hears_out_the_request_under_way():
    body = """
    const storage = new Storage();
    const bridge = new MeshBridge({ ...quick, storage, batch: 1 });
    answer = async (lines) => { await after(100); return written(lines); };
    const tried = [1, 2].map((at) => bridge.log("ann", at));
    await after(50);
    const told = ({ status, reason }) => [status, reason?.name, reason?.code, reason?.message.split("; ")[1]];
    const [, ...outcomes] = await Promise.all([bridge.close(), ...tried.map(async (one) => (
      told((await Promise.allSettled([one]))[0])))]);
    say(outcomes);
    say([storage.length, await bridge.log("ann", 3).catch((error) => error.message)]);
    say((await new MeshBridge({ ...quick, storage }).flush()) ?? asked.map(({ events }) => events));
    """
    assert heard(body) == [
        [
            ["fulfilled", None, None, None],
            ["rejected", "OutcomeUnknown", "closed", "the event waits in the storage for the next bridge"],
        ],
        [1, "the bridge is closed"],
        [[1], [2]],
    ]


def test_new_settings_leave_no_promise_open():
    body = """
    configure({ ...quick, delay: 60_000 });
    const one = logEventToWal("ann", 1);
    configure(quick);
    say(await one.catch(({ code, message }) => [code, message.split("; ")[1]]));
    say((await logEventToWal("ann", 2)).seq);
    """
    assert heard(body) == [["closed", "the event was in memory only"], 1]


@pytest.mark.parametrize(
    "getter",
    ["() => new Proxy({}, {})", "deny", "() => new Denied()", "() => new Kept()"],
    ids=["of node without a file", "hidden", "denied", "read-only"],
)
def test_a_storage_that_does_not_work_is_done_without(gate, getter):
    body = f"""
    const deny = () => {{ throw new DOMException("no", "SecurityError"); }};
    class Denied {{ get length() {{ deny(); }} }}
    for (const name of ["key", "getItem", "setItem", "removeItem"]) Denied.prototype[name] = deny;
    class Kept extends Storage {{ removeItem() {{ deny(); }} }}
    Object.defineProperty(globalThis, "localStorage", {{ get: {getter} }});
    const bridge = new MeshBridge(quick);
    say((await Promise.all([bridge.log("bare", 1), bridge.log("bare", 2)])).length);
    say(bridge.pending); process.exit(0);
    """
    with Node(gate.url, body) as node:
        assert (node.hear(), node.hear()) == (2, 0)


def test_more_than_may_wait_is_rejected_at_once():
    body = """
    const bridge = new MeshBridge({ ...quick, limit: 2 });
    const tried = [1, 2, 3].map((at) => bridge.log("ann", at));
    say(await tried[2].catch((error) => error.message)); say(bridge.pending); process.exit(0);
    """
    with Node("http://127.0.0.1:9", body) as node:
        assert (node.hear(), node.hear()) == ("2 events wait to be written", 2)


def test_without_keys_the_same_storm_would_double_events(start):
    """The twin: a client that sends again without keys writes what was on disk, unheard, a second time."""
    gate = start()
    lines = [{"userId": "ann", "event": at} for at in range(5)]
    gate.batch(lines)
    gate.batch(lines)
    assert gate.events("ann") == [*range(5), *range(5)]


def test_the_module_says_what_its_types_declare():
    types = BRIDGE.with_suffix(".d.ts").read_text(encoding="utf-8")
    body = "import * as all from %s; console.log(JSON.stringify(Object.keys(all).sort()))" % json.dumps(BRIDGE.as_uri())
    run = subprocess.run([NODE, "--input-type=module", "-e", body], capture_output=True, check=True)
    names = json.loads(run.stdout)
    assert names == ["EventRefused", "MeshBridge", "OutcomeUnknown", "configure", "logEventToWal"]
    assert all(f" {name}" in types for name in names)


def test_the_gateway_serves_it(gate):
    status, data, headers = gate.ask("GET", "/mesh-bridge.js")
    assert (status, data) == (200, BRIDGE.read_bytes())
    assert headers["content-type"].startswith("text/javascript")
    assert gate.ask("GET", "/mesh-bridge.d.ts")[1] == BRIDGE.with_suffix(".d.ts").read_bytes()
