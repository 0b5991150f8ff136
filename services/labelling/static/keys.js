// Keyboard shortcuts. They can be switched off; then digits work among the ratings alone.
//
// `key` is what the layout prints, `code` the place of the key. The printed character decides; the
// place counts where a layout prints something else there: the digits of AZERTY and Czech, and the
// letters of layouts without Latin ones.

const TYPING = "input:not([type=radio]):not([type=checkbox]):not([type=range]), textarea, select";
const PRESSABLE = "button, a[href], select, summary, input[type=checkbox]";
const HIGHEST = 5;

const VOTES = { arrowleft: "first", arrowright: "second", arrowdown: "equal", arrowup: "neither" };
const MOVED_BY_ARROWS = "input, select, textarea";

// actions: rate(rating), prefer(preference), play(), replay(), change(), skip(), undo(), mute(),
// help(), any(); isPair(): whether two melodies are shown; isPlaying(): whether one of them plays
export function listen(actions, areOn) {
  document.addEventListener("keydown", (event) => {
    // A password manager sends events without a key.
    if (event.defaultPrevented || !event.key || event.key === "Process") return;
    if (event.isComposing) return;
    if (document.querySelector("dialog[open]")) return;
    const target = event.target instanceof Element ? event.target : document.body;
    if (target.matches(TYPING)) return;
    const action = chosen(event, target, actions, areOn());
    if (!action) return;
    event.preventDefault();
    actions.any();
    if (!event.repeat) action();
  });
}

function chosen(event, target, actions, on) {
  const { ctrlKey, metaKey, altKey } = event;
  const sign = signOf(event);
  if ((ctrlKey || metaKey) && !altKey && sign === "z") return actions.undo;
  if (ctrlKey || metaKey || altKey) return null;
  const rating = target.matches("#scale input");
  const digit = digitOf(event);
  if (digit !== null && digit <= HIGHEST && (on || rating)) return () => actions.rate(digit);
  if (!on) return null;
  if (sign === " ") return target.matches(PRESSABLE) || rating ? null : actions.play;
  if (actions.isPair()) {
    if (sign === "tab") return changes(event, target, actions) ? actions.change : null;
    const vote = target.matches(MOVED_BY_ARROWS) ? undefined : VOTES[sign];
    if (vote) return () => actions.prefer(vote);
  }
  const { replay, skip, undo, mute, help } = actions;
  return { r: replay, s: skip, m: mute, backspace: undo, "?": help, "؟": help }[sign] ?? null;
}

// Tab goes to the other melody only while one plays and nothing on the page has the focus, so that
// the keyboard is never trapped: from any control, Tab goes on to the next one as everywhere.
// Shift+Tab always moves the focus, and so does Tab after Space has stopped the melody.
function changes({ shiftKey }, target, actions) {
  return !shiftKey && target.matches("body, #stage") && actions.isPlaying();
}

// Returns the digit that is printed, in any script, or the one at this place of the digit row.
function digitOf(event) {
  const printed = event.key.normalize("NFKC");
  if (/^[0-9]$/.test(printed)) return Number(printed);
  const [, place] = /^(?:Digit|Numpad)([0-9])$/.exec(event.code) ?? [];
  const inRow = event.code.startsWith("Digit") && !event.shiftKey && !isAltGraph(event);
  return place !== undefined && (inRow || /^\p{Nd}$/u.test(printed)) ? Number(place) : null;
}

// Returns the printed character in small letters, or the name of the key. A character without any
// Latin letter, digit or punctuation is taken for the Latin letter at its place.
function signOf(event) {
  const printed = event.key.normalize("NFKC").toLowerCase();
  const [, place] = /^Key([A-Z])$/.exec(event.code) ?? [];
  const foreign = !/[\p{ASCII}\p{Script=Latin}]/u.test(printed);
  return place && foreign && !isAltGraph(event) ? place.toLowerCase() : printed;
}

function isAltGraph(event) {
  return event.getModifierState("AltGraph");
}
