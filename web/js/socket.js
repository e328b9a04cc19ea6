/**
 * One WebSocket for the page: a ticket, a connection, answers matched to questions by `ref`, and
 * after a loss a new connection — later each time and never at the same moment as everybody
 * else's. What is said over it is the business of `live.js`, `holds.js` and `inbox.js`.
 */

import { attemptKey, call } from './api.js';
import { user } from './session.js';

const FIRST_RETRY_MS = 400;
const LAST_RETRY_MS = 15_000;
/** A server without sockets is asked again after this. */
const UNSUPPORTED_RETRY_MS = 60_000;
const PING_MS = 15_000;
/** Silence for this long after a ping: the line is dead, whatever the browser believes. */
const PATIENCE_MS = 12_000;
const ANSWER_MS = 6_000;
/** A connection that lasted this long was a good one: the next loss starts from the beginning. */
const GOOD_MS = 10_000;

/**
 * Events: `open`, `lost` (was open), `frame` (detail: the frame), `state`.
 */
export class Socket extends EventTarget {
  constructor() {
    super();
    /** @type {'off' | 'connecting' | 'open' | 'waiting'} */
    this.state = 'off';
    this.tries = 0;
    /** Whether this server has no sockets. */
    this.unsupported = false;
    /** @type {WebSocket | null} */
    this.wire = null;
    this.waiting = new Map();
    this.refs = 0;
    addEventListener('online', () => this.hurry());
    addEventListener('offline', () => this.wire?.close());
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.hurry();
    });
  }

  /** Connects, and stays connected, for as long as somebody is signed in. */
  start() {
    if (this.state === 'off' && user()) this.connect();
  }

  /** Closes the connection and leaves it closed. */
  stop() {
    clearTimeout(this.timer);
    this.become('off');
    this.hangUp();
    this.tries = 0;
  }

  /** Sends a frame if there is a connection. */
  send(frame) {
    if (this.state !== 'open') return false;
    this.wire.send(JSON.stringify(frame));
    return true;
  }

  /**
   * Sends a frame and waits for its answer.
   *
   * @returns {Promise<any>} the answer; `type: "error"` is an answer too
   * @throws {Error} when the connection is lost or nothing comes in time
   */
  ask(frame) {
    const ref = `r${(this.refs += 1)}`;
    return new Promise((resolve, reject) => {
      if (!this.send({ ...frame, ref })) {
        reject(new Error('not connected'));
        return;
      }
      const timer = setTimeout(() => {
        this.waiting.delete(ref);
        reject(new Error('no answer'));
      }, ANSWER_MS);
      this.waiting.set(ref, { resolve, reject, timer });
    });
  }

  hurry() {
    if (this.state !== 'waiting') return;
    clearTimeout(this.timer);
    this.connect();
  }

  async connect() {
    this.become('connecting');
    let ticket;
    try {
      ({ ticket } = await call('POST', '/ws-tickets', { key: attemptKey() }));
    } catch (problem) {
      if (this.state !== 'connecting') return;
      if (!user()) this.stop();
      else this.unsupported = [404, 405, 501].includes(problem.status);
      if (user()) this.retry(this.unsupported ? UNSUPPORTED_RETRY_MS : 0);
      return;
    }
    this.unsupported = false;
    if (this.state === 'connecting') this.open(ticket);
  }

  open(ticket) {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const wire = new WebSocket(
      `${scheme}://${location.host}/ws?ticket=${encodeURIComponent(ticket)}`,
    );
    this.wire = wire;
    wire.addEventListener('open', () => {
      if (wire !== this.wire) return;
      this.opened = Date.now();
      this.become('open');
      this.heard();
      this.dispatchEvent(new Event('open'));
    });
    wire.addEventListener('message', (event) => {
      if (wire === this.wire) this.receive(event.data);
    });
    wire.addEventListener('close', () => {
      if (wire === this.wire) this.closed();
    });
  }

  receive(text) {
    this.heard();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return;
    }
    const asked = frame.ref === undefined ? undefined : this.waiting.get(frame.ref);
    if (asked) {
      clearTimeout(asked.timer);
      this.waiting.delete(frame.ref);
      asked.resolve(frame);
    }
    if (frame.type === 'bye') this.pause = frame.retry_after_ms;
    this.dispatchEvent(new CustomEvent('frame', { detail: frame }));
  }

  /** Something was heard: the line lives. Ask for another sign of life in a while. */
  heard() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      this.send({ type: 'ping' });
      this.silence = setTimeout(() => this.closed(), PATIENCE_MS);
    }, PING_MS);
  }

  closed() {
    const wasOpen = this.state === 'open';
    this.hangUp();
    if (this.state === 'off') return;
    if (wasOpen && Date.now() - this.opened > GOOD_MS) this.tries = 0;
    this.retry(this.pause ?? 0);
    this.pause = null;
    if (wasOpen) this.dispatchEvent(new Event('lost'));
  }

  hangUp() {
    clearTimeout(this.silence);
    const { wire } = this;
    this.wire = null;
    wire?.close();
    for (const { reject, timer } of this.waiting.values()) {
      clearTimeout(timer);
      reject(new Error('connection lost'));
    }
    this.waiting.clear();
  }

  retry(least) {
    const most = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.tries);
    this.tries += 1;
    this.become('waiting');
    // Between half and all of it: a crowd that lost the same server comes back spread out.
    const pause = Math.max(least, most * (0.5 + Math.random() / 2));
    this.timer = setTimeout(() => this.connect(), pause);
  }

  become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event('state'));
  }
}
