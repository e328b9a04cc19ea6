/**
 * What somebody has booked or waits for: a card for each, with cancelling all of it or a part. The
 * window over all events and the list on an event's own page are made of the same cards.
 */

import { all, attemptKey, call, inWords } from './api.js';
import { note } from './announce.js';
import { confirm, openDialog } from './dialog.js';
import { busyWhile, el, refill } from './dom.js';
import { seats, span } from './format.js';
import { layOut, seatName, seatNames } from './layout.js';
import { stepper } from './stepper.js';
import { standing } from './waitlist.js';

const STATUS = { confirmed: 'Confirmed', waitlisted: 'On the waitlist', cancelled: 'Cancelled' };

/** The caller's bookings of one event, those that still count. */
export async function ownBookings(eventId) {
  const [confirmed, waiting] = await Promise.all([
    all('/me/bookings?status=confirmed'),
    all('/me/bookings?status=waitlisted'),
  ]);
  return [...confirmed, ...waiting].filter((one) => one.event_id === eventId);
}

/** Opens the window with all bookings. */
export async function openBookings() {
  const { body, dialog } = openDialog('My bookings', { class: 'drawer' });
  const events = new Map();
  const eventOf = (id) => {
    if (!events.has(id)) events.set(id, withLayout(id));
    return events.get(id);
  };
  const show = async () => {
    try {
      const bookings = await all('/me/bookings');
      const cards = await Promise.all(
        bookings.map(async (booking) => {
          const { event, layout } = await eventOf(booking.event_id);
          return bookingCard({ booking, event, layout, titled: true, onChange: show }).card;
        }),
      );
      if (!dialog.isConnected) return;
      refill(body, cards.length > 0 ? cards : nothing());
    } catch (problem) {
      refill(body, el('p', { class: 'field-error', role: 'alert' }, inWords(problem)));
    }
  };
  refill(body, el('p', { class: 'muted' }, 'Looking…'));
  await show();
}

const nothing = () =>
  el(
    'div',
    { class: 'empty' },
    el('p', {}, 'You have not booked anything yet.'),
    el('a', { class: 'button', href: '/' }, 'See what is on'),
  );

async function withLayout(id) {
  const event = await call('GET', `/events/${id}?include=map`);
  return { event, layout: layOut(event.seat_map, event.capacity) };
}

/**
 * @param {{booking: any, event: any, layout: import('./layout.js').Layout, titled?: boolean,
 *   onChange: () => void}} options
 * @returns {{card: HTMLElement, refresh: () => void}}
 */
export function bookingCard({ booking, event, layout, titled = false, onChange }) {
  const place = booking.status === 'waitlisted' ? standing(booking.id) : null;
  place?.refresh();
  const which =
    booking.seat_numbers.length > 0
      ? seatNames(layout, booking.seat_numbers)
      : seats(booking.seats);
  const head = titled
    ? [
        el('h3', {}, el('a', { href: `/events/${event.id}` }, event.title)),
        el('p', { class: 'muted' }, span(event.starts_at, event.ends_at)),
      ]
    : [];
  const tools = booking.status === 'cancelled' ? null : actions(booking, layout, onChange);
  const given =
    booking.cancelled_seats > 0 && booking.status !== 'cancelled'
      ? el('p', { class: 'muted' }, `${seats(booking.cancelled_seats)} given back.`)
      : null;
  const card = el(
    'article',
    {
      class: 'card booking',
      data: { booking: booking.id, status: booking.status },
    },
    head,
    el(
      'div',
      { class: 'booking-line' },
      el('strong', { class: 'booking-seats' }, which),
      el('span', { class: `chip chip-${booking.status}` }, STATUS[booking.status]),
    ),
    given,
    place?.box,
    tools,
  );
  return { card, refresh: () => place?.refresh() };
}

function actions(booking, layout, onChange) {
  const waiting = booking.status === 'waitlisted';
  const part = el('div', { hidden: true });
  const cancel = async (body, done) => {
    try {
      const path = `/bookings/${booking.id}/cancel`;
      await call('POST', path, { body, key: attemptKey() });
      note(done, 'good');
    } catch (problem) {
      note(inWords(problem), 'bad');
    }
    onChange();
  };
  const whole = el(
    'button',
    { type: 'button', class: 'button button-quiet' },
    waiting ? 'Leave the waitlist' : 'Cancel booking',
  );
  whole.addEventListener('click', () =>
    busyWhile(whole, async () => {
      const sure = waiting
        ? await confirm('Leave the waitlist?', 'You lose your place in line.', 'Leave')
        : await confirm(
            'Cancel this booking?',
            `${seats(booking.seats)} go back on sale or to the waitlist.`,
            'Cancel booking',
          );
      if (sure) await cancel({}, waiting ? 'You left the waitlist.' : 'Your booking is cancelled.');
    }),
  );
  const change =
    booking.seats < 2
      ? null
      : el(
          'button',
          {
            type: 'button',
            class: 'button button-quiet',
            'aria-expanded': 'false',
          },
          waiting ? 'Ask for fewer' : 'Give some back',
        );
  change?.addEventListener('click', () => {
    part.hidden = !part.hidden;
    change.setAttribute('aria-expanded', String(!part.hidden));
    if (!part.hidden) refill(part, fewer(booking, layout, cancel));
  });
  return el('div', {}, el('div', { class: 'actions' }, change, whole), part);
}

/** Chooses what to give back: which, where seats have numbers; else how many. */
function fewer(booking, layout, cancel) {
  const send = el('button', { type: 'button', class: 'button button-danger', disabled: true });
  const say = (count) => {
    send.textContent = count > 0 ? `Give back ${seats(count)}` : 'Give back';
    send.disabled = count === 0;
  };
  const done = (count) =>
    count === 1 ? '1 seat was given back.' : `${count} seats were given back.`;
  if (booking.seat_numbers.length === 0) {
    const count = stepper({
      label: 'Seats to give back',
      value: 1,
      min: 1,
      max: booking.seats - 1,
      onChange: say,
    });
    say(1);
    send.addEventListener('click', () =>
      busyWhile(send, () => cancel({ seats: count.value() }, done(count.value()))),
    );
    return el('div', { class: 'part' }, count.box, send);
  }
  const chosen = new Set();
  const boxes = booking.seat_numbers.map((number) => {
    const toggle = (event) => {
      if (event.target.checked) chosen.add(number);
      else chosen.delete(number);
      say(chosen.size);
    };
    return el(
      'label',
      { class: 'check' },
      el('input', { type: 'checkbox', value: number, on: { change: toggle } }),
      seatName(layout, number),
    );
  });
  say(0);
  send.addEventListener('click', () =>
    busyWhile(send, () => cancel({ seat_numbers: [...chosen] }, done(chosen.size))),
  );
  return el('fieldset', { class: 'part' }, el('legend', {}, 'Which seats?'), boxes, send);
}
