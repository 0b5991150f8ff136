// A melody as a piano roll of 8 bars, and as text for screen readers.

import { svg } from "../../shared/svg.js";

const NAMES = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];
const SPOKEN = NAMES.map((name) => name.replace("♯", " sharp"));
const BARS = 8;
const SLOTS = 32;
const LABELS = 34; // px of the names of the notes

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

// Draws the large roll into an <svg> of any size: a row per degree, a column per slot.
export function drawRoll(picture, notes, pitches) {
  const { clientWidth: width, clientHeight: height } = picture;
  if (!width || !height) return; // not shown now
  const wide = (width - LABELS) / SLOTS;
  const high = height / pitches.length;
  const top = (midi) => height - (pitches.indexOf(midi) + 1) * high;
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  picture.dataset.wide = wide;
  const lanes = pitches.flatMap((midi, degree) => [
    svg("rect", {
      class: degree % 2 ? "lane odd" : "lane",
      x: LABELS,
      y: top(midi),
      width: SLOTS * wide,
      height: high,
    }),
    svg("text", { class: "pitch", x: LABELS - 8, y: top(midi) + high / 2 + 4 }, noteName(midi)),
  ]);
  const lines = Array.from({ length: SLOTS }, (_, slot) => {
    const x = LABELS + slot * wide;
    return svg("line", { class: slot % 4 ? "beat" : "bar", x1: x, x2: x, y1: 0, y2: height });
  });
  const sounds = notes.map(([start, length, midi]) =>
    svg("rect", {
      class: `note tone${pitches.indexOf(midi)}`,
      "data-start": start,
      "data-end": start + length,
      x: LABELS + start * wide + 1.5,
      y: top(midi) + high * 0.12,
      width: length * wide - 3,
      height: high * 0.76,
      rx: Math.min(6, wide / 4),
    }),
  );
  const playhead = svg("line", { class: "playhead", y1: 0, y2: height, hidden: true });
  picture.replaceChildren(...lanes, ...lines, ...sounds, playhead);
}

// Shows the position: a line over the large roll, and the note that sounds.
export function movePlayhead(picture, slot) {
  const line = picture.querySelector(".playhead");
  if (!line) return;
  line.toggleAttribute("hidden", slot === null);
  for (const note of picture.querySelectorAll(".note")) {
    const sounds = slot !== null && slot >= +note.dataset.start && slot < +note.dataset.end;
    note.classList.toggle("sounding", sounds);
  }
  if (slot === null) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const x = LABELS + (calm ? Math.floor(slot) : slot) * picture.dataset.wide;
  line.setAttribute("x1", x);
  line.setAttribute("x2", x);
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
