// Listening to the melodies of a question: which one is chosen, what plays by itself, and how long
// each was audible.

import { LETTERS } from "./sides.js";

const HEARD_MS = 1000; // after which a melody counts as heard

export class Listening {
  // onChange(): another melody is chosen
  constructor(player, onChange) {
    this.player = player;
    this.onChange = onChange;
    this.question = null;
    this.index = 0; // of the chosen side
    this.times = new Map(); // by melody: ms while this question is shown
    this.heard = new Set(); // melodies that were heard in this tab
  }

  get sides() {
    return this.question?.sides ?? [];
  }

  get side() {
    return this.sides[this.index] ?? null;
  }

  get isPlaying() {
    return this.side !== null && this.player.isPlaying(this.side.melody);
  }

  // Chooses the first melody that was not heard, or the last: the one that is new.
  begin(question, heard = null) {
    this.player.stop();
    this.question = question;
    this.times.clear();
    if (heard) this.heard.add(heard);
    const fresh = this.sides.findIndex((side) => !this.heard.has(side.melody));
    this.#choose(fresh < 0 ? this.sides.length - 1 : fresh);
  }

  // Plays the chosen melody, by default from the beginning. from: a slot
  play(from = 0) {
    if (!this.side) return;
    const { melody, notes } = this.side;
    const began = this.player.play(melody, notes, from);
    if (began && !from && melody === this.question.melody) this.question.plays += 1;
  }

  toggle() {
    if (this.isPlaying) this.player.stop();
    else this.play();
  }

  // Goes to the other melody, at the same beat if one plays.
  change() {
    if (this.sides.length < 2) return;
    const from = this.isPlaying ? this.player.slot : 0;
    this.#choose(1 - this.index);
    this.play(from);
  }

  // The button of one side: plays it, at the same beat if the other one plays; stops it if it plays.
  press(index) {
    if (index !== this.index && this.isPlaying) this.change();
    else {
      this.#choose(index);
      this.toggle();
    }
  }

  // Plays the other melody after this one if it was not heard.
  onEnd(melody) {
    if (melody !== this.side?.melody) return;
    const fresh = this.sides.findIndex((side) => !this.heard.has(side.melody));
    if (fresh < 0 || fresh === this.index) return;
    this.#choose(fresh);
    this.play();
  }

  onHeard(melody, ms) {
    const all = (this.times.get(melody) ?? 0) + ms;
    this.times.set(melody, all);
    if (all >= HEARD_MS) this.heard.add(melody);
  }

  // Returns the ms for which each melody was audible while the question is shown.
  listened() {
    this.player.report();
    return this.sides.map((side) => Math.round(this.times.get(side.melody) ?? 0));
  }

  // Returns the letters of the melodies that were not heard yet.
  missing() {
    this.player.report();
    if (this.sides.length < 2) return [];
    return LETTERS.filter((_, index) => !this.heard.has(this.sides[index].melody));
  }

  // Plays the first of these letters.
  listen([letter]) {
    this.#choose(LETTERS.indexOf(letter));
    this.play();
  }

  #choose(index) {
    this.index = index;
    this.onChange();
  }
}
