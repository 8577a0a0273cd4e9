/**
 * Events from a page to the mesh gateway, each written once.
 *
 * An event gets a key when it is logged and waits in the storage until the gateway says
 * that it is on disk. Whatever happens in between (offline, 503, a reload, a killed
 * server), it is sent again with the same key, and the gateway writes a key once.
 */

const PREFIX = "mesh-bridge:";
const BEACON_BYTES = 60_000;
const BATCH_BYTES = 250_000;
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

/** Sends events to a gateway, each once and those of a user in order. */
export class MeshBridge {
  #url;
  #token;
  #queue;
  #batch;
  #delay;
  #pause;
  #longest;
  #timeout;
  #onRetry;
  #waiting = new Map();
  #timer = null;
  #sending = null;
  #failures = 0;
  #after = 0;
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
    this.#token = typeof token === "function" ? token : () => token;
    this.#queue = new Queue(storage, limit);
    this.#batch = batch;
    this.#delay = delay;
    this.#pause = pause;
    this.#longest = longest;
    this.#timeout = timeout;
    this.#onRetry = onRetry;
    this.#listen();
    if (this.#queue.size) this.#schedule(0);
  }

  get pending() {
    return this.#queue.size;
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
      this.#schedule(this.#delay);
    });
  }

  async flush() {
    if (this.#sending) await this.#sending;
    let going = true;
    while (going && this.#queue.size && !this.#closed) going = await this.#send();
    if (this.#queue.size) this.#schedule(this.#nextPause());
  }

  close() {
    this.#closed = true;
    this.#unschedule();
    for (const [target, name, act] of this.#listeners) target.removeEventListener(name, act);
  }

  // Sending

  #schedule(milliseconds) {
    if (this.#timer === null && this.#sending === null && !this.#closed) {
      this.#timer = setTimeout(() => this.#run(), milliseconds);
    }
  }

  #unschedule() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  async #run() {
    this.#unschedule();
    if (this.#sending) return;
    const went = await this.#send();
    if (this.#queue.size) this.#schedule(went ? 0 : this.#nextPause());
  }

  /** One request at a time, so that users keep their order; resolves to whether it went through. */
  #send() {
    if (this.#sending) return this.#sending;
    this.#unschedule();
    const lines = this.#queue.first(this.#batch, BATCH_BYTES);
    this.#sending = this.#exchange(lines)
      .then(
        (again) => this.#settled(again),
        (error) => this.#failed(error, 0),
      )
      .finally(() => {
        this.#sending = null;
      });
    return this.#sending;
  }

  /** Sends lines and settles those that have an outcome; returns how the rest failed, or null. */
  async #exchange(lines) {
    const answer = await fetch(this.#url, {
      method: "POST",
      headers: { "Content-Type": "application/x-ndjson", ...(await this.#authorization()) },
      body: lines.map(textOf).join("\n"),
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(this.#timeout),
    });
    const said = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
    if (!Array.isArray(said.results)) {
      return this.#turnedAway(lines, answer.status, said);
    }
    let again = null;
    for (const result of said.results) {
      const line = lines[result.line - 1];
      if (result.success) this.#finish(line, (one) => one.resolve(writtenOf(result)));
      else if (isTemporary(result.status)) again ??= { error: result.error, after: result.retryAfter ?? 0 };
      else this.#finish(line, (one) => one.reject(new EventRefused(result)));
    }
    return again;
  }

  /** The request as a whole was refused: too large is tried line by line, all else later. */
  #turnedAway(lines, status, said) {
    if (status === 413 && lines.length === 1) {
      this.#finish(lines[0], (one) => one.reject(new EventRefused({ ...said, status })));
      return null;
    }
    if (status === 413) this.#batch = 1;
    return { error: said.error, after: said.retryAfter ?? 0 };
  }

  async #authorization() {
    const token = await this.#token();
    return token ? { Authorization: `Bearer ${token}` } : {};
  }

  #finish(line, tell) {
    this.#queue.remove(line);
    const one = this.#waiting.get(line.key);
    this.#waiting.delete(line.key);
    if (one) tell(one);
  }

  #settled(again) {
    if (again) return this.#failed(new Error(again.error), again.after);
    this.#failures = this.#after = 0;
    return true;
  }

  #failed(error, after) {
    this.#failures += 1;
    this.#after = after * 1000;
    this.#onRetry(error);
    return false;
  }

  /** Twice as long after each failure, up to the longest; less up to a half, so that pages do not come back together. */
  #nextPause() {
    const pause = Math.min(this.#pause * 2 ** (this.#failures - 1), this.#longest);
    return Math.max(this.#after, pause * (0.5 + Math.random() / 2));
  }

  // The page

  #listen() {
    const scope = globalThis;
    if (typeof scope.addEventListener !== "function") return;
    this.#on(scope, "online", () => {
      this.#unschedule();
      this.#schedule(0);
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
    if (!this.#queue.size || this.#closed) return;
    const body = this.#queue.first(Infinity, BEACON_BYTES).map(textOf).join("\n");
    const token = this.#token();
    if (token === null || token === undefined || token === "") {
      navigator.sendBeacon?.(this.#url, new Blob([body], { type: "text/plain" }));
    } else if (typeof token === "string") {
      // A beacon has no headers of its own.
      const headers = { "Content-Type": "text/plain", Authorization: `Bearer ${token}` };
      fetch(this.#url, { method: "POST", headers, body, keepalive: true }).catch(() => {});
    }
  }
}

/** Lines in the order they came, in memory and, where there is one that works, in a storage. */
class Queue {
  #lines = new Map();
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

  add(line) {
    if (this.#lines.size >= this.#limit) throw new Error(`${this.#limit} events wait to be written`);
    this.#write(line);
    this.#lines.set(line.key, line);
  }

  remove(line) {
    this.#lines.delete(line.key);
    this.#stored((storage) => storage.removeItem(line.place));
  }

  /** The first lines, at least one, as many as fit. */
  first(count, bytes) {
    const chosen = [];
    let size = 0;
    for (const line of this.#lines.values()) {
      size += 3 * textOf(line).length;
      if (chosen.length && (chosen.length >= count || size > bytes)) break;
      chosen.push(line);
    }
    return chosen;
  }

  #places() {
    const names = this.#stored((storage) => Array.from({ length: storage.length }, (_, at) => storage.key(at)));
    return (names ?? []).filter((name) => name?.startsWith(PREFIX)).sort();
  }

  #read(place) {
    const text = this.#stored((storage) => storage.getItem(place));
    const line = text && parsed(text);
    return line ? { ...line, place } : null;
  }

  #write(line) {
    this.#stored((storage) => storage.setItem(line.place, JSON.stringify(line)));
  }

  /** What comes of an act on the storage; nothing when it is full or forbidden: then lines do not survive a reload. */
  #stored(act) {
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
  const order = `${String(Date.now()).padStart(15, "0")}-${String((number += 1)).padStart(9, "0")}`;
  return { key, body, place: `${PREFIX}${order}-${key}` };
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
    return typeof line.key === "string" && typeof line.body === "string" ? line : null;
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
