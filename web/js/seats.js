/**
 * What is known of an event's seats, kept up to date by snapshots and deltas. Pure: no document,
 * no network, so that its rules can be tested (`web/test/seats.test.js`).
 *
 * A delta fits if it follows the version that is known. One that is older is contained already and
 * does no harm; one that is further ahead shows a gap, which the socket heals.
 *
 * Which seats are *mine* only answers to this client decide (`own`), not the deltas that everybody
 * gets: the two may overtake each other.
 */

/** @typedef {'free' | 'held' | 'taken' | 'mine' | 'booked'} Status */

/**
 * @typedef {object} Frame a snapshot or a delta, as in the API
 * @property {number} version
 * @property {number} [since] the version that a delta of several changes follows
 * @property {number} [total]
 * @property {number} [available]
 * @property {number[]} [taken]
 * @property {number[]} [held]
 * @property {number[]} [released]
 * @property {number[]} [freed]
 */

export class Seats {
  constructor() {
    /** -1: nothing is known yet. */
    this.version = -1;
    this.total = 0;
    this.available = 0;
    /** @type {Set<number>} */
    this.taken = new Set();
    /** @type {Set<number>} held by anybody */
    this.held = new Set();
    /** @type {Set<number>} held by me */
    this.mine = new Set();
    /** @type {Set<number>} booked by me */
    this.booked = new Set();
  }

  /**
   * What a seat is to the person in front of the page.
   *
   * @param {number} seat
   * @returns {Status}
   */
  status(seat) {
    if (this.booked.has(seat)) return 'booked';
    if (this.taken.has(seat)) return 'taken';
    if (this.mine.has(seat)) return 'mine';
    return this.held.has(seat) ? 'held' : 'free';
  }

  /**
   * Takes the whole truth.
   *
   * @param {Frame} frame
   * @returns {number[]} seats that may look different now
   */
  snapshot(frame) {
    const before = new Set([...this.taken, ...this.held]);
    this.version = frame.version;
    this.total = frame.total ?? this.total;
    this.available = frame.available ?? this.available;
    this.taken = new Set(frame.taken);
    this.held = new Set(frame.held);
    return different(before, new Set([...this.taken, ...this.held]), this.taken, this.held);
  }

  /**
   * Takes what has changed.
   *
   * @param {Frame} frame
   * @returns {{gap: boolean, changed: number[]}} after a gap nothing was taken
   */
  delta(frame) {
    if (frame.version <= this.version) return { gap: false, changed: [] };
    const follows = frame.since ?? frame.version - 1;
    if (this.version < 0 || follows > this.version) return { gap: true, changed: [] };
    const changed = new Set();
    const apply = (seats, change) => {
      for (const seat of seats ?? []) {
        change(seat);
        changed.add(seat);
      }
    };
    apply(frame.released, (seat) => this.held.delete(seat));
    apply(frame.freed, (seat) => this.taken.delete(seat));
    apply(frame.held, (seat) => this.held.add(seat));
    apply(frame.taken, (seat) => {
      this.taken.add(seat);
      this.held.delete(seat);
    });
    this.version = frame.version;
    this.total = frame.total ?? this.total;
    this.available = frame.available ?? this.available;
    return { gap: false, changed: [...changed] };
  }

  /**
   * Takes which seats this client holds.
   *
   * @param {Iterable<number>} seats
   * @returns {number[]} seats that changed hands
   */
  own(seats) {
    const now = new Set(seats);
    const changed = difference(this.mine, now);
    this.mine = now;
    return changed;
  }

  /**
   * Takes which seats this person has booked.
   *
   * @param {Iterable<number>} seats
   * @returns {number[]}
   */
  ownBooked(seats) {
    const now = new Set(seats);
    const changed = difference(this.booked, now);
    this.booked = now;
    return changed;
  }
}

function difference(a, b) {
  return [...a].filter((one) => !b.has(one)).concat([...b].filter((one) => !a.has(one)));
}

/** After a snapshot every seat that was or is not free may look different. */
function different(before, after) {
  return [...new Set([...before, ...after])];
}
