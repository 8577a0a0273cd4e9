/**
 * Events from a page to the mesh gateway, each written once.
 *
 * An event gets a key when it is logged and waits in the storage until the gateway says
 * that it is on disk. Whatever happens in between (offline, 503, a reload, a killed
 * server), it is sent again with the same key, and the gateway writes a key once. It knows a
 * key for 24 hours, so an event that may be in the log is not sent again later than that.
 */

const PREFIX = "mesh-bridge:";
const BEACON_BYTES = 60_000;
const BATCH_BYTES = 250_000;
/** An hour less than the gateway knows a key. */
const KEY_MILLISECONDS = 23 * 3_600_000;
/** The first sending of what was not sent; as long as any time, so that a mark finds room in a full storage. */
const NEVER = 9_999_999_999_999;
const LONGEST_TIMER = 2 ** 31 - 1;
const BATCH_PATH = "/api/mesh/wal/batch";

/** The gateway refused an event for good. */
export class EventRefused extends Error {
  constructor(result) {
    super(result.error);
    this.name = "EventRefused";
    this.status = result.status;
    this.kind = result.kind;
  }
}

/** Whether an event is in the log is not known, and this bridge will not find out. */
export class OutcomeUnknown extends Error {
  constructor(code, message, line) {
    super(message);
    this.name = "OutcomeUnknown";
    this.code = code;
    this.key = line.key;
  }
}

/** Sends events to a gateway, each once and those of a user in order. */
export class MeshBridge {
  #url;
  #token;
  #lastToken = null;
  #needsToken;
  #queue;
  #batch;
  #delay;
  #timeout;
  #onRetry;
  #newHold;
  #gateway;
  #users = new Map();
  #waiting = new Map();
  #timer = null;
  #due = 0;
  #sending = null;
  #closed = false;
  #listeners = [];

  constructor({
    url = new URL(import.meta.url).origin,
    token = null,
    storage = browserStorage(),
    batch = 100,
    delay = 20,
    limit = 10_000,
    pause = 250,
    longest = 30_000,
    timeout = 30_000,
    onRetry = () => {},
  } = {}) {
    if (!/^https?:/.test(url)) throw new TypeError("the bridge needs the url of a gateway");
    this.#url = url.replace(/\/$/, "") + BATCH_PATH;
    this.#needsToken = typeof token === "function";
    this.#token = this.#needsToken ? token : () => token;
    this.#queue = new Queue(storage, limit);
    this.#batch = batch;
    this.#delay = delay;
    this.#timeout = timeout;
    this.#onRetry = onRetry;
    this.#newHold = () => new Hold(pause, longest);
    this.#gateway = this.#newHold();
    this.#giveUp();
    this.#listen();
    this.#plan();
  }

  get pending() {
    return this.#queue.size;
  }

  get unknown() {
    this.#giveUp();
    return this.#queue.unknown.map(({ key, body, sent }) => ({ key, ...JSON.parse(body), sent: new Date(sent) }));
  }

  forget(key) {
    this.#queue.forget(key);
  }

  log(userId, event) {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw new Error("the bridge is closed");
      const line = lineOf(userId, event);
      this.#waiting.set(line.key, { resolve, reject });
      try {
        this.#queue.add(line);
      } catch (error) {
        this.#waiting.delete(line.key);
        throw error;
      }
      this.#plan(this.#delay, this.#heldUntil(line));
    });
  }

  async flush() {
    if (this.#sending) await this.#sending;
    this.#hurry();
    while (this.#queue.size && !this.#closed && (await this.#send()));
    this.#plan();
  }

  async close() {
    this.#closed = true;
    this.#unplan();
    for (const [target, name, act] of this.#listeners) target.removeEventListener(name, act);
    await this.#sending;
    for (const line of this.#queue.lines) {
      const rest = line.stored ? "waits in the storage for the next bridge" : "was in memory only";
      this.#reject(line, new OutcomeUnknown("closed", `the bridge was closed; the event ${rest}`, line));
    }
  }

  // When to send

  /** Send after a delay, or when the gateway and the user of some line are ready, whichever is later. */
  #plan(delay = 0, ready = this.#queue.soonest((line) => this.#heldUntil(line))) {
    if (this.#closed || this.#sending || !this.#queue.size) return;
    const now = performance.now();
    const due = Math.max(now + delay, this.#gateway.until, ready);
    if (this.#timer !== null && this.#due <= due) return;
    this.#unplan();
    this.#due = due;
    this.#timer = setTimeout(() => this.#run(), Math.min(due - now, LONGEST_TIMER));
  }

  #unplan() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #heldUntil(line) {
    return this.#users.get(line.userId)?.until ?? 0;
  }

  #hurry() {
    for (const hold of [this.#gateway, ...this.#users.values()]) hold.hurry();
  }

  // Sending

  async #run() {
    this.#unplan();
    await this.#send();
    this.#plan();
  }

  /** One request at a time, so that users keep their order; resolves to whether to go on at once. */
  #send() {
    if (this.#sending) return this.#sending;
    this.#unplan();
    this.#sending = this.#exchange()
      .catch((error) => this.#failed(error))
      .finally(() => {
        this.#sending = null;
      });
    return this.#sending;
  }

  /** Sends the first lines of users who need not wait; false when there are none. */
  async #exchange() {
    if (this.#gateway.until > performance.now()) return false;
    const token = (this.#lastToken = await this.#token());
    if (this.#needsToken && !token) throw new Error("there is no token yet");
    // What is tried in vain may have arrived, and is given up a day later: events wait until the gateway is there.
    if (this.#isAway()) await this.#post([], token);
    if (this.#closed) return false;
    this.#giveUp();
    const now = performance.now();
    const lines = this.#queue.first(this.#batch, BATCH_BYTES, (line) => this.#heldUntil(line) <= now);
    if (!lines.length) return false;
    this.#queue.mark(lines);
    try {
      this.#settle(lines, await this.#post(lines, token));
    } catch (error) {
      if (error.status !== 413) throw error;
      this.#divide(lines, error);
    }
    this.#gateway.clear();
    return true;
  }

  /** Whether the last request failed, or the browser is sure that there is no network. */
  #isAway() {
    return this.#gateway.failing || globalThis.navigator?.onLine === false;
  }

  /** The results of lines; throws when there are none, for then the request as a whole was refused. */
  async #post(lines, token) {
    const answer = await fetch(this.#url, {
      method: "POST",
      headers: { "Content-Type": "application/x-ndjson", ...authorization(token) },
      body: lines.map(textOf).join("\n"),
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(this.#timeout),
    });
    const said = await answer.json().catch(() => ({}));
    if (said.results?.length === lines.length) return said.results;
    const error = new Error(said.error ?? `status ${answer.status}`);
    const after = said.retryAfter ?? answer.headers.get("retry-after");
    throw Object.assign(error, { status: answer.status, kind: said.kind, after });
  }

  /** Settles lines that have an outcome; the users of others wait, each as long as it was told. */
  #settle(lines, results) {
    const troubled = new Map();
    for (const result of results) {
      const line = lines[result.line - 1];
      if (result.success) {
        this.#users.delete(line.userId);
        this.#queue.remove(line);
        this.#resolve(line, writtenOf(result));
      } else if (!isTemporary(result.status)) {
        this.#refuse(line, result);
      } else if (!troubled.has(line.userId)) {
        troubled.set(line.userId, result);
      }
    }
    for (const [userId, result] of troubled) {
      const hold = this.#users.get(userId) ?? this.#newHold();
      hold.fail(result.retryAfter);
      this.#users.set(userId, hold);
    }
    const [first] = troubled.values();
    if (first) this.#tell(new Error(first.error));
  }

  /** The request was too large: from now on line by line. */
  #divide(lines, error) {
    this.#batch = 1;
    if (lines.length > 1) this.#tell(error);
    else this.#refuse(lines[0], { ...error, error: error.message });
  }

  /** What was sent so long ago that the gateway may have forgotten its key is not sent again. */
  #giveUp() {
    const message = "the event was sent more than 23 hours ago and not answered: it may be in the log or not";
    for (const line of this.#queue.takeOutdated()) {
      this.#reject(line, new OutcomeUnknown("unknown-outcome", message, line));
    }
  }

  #refuse(line, result) {
    this.#queue.remove(line);
    this.#reject(line, new EventRefused(result));
  }

  #resolve(line, written) {
    this.#waiting.get(line.key)?.resolve(written);
    this.#waiting.delete(line.key);
  }

  #reject(line, error) {
    this.#waiting.get(line.key)?.reject(error);
    this.#waiting.delete(line.key);
  }

  #failed(error) {
    this.#gateway.fail(error.after);
    this.#tell(error);
    return false;
  }

  /** Later, so that what the page does about it, or an error in that, does not come between. */
  #tell(error) {
    queueMicrotask(() => this.#onRetry(error));
  }

  // The page

  #listen() {
    const scope = globalThis;
    if (typeof scope.addEventListener !== "function") return;
    this.#on(scope, "online", () => {
      this.#hurry();
      this.#plan();
    });
    this.#on(scope, "pagehide", () => this.#leave());
    if (scope.document) {
      this.#on(scope.document, "visibilitychange", () => {
        if (scope.document.visibilityState === "hidden") this.#leave();
      });
    }
  }

  #on(target, name, act) {
    target.addEventListener(name, act);
    this.#listeners.push([target, name, act]);
  }

  /** The page may be gone in a moment: hand what waits to the browser. The keys make it no second event. */
  #leave() {
    if (this.#closed) return;
    this.#giveUp();
    const now = performance.now();
    const lines = this.#queue.first(Infinity, BEACON_BYTES, (line) => this.#heldUntil(line) <= now);
    if (this.#isAway() && lines.every(({ stored }) => stored)) return;
    const body = new Blob([lines.map(textOf).join("\n")], { type: "text/plain" });
    if (!body.size || body.size > BEACON_BYTES) return;
    if (this.#handOver(body)) this.#queue.mark(lines);
  }

  #handOver(body) {
    const token = this.#tokenNow();
    if (token) {
      // A beacon has no headers of its own.
      fetch(this.#url, { method: "POST", headers: authorization(token), body, keepalive: true }).catch(() => {});
      return true;
    }
    return !this.#needsToken && navigator.sendBeacon?.(this.#url, body);
  }

  /** The token without waiting for it: when it would take time, the last there was. */
  #tokenNow() {
    const token = this.#token();
    if (typeof token?.then !== "function") return token;
    token.then(null, () => {});
    return this.#lastToken;
  }
}

/**
 * How long the gateway, or one user, is not to be asked again: twice as long after each failure, up to the
 * longest, less up to a half, so that pages do not come back together; never less than was told.
 */
class Hold {
  #pause;
  #longest;
  #failures = 0;
  #paused = 0;
  #told = 0;

  constructor(pause, longest) {
    this.#pause = pause;
    this.#longest = longest;
  }

  get until() {
    return Math.max(this.#paused, this.#told);
  }

  get failing() {
    return this.#failures > 0;
  }

  fail(seconds) {
    const pause = Math.min(this.#pause * 2 ** this.#failures, this.#longest);
    this.#failures += 1;
    this.#paused = performance.now() + pause * (0.5 + Math.random() / 2);
    this.#told = performance.now() + 1000 * (Number(seconds) || 0);
  }

  /** Only what was told counts. */
  hurry() {
    this.#paused = 0;
  }

  clear() {
    this.#failures = this.#paused = this.#told = 0;
  }
}

/**
 * Lines in the order they came, in memory and, where there is one that works, in a storage.
 * The storage has when each was first sent, by this page or another that found it there.
 */
class Queue {
  #lines = new Map();
  #unknown = new Map();
  #storage;
  #limit;

  constructor(storage, limit) {
    this.#storage = storage;
    this.#limit = limit;
    for (const place of this.#places()) {
      const line = this.#read(place);
      if (line) this.#lines.set(line.key, line);
    }
  }

  get size() {
    return this.#lines.size;
  }

  get lines() {
    return this.#lines.values();
  }

  add(line) {
    const held = this.#lines.size + this.#unknown.size;
    if (held >= this.#limit) throw new Error(`${this.#limit} events wait to be written`);
    this.#lines.set(line.key, { ...line, stored: this.#write(line) });
  }

  remove(line) {
    this.#lines.delete(line.key);
    this.#unknown.delete(line.key);
    this.#try((storage) => storage.removeItem(line.place));
  }

  /** Note that lines are sent, unless they were before. */
  mark(lines) {
    for (const line of lines.filter(({ sent }) => sent === NEVER)) {
      this.#catchUp(line);
      line.sent = Math.min(line.sent, Date.now());
      if (line.stored) this.#write(line);
    }
  }

  /** Lines whose keys may be forgotten, none twice; they stay among the unknown, and in the storage. */
  takeOutdated() {
    const known = Date.now() - KEY_MILLISECONDS;
    const old = [...this.#lines.values()].filter(({ logged }) => logged < known);
    for (const line of old) this.#catchUp(line);
    const outdated = old.filter(({ sent }) => sent < known);
    for (const line of outdated) {
      this.#lines.delete(line.key);
      this.#unknown.set(line.key, line);
    }
    return outdated;
  }

  get unknown() {
    return [...this.#unknown.values()];
  }

  forget(key) {
    if (this.#unknown.has(key)) this.remove(this.#unknown.get(key));
  }

  /** Another page may have sent a line. One that is gone from the storage it did: as early as it was logged. */
  #catchUp(line) {
    if (!line.stored) return;
    const kept = this.#read(line.place);
    line.stored = kept !== null;
    line.sent = Math.min(line.sent, kept ? kept.sent : line.logged);
  }

  /** The first lines of those that may go, at least one of them, as many as fit. */
  first(count, bytes, mayGo) {
    const chosen = [];
    let size = 0;
    for (const line of this.#lines.values()) {
      if (!mayGo(line)) continue;
      size += 3 * textOf(line).length;
      if (chosen.length && (chosen.length >= count || size > bytes)) break;
      chosen.push(line);
    }
    return chosen;
  }

  /** The least of a moment that each line has; 0 is the least there is. */
  soonest(momentOf) {
    let least = Infinity;
    for (const line of this.#lines.values()) {
      least = Math.min(least, momentOf(line));
      if (least === 0) break;
    }
    return least;
  }

  #places() {
    const names = this.#try((storage) => Array.from({ length: storage.length }, (_, at) => storage.key(at)));
    return (names ?? []).filter((name) => name?.startsWith(PREFIX)).sort();
  }

  #read(place) {
    const text = this.#try((storage) => storage.getItem(place));
    const line = text && parsed(text);
    const logged = Number(place.slice(PREFIX.length).split("-")[0]);
    return line ? { sent: logged, ...line, logged, place, stored: true } : null;
  }

  #write(line) {
    const { key, body, sent } = line;
    return this.#try((storage) => {
      storage.setItem(line.place, JSON.stringify({ key, body, sent }));
      return true;
    });
  }

  /** What comes of an act on the storage; nothing when it is full or forbidden: then lines do not survive a reload. */
  #try(act) {
    try {
      return this.#storage ? act(this.#storage) : null;
    } catch {
      return null;
    }
  }
}

let number = 0;

function lineOf(userId, event) {
  const body = JSON.stringify({ userId, event });
  if (event === undefined || JSON.parse(body).event === undefined) throw new TypeError("the event is no JSON value");
  const key = randomKey();
  const logged = Date.now();
  const order = `${String(logged).padStart(15, "0")}-${String((number += 1)).padStart(9, "0")}`;
  return { key, body, userId, logged, sent: NEVER, place: `${PREFIX}${order}-${key}` };
}

function authorization(token) {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** 32 hexadecimal digits; crypto.randomUUID is missing on pages over plain http. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function textOf(line) {
  return `${line.body.slice(0, -1)},"key":"${line.key}"}`;
}

function parsed(text) {
  try {
    const line = JSON.parse(text);
    return typeof line.key === "string" ? { ...line, userId: JSON.parse(line.body).userId } : null;
  } catch {
    return null;
  }
}

function writtenOf({ seq, lsn, duplicate }) {
  return { seq, lsn, duplicate };
}

function isTemporary(status) {
  return status === 401 || status === 408 || status === 429 || status >= 500;
}

function browserStorage() {
  try {
    // Without a file to keep it in, node gives one that has no methods.
    const storage = globalThis.localStorage;
    return typeof storage?.getItem === "function" ? storage : null;
  } catch {
    return null;
  }
}

let shared = null;

/** Settings of the bridge that `logEventToWal` uses. */
export function configure(options) {
  shared?.close();
  shared = new MeshBridge(options);
  return shared;
}

/** Append one event to the user's log; resolves when it is on disk. */
export function logEventToWal(userId, event) {
  shared ??= new MeshBridge();
  return shared.log(userId, event);
}
