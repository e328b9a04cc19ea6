/**
 * The HTTP API: one function that knows credentials, problems (RFC 9457) and what may be sent
 * again. Whatever creates something carries an Idempotency-Key, so that a repeated request is the
 * same request.
 */

import { accessToken, forgetAccess } from './session.js';

const BASE = '/api/v1';
/** How often a request whose answer got lost is sent again, and how long to wait before. */
const RETRY_DELAYS_MS = [300, 1_000, 2_500];
/** Longest `Retry-After` that is waited for rather than told. */
const PATIENCE_MS = 5_000;
/** How long an answer may take. */
const TIMEOUT_MS = 20_000;

/** What the server said no with, or that it could not be reached (`status` 0). */
export class Problem extends Error {
  /** @param {{status: number, code: string, title?: string, detail?: string}} body a problem */
  constructor(body) {
    super(body.detail || body.title || 'Something went wrong.');
    this.name = 'Problem';
    this.status = body.status;
    this.code = body.code;
    this.title = body.title ?? '';
    /** @type {{pointer: string, code: string, detail: string}[]} */
    this.errors = body.errors ?? [];
    /** @type {number[]} */
    this.unavailable = body.unavailable ?? [];
    this.requestId = body.request_id ?? '';
  }
}

/** A key for one attempt. `randomUUID` would need a secure context, this does not. */
export function attemptKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * Calls the API and gives the parsed answer.
 *
 * @param {string} method
 * @param {string} path below `/api/v1`
 * @param {{body?: any, key?: string, anonymous?: boolean}} [options] `key`: the attempt's key;
 *   `anonymous`: sends no credential
 * @returns {Promise<any>}
 * @throws {Problem}
 */
export async function call(method, path, options = {}) {
  const repeatable = method === 'GET' || method === 'PUT' || options.key !== undefined;
  for (let tries = 0; ; tries += 1) {
    try {
      return await authorized(method, path, options);
    } catch (problem) {
      const delay = RETRY_DELAYS_MS[tries];
      const pause = delay === undefined ? null : pauseFor(problem, delay);
      if (!repeatable || pause === null) throw problem;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

/** How long to wait before this may work, or null: it will not. */
function pauseFor(problem, delay) {
  const passing = [0, 502, 503, 504].includes(problem.status);
  if (!passing && problem.code !== 'request_in_flight') return null;
  const wanted = problem.retryAfterMs ?? 0;
  return wanted > PATIENCE_MS ? null : Math.max(wanted, delay * (0.5 + Math.random()));
}

async function authorized(method, path, options) {
  const token = options.anonymous ? null : await accessToken();
  try {
    return await send(method, path, options, token);
  } catch (problem) {
    if (problem.status !== 401 || !token) throw problem;
    // The token ran out or was revoked: one fresh one, then the answer is final.
    forgetAccess(token);
    const fresh = await accessToken();
    if (!fresh || fresh === token) throw problem;
    return send(method, path, options, fresh);
  }
}

async function send(method, path, { body, key }, token) {
  const headers = { Accept: 'application/json' };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (key) headers['Idempotency-Key'] = key;
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  let text;
  try {
    answer = await fetch(BASE + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: 'no-store',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    text = await answer.text();
  } catch {
    throw new Problem({
      status: 0,
      code: 'unreachable',
      title: 'No connection',
      detail: 'The server cannot be reached. Check your connection and try again.',
    });
  }
  const parsed = parse(text);
  if (answer.ok) return parsed;
  const fallback = { title: 'Something went wrong', code: 'internal' };
  const problem = new Problem({ ...fallback, ...parsed, status: answer.status });
  const after = Number(answer.headers.get('Retry-After'));
  if (after > 0) problem.retryAfterMs = after * 1000;
  throw problem;
}

function parse(text) {
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** All pages of a list, up to `most` items. */
export async function all(path, most = 200) {
  const items = [];
  let cursor = null;
  do {
    const joint = path.includes('?') ? '&' : '?';
    const at = cursor ? `&cursor=${encodeURIComponent(cursor)}` : '';
    const page = await call('GET', `${path}${joint}limit=100${at}`);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && items.length < most);
  return items;
}

const WORDS = {
  unauthenticated: 'Your sign-in has ended. Please sign in again.',
  wrong_credentials: 'E-mail address and password do not belong together.',
  email_taken: 'This e-mail address has an account already. Sign in instead.',
  sold_out: 'There are not enough free seats left.',
  hold_expired: 'Your seats were not held any more. Please pick them again.',
  hold_limit_user: 'You hold as many seats of this event as one person may.',
  hold_limit_address: 'Too many seats are held from where you are. Book or let some go first.',
  hold_limit_event: 'Very many seats are being held right now. Try again in a minute.',
  renewals_exhausted: 'These seats cannot be held any longer. Book them, or let them go.',
  sales_closed: 'Sales are closed for this event.',
  too_many_requests: 'That was a lot at once. Please wait a moment and try again.',
  unavailable: 'We are very busy right now. Nothing was lost; please try again in a moment.',
  internal: 'Something is broken on our side. Nothing is known to be changed; try again.',
};

/** What went wrong, in words for the person in front of the page. */
export function inWords(problem) {
  if (!(problem instanceof Problem)) return 'Something went wrong on this page. Please reload it.';
  if (problem.code === 'seats_unavailable' && problem.unavailable.length > 0) {
    const many = problem.unavailable.length > 1;
    return (
      `${many ? 'Seats' : 'Seat'} ${problem.unavailable.join(', ')} ` +
      `${many ? 'are' : 'is'} not available any more.`
    );
  }
  if (problem.errors.length > 0) {
    return problem.errors.map((one) => `${fieldName(one.pointer)} ${one.detail}.`).join(' ');
  }
  return WORDS[problem.code] ?? sentence(problem.message);
}

/** `/max_seats` → `Max seats` */
export function fieldName(pointer) {
  const last =
    pointer
      .split('/')
      .filter((part) => part && !/^\d+$/.test(part))
      .at(-1) ?? 'Input';
  const words = last.replaceAll('_', ' ');
  return words === 'email' ? 'E-mail' : words[0].toUpperCase() + words.slice(1);
}

const sentence = (text) => {
  const trimmed = text.trim();
  const start = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
};
