// The best melodies that were heard, how they move, and whether answers still change them.

import { html } from "../shared/svg.js";
import { smallRoll } from "../panels/melody/roll.js";

const MOVE_MS = 450;
const TOP = 5;
const STEADY = 10; // answers that changed nothing in the top
const GOAL = 70; // answers, unless the address has another number: ?goal=100

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const find = (id) => document.getElementById(id);

export class Ladder {
  // onPlay(key, notes)
  constructor(onPlay) {
    this.onPlay = onPlay;
    this.rows = new Map(); // by melody
    this.places = new Map(); // by melody, in the former order
    this.shown = "";
  }

  // ladder: [{melody, notes, wins, votes}], the best first
  show(ladder, pitches) {
    find("ladder-card").hidden = ladder.length === 0;
    const shown = JSON.stringify(ladder.map(({ melody, wins, votes }) => [melody, wins, votes]));
    if (shown === this.shown) return;
    this.shown = shown;
    const tops = new Map([...this.rows.values()].map((row) => [row, row.offsetTop]));
    const rows = ladder.map((each, place) => this.#row(each, place, pitches));
    find("ladder").replaceChildren(...rows);
    const ways = rows.map((row) => tops.get(row) - row.offsetTop); // all before one is moved
    rows.forEach((row, place) => slide(row, ways[place]));
    this.rows = new Map(ladder.map((each, place) => [each.melody, rows[place]]));
    this.places = new Map(ladder.map((each, place) => [each.melody, place]));
  }

  showPlaying(key) {
    for (const [melody, row] of this.rows) row.classList.toggle("playing", key === `best:${melody}`);
  }

  #row({ melody, notes, wins, votes }, place, pitches) {
    const row = this.rows.get(melody) ?? this.#newRow(melody, notes, pitches);
    const before = this.places.get(melody);
    row.querySelector(".place").textContent = place + 1;
    row.querySelector(".thumb").setAttribute("aria-label", `Play number ${place + 1}`);
    row.querySelector(".wins").textContent = votes ? `won ${wins} of ${votes}` : "rated";
    if (this.places.size && before !== place) {
      row.dataset.moved = before === undefined ? "new" : before > place ? "up" : "down";
    } else delete row.dataset.moved;
    return row;
  }

  #newRow(melody, notes, pitches) {
    const thumb = html("button", { type: "button", class: "thumb" }, smallRoll(notes, pitches));
    thumb.addEventListener("click", () => this.onPlay(`best:${melody}`, notes));
    const [place, wins] = ["place", "wins"].map((name) => html("span", { class: name }));
    return html("li", {}, place, thumb, wins);
  }
}

// Moves a row from where it was. way: in px; NaN: it is new
function slide(row, way) {
  if (!way || calm.matches) return;
  const from = { transform: `translateY(${way}px)` };
  row.animate([from, { transform: "none" }], { duration: MOVE_MS, easing: "ease-out" });
}

// The number of answers that one wants to give, and when that is enough.
export class Goal {
  constructor(address) {
    const wanted = Number(new URLSearchParams(address).get("goal"));
    this.wanted = Number.isInteger(wanted) && wanted > 0 ? wanted : GOAL;
    this.top = null;
    this.version = "";
    this.changed = 0; // answers when the top changed last
    this.learned = 0; // answers that the network had when it learned last
  }

  show({ learning, ladder }) {
    const answered = learning?.answered ?? 0;
    this.#follow(answered, learning?.version ?? "", ladder);
    const of = answered < this.wanted ? ` of ${this.wanted}` : "";
    find("goal").textContent = `${answered}${of} answers`;
    Object.assign(find("goal-progress"), { value: Math.min(answered, this.wanted), max: this.wanted });
    const text = this.#enough(answered);
    find("enough").hidden = !text;
    if (find("enough").textContent !== text) find("enough").textContent = text;
  }

  #follow(answered, version, ladder) {
    const top = ladder.slice(0, TOP).map((each) => each.melody).join();
    if (version !== this.version) this.learned = answered;
    if (top !== this.top) this.changed = answered;
    Object.assign(this, { top, version });
  }

  #enough(answered) {
    if (this.top && this.learned - this.changed >= STEADY) {
      return `Enough for now: the last ${this.learned - this.changed} answers changed nothing in the best ${TOP}.`;
    }
    if (answered < this.wanted) return "";
    return `You have reached ${this.wanted} answers. Go on for as long as you like.`;
  }
}
