/**
 * Who is signed in. Tokens live in localStorage, all of them in one record:
 *
 * - the sign-in is meant to last over tabs and visits, so the refresh token has to be stored where
 *   all tabs of this origin see it;
 * - the access token (15 minutes) lies beside it rather than in memory. A script that could read it
 *   could use the refresh token as well, so nothing is given away, and pages need no exchange when
 *   they open. That matters: an exchange that a navigation cuts off has spent its token without
 *   having the new one, and a token that comes twice ends the whole sign-in;
 * - against scripts that should not be here stands the policy of the server: none but ours run.
 *
 * Exchanges are serialised over all tabs by a lock; whoever waited finds the fresh record.
 */

const STORED = 'happening.session';
const LOCK = 'happening.refresh';
/** A token that is about to end is exchanged before it does. */
const EARLY_MS = 30_000;

/**
 * @typedef {object} Session
 * @property {{id: string, name: string, email: string, role: string}} user
 * @property {string} access
 * @property {string} refresh
 * @property {number} until when the access token ends, by this machine's clock
 */

/** Fires `change` when somebody has signed in or out, here or in another tab. */
export const session = new EventTarget();

let known = who();

/** @returns {Session | null} */
function stored() {
  try {
    return JSON.parse(localStorage.getItem(STORED) ?? 'null');
  } catch {
    return null;
  }
}

function store(record) {
  if (record) localStorage.setItem(STORED, JSON.stringify(record));
  else localStorage.removeItem(STORED);
  noticed();
}

function noticed() {
  const now = who();
  if (now === known) return;
  known = now;
  session.dispatchEvent(new Event('change'));
}

function who() {
  return stored()?.user.id ?? null;
}

window.addEventListener('storage', (event) => {
  if (event.key === STORED || event.key === null) noticed();
});

/** The signed-in person, or null. */
export const user = () => stored()?.user ?? null;

/** Takes what a sign-up, a sign-in or an exchange answered. */
export function begin(answer) {
  store({
    user: answer.user,
    access: answer.access_token,
    refresh: answer.refresh_token,
    until: Date.now() + answer.expires_in * 1000,
  });
}

/** Ends the sign-in here, and on the server if it can be reached. */
export async function end() {
  const record = stored();
  store(null);
  if (!record) return;
  await post('/api/v1/auth/logout', record.refresh).catch(() => {});
}

/** A token that is good for a while, or null when nobody is signed in. */
export async function accessToken() {
  const record = stored();
  if (!record) return null;
  if (record.until - EARLY_MS > Date.now()) return record.access;
  return exclusively(exchange);
}

/** The server did not take this token: the next call exchanges it, unless another tab just did. */
export function forgetAccess(token) {
  const record = stored();
  if (record?.access === token) store({ ...record, until: 0 });
}

async function exchange() {
  const record = stored();
  if (!record || record.until - EARLY_MS > Date.now()) return record?.access ?? null;
  const answer = await post('/api/v1/auth/refresh', record.refresh).catch(() => null);
  if (answer?.status === 200) {
    begin(await answer.json());
  } else if (answer?.status === 401) {
    store(null);
  }
  // Else the server is away: the old token may still do, and the sign-in stands.
  return stored()?.access ?? null;
}

function post(path, refreshToken) {
  return fetch(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ refresh_token: refreshToken }),
    // The answer may come while the page is being left.
    keepalive: true,
  });
}

let running = null;

function exclusively(work) {
  // Without a secure context there are no locks between tabs; within this one there is this.
  if (!navigator.locks) {
    running ??= work().finally(() => {
      running = null;
    });
    return running;
  }
  return navigator.locks.request(LOCK, work);
}
