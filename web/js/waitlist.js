/**
 * Where a waiting party stands, why, and what was decided about it. The queue is fair and says so:
 * the reasons are the server's own, from its ledger.
 */

import { call, inWords } from './api.js';
import { el, refill } from './dom.js';
import { moment, seats } from './format.js';

const WORDS = {
  joined: 'Joined the waitlist',
  promoted: 'Got seats',
  bypassed: 'A smaller party went first',
  parked: 'Seats are being kept for you',
  skipped: 'Passed over',
  reduced: 'Asked for fewer seats',
  left: 'Left the waitlist',
};

/**
 * A box that tells, and tells again when asked to.
 *
 * @param {string} bookingId
 * @returns {{box: HTMLElement, refresh: () => Promise<void>}}
 */
export function standing(bookingId) {
  const box = el('div', { class: 'standing', 'aria-busy': 'true' });
  const refresh = async () => {
    try {
      const found = await call('GET', `/bookings/${bookingId}/waitlist`);
      const open = box.querySelector('details')?.open ?? false;
      refill(box, shown(found, open));
    } catch (problem) {
      refill(box, el('p', { class: 'field-error' }, inWords(problem)));
    }
    box.removeAttribute('aria-busy');
  };
  return { box, refresh };
}

function shown({ position, parties_ahead: parties, seats_ahead: ahead, reason, history }, open) {
  const place =
    position === null
      ? null
      : el(
          'div',
          { class: 'standing-place' },
          el('span', { class: 'standing-number' }, `#${position}`),
          el(
            'div',
            {},
            el('strong', {}, position === 1 ? 'You are next in line' : 'Your place in line'),
            el('p', { class: 'muted' }, aheadOf(parties, ahead)),
          ),
        );
  const lines = history.map(({ at, what, why }) =>
    el(
      'li',
      {},
      el('time', { datetime: at, class: 'muted' }, moment(at)),
      el('div', {}, el('strong', {}, WORDS[what] ?? what), el('p', { class: 'muted' }, why)),
    ),
  );
  return [
    place,
    el('p', { class: 'standing-reason' }, `Why: ${reason}.`),
    el(
      'details',
      { open },
      el('summary', {}, `History (${history.length})`),
      el('ol', { class: 'history' }, lines),
    ),
  ];
}

function aheadOf(parties, ahead) {
  if (!parties) return 'Nobody is before you.';
  const who = parties === 1 ? '1 party is' : `${parties} parties are`;
  return `${who} before you, asking for ${seats(ahead)}.`;
}
