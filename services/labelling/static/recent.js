// The last answers: each can be played, changed and taken back.

import { smallRoll } from "../panels/melody/roll.js";
import { html } from "../shared/svg.js";
import { isVote, keyOf } from "./answers.js";
import { LETTERS } from "./sides.js";

const RATINGS = [0, 1, 2, 3, 4, 5];
const VOTES = { first: "A", second: "B", equal: "equal", neither: "both bad" };

const find = (id) => document.getElementById(id);

export class Recent {
  // onPlay(melody, notes), onChange(key, {rating} or {prefer}), onTakeBack(key)
  constructor(actions) {
    this.actions = actions;
    this.pitches = [];
    this.rows = new Map(); // by key, so that the focus is not lost
  }

  show(answers) {
    const rows = answers.map((answer) => this.#row(answer));
    const kept = new Set(answers.map(keyOf));
    for (const key of this.rows.keys()) if (!kept.has(key)) this.rows.delete(key);
    const list = find("recent");
    const before = [...list.children];
    const same = rows.length === before.length && rows.every((row, at) => row === before[at]);
    if (!same) list.replaceChildren(...rows);
    find("recent-none").hidden = answers.length > 0;
  }

  showPlaying(melody) {
    for (const row of this.rows.values()) {
      for (const thumb of row.querySelectorAll(".thumb")) {
        thumb.setAttribute("aria-pressed", String(thumb.dataset.melody === melody));
      }
    }
  }

  #row(answer) {
    const row = this.rows.get(keyOf(answer)) ?? this.#newRow(answer);
    this.rows.set(keyOf(answer), row);
    row.dataset.state = answer.state;
    const select = row.querySelector("select");
    if (document.activeElement !== select) select.value = String(answer.prefer ?? answer.rating);
    row.querySelector(".guess").textContent = guessOf(answer);
    row.querySelector(".state").textContent = answer.state === "pending" ? "saving…" : "saved";
    return row;
  }

  #newRow(answer) {
    const thumbs = isVote(answer)
      ? answer.sides.map((side, index) => this.#thumb(side, `Play ${LETTERS[index]}`))
      : [this.#thumb(answer, "Play this melody")];
    const said = ["guess", "state"].map((name) => html("span", { class: name }));
    const row = html("li", { "data-melody": answer.melody, class: isVote(answer) ? "vote" : "" });
    const parts = [this.#select(answer), html("span", { class: "said" }, ...said), this.#back(answer)];
    row.append(...thumbs, ...parts);
    return row;
  }

  #thumb({ melody, notes }, label) {
    const shown = { type: "button", class: "thumb", "data-melody": melody, "aria-label": label };
    const play = html("button", shown, smallRoll(notes, this.pitches));
    play.addEventListener("click", () => this.actions.onPlay(melody, notes));
    return play;
  }

  #select(answer) {
    const [name, label, choices] = isVote(answer)
      ? ["prefer", "Your vote", Object.entries(VOTES)]
      : ["rating", "Your rating", RATINGS.map((each) => [each, String(each)])];
    const options = choices.map(([value, text]) => html("option", { value }, text));
    const select = html("select", { "aria-label": label }, ...options);
    select.addEventListener("change", () => {
      const value = name === "rating" ? Number(select.value) : select.value;
      this.actions.onChange(keyOf(answer), { [name]: value });
    });
    return select;
  }

  #back(answer) {
    const back = html("button", { type: "button", class: "quiet round", title: "Take back" }, "⟲");
    back.setAttribute("aria-label", `Take this ${isVote(answer) ? "vote" : "rating"} back`);
    back.addEventListener("click", () => this.actions.onTakeBack(keyOf(answer)));
    return back;
  }
}

// Returns what the model had guessed: of a vote, how likely it was.
function guessOf(answer) {
  const guess = answer.guess ?? null;
  if (guess === null) return "";
  if (!isVote(answer)) return `model ${guess.toFixed(1)}`;
  return `model A ${Math.round(guess * 100)} %`;
}
