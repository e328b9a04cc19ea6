/**
 * The inbox: what happened to the caller's bookings while they looked elsewhere. It fills live over
 * the socket; while there is none it asks now and then. Opening it marks what is shown as read.
 */

import { attemptKey, call, inWords } from './api.js';
import { note } from './announce.js';
import { openDialog } from './dialog.js';
import { el, refill } from './dom.js';
import { ago } from './format.js';
import { user } from './session.js';

const SHOWN = 30;
/** How often to ask while the socket is away. */
const POLL_MS = 10_000;

/** Events: `change` (the number of unread ones), `news` (detail: a notification that just came). */
export class Inbox extends EventTarget {
  /** @param {import('./socket.js').Socket} socket */
  constructor(socket) {
    super();
    this.socket = socket;
    this.items = [];
    this.unread = 0;
    this.loaded = false;
    socket.addEventListener('frame', (event) => {
      const frame = event.detail;
      if (frame.type === 'notification') this.arrived([frame.notification ?? frame]);
    });
    // Whatever came while the line was down is in the inbox.
    socket.addEventListener('open', () => this.load());
    setInterval(() => {
      const away = socket.state !== 'open' && document.visibilityState === 'visible';
      if (away && user()) this.load();
    }, POLL_MS);
  }

  /** Reads it from the server; what is new since the last time is news. */
  async load() {
    if (!user()) {
      this.forget();
      return;
    }
    try {
      const [page, unread] = await Promise.all([
        call('GET', `/me/notifications?limit=${SHOWN}`),
        call('GET', '/me/notifications?unread=true&limit=100'),
      ]);
      const fresh = this.loaded ? page.items.filter((one) => !this.knows(one.id)) : [];
      this.items = page.items;
      this.loaded = true;
      this.count(unread.items.length);
      fresh.reverse().forEach((one) => this.tell(one));
    } catch {
      // It comes again with the next look.
    }
  }

  /** What the socket brought. */
  arrived(items) {
    for (const item of items.filter((one) => one.id && !this.knows(one.id))) {
      this.items = [item, ...this.items].slice(0, SHOWN);
      this.count(this.unread + 1);
      this.tell(item);
    }
    if (this.list?.isConnected) this.show();
  }

  knows(id) {
    return this.items.some((one) => one.id === id);
  }

  tell(item) {
    note(item.title, item.type?.includes('cancelled') ? 'plain' : 'good');
    this.dispatchEvent(new CustomEvent('news', { detail: item }));
  }

  count(unread) {
    this.unread = unread;
    this.dispatchEvent(new Event('change'));
  }

  forget() {
    this.items = [];
    this.loaded = false;
    this.count(0);
  }

  /** Opens the window. */
  async open() {
    const { body } = openDialog('Inbox', { class: 'drawer' });
    this.list = body;
    refill(body, el('p', { class: 'muted' }, 'Looking…'));
    await this.load();
    this.show();
  }

  show() {
    const now = Date.now();
    const items = this.items.map((one) =>
      el(
        'li',
        { class: one.read_at ? '' : 'unread' },
        el(
          'div',
          { class: 'inbox-head' },
          el('strong', {}, one.title),
          el('time', { class: 'muted', datetime: one.created_at }, ago(one.created_at, now)),
        ),
        el('p', {}, one.body),
        one.event_id ? el('a', { href: `/events/${one.event_id}` }, 'See the event') : null,
      ),
    );
    refill(
      this.list,
      items.length > 0
        ? el('ul', { class: 'inbox' }, items)
        : el(
            'div',
            { class: 'empty' },
            el('p', {}, 'Nothing yet. News about your bookings comes here.'),
          ),
    );
    this.markRead();
  }

  async markRead() {
    const newest = this.items[0];
    if (!newest || this.unread === 0) return;
    try {
      const body = { up_to: newest.id };
      const { unread } = await call('POST', '/me/notifications/read', { body, key: attemptKey() });
      // What is on the screen keeps its mark until it is opened again: one sees what was new.
      this.items = this.items.map((one) => ({ ...one, read_at: one.read_at ?? one.created_at }));
      this.count(unread);
    } catch (problem) {
      note(inWords(problem), 'bad');
    }
  }
}
