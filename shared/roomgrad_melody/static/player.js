// Plays one melody at a time, and reports its position.

import { SLOTS, renderMelody, slotSeconds } from "./sound.js";

const LEAD = 0.03; // s between key press and sound, so that the first note is complete
const END = 0.15; // s after the last slot
const STUCK_MS = 2000; // without progress, after which the browser makes no sound

export class Player {
  // onMove(slot or null, key): the position, once per frame. onChange(): playing began or ended.
  // onSilent(reason): why there is no sound, or "" as soon as there is.
  constructor({ onMove, onChange, onSilent }) {
    this.onMove = onMove;
    this.onChange = onChange;
    this.onSilent = onSilent;
    this.bpm = 120;
    this.rate = 1;
    this.context = null;
    this.refusal = ""; // why the browser did not start the sound, if it said so
    this.playing = null; // {key, notes, sound, at, from, heard, since}
  }

  // Whether sound is allowed: browsers require a key press or click first.
  get unlocked() {
    return this.context !== null;
  }

  // Called on a key press or click. Everything but sound works without it.
  unlock() {
    try {
      this.context ??= new AudioContext({ latencyHint: "interactive" });
      if (this.context.state === "running") return;
      this.context.resume().catch((error) => {
        this.refusal = error.message;
        this.onSilent(this.refusal);
      });
    } catch (error) {
      this.onSilent(window.AudioContext ? error.message : "it has no Web Audio");
    }
  }

  isPlaying(key) {
    return this.playing?.key === key;
  }

  // Returns whether the melody plays.
  play(key, notes, from = 0) {
    this.stop();
    this.unlock();
    if (!this.unlocked) return false;
    const heard = this.context.currentTime;
    const at = heard + LEAD;
    const sound = renderMelody(this.context, notes, { bpm: this.bpm, rate: this.rate, at, from });
    this.playing = { key, notes, sound, at, from, heard, since: performance.now() };
    this.onChange();
    requestAnimationFrame(() => this.#move(this.playing));
    return true;
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
    if (this.#isStuck(which)) {
      this.stop();
      this.onSilent(this.refusal || "it has not started its sound");
      return;
    }
    if (this.context.currentTime > which.sound.ends + END) {
      this.playing = null;
      this.onMove(null);
      this.onChange();
      return;
    }
    this.onMove(Math.min(SLOTS, Math.max(0, this.#slot())), which.key);
    requestAnimationFrame(() => this.#move(which));
  }

  // The clock of a context that the browser has suspended stands still.
  #isStuck(which) {
    if (this.context.currentTime === which.heard) return performance.now() - which.since > STUCK_MS;
    Object.assign(which, { heard: this.context.currentTime, since: performance.now() });
    this.refusal = "";
    this.onSilent("");
    return false;
  }
}
