/**
 * What all pages share: the bar at the top (brand, bookings, inbox, account), the banner that says
 * when the connection is gone, and the one socket.
 */

import { openBookings } from './bookings.js';
import { byId, el, icon, refill } from './dom.js';
import { Inbox } from './inbox.js';
import { note } from './announce.js';
import { end, session, user } from './session.js';
import { signIn } from './signin.js';
import { Socket } from './socket.js';

/**
 * @returns {{socket: Socket, inbox: Inbox}}
 */
export function startShell() {
  const socket = new Socket();
  const inbox = new Inbox(socket);
  const show = () => refill(byId('account'), user() ? member(inbox) : visitor());
  inbox.addEventListener('change', () => badge(inbox.unread));
  session.addEventListener('change', () => {
    show();
    socket.stop();
    socket.start();
    inbox.forget();
    inbox.load();
  });
  // A page that comes back from the browser's cache has lost its connection without a word.
  addEventListener('pageshow', (event) => {
    if (!event.persisted) return;
    socket.stop();
    socket.start();
  });
  show();
  socket.start();
  inbox.load();
  return { socket, inbox };
}

function visitor() {
  return el(
    'button',
    {
      type: 'button',
      class: 'button button-primary',
      id: 'sign-in',
      on: { click: () => signIn() },
    },
    'Sign in',
  );
}

function member(inbox) {
  const { name, email } = user();
  const leave = async () => {
    await end();
    note('You are signed out.');
  };
  return [
    tool('my-bookings', 'My bookings', 'ticket', openBookings),
    tool(
      'inbox',
      'Inbox',
      'bell',
      () => inbox.open(),
      el('span', {
        class: 'badge',
        id: 'unread',
        hidden: true,
      }),
    ),
    el(
      'details',
      { class: 'menu' },
      el(
        'summary',
        { class: 'tool', 'aria-label': `Account of ${name}` },
        icon('person'),
        el('span', { class: 'tool-word' }, name),
      ),
      el(
        'div',
        { class: 'menu-body' },
        el('p', {}, el('strong', {}, name)),
        el('p', { class: 'muted' }, email),
        el(
          'button',
          {
            type: 'button',
            class: 'button button-wide',
            id: 'sign-out',
            on: { click: leave },
          },
          'Sign out',
        ),
      ),
    ),
  ];
}

function tool(id, words, picture, open, more = null) {
  return el(
    'button',
    { type: 'button', class: 'tool', id, 'aria-label': words, on: { click: open } },
    icon(picture),
    el('span', { class: 'tool-word' }, words),
    more,
  );
}

function badge(unread) {
  const mark = document.getElementById('unread');
  if (!mark) return;
  mark.hidden = unread === 0;
  mark.textContent = unread > 99 ? '99+' : String(unread);
  byId('inbox').setAttribute('aria-label', unread === 0 ? 'Inbox' : `Inbox, ${unread} unread`);
}

/**
 * Says across the page that something is not as it should be; null: all is well.
 *
 * @param {string | null} text
 */
export function banner(text) {
  const box = byId('banner');
  box.hidden = text === null;
  if (text !== null) refill(box, icon('alert'), el('p', {}, text));
}
