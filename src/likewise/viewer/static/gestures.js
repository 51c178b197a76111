// What a mouse, fingers, the wheel and keys do on a map: the same on every page that has one. It draws nothing, and
// imports nothing, so that it can stand in a page of one file: see columns.js.
//
//   new Gestures(place, raster, {
//     changed() {},             // the view is another: draw again
//     hover(row, px, py) {},    // the mouse is over a point; −1: over none
//     tap(row, px, py, finger) {},   // a click, or a tap of a finger; −1: beside all points
//     step(dx, dy) {},          // an arrow key: to the next point in this direction
//     leave() {},               // Escape
//     path(corners) {},         // a lasso: [[px, py], ...]; only while `lassoing`
//   });
//
// One finger, or the mouse, moves the map; two fingers zoom it, and move it. Places are CSS pixels of the canvas.

const CLICK = 5; // CSS pixels that a pointer may move in a click
const FINGERTIP = 22; // CSS pixels around a tap in which a point is meant
const WHEEL = 0.0015; // of the logarithm of the scale, for a pixel of the wheel
const PINCH = 0.006; // the same with Ctrl: so browsers tell of two fingers on a touchpad
const LINE = 33; // pixels for a line, where the wheel counts in lines
const KEY = 1.4; // times the scale
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

export class Gestures {
  // place: the element that has the focus; eager: the wheel zooms at once. Else the page scrolls, until the map has the
  // focus or Ctrl is held.
  constructor(place, raster, told, eager = false) {
    Object.assign(this, { place, raster, told, eager });
    this.lassoing = false;
    this.path = null; // of the lasso that is being drawn
    this.down = new Map(); // the places of the pointers that are down, by their ids
    this.travelled = 0; // CSS pixels since the first of them came down
    const on = (name, does, options) => place.addEventListener(name, (event) => does.call(this, event), options);
    on("pointerdown", this.pressed);
    on("pointermove", this.moved);
    on("pointerup", this.lifted);
    on("pointercancel", this.cancelled);
    on("pointerleave", (event) => event.pointerType === "mouse" && told.hover(-1, 0, 0));
    on("wheel", this.wheel, { passive: false });
    on("keydown", this.key);
  }

  placeOf(event) {
    const box = this.raster.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  pressed(event) {
    if (event.button !== 0) return;
    this.place.setPointerCapture(event.pointerId);
    const at = this.placeOf(event);
    const alone = this.down.size === 0;
    this.down.set(event.pointerId, at);
    this.travelled = alone ? 0 : Infinity; // a second finger is no tap
    this.path = this.lassoing && alone ? [at] : null;
    this.told.hover(-1, 0, 0);
  }

  moved(event) {
    const at = this.placeOf(event);
    const before = this.down.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") this.told.hover(this.raster.pick(...at), ...at);
      return;
    }
    this.down.set(event.pointerId, at);
    const [dx, dy] = [at[0] - before[0], at[1] - before[1]];
    this.travelled += Math.hypot(dx, dy);
    const other = [...this.down].find(([pointer]) => pointer !== event.pointerId)?.[1];
    if (other) this.pinch(other, before, at);
    else if (this.path) this.path.push(at);
    else this.raster.pan(dx, dy);
    this.told.changed();
  }

  // One of two fingers has moved: what was between them stays between them.
  pinch(other, before, at) {
    const apart = (one) => Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1]));
    this.raster.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
    this.raster.zoom(apart(at) / apart(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
  }

  lifted(event) {
    if (!this.down.delete(event.pointerId)) return;
    const { path, told } = this;
    this.path = null;
    if (this.travelled < CLICK) {
      const at = this.placeOf(event);
      const finger = event.pointerType !== "mouse";
      told.tap(finger ? this.raster.pick(...at, FINGERTIP) : this.raster.pick(...at), ...at, finger);
    } else if (path && path.length > 2) told.path(path);
    told.changed();
  }

  cancelled(event) {
    this.down.delete(event.pointerId);
    this.path = null;
    this.told.changed();
  }

  wheel(event) {
    if (!this.eager && !event.ctrlKey && document.activeElement !== this.place) return; // the page scrolls
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode ? LINE : 1);
    this.told.hover(-1, 0, 0);
    this.zoom(Math.exp(-pixels * (event.ctrlKey ? PINCH : WHEEL)), ...this.placeOf(event));
  }

  // About a pixel; without one about the middle.
  zoom(factor, ...at) {
    this.raster.zoom(factor, ...at);
    this.told.changed();
  }

  whole() {
    this.raster.fit();
    this.told.changed();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's
    if (event.key in ARROWS) this.told.step(...ARROWS[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(KEY);
    else if (event.key === "-") this.zoom(1 / KEY);
    else if (event.key === "0") this.whole();
    else if (event.key === "Escape") this.told.leave();
    else return;
    event.preventDefault();
  }
}

// A function that calls another once in the next frame, however often it is called before.
export function onceAFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}
