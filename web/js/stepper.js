/** How many? A number between two buttons that are large enough for thumbs. */

import { el } from './dom.js';

/**
 * @param {{label: string, value: number, min: number, max: number, unit?: string,
 *   onChange?: (value: number) => void}} options
 * @returns {{box: HTMLElement, value: () => number, set: (value: number) => void,
 *   limit: (max: number) => void}}
 */
export function stepper({ label, value, min, max, onChange }) {
  let now = value;
  let most = max;
  const shown = el('output', { class: 'stepper-value', 'aria-live': 'polite' }, value);
  const button = (sign, words, by) =>
    el(
      'button',
      {
        type: 'button',
        class: 'stepper-button',
        'aria-label': words,
        on: { click: () => set(now + by) },
      },
      sign,
    );
  const [fewer, more] = [button('−', 'One fewer', -1), button('+', 'One more', 1)];
  const set = (wanted) => {
    const next = Math.min(Math.max(wanted, min), Math.max(min, most));
    const changed = next !== now;
    now = next;
    shown.textContent = String(now);
    fewer.disabled = now <= min;
    more.disabled = now >= most;
    if (changed) onChange?.(now);
  };
  set(value);
  const box = el(
    'div',
    { class: 'stepper', role: 'group', 'aria-label': label },
    fewer,
    shown,
    more,
  );
  const limit = (next) => {
    most = next;
    set(now);
  };
  return { box, value: () => now, set, limit };
}
