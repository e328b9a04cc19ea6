/** Where seats are drawn, what they are called, and where the arrow keys lead. */

import assert from 'node:assert/strict';
import test from 'node:test';

import { layOut, neighbour, PITCH, seatName, seatNames } from '../js/layout.js';

function house({ drawn }) {
  let number = 0;
  const row = (name, count, x0, y) => ({
    name,
    seats: Array.from({ length: count }, (_, i) => ({
      number: (number += 1),
      label: String(i + 1),
      category: name === 'A' ? 'front' : 'back',
      ...(drawn ? { x: x0 + i * 2, y } : {}),
    })),
  });
  return {
    sections: [
      { name: 'Stalls', rows: [row('A', 4, 0, 0), row('B', 6, -2, 3)] },
      { name: 'Balcony', rows: [row('A', 4, 0, 10)] },
    ],
  };
}

test('without a map every seat has its place in a grid', () => {
  for (const total of [1, 7, 60, 500, 5000]) {
    const layout = layOut(null, total);
    assert.equal(layout.places.size, total);
    const spots = new Set([...layout.places.values()].map(({ x, y }) => `${x} ${y}`));
    assert.equal(spots.size, total, 'no two seats in one spot');
    assert.ok(layout.width >= layout.height || total < 4, `${total}: wider than high`);
  }
  assert.equal(seatName(layOut(null, 60), 12), 'Seat 12');
});

test('a drawn map is scaled to the pitch, wherever it begins', () => {
  const layout = layOut(house({ drawn: true }), 14);
  const xs = [...layout.places.values()].map((place) => place.x);
  assert.equal(Math.min(...xs), 0);
  assert.equal(layout.places.get(2).x - layout.places.get(1).x, PITCH);
  assert.equal(layout.places.get(5).y, (3 * PITCH) / 2);
  assert.deepEqual(layout.categories, ['front', 'back']);
});

test('a map without coordinates is stacked', () => {
  const layout = layOut(house({ drawn: false }), 14);
  const [front, behind] = [layout.places.get(1), layout.places.get(5)];
  assert.ok(front.y < behind.y);
  assert.equal(front.x - behind.x, PITCH, 'shorter rows are centred');
  assert.ok(layout.places.get(11).y > layout.places.get(10).y, 'sections follow each other');
});

test('seats are called by section, row and label', () => {
  const layout = layOut(house({ drawn: true }), 14);
  assert.equal(seatName(layout, 6), 'Stalls, Row B, seat 2');
  assert.equal(seatName(layout, 6, { section: false }), 'Row B, seat 2');
  assert.equal(seatNames(layout, [7, 6, 5]), 'Stalls, Row B, seats 1, 2 and 3');
  assert.equal(seatNames(layout, [1, 14]), 'Stalls, Row A, seat 1; Balcony, Row A, seat 4');
  assert.equal(seatNames(layOut(null, 60), [4, 5]), 'Seats 4 and 5');
});

test('arrow keys stay in the row, and cross rows to what is nearest', () => {
  const layout = layOut(house({ drawn: true }), 14);
  assert.equal(neighbour(layout, 1, 'ArrowRight'), 2);
  assert.equal(neighbour(layout, 4, 'ArrowRight'), 4, 'the end of the row is the end');
  assert.equal(neighbour(layout, 2, 'ArrowDown'), 7, 'straight below');
  assert.equal(neighbour(layout, 7, 'ArrowUp'), 2);
  assert.equal(neighbour(layout, 10, 'ArrowDown'), 14, 'into the next section');
  assert.equal(neighbour(layout, 14, 'ArrowDown'), 14);
  assert.equal(neighbour(layout, 7, 'Home'), 5);
  assert.equal(neighbour(layout, 7, 'End'), 10);
});

test('labels do not repeat the row that they are in, and the stage moves with the seats', () => {
  const seats = [1, 2].map((number) => ({ number, label: `C${number}`, x: number * 10, y: 30 }));
  const sections = [{ name: 'Stalls', rows: [{ name: 'C', seats }] }];
  const layout = layOut({ sections, stage: { x: 15, y: 0 } }, 2);
  assert.equal(seatName(layout, 2), 'Row C, seat 2');
  assert.deepEqual(layout.stage, { x: PITCH / 2, y: -3 * PITCH });
  const odd = layOut(
    { sections: [{ name: 'S', rows: [{ name: 'C', seats: [{ number: 1, label: 'Corner' }] }] }] },
    1,
  );
  assert.equal(odd.places.get(1).label, 'Corner');
});
