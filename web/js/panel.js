/**
 * The box beside the seat map in which somebody books: choose, look over, book, done. It is drawn
 * anew only when what it says has changed, and keeps the focus where it was; the countdown is
 * updated by itself.
 */

import { busyWhile, el, icon, refill } from './dom.js';
import { say } from './announce.js';
import { countdown, number, seats, spokenDuration } from './format.js';
import { seatName, seatNames } from './layout.js';
import { stepper } from './stepper.js';
import { user } from './session.js';

/** Moments (seconds left) at which the countdown is said aloud. */
const SAID_AT = [60, 30, 10];
/** From here on the countdown looks urgent. */
const URGENT_MS = 30_000;

/**
 * @typedef {object} Acts what the panel's buttons do
 * @property {() => Promise<void>} book the chosen seats
 * @property {(count: number) => Promise<void>} bookCount any seats, so many
 * @property {(count: number) => Promise<void>} wait for so many
 * @property {(count: number, category: string | null) => Promise<void>} best
 * @property {() => Promise<void>} renew
 * @property {() => Promise<void>} release
 * @property {(seat: number) => void} drop
 * @property {() => void} again
 * @property {() => void} bookings
 */

export class Panel {
  /**
   * @param {HTMLElement} box
   * @param {{event: any, layout: import('./layout.js').Layout, live: import('./live.js').Live,
   *   holds: import('./holds.js').Holds, acts: Acts}} parts
   */
  constructor(box, parts) {
    Object.assign(this, parts, { box });
    /** The booking that was just made, until something else is chosen. */
    this.outcome = null;
    this.count = Math.min(2, this.most);
    setInterval(() => this.tick(), 250);
  }

  get numbered() {
    return this.event.seating === 'numbered';
  }

  get most() {
    return this.event.max_seats_per_booking;
  }

  /** Draws it if what it says has changed. */
  update() {
    const { holds, live } = this;
    const key = JSON.stringify([
      this.outcome?.id,
      [...holds.wanted],
      holds.state,
      holds.renewalsLeft,
      user()?.id,
      live.seats.available === 0,
      this.numbered ? null : live.seats.available,
      this.closed(),
      this.count > live.seats.available,
    ]);
    if (key === this.drawn) return;
    this.drawn = key;
    const focused = this.box.contains(document.activeElement) ? document.activeElement.id : '';
    const chosen = holds.wanted.size > 0;
    this.box.dataset.mode = chosen ? 'chosen' : this.outcome ? 'done' : 'choose';
    refill(this.box, this.content(chosen));
    if (focused) (document.getElementById(focused) ?? this.box).focus({ preventScroll: true });
    this.tick();
  }

  content(chosen) {
    if (chosen) return this.chosen();
    if (this.outcome) return this.done(this.outcome);
    const closed = this.closed();
    if (closed) return el('div', { class: 'panel-note' }, icon('clock'), el('p', {}, closed));
    if (this.live.seats.available === 0) return this.soldOut();
    return this.numbered ? this.chooseSeats() : this.chooseCount();
  }

  /** Why nothing can be booked, or null. */
  closed() {
    const { event } = this;
    const now = this.live.now();
    if (event.status === 'cancelled') {
      return `This event is cancelled.${event.cancel_reason ? ` ${event.cancel_reason}` : ''}`;
    }
    if (event.status === 'completed') return 'This event is over.';
    if (event.status === 'draft') return 'This is a draft: nobody can book yet.';
    if (event.sales_open_at && Date.parse(event.sales_open_at) > now) {
      return `Sales open on ${new Date(event.sales_open_at).toLocaleString()}.`;
    }
    if (event.sales_close_at && Date.parse(event.sales_close_at) <= now) return 'Sales are closed.';
    return null;
  }

  chooseSeats() {
    const { categories } = this.layout;
    const count = this.howMany();
    const category =
      categories.length > 1
        ? el(
            'select',
            { id: 'best-category' },
            el('option', { value: '' }, 'Anywhere'),
            categories.map((name) => el('option', { value: name }, name)),
          )
        : null;
    const find = this.button('best', 'Find the best seats', 'button button-wide', () =>
      this.acts.best(count.value(), category?.value || null),
    );
    return [
      el('h2', {}, 'Choose your seats'),
      el(
        'p',
        { class: 'muted' },
        `Tap free seats on the map, up to ${this.most}. We hold them for ` +
          'you while you decide.',
      ),
      el('div', { class: 'divider' }, 'or let us choose'),
      el(
        'div',
        { class: 'row' },
        count.box,
        category
          ? el(
              'label',
              { class: 'grow' },
              el('span', { class: 'visually-hidden' }, 'Category'),
              category,
            )
          : el('span', { class: 'muted grow' }, 'seats together'),
      ),
      find,
    ];
  }

  chooseCount() {
    const free = this.live.seats.available;
    const count = this.howMany();
    const enough = this.count <= free;
    const book = enough
      ? this.button('book', `Book ${seats(this.count)}`, 'button button-primary button-wide', () =>
          this.acts.bookCount(this.count),
        )
      : this.button(
          'wait',
          `Join the waitlist for ${seats(this.count)}`,
          'button button-primary button-wide',
          () => this.acts.wait(this.count),
        );
    return [
      el('h2', {}, 'How many seats?'),
      el(
        'div',
        { class: 'row' },
        count.box,
        el('span', { class: 'muted grow' }, `${number(free)} left`),
      ),
      enough
        ? null
        : el(
            'p',
            { class: 'muted' },
            `Only ${seats(free)} left. On the waitlist you ` + 'get yours when enough come back.',
          ),
      book,
      user() ? null : el('p', { class: 'muted small' }, 'You sign in in the next step.'),
    ];
  }

  soldOut() {
    const count = this.howMany();
    return [
      el('h2', {}, 'Sold out'),
      el(
        'p',
        { class: 'muted' },
        this.live.seats.held.size > 0
          ? 'Some seats are only held and may come back any moment. Or wait in line: you get ' +
              'as soon as enough are free.'
          : 'Seats come back when somebody cancels. In line you get them without doing anything.',
      ),
      el('div', { class: 'row' }, count.box, el('span', { class: 'muted grow' }, 'seats')),
      this.button('wait', 'Join the waitlist', 'button button-primary button-wide', () =>
        this.acts.wait(this.count),
      ),
    ];
  }

  chosen() {
    const { holds, layout } = this;
    const picked = [...holds.wanted].sort((a, b) => a - b);
    const chips = picked.map((seat) =>
      el(
        'li',
        {},
        el(
          'button',
          {
            type: 'button',
            class: holds.isPending(seat) ? 'seat-chip is-pending' : 'seat-chip',
            id: `chip-${seat}`,
            'aria-label': `Let go of ${seatName(layout, seat)}`,
            on: { click: () => this.acts.drop(seat) },
          },
          seatName(layout, seat),
          icon('close'),
        ),
      ),
    );
    const signedIn = user() !== null;
    const words = signedIn ? `Book ${seats(picked.length)}` : `Hold ${seats(picked.length)}`;
    const book = this.button('book', words, 'button button-primary', () => this.acts.book());
    if (holds.state === 'asking') book.disabled = true;
    return [
      el('h2', {}, picked.length === 1 ? 'Your seat' : `Your ${picked.length} seats`),
      el('ul', { class: 'seat-chips' }, chips),
      this.timer(),
      el(
        'div',
        { class: 'chosen-actions' },
        book,
        this.button('release', 'Let go', 'button button-quiet', () => this.acts.release()),
      ),
    ];
  }

  timer() {
    const { holds } = this;
    if (holds.state === 'picked') {
      return el(
        'p',
        { class: 'muted' },
        holds.broken
          ? 'Seats cannot be held at the moment. They are yours once you have booked.'
          : 'Not held yet: sign in, and they are.',
      );
    }
    if (holds.left === null) return el('p', { class: 'muted' }, 'Reserving…');
    this.clock = el('strong', { class: 'clock', id: 'clock', role: 'timer' });
    this.bar = el('div', { class: 'clock-bar' });
    this.longest = Math.max(this.longest ?? 0, holds.left);
    const renewals = holds.renewalsLeft;
    const renew =
      renewals === 0
        ? null
        : this.button('renew', 'Keep longer', 'button button-quiet', () => this.acts.renew());
    return el(
      'div',
      { class: 'timer' },
      el(
        'div',
        { class: 'timer-line' },
        icon('clock'),
        el('span', {}, 'Held for you ', this.clock),
        renew,
      ),
      el('div', { class: 'clock-track', 'aria-hidden': 'true' }, this.bar),
    );
  }

  done(booking) {
    const waiting = booking.status === 'waitlisted';
    const which =
      booking.seat_numbers.length > 0
        ? seatNames(this.layout, booking.seat_numbers)
        : seats(booking.seats);
    return el(
      'div',
      { class: `outcome outcome-${booking.status}`, id: 'outcome', tabindex: '-1' },
      el('div', { class: 'outcome-mark' }, icon(waiting ? 'clock' : 'check')),
      el('h2', {}, waiting ? 'You are on the waitlist' : 'Booked'),
      el(
        'p',
        { class: 'outcome-seats' },
        waiting
          ? `You wait for ${seats(booking.seats)}. We tell you as soon as you have a place.`
          : `${which} ${booking.seats === 1 ? 'is' : 'are'} yours.`,
      ),
      el(
        'div',
        { class: 'actions' },
        el(
          'button',
          {
            type: 'button',
            class: 'button',
            id: 'again',
            on: { click: () => this.acts.again() },
          },
          waiting ? 'Done' : 'Book more',
        ),
        el(
          'button',
          {
            type: 'button',
            class: 'button',
            id: 'to-bookings',
            on: { click: this.acts.bookings },
          },
          'My bookings',
        ),
      ),
    );
  }

  howMany() {
    return stepper({
      label: 'How many seats',
      value: this.count,
      min: 1,
      max: this.most,
      onChange: (count) => {
        this.count = count;
        // A number of seats changes what the button says.
        if (!this.numbered) {
          this.drawn = null;
          const minus = document.activeElement?.getAttribute('aria-label');
          this.update();
          this.box.querySelector(`[aria-label="${minus}"]`)?.focus();
        }
      },
    });
  }

  button(id, words, look, work) {
    const one = el('button', { type: 'button', class: look, id }, words);
    one.addEventListener('click', () => busyWhile(one, work));
    return one;
  }

  tick() {
    const { left } = this.holds;
    if (left === null || !this.clock?.isConnected) {
      if (left === null) this.longest = 0;
      return;
    }
    this.clock.textContent = countdown(left);
    this.bar.style.inlineSize = `${Math.min(100, (left / this.longest) * 100)}%`;
    this.box.classList.toggle('is-urgent', left < URGENT_MS);
    const seconds = Math.ceil(left / 1000);
    if (SAID_AT.includes(seconds) && this.said !== seconds) {
      this.said = seconds;
      say(`Your seats are held for ${spokenDuration(left)} more.`);
    }
  }

  /** Shows what came of a booking. */
  show(booking) {
    this.outcome = booking;
    this.drawn = null;
    this.update();
    document.getElementById('outcome')?.focus();
  }

  /** Back to choosing. */
  again() {
    this.outcome = null;
    this.update();
  }
}
