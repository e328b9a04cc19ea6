/**
 * Keeps one event's seats up to date, by the best way there is: the socket for who is signed in,
 * the server-sent stream for everybody else and while the socket is away, plain asking when that
 * does not work either. `Seats` says what is known; this says where it comes from.
 */

import { call } from './api.js';
import { user } from './session.js';
import { Seats } from './seats.js';

/** How often to ask when nothing is pushed to us. */
const POLL_MS = 4_000;
/** When the server could not let us in, it is asked again after this and up to as much again. */
const REJOIN_MS = 1_000;
/** After a gap the answer to the next `join` must come within this, or it is asked for again. */
const HEAL_MS = 3_000;

/**
 * Events: `seats` (detail: changed seat numbers, or null for all), `status`, `mine` (detail: the
 * snapshot that told), `frame` (detail: any other frame about this event).
 */
export class Live extends EventTarget {
  /**
   * @param {string} eventId
   * @param {import('./socket.js').Socket} socket
   * @param {() => string | null} holdToken of the holds to come back to
   */
  constructor(eventId, socket, holdToken) {
    super();
    Object.assign(this, { eventId, socket, holdToken });
    this.seats = new Seats();
    /** Whether the socket's room is what we listen to. */
    this.joined = false;
    /** How far the server's clock is ahead of ours, in milliseconds. */
    this.ahead = 0;
    /** @type {'live' | 'slow' | 'away'} */
    this.status = 'away';
    socket.addEventListener('open', () => this.join());
    socket.addEventListener('lost', () => this.left());
    socket.addEventListener('state', () => this.consider());
    socket.addEventListener('frame', (event) => this.frame(event.detail));
  }

  /** Begins to watch. `first` is what the page has read already. */
  start(first) {
    this.take(first);
    if (this.socket.state === 'open') this.join();
    this.consider();
  }

  /** The time by the server's clock. */
  now() {
    return Date.now() + this.ahead;
  }

  /** Asks once, over HTTP. */
  async refresh() {
    const seats = await call('GET', `/events/${this.eventId}/seats`);
    if (!this.joined) this.take(seats);
  }

  /** Enters the event's room, or enters it again to learn what was missed. */
  join() {
    const { version } = this.seats;
    const token = this.holdToken();
    // What another source said may be older than what it said it with: only the room's own
    // version counts, and none at all after a gap.
    const since = this.roomVersion === version && !this.healing ? { since: version } : {};
    this.socket.send({
      type: 'join',
      event_id: this.eventId,
      ...since,
      ...(token ? { hold_token: token } : {}),
    });
  }

  left() {
    clearTimeout(this.rejoining);
    this.joined = false;
    this.healing = 0;
    this.consider();
  }

  frame(frame) {
    if (frame.event_id !== undefined && frame.event_id !== this.eventId) return;
    if (frame.server_time) this.ahead = Date.parse(frame.server_time) - Date.now();
    if (frame.type === 'snapshot') {
      this.joined = true;
      this.healing = 0;
      this.take(frame);
      this.roomVersion = this.seats.version;
      if (frame.mine) this.dispatchEvent(new CustomEvent('mine', { detail: frame }));
      this.consider();
    } else if (frame.type === 'joined') {
      // What was missed follows as deltas.
      this.joined = true;
      this.dispatchEvent(new CustomEvent('mine', { detail: frame }));
      this.consider();
    } else if (frame.type === 'delta') {
      this.delta(frame);
    } else if (frame.code === 'unavailable' && frame.ref === undefined) {
      // Only a `join` of ours has no `ref`.
      clearTimeout(this.rejoining);
      this.rejoining = setTimeout(() => this.join(), REJOIN_MS * (1 + Math.random()));
    } else if (frame.event_id !== undefined) {
      this.dispatchEvent(new CustomEvent('frame', { detail: frame }));
    }
  }

  delta(frame) {
    if (!this.joined) return;
    const { gap, changed } = this.seats.delta(frame);
    if (!gap) {
      this.healing = 0;
      this.roomVersion = this.seats.version;
      this.changed(changed);
    } else if (Date.now() - (this.healing ?? 0) > HEAL_MS) {
      this.healing = Date.now();
      this.join();
    }
  }

  /** Takes a whole view, whoever sent it. */
  take(view) {
    this.changed(this.seats.snapshot(view));
  }

  changed(seats) {
    this.dispatchEvent(new CustomEvent('seats', { detail: seats }));
  }

  /** Chooses the source: as long as the room tells us, nothing else needs to. */
  consider() {
    if (this.joined) {
      this.closeStream();
    } else if (!this.stream && !this.polling) {
      this.openStream();
    }
    const wanted = user() !== null && !this.socket.unsupported;
    const flowing = this.joined || this.stream?.readyState === EventSource.OPEN || this.pollWorks;
    this.become(!flowing ? 'away' : wanted && !this.joined ? 'slow' : 'live');
  }

  openStream() {
    const stream = new EventSource(`/api/v1/events/${this.eventId}/availability/stream`);
    this.stream = stream;
    stream.addEventListener('open', () => this.consider());
    stream.addEventListener('message', (event) => {
      if (!this.joined) this.take(JSON.parse(event.data));
    });
    stream.addEventListener('error', () => {
      // The browser tries again by itself, unless it was refused.
      if (stream.readyState === EventSource.CLOSED && stream === this.stream) {
        this.stream = null;
        this.poll();
      }
      this.consider();
    });
  }

  poll() {
    clearTimeout(this.polling);
    this.polling = setTimeout(async () => {
      this.pollWorks = await this.refresh().then(
        () => true,
        () => false,
      );
      if (this.polling) this.poll();
      this.consider();
    }, POLL_MS);
  }

  closeStream() {
    this.stream?.close();
    this.stream = null;
    clearTimeout(this.polling);
    this.polling = null;
    this.pollWorks = false;
  }

  become(status) {
    if (this.status === status) return;
    this.status = status;
    this.dispatchEvent(new Event('status'));
  }
}
