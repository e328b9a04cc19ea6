/**
 * Tells what happened to those who see and to those who listen: a short note at the edge of the
 * page and, at the same time, a live region for screen readers.
 */

import { byId, el, icon } from './dom.js';

/** How long a note stays. */
const SHOWN_MS = 6_000;
/** Most notes at once; the oldest makes room. */
const NOTES_MAX = 3;

/**
 * Says something to screen readers only.
 *
 * @param {string} text
 * @param {'polite' | 'assertive'} [how]
 */
export function say(text, how = 'polite') {
  const region = byId(how === 'assertive' ? 'say-now' : 'say');
  // The same words twice are news twice.
  region.textContent = '';
  requestAnimationFrame(() => {
    region.textContent = text;
  });
}

/**
 * Shows a note and says it.
 *
 * @param {string} text
 * @param {'good' | 'bad' | 'plain'} [mood]
 */
export function note(text, mood = 'plain') {
  const box = byId('notes');
  const picture = { good: 'check', bad: 'alert', plain: 'bell' }[mood];
  const close = el(
    'button',
    {
      type: 'button',
      class: 'note-close',
      'aria-label': 'Dismiss',
      on: { click: () => leave() },
    },
    icon('close'),
  );
  const one = el('div', { class: `note note-${mood}` }, icon(picture), el('p', {}, text), close);
  const leave = () => one.remove();
  box.append(one);
  while (box.children.length > NOTES_MAX) box.firstElementChild.remove();
  setTimeout(leave, SHOWN_MS);
  say(text, mood === 'bad' ? 'assertive' : 'polite');
}
