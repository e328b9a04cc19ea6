/**
 * One event: its facts, its seats live, and booking them. This file puts the parts together; what
 * each of them does is in its own file.
 */

import { note, say } from './announce.js';
import { call, inWords, Problem } from './api.js';
import { Attempts } from './booking.js';
import { bookingCard, openBookings, ownBookings } from './bookings.js';
import { byId, el, put, refill, svg } from './dom.js';
import { list, number, seats, span } from './format.js';
import { Holds } from './holds.js';
import { layOut, seatName, seatNames } from './layout.js';
import { Live } from './live.js';
import { Panel } from './panel.js';
import { SeatMap, shapeOf } from './seatmap.js';
import { session, user } from './session.js';
import { banner, startShell } from './shell.js';
import { signIn } from './signin.js';

/** A lost connection that comes back at once is not worth a word. */
const BANNER_AFTER_MS = 1_500;
/** After a burst of changes one look at the event's numbers is enough. */
const FACTS_MS = 1_200;

const LEGEND = [
  ['free', 'Free'],
  ['mine', 'Yours'],
  ['held', 'Held by others'],
  ['taken', 'Taken'],
  ['booked', 'Booked by you'],
];

const eventId = location.pathname.split('/')[2];
const { socket, inbox } = startShell();
const attempts = new Attempts();
open();

async function open() {
  try {
    const [event, view] = await Promise.all([
      call('GET', `/events/${eventId}?include=map`),
      call('GET', `/events/${eventId}/seats`),
    ]);
    start(event, view);
  } catch (problem) {
    const gone = problem instanceof Problem && problem.status === 404;
    refill(
      byId('event'),
      el(
        'div',
        { class: 'empty', role: 'alert' },
        el('h1', {}, gone ? 'There is no such event' : 'This did not work'),
        el('p', {}, gone ? 'It may have been a draft, or the address is wrong.' : inWords(problem)),
        gone
          ? el('a', { class: 'button', href: '/' }, 'See what is on')
          : el('button', { type: 'button', class: 'button', on: { click: open } }, 'Try again'),
      ),
    );
  }
}

function start(event, view) {
  const layout = layOut(event.seat_map, event.capacity);
  const live = new Live(eventId, socket, () => holds.token);
  const holds = new Holds(eventId, socket, () => live.now());
  const page = { event, layout, live, holds };
  drawFrame(page);
  page.panel = new Panel(byId('panel'), { ...page, acts: acts(page) });
  if (event.seating === 'numbered') drawMap(page);
  listen(page);
  live.start(view);
  page.panel.update();
  refreshOwn(page);
  byId('event').removeAttribute('aria-busy');
}

/** The parts of the page that stay. */
function drawFrame({ event }) {
  document.title = `${event.title} · Happening`;
  const numbered = event.seating === 'numbered';
  refill(
    byId('event'),
    el(
      'header',
      { class: 'event-head' },
      el('a', { href: '/', class: 'back' }, '‹ All events'),
      el('h1', {}, event.title),
      el(
        'p',
        { class: 'event-facts' },
        span(event.starts_at, event.ends_at),
        event.venue ? el('span', { class: 'event-venue' }, event.venue) : null,
      ),
      el('p', { id: 'stock', class: 'stock' }),
    ),
    el(
      'div',
      { class: 'event-body' },
      numbered ? mapFrame() : about(event),
      el(
        'aside',
        { class: 'side' },
        el('section', {
          id: 'panel',
          class: 'card panel',
          'aria-label': 'Book',
          tabindex: '-1',
        }),
        el('section', { id: 'own', class: 'own', 'aria-label': 'Your bookings', hidden: true }),
      ),
    ),
    numbered ? about(event) : null,
  );
}

function about({ description }) {
  const paragraphs = (description ?? '').split(/\n{2,}/).filter(Boolean);
  return el(
    'section',
    { class: 'about' },
    paragraphs.length > 0 ? el('h2', {}, 'About') : null,
    paragraphs.map((text) => el('p', {}, text)),
  );
}

function mapFrame() {
  const sample = (state) =>
    svg(
      'svg',
      {
        viewBox: '-12 -12 24 24',
        class: 'sample',
        'aria-hidden': 'true',
      },
      svg('path', { d: shapeOf(state), class: `seat seat-${state}`, 'fill-rule': 'evenodd' }),
    );
  const zoom = (id, sign, words) =>
    el(
      'button',
      {
        type: 'button',
        id,
        class: 'map-button',
        'aria-label': words,
      },
      sign,
    );
  return el(
    'section',
    { class: 'card map-card', 'aria-label': 'Seat map' },
    el(
      'ul',
      { class: 'legend' },
      LEGEND.map(([state, words]) => el('li', {}, sample(state), words)),
    ),
    el('div', { class: 'categories', id: 'categories', role: 'group', 'aria-label': 'Show' }),
    el(
      'div',
      { class: 'map-box' },
      el('p', { class: 'stage', id: 'stage', 'aria-hidden': 'true' }, 'Front'),
      svg('svg', {
        id: 'map',
        class: 'map',
        role: 'grid',
        'aria-label': 'Seats',
        'aria-multiselectable': 'true',
        'aria-describedby': 'map-help',
        preserveAspectRatio: 'xMidYMid meet',
      }),
    ),
    el(
      'div',
      { class: 'map-foot' },
      el(
        'p',
        { id: 'map-help', class: 'muted small map-help' },
        'Arrow keys move between seats, space picks one, + and − zoom.',
      ),
      el(
        'div',
        { class: 'map-tools' },
        zoom('zoom-out', '−', 'Zoom out'),
        zoom('zoom-in', '+', 'Zoom in'),
        zoom('zoom-fit', 'All', 'Show all seats'),
      ),
    ),
  );
}

function drawMap(page) {
  const { layout, live, holds } = page;
  const state = (seat) => {
    const known = live.seats.status(seat);
    if (known === 'booked' || known === 'taken') return known;
    if (holds.held.has(seat) && holds.wanted.has(seat)) return 'mine';
    if (holds.wanted.has(seat)) return user() && !holds.broken ? 'pending' : 'mine';
    return known === 'mine' ? 'free' : known;
  };
  page.map = new SeatMap(byId('map'), layout, state, (seat) => pick(page, seat, state(seat)));
  // A stage before the seats is the strip above the map; one among them is drawn there.
  const { stage } = layout;
  if (stage) byId('stage').textContent = 'Stage';
  byId('stage').hidden = stage !== null && stage.y > 0;
  const zoom = page.map.panZoom;
  byId('zoom-in').addEventListener('click', () => zoom.nearer());
  byId('zoom-out').addEventListener('click', () => zoom.farther());
  byId('zoom-fit').addEventListener('click', () => zoom.fit());
  drawCategories(page);
}

function drawCategories({ layout, map }) {
  if (layout.categories.length < 2) return;
  const show = (event) => {
    const pressed = event.currentTarget.getAttribute('aria-pressed') === 'true';
    for (const other of byId('categories').children) other.setAttribute('aria-pressed', 'false');
    event.currentTarget.setAttribute('aria-pressed', String(!pressed));
    map.emphasise(pressed ? null : event.currentTarget.dataset.category);
  };
  put(
    byId('categories'),
    layout.categories.map((name, index) =>
      el(
        'button',
        {
          type: 'button',
          class: 'category',
          'aria-pressed': 'false',
          data: { category: name, shade: index % 6 },
          on: { click: show },
        },
        name,
      ),
    ),
  );
}

/** A seat on the map was chosen, or tried to be. */
function pick({ event, layout, holds, panel }, seat, state) {
  const name = seatName(layout, seat);
  if (state === 'booked') return note(`${name} is booked by you already.`);
  if (state === 'taken') return note(`${name} is taken.`);
  if (state === 'held') return note(`${name} is held by somebody else. It may come back.`);
  if (panel.closed()) return note(panel.closed());
  const most = event.max_seats_per_booking;
  if (!holds.wanted.has(seat) && holds.wanted.size >= most) {
    return note(`One booking may have ${seats(most)}.`);
  }
  const kept = !holds.wanted.has(seat);
  panel.outcome = null;
  holds.toggle(seat);
  return say(kept ? `${name} chosen. ${seats(holds.wanted.size)} in all.` : `${name} let go.`);
}

function listen(page) {
  const { live, holds, layout, panel } = page;
  live.addEventListener('seats', (event) => {
    page.map?.update(event.detail);
    showStock(page);
    panel.update();
    clearTimeout(page.factsSoon);
    page.factsSoon = setTimeout(() => refreshFacts(page), FACTS_MS);
  });
  live.addEventListener('mine', (event) => holds.resume(event.detail));
  live.addEventListener('frame', (event) => holds.frame(event.detail));
  live.addEventListener('status', () => {
    clearTimeout(page.bannerSoon);
    page.bannerSoon = setTimeout(() => showStatus(live), BANNER_AFTER_MS);
    if (live.status === 'live') showStatus(live);
  });
  holds.addEventListener('change', () => {
    const changed = live.seats.own(holds.held);
    page.map?.update(new Set([...changed, ...holds.wanted, ...(page.shown ?? [])]));
    page.shown = new Set(holds.wanted);
    panel.update();
  });
  holds.addEventListener('trouble', ({ detail }) => {
    const names = list(detail.seats.map((seat) => seatName(layout, seat)));
    const verb = detail.seats.length === 1 ? 'was' : 'were';
    note(detail.text ?? `${names} ${verb} just taken by somebody else.`, 'bad');
  });
  holds.addEventListener('expired', ({ detail }) => {
    note(
      `Your time for ${seatNames(layout, detail)} is over. Others can have them now; pick ` +
        'again if they are still free.',
      'bad',
    );
  });
  inbox.addEventListener('news', ({ detail }) => {
    if (detail.event_id === eventId) refreshOwn(page);
  });
  session.addEventListener('change', () => {
    if (user()) holds.claim();
    else holds.done();
    refreshOwn(page);
    panel.update();
  });
}

function showStatus(live) {
  banner(
    {
      live: null,
      slow: 'The live connection is interrupted; seats update a little later. Reconnecting…',
      away: 'No connection. What you see may be old. Reconnecting…',
    }[live.status],
  );
}

function showStock({ event, live }) {
  const { available, total } = live.seats;
  const waiting = event.waitlist_length;
  refill(
    byId('stock'),
    el('strong', { class: available === 0 ? 'none' : '' }, number(available)),
    ` of ${seats(total)} free`,
    waiting > 0 ? ` · ${number(waiting)} ${waiting === 1 ? 'party waits' : 'parties wait'}` : '',
  );
}

/** Numbers that no seat tells: how many wait, whether sales go on. */
async function refreshFacts(page) {
  const fresh = await call('GET', `/events/${eventId}`).catch(() => null);
  if (!fresh) return;
  Object.assign(page.event, fresh, { seat_map: page.event.seat_map });
  showStock(page);
  page.panel.update();
  if (page.waits) refreshOwn(page);
}

/** What the caller has of this event already. */
async function refreshOwn(page) {
  const box = byId('own');
  const mine = user() ? await ownBookings(eventId).catch(() => null) : [];
  if (mine === null) return;
  page.map?.update(page.live.seats.ownBooked(mine.flatMap((one) => one.seat_numbers)));
  // What has not changed stays as it is: somebody may be in the middle of giving seats back.
  const known = JSON.stringify(mine);
  if (known === page.ownKnown) {
    page.ownCards.forEach((one) => one.refresh());
    return;
  }
  page.ownKnown = known;
  box.hidden = mine.length === 0;
  const onChange = () => {
    refreshOwn(page);
    if (!page.live.joined) page.live.refresh().catch(() => {});
  };
  const { event, layout } = page;
  page.ownCards = mine.map((booking) => bookingCard({ booking, event, layout, onChange }));
  const cards = page.ownCards.map((one) => one.card);
  refill(box, el('h2', {}, 'Your bookings'), cards);
  page.waits = mine.some((one) => one.status === 'waitlisted');
}

/** What the panel's buttons do. */
function acts(page) {
  const { holds, live, layout } = page;
  const book = async (wish) => {
    try {
      const booking = await attempts.book({ event_id: eventId, ...wish });
      holds.done();
      page.panel.show(booking);
      say(booking.status === 'confirmed' ? 'Booked.' : 'You are on the waitlist.', 'assertive');
      page.map?.update(live.seats.ownBooked([...live.seats.booked, ...booking.seat_numbers]));
    } catch (problem) {
      await failed(page, problem);
      return;
    }
    await Promise.all([refreshOwn(page), live.joined ? null : live.refresh().catch(() => {})]);
  };
  const signedIn = async (why) => user() !== null || signIn(why);
  return {
    async book() {
      if (!user()) {
        // Then they are held, and there is time to look again.
        await signedIn('Sign in, and we hold these seats for you while you decide.');
        return;
      }
      const wish = { seat_numbers: [...holds.wanted].sort((a, b) => a - b), waitlist: false };
      await book(holds.token ? { ...wish, hold_token: holds.token } : wish);
    },
    async bookCount(count) {
      if (await signedIn('Sign in to book.')) await book({ seats: count, waitlist: false });
    },
    async wait(count) {
      if (await signedIn('Sign in to join the waitlist.')) await book({ seats: count });
    },
    async best(count, category) {
      if (!(await signedIn('Sign in, and we hold the best seats for you.'))) return;
      try {
        await holds.best(count, category);
        page.map.reveal([...holds.held]);
        note(`${seatNames(layout, [...holds.held])}: held for you.`, 'good');
      } catch (problem) {
        note(inWords(problem), 'bad');
      }
    },
    renew: () => holds.renew().catch((problem) => note(inWords(problem), 'bad')),
    release: () => holds.release(),
    drop: (seat) => holds.toggle(seat),
    again: () => page.panel.again(),
    bookings: openBookings,
  };
}

/** A booking was refused: say why, and make the page true again. */
async function failed({ holds, live, layout }, problem) {
  if (problem.code === 'seats_unavailable') {
    const gone = problem.unavailable;
    note(
      `${list(gone.map((seat) => seatName(layout, seat)))} ` +
        `${gone.length === 1 ? 'is' : 'are'} not available any more. Nothing was booked.`,
      'bad',
    );
    holds.want([...holds.wanted].filter((seat) => !gone.includes(seat)));
  } else if (problem.code === 'hold_expired') {
    holds.expire([...holds.held]);
    note(inWords(problem), 'bad');
  } else {
    note(inWords(problem), 'bad');
  }
  if (!live.joined) await live.refresh().catch(() => {});
}
