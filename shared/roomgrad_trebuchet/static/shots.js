// The last shots: their trajectories and targets, and the trebuchet that throws the first.

import { svg } from "../../shared/svg.js";

const WIDTH = 640;
const HIGH = 300;
const MARGIN = 26;
const PIVOT = 1.52; // m above the ground, as the simulator has it
const THROW_MS = 2600;

export class Shots {
  constructor(picture, words) {
    this.picture = picture;
    this.words = words;
    this.at = 0;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
  }

  show(shots) {
    if (shots.at === this.at || this.running) return; // one throw at a time
    this.at = shots.at;
    this.shots = shots;
    this.play();
  }

  play() {
    if (!this.shots?.ways.length) return;
    this.#draw();
    const began = performance.now();
    this.running = true;
    const step = (now) => {
      const part = this.calm.matches ? 1 : Math.min(1, (now - began) / THROW_MS);
      this.#move(part);
      if (part < 1 && !document.hidden) requestAnimationFrame(step);
      else this.running = false;
    };
    requestAnimationFrame(step);
  }

  #draw() {
    const { ways, targets } = this.shots;
    const points = ways.flat();
    const far = Math.max(40, ...points.map(([x]) => x), ...targets) + 6;
    const near = Math.min(-8, ...points.map(([x]) => x));
    const scale = Math.min(
      (WIDTH - 2 * MARGIN) / (far - near),
      (HIGH - 2 * MARGIN) / (Math.max(12, ...points.map(([, y]) => y)) + PIVOT),
    );
    this.x = (value) => MARGIN + (value - near) * scale;
    this.y = (value) => HIGH - MARGIN - (value + PIVOT) * scale;
    this.picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HIGH}`);
    const ground = this.y(-PIVOT);
    const ticks = [0, 20, 40, 60, 80, 100].filter((value) => value <= far);
    this.flown = ways.map(() => svg("path", { class: "flown" }));
    this.stones = ways.map(() => svg("circle", { class: "stone", r: 3.2 }));
    this.beam = svg("path", { class: "beam" });
    this.weight = svg("circle", { class: "weight", r: 5 });
    this.picture.replaceChildren(
      svg("line", { class: "ground", x1: 0, x2: WIDTH, y1: ground, y2: ground }),
      ...ticks.map((value) => svg("text", { x: this.x(value), y: HIGH - 8 }, `${value} m`)),
      ...ways.map((way) => svg("path", { class: "way", d: this.#path(way) })),
      ...targets.flatMap((target) => [
        svg("circle", { class: "target", cx: this.x(target), cy: ground, r: 5 }),
        svg("line", { class: "aim", x1: this.x(target), x2: this.x(target), y1: ground - 9, y2: ground + 9 }),
      ]),
      ...this.flown,
      this.beam,
      this.weight,
      ...this.stones,
    );
    const misses = targets.map((target, at) => Math.abs(ways[at].at(-1)[0] - target));
    const mean = misses.reduce((sum, each) => sum + each, 0) / (misses.length || 1);
    this.words.textContent = misses.length
      ? `${ways.length} shots of the batch; they miss their targets by ${mean.toFixed(2)} m on average.`
      : `${ways.length} shots of the batch; their targets are no longer stored.`;
  }

  #path(points) {
    return points
      .map(([x, y], at) => `${at ? "L" : "M"}${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`)
      .join("");
  }

  #move(part) {
    const { ways, arm, counterweight } = this.shots;
    const frame = Math.max(1, Math.round(part * (ways[0].length - 1)));
    ways.forEach((way, at) => {
      const [x, y] = way[frame];
      this.flown[at].setAttribute("d", this.#path(way.slice(0, frame + 1)));
      this.stones[at].setAttribute("cx", this.x(x));
      this.stones[at].setAttribute("cy", this.y(y));
    });
    if (!arm.length) return;
    this.beam.setAttribute("d", this.#path([counterweight[frame], [0, 0], arm[frame]]));
    this.weight.setAttribute("cx", this.x(counterweight[frame][0]));
    this.weight.setAttribute("cy", this.y(counterweight[frame][1]));
  }
}
