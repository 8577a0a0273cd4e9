/** Where an event stands in the log once it is on disk. */
export interface Written {
  /** The number of the event in the user's log. */
  seq: number;
  /** Day and byte offset, `YYYYMMDD:offset`. */
  lsn: string;
  /** Whether it was there already: a retry found it. */
  duplicate: boolean;
}

/** An event that was sent and not answered in time: it may be in the log or not, and is not sent again. */
export interface UnknownEvent {
  key: string;
  userId: string;
  event: unknown;
  /** When it was first sent. */
  sent: Date;
}

/** What of the Web Storage API the queue needs; `localStorage` is one. */
export interface QueueStorage {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

export interface BridgeOptions {
  /** Where the gateway is; the origin this module came from unless given. */
  url?: string;
  /**
   * A token, or a function that gives the current one. While it gives none, nothing is sent; call
   * `flush` when there is one. When the page is left, a promise is not waited for: its last token counts.
   */
  token?: string | (() => string | null | Promise<string | null>);
  /** Where events wait until they are written; `localStorage` where there is one, `null` for memory only. */
  storage?: QueueStorage | null;
  /** Most events of one request (100). */
  batch?: number;
  /** Milliseconds for which events are collected (20). */
  delay?: number;
  /** Most events that wait (10000), those in `unknown` among them; one more is rejected. */
  limit?: number;
  /** Milliseconds before the first retry (250), doubled up to `longest` (30000). */
  pause?: number;
  longest?: number;
  /** Milliseconds after which a request counts as failed (30000). */
  timeout?: number;
  /** Told of every request that will be tried again; `status` and `kind` when it was refused as a whole. */
  onRetry?: (reason: Error & { status?: number; kind?: string }) => void;
}

/** The gateway refused an event for good: it is not in the log, and not tried again. */
export class EventRefused extends Error {
  readonly status: number;
  readonly kind: string;
}

/** Whether an event is in the log is not known, and this bridge will not find out. */
export class OutcomeUnknown extends Error {
  /**
   * `closed`: the bridge was closed before there was an answer; what is in the storage the next bridge sends.
   * `unknown-outcome`: it was sent more than 23 hours ago; the gateway may have forgotten its key, so that
   * to send it again could write it twice. It is in `unknown` now.
   */
  readonly code: "closed" | "unknown-outcome";
  /** The key of the event. */
  readonly key: string;
}

/** Sends events to a gateway, each once and those of a user in order, whatever becomes of the connection. */
export class MeshBridge {
  constructor(options?: BridgeOptions);
  /** Resolves when the event is on disk; rejects with `EventRefused`, `OutcomeUnknown`, or when too many wait. */
  log(userId: string, event: unknown): Promise<Written>;
  /** Events that wait for an answer. */
  readonly pending: number;
  /** Events of this page and earlier ones whose outcome nobody knows; they stay in the storage until forgotten. */
  readonly unknown: UnknownEvent[];
  /** Take an event out of `unknown`, after it was looked up, logged anew or given up. */
  forget(key: string): void;
  /**
   * Send what waits now, without a pause but not before `Retry-After`; resolves when nothing
   * may be sent any more or a request failed.
   */
  flush(): Promise<void>;
  /**
   * Stop; what waits stays in the storage for the next bridge. Resolves when the request under way
   * has ended; promises that wait even then reject with `OutcomeUnknown`.
   */
  close(): Promise<void>;
}

/** Settings of the bridge that `logEventToWal` uses; call it before the first event, for it closes the one before. */
export function configure(options: BridgeOptions): MeshBridge;

/** Append one event to the user's log; resolves when it is on disk. */
export function logEventToWal(userId: string, event: unknown): Promise<Written>;
