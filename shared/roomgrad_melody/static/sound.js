// Notes as sound: a plucked tone made of sines, the same as in the WAV files.
// Independent of the page, so that a test can render it through an OfflineAudioContext.

export const SLOTS = 32;

const PARTIALS = [1, 0.5, 0.25, 0.12, 0.06]; // amplitudes at 1, 2, 3... times the frequency
const HIGHEST = 0.8; // amplitude, of full scale
const LOUDNESS = HIGHEST / PARTIALS.reduce((sum, amplitude) => sum + amplitude);
const ATTACK = 0.01; // s from silence to loud
const DECAY = 1.5; // 1/s; the second partial decays twice as fast, the third three times
const RELEASE = 0.04; // s back to silence, at the end of the note
const AT_ONCE = 4; // notes: all 32 take the page several ms

const now = (work) => work();

// Returns the seconds of a slot, which is a quarter note.
export function slotSeconds({ bpm, rate = 1 }) {
  return 60 / bpm / rate;
}

export function frequency(midi) {
  return 440 * 2 ** ((midi - 69) / 12);
}

// Returns the gain with which a melody is as loud as any other: its mean power while notes sound is
// that of notes of 3 slots at gain 1. Without it, melodies of short notes, which decay less, are
// louder. Where the notes last 5 slots and more on the average, the gain is the highest without
// distortion.
export function evenGain(notes, timing) {
  const slot = slotSeconds(timing);
  const seconds = notes.reduce((sum, [, length]) => sum + length * slot, 0);
  if (!seconds) return 1;
  const energy = notes.reduce((sum, [, length]) => sum + energyOf(length * slot), 0);
  const even = energyOf(3 * slot) / (3 * slot);
  return Math.min(1 / HIGHEST, Math.sqrt(even / (energy / seconds)));
}

// The energy of a note of so many seconds: of each partial, which is a sine that decays.
function energyOf(seconds) {
  return PARTIALS.reduce((sum, amplitude, index) => {
    const decay = 2 * DECAY * (index + 1);
    return sum + ((amplitude * LOUDNESS) ** 2 / 2) * ((1 - Math.exp(-decay * seconds)) / decay);
  }, 0);
}

// Schedules the notes, each [start slot, length in slots, MIDI number], on an (Offline)AudioContext.
//
// at: when slot `from` sounds, in the context's seconds. Notes that end before `from` are left out.
// later: runs work as soon as the page has time; the first notes are never put off.
// Returns {ends, stop}: the context's time of the end of the last slot, and a function to stop.
export function renderMelody(context, notes, options) {
  const { bpm, rate = 1, at = 0, from = 0, gain = 1, output = null, later = now } = options;
  const slot = slotSeconds({ bpm, rate });
  const volume = new GainNode(context, { gain });
  volume.connect(output ?? context.destination);
  const playing = [];
  let waiting = notes.filter(([start, length]) => start + length > from);
  const schedule = () => {
    for (const [start, length, midi] of waiting.splice(0, AT_ONCE)) {
      const begins = Math.max(start, from);
      const seconds = (start + length - begins) * slot;
      playing.push(playNote(context, volume, midi, at + (begins - from) * slot, seconds));
    }
    if (waiting.length) later(schedule);
  };
  schedule();
  const stop = () => {
    waiting = [];
    const end = context.currentTime;
    volume.gain.setValueAtTime(volume.gain.value, end);
    volume.gain.linearRampToValueAtTime(0, end + RELEASE);
    playing.forEach((source) => source.forEach((each) => each.stop(end + RELEASE)));
  };
  return { ends: at + (SLOTS - from) * slot, stop };
}

// Plays one note: higher partials decay sooner; silent at both ends, so that nothing clicks.
function playNote(context, output, midi, at, seconds) {
  const envelope = new GainNode(context, { gain: 0 });
  const attack = Math.min(ATTACK, seconds / 3);
  const release = Math.min(RELEASE, seconds / 3);
  envelope.gain.setValueAtTime(0, at);
  envelope.gain.linearRampToValueAtTime(1, at + attack);
  envelope.gain.setValueAtTime(1, at + seconds - release);
  envelope.gain.linearRampToValueAtTime(0, at + seconds);
  envelope.connect(output);
  return PARTIALS.map((amplitude, index) => [amplitude * LOUDNESS, index + 1])
    .filter(([, number]) => number * frequency(midi) < context.sampleRate / 2)
    .map(([amplitude, number]) => {
      const sine = new OscillatorNode(context, { frequency: number * frequency(midi) });
      const fade = new GainNode(context, { gain: 0 });
      fade.gain.setValueAtTime(amplitude, at);
      fade.gain.setTargetAtTime(0, at, 1 / (DECAY * number));
      sine.connect(fade).connect(envelope);
      sine.start(at);
      sine.stop(at + seconds);
      return sine;
    });
}
