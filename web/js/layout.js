/**
 * Where each seat is drawn, what it is called, and which seat is next to it. Pure: made of the
 * event's seat map, or of nothing but a number of seats (`web/test/layout.test.js`).
 *
 * The unit is the drawing's own: seats are `PITCH` apart, whatever unit the map has.
 */

/** From the middle of a seat to the middle of the next one in its row. */
export const PITCH = 24;
/** Above the first row of a section: its name. */
const SECTION_HEAD = 34;
const SECTION_GAP = 20;
const ROW_GAP = 4;

/**
 * @typedef {object} Place a seat on the plan
 * @property {number} number
 * @property {string} label what is written on it
 * @property {string} [row] the name of its row, if the map has one
 * @property {string} [section]
 * @property {string} [category]
 * @property {number} x
 * @property {number} y
 * @property {number} line index of its row in `rows`
 * @property {number} index its place in that row
 */

/**
 * @typedef {object} Layout
 * @property {Map<number, Place>} places by seat number
 * @property {Place[][]} rows each from left to right, the rows from front to back
 * @property {{name: string, x: number, y: number}[]} sections where to write their names
 * @property {{name: string, x: number, y: number}[]} rowNames
 * @property {{x: number, y: number} | null} stage where people look to, if the map says so
 * @property {string[]} categories in the order in which they occur
 * @property {number} width
 * @property {number} height
 */

/**
 * @param {{sections: any[]} | null | undefined} map the event's seat map
 * @param {number} total its seats
 * @returns {Layout}
 */
export function layOut(map, total) {
  const sections = map?.sections?.length ? named(map) : grid(total);
  const all = sections.flatMap((section) => section.rows.flatMap((row) => row.places));
  const drawn = all.length > 0 && all.every((place) => place.x !== null && place.y !== null);
  const stage = drawn && map?.stage ? { ...map.stage } : null;
  const heads = drawn ? scaled(sections, all, stage) : stacked(sections);
  return { ...finished(sections, heads, all), stage };
}

/** Sections and rows as the map has them. */
function named(map) {
  return map.sections.map((section) => ({
    name: section.name,
    rows: section.rows.map((row) => ({
      name: row.name,
      places: row.seats.map((seat) => ({
        number: seat.number,
        label: shortLabel(seat, row.name),
        row: row.name,
        section: map.sections.length > 1 ? section.name : undefined,
        category: seat.category,
        x: seat.x ?? null,
        y: seat.y ?? null,
      })),
    })),
  }));
}

/** What is written on a seat, without the row that it is in anyway: `7` for `C7`. */
function shortLabel({ number, label }, row) {
  const rest = label?.startsWith(row) ? label.slice(row.length) : '';
  return /^\d+$/.test(rest) ? rest : (label ?? String(number));
}

/** Seats that are only numbers: wider than high, in rows of a round number. */
function grid(total) {
  const wide = Math.sqrt(total * 1.6);
  const columns = total <= 10 ? Math.max(1, total) : Math.max(10, Math.round(wide / 10) * 10);
  const rows = [];
  for (let first = 1; first <= total; first += columns) {
    const count = Math.min(columns, total - first + 1);
    const places = Array.from({ length: count }, (_, index) => ({
      number: first + index,
      label: String(first + index),
      x: null,
      y: null,
    }));
    rows.push({ name: null, places });
  }
  return [{ name: null, rows }];
}

/** Rows below each other, centred, section by section. */
function stacked(sections) {
  const widest = Math.max(1, ...sections.flatMap((one) => one.rows.map((r) => r.places.length)));
  const heads = [];
  let y = 0;
  for (const section of sections) {
    if (sections.length > 1) {
      heads.push({ name: section.name, x: ((widest - 1) * PITCH) / 2, y: y + 8 });
      y += SECTION_HEAD;
    }
    for (const row of section.rows) {
      const left = (widest - row.places.length) / 2;
      row.places.forEach((place, index) => {
        place.x = (left + index) * PITCH;
        place.y = y;
      });
      y += PITCH + ROW_GAP;
    }
    y += SECTION_GAP;
  }
  return heads;
}

/** The map's own drawing, scaled so that neighbours are a pitch apart. */
function scaled(sections, all, stage) {
  const gaps = [];
  for (const section of sections) {
    for (const { places } of section.rows) {
      for (let i = 1; i < places.length; i += 1) {
        const [a, b] = [places[i - 1], places[i]];
        const gap = Math.hypot(a.x - b.x, a.y - b.y);
        if (gap > 0) gaps.push(gap);
      }
    }
  }
  gaps.sort((a, b) => a - b);
  // Aisles are wider, and one mistake should not shrink the house: the lower quarter is typical.
  const unit = gaps[Math.floor(gaps.length / 4)] ?? 1;
  const scale = PITCH / unit;
  const [left, top] = [least(all, 'x'), least(all, 'y')];
  for (const place of stage ? [...all, stage] : all) {
    place.x = (place.x - left) * scale;
    place.y = (place.y - top) * scale;
  }
  if (sections.length < 2) return [];
  return sections
    .filter((one) => one.rows.some((row) => row.places.length > 0))
    .map((section) => {
      const places = section.rows.flatMap((row) => row.places);
      const x = (least(places, 'x') + most(places, 'x')) / 2;
      return { name: section.name, x, y: least(places, 'y') - PITCH * 0.75 };
    });
}

// Spreading thousands of arguments is slow and, further up, an error.
const least = (places, axis) => places.reduce((low, one) => Math.min(low, one[axis]), Infinity);
const most = (places, axis) => places.reduce((high, one) => Math.max(high, one[axis]), -Infinity);

function finished(sections, heads, all) {
  const rows = sections.flatMap((section) => section.rows).filter((row) => row.places.length > 0);
  const rowNames = [];
  const lines = rows.map((row, line) => {
    const places = [...row.places].sort((a, b) => a.x - b.x || a.number - b.number);
    places.forEach((place, index) => Object.assign(place, { line, index }));
    if (row.name !== null) {
      rowNames.push({ name: row.name, x: places[0].x - PITCH * 0.95, y: places[0].y });
    }
    return places;
  });
  const categories = [...new Set(all.map((place) => place.category).filter(Boolean))];
  return {
    places: new Map(all.map((place) => [place.number, place])),
    rows: lines,
    sections: heads,
    rowNames,
    categories,
    width: all.length > 0 ? most(all, 'x') : 0,
    height: all.length > 0 ? most(all, 'y') : 0,
  };
}

/**
 * The seat that an arrow key leads to; the same seat at the edge.
 *
 * @param {Layout} layout
 * @param {number} from
 * @param {string} key
 * @returns {number}
 */
export function neighbour(layout, from, key) {
  const place = layout.places.get(from);
  if (!place) return from;
  const row = layout.rows[place.line];
  switch (key) {
    case 'ArrowLeft':
      return (row[place.index - 1] ?? place).number;
    case 'ArrowRight':
      return (row[place.index + 1] ?? place).number;
    case 'Home':
      return row[0].number;
    case 'End':
      return row.at(-1).number;
    case 'ArrowUp':
      return upOrDown(layout, place, -1);
    case 'ArrowDown':
      return upOrDown(layout, place, 1);
    default:
      return from;
  }
}

/** The nearest seat of the next row in that direction. Rows may lie beside each other. */
function upOrDown(layout, place, direction) {
  let best = place;
  let cost = Infinity;
  for (const row of layout.rows) {
    for (const other of row) {
      const away = (other.y - place.y) * direction;
      if (other.line === place.line || away < PITCH / 2) continue;
      // To the side counts double: the key says up or down.
      const price = away + Math.abs(other.x - place.x) * 2;
      if (price < cost) [best, cost] = [other, price];
    }
  }
  return best.number;
}

/**
 * What a seat is called: `Row C, seat 12`.
 *
 * @param {Layout} layout
 * @param {number} number
 * @param {{section?: boolean}} [options]
 */
export function seatName(layout, number, { section = true } = {}) {
  const place = layout.places.get(number);
  if (!place) return `Seat ${number}`;
  const parts = [];
  if (section && place.section) parts.push(place.section);
  if (place.row) parts.push(/^row\b/i.test(place.row) ? place.row : `Row ${place.row}`);
  parts.push(`${parts.length > 0 ? 'seat' : 'Seat'} ${place.label}`);
  return parts.join(', ');
}

/**
 * Several seats in as few words as possible: `Row C, seats 12 and 13`.
 *
 * @param {Layout} layout
 * @param {number[]} numbers
 */
export function seatNames(layout, numbers) {
  const groups = new Map();
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const place = layout.places.get(number);
    const name = place ? seatName(layout, number).replace(/,? ?seat [^,]*$/i, '') : '';
    groups.set(name, [...(groups.get(name) ?? []), place?.label ?? String(number)]);
  }
  return [...groups]
    .map(([where, labels]) => {
      const which =
        labels.length === 1
          ? `seat ${labels[0]}`
          : `seats ${labels.slice(0, -1).join(', ')} and ${labels.at(-1)}`;
      return where ? `${where}, ${which}` : which[0].toUpperCase() + which.slice(1);
    })
    .join('; ');
}
