/**
 * Windows over the page. The browser's own dialog does the hard parts: it keeps the focus in,
 * gives it back, and closes on Escape; this gives all of them the same head and way out.
 */

import { el, icon, put } from './dom.js';

/**
 * @param {string} title
 * @param {{class?: string, onClose?: () => void}} [options]
 * @returns {{dialog: HTMLDialogElement, body: HTMLElement, close: () => void}}
 */
export function openDialog(title, options = {}) {
  const id = `dialog-${document.querySelectorAll('dialog').length}`;
  const body = el('div', { class: 'dialog-body' });
  const shut = el(
    'button',
    {
      type: 'button',
      class: 'icon-button',
      'aria-label': 'Close',
      on: { click: () => close() },
    },
    icon('close'),
  );
  const head = el('header', { class: 'dialog-head' }, el('h2', { id }, title), shut);
  const dialog = /** @type {HTMLDialogElement} */ (
    el('dialog', {
      class: `dialog ${options.class ?? ''}`,
      'aria-labelledby': id,
    })
  );
  put(dialog, head, body);
  const close = () => dialog.close();
  dialog.addEventListener('close', () => {
    dialog.remove();
    options.onClose?.();
  });
  // A click beside the window closes it; one that began inside it (selecting text) does not.
  dialog.addEventListener('pointerdown', (event) => {
    if (event.target === dialog) close();
  });
  document.body.append(dialog);
  dialog.showModal();
  return { dialog, body, close };
}

/**
 * Asks before something that cannot be undone.
 *
 * @param {string} question
 * @param {string} detail
 * @param {string} yes what the button says
 * @returns {Promise<boolean>}
 */
export function confirm(question, detail, yes) {
  return new Promise((resolve) => {
    let answer = false;
    const { body, close } = openDialog(question, {
      class: 'dialog-small',
      onClose: () => resolve(answer),
    });
    const agree = () => {
      answer = true;
      close();
    };
    put(
      body,
      el('p', {}, detail),
      el(
        'div',
        { class: 'actions' },
        el('button', { type: 'button', class: 'button', on: { click: () => close() } }, 'Keep it'),
        el('button', { type: 'button', class: 'button button-danger', on: { click: agree } }, yes),
      ),
    );
  });
}
