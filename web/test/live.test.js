/** How the page gets into an event's room, and stays there. */

import assert from 'node:assert/strict';
import test from 'node:test';

// What the page's surroundings are to the modules.
globalThis.localStorage = { getItem: () => null };
globalThis.window = new EventTarget();
const { Live } = await import('../js/live.js');

class Socket extends EventTarget {
  state = 'open';
  said = [];

  send(frame) {
    this.said.push(frame);
  }

  hear(frame) {
    this.dispatchEvent(Object.assign(new Event('frame'), { detail: frame }));
  }
}

test('who could not be let in asks again, until the seats come', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const socket = new Socket();
  const live = new Live('event', socket, () => null);
  live.consider = () => {};
  live.join();
  for (let round = 1; round <= 3; round += 1) {
    socket.hear({ type: 'error', code: 'unavailable', event_id: 'event' });
    assert.equal(socket.said.length, round, 'not at once');
    context.mock.timers.tick(2_000);
    assert.deepEqual(socket.said.at(-1), { type: 'join', event_id: 'event' });
    assert.equal(socket.said.length, round + 1);
  }
  // An answer to somebody else's question is not about us.
  socket.hear({ type: 'error', code: 'unavailable', event_id: 'event', ref: 'r1' });
  socket.hear({ type: 'error', code: 'not_found', event_id: 'event' });
  context.mock.timers.tick(2_000);
  assert.equal(socket.said.length, 4);
  const seats = { version: 1, total: 2, available: 2, taken: [], held: [] };
  socket.hear({ type: 'snapshot', event_id: 'event', ...seats });
  assert.ok(live.joined);
});
