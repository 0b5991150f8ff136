// Plays one melody at a time, and reports its position.

import { SLOTS, renderMelody, slotSeconds } from "./sound.js";

const LEAD = 0.03; // s between key press and sound, so that the first note is complete
const END = 0.15; // s after the last slot

export class Player {
  // onMove(slot or null, key): the position, once per frame. onChange(): playing began or ended.
  constructor({ onMove, onChange }) {
    this.onMove = onMove;
    this.onChange = onChange;
    this.bpm = 120;
    this.rate = 1;
    this.context = null;
    this.playing = null; // {key, notes, sound, at, from}
  }

  // Whether sound is allowed: browsers require a key press or click first.
  get unlocked() {
    return this.context !== null;
  }

  // Called on a key press or click.
  unlock() {
    this.context ??= new AudioContext({ latencyHint: "interactive" });
    if (this.context.state !== "running") this.context.resume();
  }

  isPlaying(key) {
    return this.playing?.key === key;
  }

  play(key, notes, from = 0) {
    this.stop();
    this.unlock();
    const at = this.context.currentTime + LEAD;
    const sound = renderMelody(this.context, notes, { bpm: this.bpm, rate: this.rate, at, from });
    this.playing = { key, notes, sound, at, from };
    this.onChange();
    requestAnimationFrame(() => this.#move(this.playing));
  }

  stop() {
    if (!this.playing) return;
    this.playing.sound.stop();
    this.playing = null;
    this.onMove(null);
    this.onChange();
  }

  toggle(key, notes) {
    if (this.isPlaying(key)) this.stop();
    else this.play(key, notes);
  }

  // Continues at the same position with another speed.
  setRate(rate) {
    const { key, notes } = this.playing ?? {};
    const slot = this.#slot();
    this.rate = rate;
    if (key !== undefined) this.play(key, notes, Math.max(0, slot));
  }

  #slot() {
    if (!this.playing) return 0;
    const { at, from } = this.playing;
    return from + (this.context.currentTime - at) / slotSeconds({ bpm: this.bpm, rate: this.rate });
  }

  #move(which) {
    if (this.playing !== which || which === null) return;
    if (this.context.currentTime > which.sound.ends + END) {
      this.playing = null;
      this.onMove(null);
      this.onChange();
      return;
    }
    this.onMove(Math.min(SLOTS, Math.max(0, this.#slot())), which.key);
    requestAnimationFrame(() => this.#move(which));
  }
}
