/**
 * The seat map: an SVG that is a grid to assistive technology (one focusable seat at a time, arrow
 * keys roam) and that tells states apart by shape as well as by colour. One path a seat, drawn
 * once; a change touches only the seats it is about, so five thousand are no trouble.
 */

import { put, svg } from './dom.js';
import { neighbour, PITCH, seatName } from './layout.js';
import { PanZoom } from './panzoom.js';

/** Half of a seat's width, in the drawing's units. */
const HALF = 9.5;
const MARGIN = PITCH;
/** Numbers are written on seats that are this wide on the screen (CSS pixels). */
const READABLE_PX = 21;
/** Most numbers written at once; further out they could not be read anyway. */
const LABELS_MAX = 700;
/** A finger needs a seat of this width; a tap on a smaller one brings it nearer instead. */
const TOUCHABLE_PX = 22;
const COMFORTABLE_PX = 34;
/** In a small house seats are not drawn larger than this, at rest. */
const LARGEST_PX = 50;

const box = (half, round) => {
  const side = 2 * (half - round);
  const arc = (x, y) => `a${round} ${round} 0 0 1 ${x} ${y}`;
  return (
    `M${-half + round} ${-half}h${side}${arc(round, round)}v${side}${arc(-round, round)}` +
    `h${-side}${arc(-round, -round)}v${-side}${arc(round, -round)}z`
  );
};
const CHECK = 'M-4.8 .4 -1.6 3.6 5-3.4 3.7-4.7-1.6 .8-3.5-1z';
const STAR = 'M0-6 1.7-1.9 6-1.7 2.7 1 3.8 5.3 0 2.9-3.8 5.3-2.7 1-6-1.7-1.7-1.900z';

/** Shapes differ as much as colours do; holes are cut out by the even-odd rule. */
const SHAPES = {
  free: box(HALF, 4),
  held: `${box(HALF, 9)}M-6.2-1.600h12.400v3.200h-12.400z`,
  taken:
    'M-5.2-3.4-3.4-5.2 0-1.8 3.4-5.2 5.2-3.4 1.8 0 5.2 3.4 3.4 5.2 0 1.8-3.4 5.2-5.2 3.4-1.8 0z',
  mine: `${box(HALF + 1.5, 5)}${CHECK}`,
  pending: `${box(HALF + 1.5, 5)}${box(HALF - 2, 2.5)}`,
  booked: `${box(HALF + 1.5, 5)}${STAR}`,
};

const SPOKEN = {
  free: 'free',
  held: 'held by somebody else',
  taken: 'taken',
  mine: 'yours for now',
  pending: 'being reserved',
  booked: 'booked by you',
};

/** The path of a state's shape, for the legend. */
export const shapeOf = (state) => SHAPES[state];

export class SeatMap {
  /**
   * @param {SVGSVGElement} drawing
   * @param {import('./layout.js').Layout} layout
   * @param {(seat: number) => string} stateOf a key of the shapes
   * @param {(seat: number) => void} onPick
   */
  constructor(drawing, layout, stateOf, onPick) {
    Object.assign(this, { drawing, layout, stateOf, onPick });
    /** @type {Map<number, SVGPathElement>} */
    this.seats = new Map();
    this.category = null;
    this.current = layout.rows[0]?.[0]?.number ?? 0;
    this.draw();
    this.panZoom = new PanZoom(drawing, this.whole(), () => this.writeLabels());
    this.listen();
  }

  /** All of the drawing with room around it, and no nearer than a small house needs. */
  whole() {
    const { layout, drawing } = this;
    const top = layout.sections.length > 0 ? MARGIN * 1.75 : MARGIN;
    const side = layout.rowNames.length > 0 ? MARGIN * 1.75 : MARGIN;
    const all = { width: layout.width + side * 2, height: layout.height + top + MARGIN };
    const width = Math.max(all.width, (drawing.clientWidth * PITCH) / LARGEST_PX);
    drawing.style.aspectRatio = `${width} / ${all.height}`;
    return { x: -side - (width - all.width) / 2, y: -top, width, height: all.height };
  }

  draw() {
    const { drawing, layout } = this;
    drawing.replaceChildren();
    drawing.setAttribute('aria-rowcount', String(layout.rows.length));
    if (layout.stage?.y > 0) {
      const { x, y } = layout.stage;
      put(drawing, svg('text', { x, y, class: 'map-section', 'aria-hidden': 'true' }, 'Stage'));
    }
    for (const { name, x, y } of layout.sections) {
      put(drawing, svg('text', { x, y, class: 'map-section', 'aria-hidden': 'true' }, name));
    }
    for (const { name, x, y } of layout.rowNames) {
      put(drawing, svg('text', { x, y, class: 'map-row', 'aria-hidden': 'true' }, name));
    }
    layout.rows.forEach((row, index) => {
      const group = svg('g', { role: 'row', 'aria-rowindex': index + 1 });
      row.forEach((place) => group.append(this.drawSeat(place)));
      drawing.append(group);
    });
    this.labels = svg('g', { class: 'map-labels', 'aria-hidden': 'true' });
    drawing.append(this.labels);
    this.seats.get(this.current)?.setAttribute('tabindex', '0');
  }

  drawSeat(place) {
    const shade = this.layout.categories.indexOf(place.category);
    const seat = svg('path', {
      role: 'gridcell',
      tabindex: '-1',
      transform: `translate(${place.x} ${place.y})`,
      'fill-rule': 'evenodd',
      'aria-colindex': place.index + 1,
      data: { seat: place.number, ...(shade >= 0 ? { shade: shade % 6 } : {}) },
    });
    this.seats.set(place.number, seat);
    this.paint(place.number);
    return seat;
  }

  /**
   * Looks at seats again.
   *
   * @param {Iterable<number> | null} changed null: all of them
   */
  update(changed) {
    for (const number of changed ?? this.seats.keys()) this.paint(number);
    this.writeLabels();
  }

  paint(number) {
    const seat = this.seats.get(number);
    if (!seat) return;
    const state = this.stateOf(number);
    const category = this.layout.places.get(number).category;
    const dim = this.category !== null && category !== this.category;
    const look = `seat seat-${state}${dim ? ' seat-dim' : ''}`;
    if (seat.getAttribute('class') === look) return;
    seat.setAttribute('class', look);
    seat.setAttribute('d', SHAPES[state]);
    const chosen = state === 'mine' || state === 'pending';
    seat.setAttribute('aria-selected', String(chosen));
    seat.setAttribute('aria-disabled', String(!chosen && state !== 'free'));
    seat.setAttribute('aria-label', this.spoken(number, state));
  }

  spoken(number, state) {
    const { category } = this.layout.places.get(number);
    const words = [seatName(this.layout, number), SPOKEN[state], category];
    return words.filter(Boolean).join(', ');
  }

  /** Makes the other categories step back; null shows all alike. */
  emphasise(category) {
    this.category = category;
    this.update(null);
  }

  /** Numbers on the seats in sight, once they can be read. */
  writeLabels() {
    const { scale, view } = this.panZoom ?? { scale: 0 };
    this.labels.replaceChildren();
    if (scale * HALF * 2 < READABLE_PX) return;
    const seen = (place) =>
      place.x > view.x - PITCH &&
      place.x < view.x + view.width + PITCH &&
      place.y > view.y - PITCH &&
      place.y < view.y + view.height + PITCH;
    const places = [...this.layout.places.values()].filter(seen);
    if (places.length > LABELS_MAX) return;
    for (const { number, label, x, y } of places) {
      const small = label.length > 3 ? 'map-label map-label-small' : 'map-label';
      if (this.stateOf(number) === 'free') {
        this.labels.append(svg('text', { x, y, class: small }, label));
      }
    }
  }

  listen() {
    const { drawing } = this;
    drawing.addEventListener('click', (event) => this.clicked(event));
    drawing.addEventListener('keydown', (event) => this.key(event));
    // Not on the drawing itself: Chromium takes an SVG that listens for focus for a stop of its
    // own.
    drawing.parentElement.addEventListener('focusin', (event) => {
      const number = seatAt(event);
      if (number !== null) this.rove(number);
    });
    // A tap that has become a drag is none.
    new ResizeObserver(() => this.writeLabels()).observe(drawing);
  }

  clicked(event) {
    if (this.panZoom.moved) {
      this.panZoom.moved = false;
      return;
    }
    const wide = this.panZoom.scale * PITCH;
    const touched = event.pointerType === 'touch' || event.pointerType === 'pen';
    if (touched && wide < TOUCHABLE_PX) {
      this.panZoom.focusOn(this.panZoom.spot(event), COMFORTABLE_PX / PITCH);
      return;
    }
    const number = seatAt(event) ?? this.nearest(this.panZoom.spot(event));
    if (number === null) return;
    this.rove(number);
    this.onPick(number);
  }

  /** The seat whose square the spot is in: the gap between two seats belongs to one of them. */
  nearest({ x, y }) {
    for (const place of this.layout.places.values()) {
      if (Math.abs(place.x - x) <= PITCH / 2 && Math.abs(place.y - y) <= PITCH / 2) {
        return place.number;
      }
    }
    return null;
  }

  key(event) {
    const number = seatAt(event);
    if (number === null || event.altKey || event.metaKey) return;
    const roaming = ['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', 'Home', 'End'];
    if (roaming.includes(event.key)) {
      this.focus(neighbour(this.layout, number, event.key));
    } else if (event.key === ' ' || event.key === 'Enter') {
      this.onPick(number);
    } else if (event.key === '+' || event.key === '=') {
      this.panZoom.zoom(1.5, this.layout.places.get(number));
    } else if (event.key === '-') {
      this.panZoom.farther();
    } else if (event.key === '0') {
      this.panZoom.fit();
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Moves the focus to a seat and shows it. */
  focus(number) {
    this.rove(number);
    this.seats.get(number)?.focus({ preventScroll: true });
    this.panZoom.reveal(this.layout.places.get(number), PITCH * 1.5);
  }

  rove(number) {
    if (number === this.current) return;
    this.seats.get(this.current)?.setAttribute('tabindex', '-1');
    this.seats.get(number)?.setAttribute('tabindex', '0');
    this.current = number;
  }

  /** Brings seats into sight, near enough to be read. */
  reveal(numbers) {
    const places = numbers.map((number) => this.layout.places.get(number)).filter(Boolean);
    if (places.length === 0) return;
    const middle = (axis) => places.reduce((sum, one) => sum + one[axis], 0) / places.length;
    if (this.panZoom.scale * PITCH < TOUCHABLE_PX) {
      this.panZoom.focusOn({ x: middle('x'), y: middle('y') }, COMFORTABLE_PX / PITCH);
    } else {
      this.panZoom.reveal({ x: middle('x'), y: middle('y') }, PITCH * 3);
    }
    this.rove(numbers[0]);
  }
}

function seatAt(event) {
  const number = event.target?.dataset?.seat;
  return number === undefined ? null : Number(number);
}
