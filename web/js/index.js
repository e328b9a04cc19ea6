/** The list of events: what is on, found by its words. */

import { call, inWords } from './api.js';
import { say } from './announce.js';
import { byId, el, put, refill } from './dom.js';
import { number, seats } from './format.js';
import { startShell } from './shell.js';

/** Typing settles before we ask. */
const TYPING_MS = 220;
const PAGE = 24;

startShell();

const list = byId('events');
const search = /** @type {HTMLInputElement} */ (byId('search'));
const more = byId('more');
let asked = 0;
let cursor = null;

async function load({ further = false } = {}) {
  const turn = (asked += 1);
  const query = search.value.trim();
  const params = new URLSearchParams({ limit: String(PAGE) });
  if (query) params.set('query', query);
  if (further && cursor) params.set('cursor', cursor);
  if (!query) params.set('from', new Date(Date.now() - 6 * 3_600_000).toISOString());
  list.setAttribute('aria-busy', 'true');
  try {
    const page = await call('GET', `/events?${params}`);
    // A later question has overtaken this one.
    if (turn !== asked) return;
    const cards = page.items.map(card);
    if (further) put(list, ...cards);
    else refill(list, cards.length > 0 ? cards : empty(query));
    cursor = page.next_cursor;
    more.hidden = !cursor;
    if (query) say(cards.length === 1 ? '1 event found' : `${cards.length} events found`);
  } catch (problem) {
    if (turn === asked) refill(list, failed(problem));
  } finally {
    if (turn === asked) list.removeAttribute('aria-busy');
  }
}

function card(event) {
  const at = new Date(event.starts_at);
  const month = at.toLocaleDateString(undefined, { month: 'short' });
  const time = at.toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' });
  const weekday = at.toLocaleDateString(undefined, { weekday: 'long' });
  return el(
    'li',
    {},
    el(
      'a',
      { class: 'card event-card', href: `/events/${event.id}` },
      el(
        'time',
        { class: 'date', datetime: event.starts_at },
        el('span', { class: 'date-month' }, month),
        el('span', { class: 'date-day' }, at.getDate()),
      ),
      el(
        'div',
        { class: 'event-card-text' },
        el('h2', {}, event.title),
        el(
          'p',
          { class: 'muted' },
          [`${weekday}, ${time}`, event.venue].filter(Boolean).join(' · '),
        ),
        el(
          'p',
          { class: 'event-card-foot' },
          stock(event),
          event.category ? el('span', { class: 'chip' }, event.category) : null,
        ),
      ),
    ),
  );
}

function stock(event) {
  if (event.status !== 'published')
    return el('span', { class: 'chip chip-cancelled' }, event.status);
  if (event.available_slots === 0) {
    return el('span', { class: 'chip chip-waitlisted' }, 'Sold out · waitlist open');
  }
  const few = event.available_slots <= Math.max(5, event.capacity / 20);
  const left = `${seats(event.available_slots)} left`;
  return few
    ? el('span', { class: 'chip chip-few' }, `Only ${left}`)
    : el(
        'span',
        { class: 'free' },
        `${number(event.available_slots)} of ${seats(event.capacity)} free`,
      );
}

const empty = (query) =>
  el(
    'li',
    { class: 'empty' },
    el('p', {}, query ? `Nothing found for “${query}”.` : 'Nothing is on sale at the moment.'),
    query
      ? el(
          'button',
          {
            type: 'button',
            class: 'button',
            on: {
              click: () => {
                search.value = '';
                load();
                search.focus();
              },
            },
          },
          'Show all events',
        )
      : null,
  );

const failed = (problem) =>
  el(
    'li',
    { class: 'empty', role: 'alert' },
    el('p', {}, inWords(problem)),
    el('button', { type: 'button', class: 'button', on: { click: () => load() } }, 'Try again'),
  );

let typing;
search.addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(load, TYPING_MS);
});
byId('search-form').addEventListener('submit', (event) => {
  event.preventDefault();
  clearTimeout(typing);
  load();
});
more.addEventListener('click', () => load({ further: true }));
load();
