/**
 * The seats that somebody is choosing. Who is signed in holds them while they decide: over the
 * socket, which takes the whole wanted set at once, or over HTTP while there is no socket. Who is
 * not signed in only marks them; they are held as soon as there is somebody to hold them for.
 *
 * The hold token is kept for this tab, so that a reload or a lost connection comes back to the same
 * holds. It is a secret: it never leaves this tab but to the server.
 */

import { attemptKey, call, inWords, Problem } from './api.js';
import { user } from './session.js';

/** Clicks that follow each other this closely go out as one wish. */
const SETTLE_MS = 90;
/** Over HTTP holds are made anew with each wish, so wait until the choice has settled. */
const SETTLE_HTTP_MS = 450;
/** The server broadcasts expiry within a second; after that we stop believing on our own. */
const DOUBT_MS = 2_000;

/**
 * Events: `change` (something about the choice), `trouble` (detail: `{text, seats}`), `expired`
 * (detail: seats).
 */
export class Holds extends EventTarget {
  /**
   * @param {string} eventId
   * @param {import('./socket.js').Socket} socket
   * @param {() => number} now the server's time
   */
  constructor(eventId, socket, now) {
    super();
    Object.assign(this, { eventId, socket, now });
    /** @type {Set<number>} what is wanted; a superset of what is held */
    this.wanted = new Set();
    /** @type {Set<number>} what the server said is ours */
    this.held = new Set();
    this.expiresAt = null;
    this.renewalsLeft = null;
    /** Holds do not work at the moment; seats can be booked without. */
    this.broken = false;
    /** Wishes that were sent and not answered. */
    this.asking = 0;
    this.token = sessionStorage.getItem(this.place);
  }

  get place() {
    return `happening.hold.${this.eventId}`;
  }

  /** @returns {'none' | 'picked' | 'asking' | 'held'} */
  get state() {
    if (this.wanted.size === 0) return 'none';
    if (!user() || this.broken) return 'picked';
    const settled = this.asking === 0 && !this.timer && this.held.size === this.wanted.size;
    return settled ? 'held' : 'asking';
  }

  /** Milliseconds until the holds end; null when there are none. */
  get left() {
    return this.expiresAt === null ? null : Math.max(0, this.expiresAt - this.now());
  }

  /** Whether a seat is wanted but not yet ours. */
  isPending(seat) {
    return this.state === 'asking' && this.wanted.has(seat) && !this.held.has(seat);
  }

  toggle(seat) {
    const wanted = new Set(this.wanted);
    if (!wanted.delete(seat)) wanted.add(seat);
    this.want(wanted);
  }

  /** Wants exactly these. */
  want(seats) {
    this.wanted = new Set(seats);
    this.changed();
    if (!user()) return;
    clearTimeout(this.timer);
    const pause = this.socket.state === 'open' ? SETTLE_MS : SETTLE_HTTP_MS;
    this.timer = setTimeout(() => this.settle(), pause);
  }

  /** Holds now what was only marked: somebody has signed in. */
  claim() {
    if (this.wanted.size > 0) this.want(this.wanted);
  }

  async settle() {
    this.timer = null;
    const seats = [...this.wanted].sort((a, b) => a - b);
    this.asking += 1;
    this.changed();
    try {
      const overSocket = await this.overSocket(seats);
      if (!overSocket) await this.overHttp(seats);
      this.broken = false;
    } catch (problem) {
      this.refused(problem);
    } finally {
      this.asking -= 1;
      this.changed();
    }
  }

  /** @returns {Promise<boolean>} whether the socket answered */
  async overSocket(seats) {
    // No seats at all: let all of them go.
    const frame = { type: 'hold', event_id: this.eventId, seat_numbers: seats };
    if (this.token) frame.hold_token = this.token;
    const answer = await this.socket.ask(frame).catch(() => null);
    if (!answer) return false;
    this.answered(answer);
    return true;
  }

  async overHttp(seats) {
    // Only whole sets can be asked for: let go of the old one first.
    await this.letGo();
    if (seats.length === 0) return;
    const path = `/events/${this.eventId}/holds`;
    this.take(await call('POST', path, { body: { seat_numbers: seats }, key: attemptKey() }));
  }

  async letGo() {
    const { token } = this;
    this.forget();
    if (!token) return;
    const gone = (problem) => {
      if (problem.status !== 404 && problem.status !== 409) throw problem;
    };
    await call('DELETE', `/events/${this.eventId}/holds/${token}`).catch(gone);
  }

  /** An answer of the socket about our holds. */
  answered(answer) {
    if (answer.type === 'error') {
      const status = answer.code === 'unavailable' ? 503 : 400;
      throw new Problem({ status, code: answer.code, detail: answer.detail });
    }
    this.take({ ...answer, seat_numbers: answer.granted ?? [] });
    const conflicts = answer.conflicts ?? [];
    if (conflicts.length > 0) this.conflict(conflicts);
  }

  /** Takes what the server says is ours. */
  take(answer) {
    this.held = new Set(answer.seat_numbers);
    this.remember(answer.hold_token);
    const some = this.held.size > 0;
    this.expiresAt = some && answer.expires_at ? Date.parse(answer.expires_at) : null;
    this.renewalsLeft = answer.renewals_left ?? this.renewalsLeft;
    // A newer wish is on its way: its answer will say.
    if (this.asking <= 1 && !this.timer) this.wanted = new Set(this.held);
    this.doubt();
    this.changed();
  }

  /** What a snapshot says of our holds: after a reload, or after the connection came back. */
  resume(snapshot) {
    if (this.asking > 0 || this.timer) return;
    const lost = [...this.held].filter((seat) => !snapshot.mine.includes(seat));
    const marked = [...this.wanted].filter((seat) => !this.held.has(seat));
    this.take({ ...snapshot, seat_numbers: snapshot.mine });
    if (lost.length > 0) this.dispatchEvent(new CustomEvent('expired', { detail: lost }));
    if (marked.length > 0) this.want([...this.held, ...marked]);
  }

  conflict(seats) {
    seats.forEach((seat) => this.wanted.delete(seat));
    const detail = { seats, text: null };
    this.dispatchEvent(new CustomEvent('trouble', { detail }));
    // All or nothing was asked for; what is left is worth asking for again.
    const more = [...this.wanted].some((seat) => !this.held.has(seat));
    if (more) this.want(this.wanted);
  }

  refused(problem) {
    if (problem.code === 'seats_unavailable' && problem.unavailable.length > 0) {
      this.wanted = new Set([...this.wanted].filter((one) => !problem.unavailable.includes(one)));
      this.dispatchEvent(
        new CustomEvent('trouble', {
          detail: { seats: problem.unavailable, text: null },
        }),
      );
      if (this.wanted.size > 0) this.want(this.wanted);
      return;
    }
    // No holds here, or not now: choosing still works, and booking decides.
    this.broken = [404, 405, 501, 503].includes(problem.status);
    if (this.broken) return;
    this.wanted = new Set(this.held);
    const detail = { seats: [], text: inWords(problem) };
    this.dispatchEvent(new CustomEvent('trouble', { detail }));
  }

  /** Frames that nobody asked for. */
  frame(frame) {
    if (frame.type === 'hold_expired') this.expire(frame.seat_numbers ?? [...this.held]);
  }

  /** These are not ours any more. */
  expire(seats) {
    const lost = seats.filter((seat) => this.held.delete(seat));
    seats.forEach((seat) => this.wanted.delete(seat));
    if (this.held.size === 0) this.forget();
    this.changed();
    if (lost.length > 0) this.dispatchEvent(new CustomEvent('expired', { detail: lost }));
  }

  /** The end may pass without our being told. */
  doubt() {
    clearTimeout(this.doubting);
    if (this.left === null) return;
    this.doubting = setTimeout(() => {
      if (this.left === 0) this.expire([...this.held]);
    }, this.left + DOUBT_MS);
  }

  /** Asks for more time. */
  async renew() {
    const asked = { type: 'renew', event_id: this.eventId };
    const answer = await this.socket.ask(asked).catch(() => null);
    if (answer) {
      this.answered(answer);
    } else {
      this.take(await call('PUT', `/events/${this.eventId}/holds/${this.token}`));
    }
  }

  /**
   * Lets the server choose.
   *
   * @param {number} count
   * @param {string | null} category
   */
  async best(count, category) {
    await this.release();
    const wish = { count, ...(category ? { category } : {}) };
    const path = `/events/${this.eventId}/holds`;
    this.take(await call('POST', path, { body: { best_available: wish }, key: attemptKey() }));
    // The socket takes them over: from now on they live as long as this page does.
    this.socket.send({ type: 'join', event_id: this.eventId, hold_token: this.token });
  }

  /** Lets all of it go. */
  async release() {
    clearTimeout(this.timer);
    this.timer = null;
    this.wanted = new Set();
    if (this.held.size > 0) await this.settle();
    this.changed();
  }

  /** They have become a booking, or somebody else's business. */
  forget() {
    this.held = new Set();
    this.expiresAt = null;
    this.renewalsLeft = null;
    this.token = null;
    sessionStorage.removeItem(this.place);
    clearTimeout(this.doubting);
  }

  /** After a booking: nothing is chosen any more. */
  done() {
    this.wanted = new Set();
    this.forget();
    this.changed();
  }

  remember(token) {
    this.token = token ?? null;
    if (token) sessionStorage.setItem(this.place, token);
    else sessionStorage.removeItem(this.place);
  }

  changed() {
    this.dispatchEvent(new Event('change'));
  }
}
