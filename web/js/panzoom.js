/**
 * Moves a drawing about: pinch and drag on touch, drag and Ctrl+wheel with a mouse, buttons and
 * keys for everybody. It only changes the view box; what is drawn stays as it is.
 *
 * While the whole drawing is in sight a finger scrolls the page, so that nobody is caught in it.
 */

/** Zoomed in as far as it goes, a seat is this many times its size at rest, or 1:1 if larger. */
const NEAREST_UNITS = 190;
/** A pointer that moved less than this (CSS pixels) has tapped. */
const TAP_PX = 8;
const STEP = 1.5;

export class PanZoom {
  /**
   * @param {SVGSVGElement} drawing
   * @param {{width: number, height: number, x: number, y: number}} whole all of it
   * @param {() => void} onChange after each move
   */
  constructor(drawing, whole, onChange) {
    this.drawing = drawing;
    this.whole = whole;
    this.onChange = onChange;
    this.view = { ...whole };
    this.pointers = new Map();
    /** Whether the last gesture was a move: then the click after it is none. */
    this.moved = false;
    this.listen();
    this.show();
  }

  /** CSS pixels for one unit of the drawing. */
  get scale() {
    const { clientWidth: width, clientHeight: height } = this.drawing;
    return Math.min(width / this.view.width, height / this.view.height) || 1;
  }

  get isWhole() {
    return this.view.width >= this.whole.width * 0.999;
  }

  /** Everything in sight again. */
  fit() {
    this.view = { ...this.whole };
    this.show();
  }

  /**
   * @param {number} factor above 1: nearer
   * @param {{x: number, y: number}} [at] what stays where it is, in the drawing's units
   */
  zoom(factor, at = this.middle()) {
    const nearest = Math.min(this.whole.width, NEAREST_UNITS);
    const width = Math.min(this.whole.width, Math.max(nearest, this.view.width / factor));
    const ratio = width / this.view.width;
    this.view.x = at.x - (at.x - this.view.x) * ratio;
    this.view.y = at.y - (at.y - this.view.y) * ratio;
    this.view.width = width;
    this.view.height *= ratio;
    this.show();
  }

  nearer() {
    this.zoom(STEP);
  }

  farther() {
    this.zoom(1 / STEP);
  }

  /** Brings a spot into sight, with room around it. */
  reveal({ x, y }, room) {
    const { view } = this;
    const space = { x: Math.min(room, view.width / 3), y: Math.min(room, view.height / 3) };
    view.x = Math.min(Math.max(view.x, x + space.x - view.width), x - space.x);
    view.y = Math.min(Math.max(view.y, y + space.y - view.height), y - space.y);
    this.show();
  }

  /** Shows a spot from so near that one unit is `scale` CSS pixels. */
  focusOn({ x, y }, scale) {
    const factor = scale / this.scale;
    if (factor > 1) this.zoom(factor, { x, y });
    this.view.x = x - this.view.width / 2;
    this.view.y = y - this.view.height / 2;
    this.show();
  }

  middle() {
    const { x, y, width, height } = this.view;
    return { x: x + width / 2, y: y + height / 2 };
  }

  /** Where on the drawing a pointer is. */
  spot(event) {
    const matrix = this.drawing.getScreenCTM();
    if (!matrix) return this.middle();
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
  }

  show() {
    const { view, whole } = this;
    view.x = Math.min(Math.max(view.x, whole.x), whole.x + whole.width - view.width);
    view.y = Math.min(Math.max(view.y, whole.y), whole.y + whole.height - view.height);
    this.drawing.style.touchAction = this.isWhole ? 'pan-y' : 'none';
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      const { x, y, width, height } = this.view;
      this.drawing.setAttribute('viewBox', `${x} ${y} ${width} ${height}`);
      this.onChange();
    });
  }

  listen() {
    const { drawing } = this;
    drawing.addEventListener('pointerdown', (event) => this.down(event));
    drawing.addEventListener('pointermove', (event) => this.move(event));
    for (const name of ['pointerup', 'pointercancel', 'pointerleave']) {
      drawing.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    drawing.addEventListener(
      'wheel',
      (event) => {
        // Without Ctrl the wheel belongs to the page; a pinch on a trackpad comes as Ctrl+wheel.
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        this.zoom(Math.exp(-event.deltaY / 200), this.spot(event));
      },
      { passive: false },
    );
  }

  down(event) {
    if (event.pointerType === 'mouse' && event.button !== 0) return;
    if (this.pointers.size === 0) this.moved = false;
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.travel = 0;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId);
    if (others.length > 0) {
      this.pinch(before, now, others[0][1]);
    } else {
      this.travel += Math.hypot(now.x - before.x, now.y - before.y);
      if (this.travel < TAP_PX && !this.moved) return;
      this.begin(event);
      const { scale } = this;
      this.view.x -= (now.x - before.x) / scale;
      this.view.y -= (now.y - before.y) / scale;
      this.show();
    }
    this.pointers.set(event.pointerId, now);
  }

  pinch(before, now, other) {
    this.moved = true;
    const spread = (point) => Math.hypot(point.x - other.x, point.y - other.y);
    const middle = { clientX: (now.x + other.x) / 2, clientY: (now.y + other.y) / 2 };
    this.zoom(spread(now) / Math.max(1, spread(before)), this.spot(middle));
  }

  /** A drag goes on outside of the drawing too. */
  begin(event) {
    if (this.moved) return;
    this.moved = true;
    this.drawing.setPointerCapture?.(event.pointerId);
  }
}
