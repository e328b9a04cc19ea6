/**
 * Makes elements. Text always becomes text, never markup: the server's policy forbids scripts to
 * parse HTML, so whatever somebody calls an event cannot run in anybody's browser.
 */

const SVG = 'http://www.w3.org/2000/svg';

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * An HTML element. Props are attributes, except `on` (listeners by name) and `data` (data-*);
 * `true` sets an empty attribute, `false`, `null` and `undefined` leave it out.
 *
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElement}
 */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/**
 * The same for SVG.
 *
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...(Child | Child[])} children
 * @returns {SVGElement}
 */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name === 'on') {
      for (const [event, listener] of Object.entries(value)) {
        element.addEventListener(event, listener);
      }
    } else if (name === 'data') {
      Object.assign(element.dataset, value);
    } else if (value === true) {
      element.setAttribute(name, '');
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, String(value));
    }
  }
  put(element, ...children);
  return element;
}

/** Adds children, leaving out what is empty. */
export function put(element, ...children) {
  const list = children.flat().filter((child) => child !== null && child !== undefined);
  element.append(...list.filter((child) => child !== false).map(asNode));
  return element;
}

/** Replaces all children. */
export function refill(element, ...children) {
  element.replaceChildren();
  return put(element, ...children);
}

function asNode(child) {
  return child instanceof Node ? child : String(child);
}

/** The element with this id; pages and scripts are made for each other, so it is there. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/**
 * Runs a button's work once at a time: while it runs the button is busy, so that impatience does
 * not book twice.
 *
 * @param {HTMLElement} button
 * @param {() => Promise<void>} work
 */
export async function busyWhile(button, work) {
  if (button.getAttribute('aria-busy') === 'true') return;
  button.setAttribute('aria-busy', 'true');
  try {
    await work();
  } finally {
    button.removeAttribute('aria-busy');
  }
}

const ICONS = {
  bell:
    'M12 3a6 6 0 0 0-6 6v3.6L4.3 16a.7.7 0 0 0 .6 1h14.2a.7.7 0 0 0 .6-1L18 12.6V9a6 6 0 0 0-6-6Z' +
    'm-2.4 15.500a2.5 2.5 0 0 0 4.8 0Z',
  ticket: 'M3 6h18v4a2 2 0 0 0 0 4v4H3v-4a2 2 0 0 0 0-4Z',
  person:
    'M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8Zm0 9.500c-4 0-7 2-7 4.700V20h14v-1.800c0-2.7-3-4.7-7-4.700Z',
  check: 'M9.2 16.6 4.9 12.300l1.4-1.4 2.9 2.9 8.5-8.5 1.4 1.400Z',
  close:
    'M6.4 5 12 10.6 17.6 5 19 6.4 13.4 12 19 17.6 17.6 19 12 13.4 6.4 19 5 17.6 10.6 12 5 6.400Z',
  clock: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Zm1 9.4 3.2 3.2-1.4 1.400L11 13.200V7h2Z',
  alert: 'M12 3 1.5 21h21Zm-1 7h2v5h-2Zm0 6.500h2v2h-2Z',
};

/** A small picture that says nothing to screen readers: the text beside it does. */
export function icon(name) {
  const shape = svg('path', { d: ICONS[name] });
  return svg('svg', { viewBox: '0 0 24 24', class: 'icon', 'aria-hidden': 'true' }, shape);
}
