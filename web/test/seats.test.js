/** What the page believes of seats: snapshots, deltas, gaps, and what is mine. */

import assert from 'node:assert/strict';
import test from 'node:test';

import { Seats } from '../js/seats.js';

const snapshot = (more) => ({
  version: 10,
  total: 6,
  available: 4,
  taken: [1],
  held: [2],
  ...more,
});

function known(more) {
  const seats = new Seats();
  seats.snapshot(snapshot(more));
  return seats;
}

test('a snapshot is the whole truth', () => {
  const seats = known();
  assert.deepEqual(
    [1, 2, 3].map((seat) => seats.status(seat)),
    ['taken', 'held', 'free'],
  );
  seats.snapshot(snapshot({ version: 20, taken: [], held: [3] }));
  assert.deepEqual(
    [1, 2, 3].map((seat) => seats.status(seat)),
    ['free', 'free', 'held'],
  );
});

test('an older snapshot counts too: Redis may have begun anew', () => {
  const seats = known();
  seats.snapshot(snapshot({ version: 3, taken: [4] }));
  assert.equal(seats.version, 3);
  assert.equal(seats.status(4), 'taken');
});

test('deltas follow each other', () => {
  const seats = known();
  assert.deepEqual(seats.delta({ version: 11, held: [3], available: 3 }).changed, [3]);
  assert.deepEqual(seats.delta({ version: 12, taken: [3], available: 3 }).changed, [3]);
  assert.equal(seats.status(3), 'taken');
  assert.equal(seats.held.has(3), false, 'who books holds no more');
  seats.delta({ version: 13, freed: [3], released: [2], available: 5 });
  assert.deepEqual([seats.status(2), seats.status(3)], ['free', 'free']);
  assert.equal(seats.available, 5);
});

test('what is contained already changes nothing', () => {
  const seats = known();
  assert.deepEqual(seats.delta({ version: 10, freed: [1] }), { gap: false, changed: [] });
  assert.equal(seats.status(1), 'taken');
});

test('a gap is seen and nothing is taken from beyond it', () => {
  const seats = known();
  assert.deepEqual(seats.delta({ version: 12, held: [3] }), { gap: true, changed: [] });
  assert.equal(seats.status(3), 'free');
  assert.equal(seats.version, 10);
});

test('a delta of several changes says what it follows', () => {
  const seats = known();
  assert.equal(seats.delta({ version: 15, since: 10, held: [3] }).gap, false);
  assert.equal(seats.version, 15);
  assert.equal(seats.delta({ version: 20, since: 16, held: [4] }).gap, true);
  // One that begins before and ends after what is known: seats are absolute, so it fits.
  assert.equal(seats.delta({ version: 18, since: 12, released: [3] }).gap, false);
});

test('before the first snapshot every delta is a gap', () => {
  assert.equal(new Seats().delta({ version: 0, held: [1] }).gap, true);
});

test('mine is what answers say, whatever overtakes them', () => {
  const seats = known();
  seats.own([3, 4]);
  assert.equal(seats.status(3), 'mine');
  seats.delta({ version: 11, released: [3] });
  assert.equal(seats.status(3), 'mine', 'an old release of a seat that is mine again');
  seats.delta({ version: 12, taken: [4] });
  assert.equal(seats.status(4), 'taken', 'what is sold is sold');
  assert.deepEqual(seats.own([4]).sort(), [3]);
});

test('what I have booked is mine before it is anything else', () => {
  const seats = known();
  assert.deepEqual(seats.ownBooked([1]), [1]);
  assert.equal(seats.status(1), 'booked');
});
