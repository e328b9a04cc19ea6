/**
 * Books. An attempt is a wish and its key: as long as the wish stays the same, so does the key,
 * however often it has to be sent, so a lost answer never books twice.
 */

import { attemptKey, call, Problem } from './api.js';

export class Attempts {
  constructor() {
    this.key = null;
    this.wish = null;
  }

  /**
   * @param {{event_id: string, seats?: number, seat_numbers?: number[], hold_token?: string,
   *   waitlist?: boolean}} wish
   * @returns {Promise<any>} the booking
   * @throws {Problem}
   */
  async book(wish) {
    const text = JSON.stringify(wish);
    if (text !== this.wish) {
      this.wish = text;
      this.key = attemptKey();
    }
    try {
      const booking = await call('POST', '/bookings', { body: wish, key: this.key });
      this.settled();
      return booking;
    } catch (problem) {
      // A clear no ends the attempt; the same wish later is a new one. Whatever may have been a
      // yes that got lost keeps its key.
      if (isClear(problem)) this.settled();
      throw problem;
    }
  }

  settled() {
    this.wish = null;
    this.key = null;
  }
}

function isClear(problem) {
  if (!(problem instanceof Problem)) return false;
  return problem.status >= 400 && problem.status < 500 && problem.code !== 'request_in_flight';
}
