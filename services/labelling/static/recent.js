// The last ratings: each can be played, changed and taken back.

import { smallRoll } from "../panels/melody/roll.js";
import { html } from "../shared/svg.js";

const find = (id) => document.getElementById(id);

export class Recent {
  // onPlay(answer), onChange(melody, rating), onTakeBack(melody)
  constructor(actions) {
    this.actions = actions;
    this.pitches = [];
    this.rows = new Map(); // by melody, so that the focus is not lost
  }

  show(answers) {
    const rows = answers.map((answer) => this.#row(answer));
    const kept = new Set(answers.map((answer) => answer.melody));
    for (const melody of this.rows.keys()) if (!kept.has(melody)) this.rows.delete(melody);
    const list = find("recent");
    const before = [...list.children];
    const same = rows.length === before.length && rows.every((row, at) => row === before[at]);
    if (!same) list.replaceChildren(...rows);
    find("recent-none").hidden = answers.length > 0;
  }

  showPlaying(key) {
    for (const [melody, row] of this.rows) row.classList.toggle("playing", melody === key);
  }

  #row(answer) {
    const row = this.rows.get(answer.melody) ?? this.#newRow(answer);
    this.rows.set(answer.melody, row);
    row.dataset.state = answer.state;
    const select = row.querySelector("select");
    if (document.activeElement !== select) select.value = String(answer.rating);
    const guess = answer.guess ?? null;
    row.querySelector(".guess").textContent = guess === null ? "" : `model ${guess.toFixed(1)}`;
    row.querySelector(".state").textContent = answer.state === "pending" ? "saving…" : "saved";
    return row;
  }

  #newRow({ melody, notes, rating }) {
    const play = html("button", { type: "button", class: "thumb" }, smallRoll(notes, this.pitches));
    play.setAttribute("aria-label", "Play this melody");
    play.addEventListener("click", () => this.actions.onPlay(melody, notes));
    const select = html("select", { "aria-label": "Your rating" });
    for (let each = 0; each <= 5; each += 1) {
      select.append(html("option", { value: each, selected: each === rating }, String(each)));
    }
    select.addEventListener("change", () => this.actions.onChange(melody, Number(select.value)));
    const back = html("button", { type: "button", class: "quiet round", title: "Take back" }, "⟲");
    back.setAttribute("aria-label", "Take this rating back");
    back.addEventListener("click", () => this.actions.onTakeBack(melody));
    const parts = ["guess", "state"].map((name) => html("span", { class: name }));
    const said = html("span", { class: "said" }, ...parts);
    return html("li", { "data-melody": melody }, play, select, said, back);
  }
}
