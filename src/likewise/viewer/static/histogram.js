// A histogram of numbers over a slider, which says from which number on points are shown.

const BARS = 100;

export class Histogram {
  // place: the element around canvas, input and output; changed(least or null): null shows all.
  constructor(place, changed) {
    this.place = place;
    this.canvas = place.querySelector("canvas");
    this.slider = place.querySelector("input");
    this.output = place.querySelector("output");
    this.slider.addEventListener("input", () => {
      this.say();
      changed(this.least);
    });
  }

  show(values, name) {
    this.values = values.filter((value) => value === value);
    this.low = this.values.reduce((least, value) => Math.min(least, value), Infinity);
    this.high = this.values.reduce((most, value) => Math.max(most, value), -Infinity);
    this.place.hidden = !(this.high > this.low);
    if (this.place.hidden) return;
    this.counts = new Uint32Array(BARS);
    const scale = BARS / (this.high - this.low);
    for (const value of this.values) this.counts[Math.min(BARS - 1, Math.floor((value - this.low) * scale))]++;
    this.slider.value = this.slider.min;
    this.slider.setAttribute("aria-label", `Show points from this ${name}`);
    this.say();
  }

  hide() {
    this.place.hidden = true;
  }

  get least() {
    const share = this.slider.value / this.slider.max;
    return share === 0 ? null : this.low + share * (this.high - this.low);
  }

  say() {
    const least = this.least;
    const from = least === null ? this.low : least;
    let count = 0;
    for (const value of this.values) count += value >= from;
    this.output.textContent = `${from.toFixed(3)}: ${count.toLocaleString("en")} items`;
    this.slider.setAttribute("aria-valuetext", this.output.textContent);
    this.draw(from);
  }

  draw(from) {
    const ratio = globalThis.devicePixelRatio || 1;
    const wide = (this.canvas.width = this.canvas.clientWidth * ratio);
    const high = (this.canvas.height = this.canvas.clientHeight * ratio);
    const pen = this.canvas.getContext("2d");
    const most = Math.sqrt(Math.max(...this.counts));
    const style = getComputedStyle(this.place);
    const [on, off] = [style.getPropertyValue("--blue"), style.getPropertyValue("--line")];
    this.counts.forEach((count, bar) => {
      const tall = Math.ceil((Math.sqrt(count) / most) * high); // roots, so that few can be seen beside many
      pen.fillStyle = this.low + ((bar + 0.5) / BARS) * (this.high - this.low) >= from ? on : off;
      pen.fillRect((bar * wide) / BARS, high - tall, Math.max(1, wide / BARS - ratio), tall);
    });
  }
}
