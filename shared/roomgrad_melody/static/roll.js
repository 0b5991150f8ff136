// A melody as a piano roll of 8 bars, and as text for screen readers.

import { svg } from "../../shared/svg.js";

const NAMES = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];
const SPOKEN = NAMES.map((name) => name.replace("♯", " sharp"));
const BARS = 8;
const SLOTS = 32;
const LABELS = 34; // px of the names of the notes

const calm = matchMedia("(prefers-reduced-motion: reduce)");

export function noteName(midi) {
  return NAMES[midi % 12] + (Math.floor(midi / 12) - 1);
}

function spoken(midi) {
  return `${SPOKEN[midi % 12]} ${Math.floor(midi / 12) - 1}`;
}

// Returns a text like "Bar 1: C 3, rest, E 3 for 2 beats. Bar 2: silence."
export function inWords(notes) {
  if (!notes.length) return "This melody is silent: 8 bars of rests.";
  const bars = Array.from({ length: BARS }, () => []);
  let end = 0;
  const rest = (from, to) => {
    for (let slot = from; slot < to; slot += 1) bars[Math.floor(slot / 4)].push("rest");
  };
  for (const [start, length, midi] of notes) {
    rest(end, start);
    bars[Math.floor(start / 4)].push(spoken(midi) + (length > 1 ? ` for ${length} beats` : ""));
    end = start + length;
  }
  rest(end, SLOTS);
  const said = bars.map((bar) => (bar.length ? merged(bar) : "held"));
  return said.map((bar, index) => `Bar ${index + 1}: ${bar}.`).join(" ");
}

function merged(bar) {
  return bar.every((each) => each === "rest") && bar.length === 4 ? "silence" : bar.join(", ");
}

// The large roll in an <svg> of any size: a row per degree, a column per slot. The grid is drawn once
// for a size, as the next melody is awaited; its size is never asked for, which would be a layout.
export class Roll {
  constructor(picture) {
    this.picture = picture;
    this.notes = [];
    this.pitches = [];
    this.size = { width: 0, height: 0 };
    this.sounding = -1; // index of the note
    this.grid = svg("g");
    this.sounds = svg("g");
    this.playhead = svg("line", { class: "playhead", hidden: true });
    picture.replaceChildren(this.grid, this.sounds, this.playhead);
    new ResizeObserver(([{ contentRect }]) => this.#fit(contentRect)).observe(picture);
  }

  draw(notes, pitches) {
    const isNew = String(pitches) !== String(this.pitches);
    Object.assign(this, { notes, pitches });
    if (isNew) this.#drawGrid();
    this.#drawNotes();
  }

  // Shows the position: a line over the roll, and the note that sounds. slot: null if none
  move(slot) {
    this.playhead.toggleAttribute("hidden", slot === null);
    const sounds = ([start, length]) => slot !== null && slot >= start && slot < start + length;
    this.#mark(this.notes.findIndex(sounds));
    if (slot === null) return;
    const at = calm.matches ? Math.floor(slot) : slot;
    this.playhead.style.transform = `translateX(${LABELS + at * this.#wide}px)`;
  }

  #mark(note) {
    if (note === this.sounding) return;
    this.sounds.children[this.sounding]?.classList.remove("sounding");
    this.sounds.children[note]?.classList.add("sounding");
    this.sounding = note;
  }

  // While it is hidden it has no size, and keeps what is drawn.
  #fit({ width, height }) {
    if (!width || !height) return;
    this.size = { width, height };
    this.picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.playhead.setAttribute("y2", height);
    this.#drawGrid();
    this.#drawNotes();
  }

  get #wide() {
    return Math.max(0, this.size.width - LABELS) / SLOTS;
  }

  get #high() {
    return this.size.height / this.pitches.length;
  }

  #top(midi) {
    return this.size.height - (this.pitches.indexOf(midi) + 1) * this.#high;
  }

  #drawGrid() {
    const { height } = this.size;
    const wide = this.#wide;
    const high = this.#high;
    const lanes = this.pitches.flatMap((midi, degree) => {
      const y = this.#top(midi);
      const lane = { class: degree % 2 ? "lane odd" : "lane", x: LABELS, y };
      const name = { class: "pitch", x: LABELS - 8, y: y + high / 2 + 4 };
      return [
        svg("rect", { ...lane, width: SLOTS * wide, height: high }),
        svg("text", name, noteName(midi)),
      ];
    });
    const lines = Array.from({ length: SLOTS }, (_, slot) => {
      const x = LABELS + slot * wide;
      return svg("line", { class: slot % 4 ? "beat" : "bar", x1: x, x2: x, y1: 0, y2: height });
    });
    this.grid.replaceChildren(...lanes, ...lines);
  }

  #drawNotes() {
    this.sounding = -1;
    const wide = this.#wide;
    const high = this.#high;
    const sounds = this.notes.map(([start, length, midi]) =>
      svg("rect", {
        class: `note tone${this.pitches.indexOf(midi)}`,
        "data-start": start,
        "data-end": start + length,
        x: LABELS + start * wide + 1.5,
        y: this.#top(midi) + high * 0.12,
        width: Math.max(0, length * wide - 3),
        height: high * 0.76,
        rx: Math.min(6, wide / 4),
      }),
    );
    this.sounds.replaceChildren(...sounds);
  }
}

// Returns a small roll without text, for use beside one.
export function smallRoll(notes, pitches) {
  const picture = svg("svg", {
    class: "small-roll",
    viewBox: `0 0 ${SLOTS * 3} ${pitches.length * 3}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  for (const [start, length, midi] of notes) {
    const degree = Math.max(0, pitches.indexOf(midi));
    const y = (pitches.length - 1 - degree) * 3;
    picture.append(
      svg("rect", {
        class: `tone${degree}`,
        x: start * 3,
        y,
        width: length * 3 - 0.4,
        height: 2.4,
        rx: 0.8,
      }),
    );
  }
  return picture;
}
