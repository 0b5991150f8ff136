// Plays one melody at a time, and reports its position.

import { SLOTS, evenGain, renderMelody, slotSeconds } from "./sound.js";

const LEAD = 0.03; // s between key press and sound, so that the first note is complete
const END = 0.15; // s after the last slot
const STUCK_MS = 2000; // without progress, after which the browser makes no sound
const FADE = 0.02; // s to another volume, so that nothing clicks
const nothing = () => {};

export class Player {
  // onMove(slot or null, key): the position, once per frame. onChange(): playing began or ended.
  // onSilent(reason): why there is no sound, or "" as soon as there is. onHeard(key, ms): so much of
  // it was audible. onEnd(key): the melody was played to its end.
  constructor({ onMove, onChange, onSilent, onHeard = nothing, onEnd = nothing }) {
    Object.assign(this, { onMove, onChange, onSilent, onHeard, onEnd });
    this.bpm = 120;
    this.rate = 1;
    this.volume = 1; // as it is set, from 0 to 1
    this.context = null;
    this.output = null; // the gain of the volume
    this.refusal = ""; // why the browser did not start the sound, if it said so
    this.playing = null; // {key, notes, sound, at, from, counted, heard, since}
  }

  // Whether sound is allowed: browsers require a key press or click first.
  get unlocked() {
    return this.context !== null;
  }

  // Called on a key press or click. Everything but sound works without it.
  unlock() {
    try {
      this.context ??= new AudioContext({ latencyHint: "interactive" });
      this.output ??= this.#newOutput();
      if (this.context.state === "running") return;
      this.context.resume().catch((error) => {
        this.refusal = error.message;
        this.onSilent(this.refusal);
      });
    } catch (error) {
      this.onSilent(window.AudioContext ? error.message : "it has no Web Audio");
    }
  }

  #newOutput() {
    const output = new GainNode(this.context, { gain: loudness(this.volume) });
    output.connect(this.context.destination);
    return output;
  }

  // volume: from 0, which is mute, to 1.
  setVolume(volume) {
    this.report();
    this.volume = volume;
    const now = this.context?.currentTime;
    this.output?.gain.setTargetAtTime(loudness(volume), now, FADE);
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
    const { bpm, rate, output } = this;
    const gain = evenGain(notes, { bpm, rate });
    const options = { bpm, rate, at, from, gain, output, later: setTimeout };
    const sound = renderMelody(this.context, notes, options);
    this.playing = { key, notes, sound, at, from, counted: at, heard, since: performance.now() };
    this.onChange();
    requestAnimationFrame(() => this.#move(this.playing));
    return true;
  }

  stop() {
    if (!this.playing) return;
    this.report();
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
    const { slot } = this;
    this.rate = rate;
    if (key !== undefined) this.play(key, notes, slot);
  }

  // Reports what was audible since the last report.
  report() {
    if (!this.playing) return;
    const { key, sound, counted } = this.playing;
    const now = Math.min(this.context.currentTime, sound.ends);
    if (now <= counted) return;
    this.playing.counted = now;
    if (this.volume > 0) this.onHeard(key, (now - counted) * 1000);
  }

  // The position of what is playing, a fraction of slots; 0 if nothing is.
  get slot() {
    if (!this.playing) return 0;
    const { at, from } = this.playing;
    const slots = (this.context.currentTime - at) / slotSeconds({ bpm: this.bpm, rate: this.rate });
    return from + Math.max(0, slots);
  }

  #move(which) {
    if (this.playing !== which || which === null) return;
    if (this.#isStuck(which)) {
      this.stop();
      this.onSilent(this.refusal || "it has not started its sound");
      return;
    }
    if (this.context.currentTime > which.sound.ends + END) {
      this.stop();
      this.onEnd(which.key);
      return;
    }
    this.onMove(Math.min(SLOTS, this.slot), which.key);
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

// The ear's scale is nearer to the square of the amplitude than to the amplitude.
function loudness(volume) {
  return volume ** 2;
}
